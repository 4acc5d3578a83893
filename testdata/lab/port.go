package lab

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"
)

// freePort finds a port that nobody listens on, below the range from which the
// system takes ports for outgoing connections: a client of a stopped server
// could otherwise be given that server's port and even connect to itself.
func freePort() (int, error) {
	const lowest = 10240
	highest := 32767
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		var from int
		if _, err := fmt.Sscan(string(text), &from); err == nil && from > lowest+1000 {
			highest = from - 1
		}
	}
	for range 200 {
		port := lowest + rand.IntN(highest-lowest)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		l.Close()
		return port, nil
	}
	return 0, fmt.Errorf("no free port between %d and %d in 200 tries", lowest, highest)
}

// FreePort gives a loopback port that nobody listens on now, and that the system
// will not give to an outgoing connection.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
