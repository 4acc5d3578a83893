package lab

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// RedisServer is a Redis that keeps nothing on disk: it comes back empty.
type RedisServer struct {
	*Process
	Addr string // host:port
}

// Redis is the shared server of the tests; each test uses keys under its Prefix.
func Redis(t testing.TB) *RedisServer { t.Helper(); return sharedRedis.get(t) }

// NewRedis is a server of the test's own.
func NewRedis(t testing.TB) *RedisServer { t.Helper(); return private(t, StartRedis) }

var sharedRedis = shared[*RedisServer]{env: EnvRedis, open: openRedis, run: StartRedis}

// StartRedis starts a server; Stop ends it.
func StartRedis(ctx context.Context, opts Options) (*RedisServer, error) {
	daemon, err := find("Redis", "redis-server", "valkey-server")
	if err != nil {
		return nil, err
	}
	return retried(ctx, func() (*RedisServer, error) { return newRedis(opts, daemon) })
}

func newRedis(opts Options, daemon string) (*RedisServer, error) {
	p, err := newProcess("redis", opts)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &RedisServer{Process: p, Addr: loopback(port)}
	p.command = func() *exec.Cmd {
		return exec.Command(daemon, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", p.dir,
			"--save", "", "--appendonly", "no", "--daemonize", "no")
	}
	p.ready = func(ctx context.Context) error { return redisPing(ctx, s.Addr) }
	return s, nil
}

func redisPing(ctx context.Context, addr string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(answer, "+PONG") {
		return fmt.Errorf("redis answers %q", answer)
	}
	return nil
}

// Env is the value by which other processes find this server.
func (s *RedisServer) Env() string { return s.Addr }

func openRedis(value string) (*RedisServer, error) {
	return &RedisServer{Process: &Process{}, Addr: value}, nil
}
