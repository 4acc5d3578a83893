//go:build soak

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// origin answers every request with one KiB, as cheaply as it can: it is not what is measured.
func origin(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024))
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				in := bufio.NewReaderSize(c, 8<<10)
				for {
					line, err := in.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) > 2 {
						continue
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func rss(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib
}

// TestSoakMemory: 2,000 connections idle beside ten million requests of 64 others; what the process holds does not grow.
func TestSoakMemory(t *testing.T) {
	const total, idle, busy, batch = 10_000_000, 2000, 64, 8
	p := start(t, "proxy", "--listen", "127.0.0.1:0", "--legacy", origin(t))
	request := []byte("GET /api.php?action=map&match=7 HTTP/1.1\r\nHost: game.test\r\nUser-Agent: Mozilla/5.0\r\nCookie: PHPSESSID=0123456789abcdef\r\nAccept: */*\r\n\r\n")
	for range idle {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		in := bufio.NewReaderSize(c, 2048)
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, in, 1024); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d idle connections: %d MiB", idle, rss(t, p.cmd.Process.Pid)>>10)
	var done atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, busy)
	for range busy {
		wg.Go(func() {
			c, err := net.Dial("tcp", p.addr)
			if err != nil {
				errs <- err
				return
			}
			defer c.Close()
			var size int64
			many := bytes.Repeat(request, batch)
			buf := make([]byte, 64<<10)
			for done.Add(batch) <= total {
				if _, err := c.Write(many); err != nil {
					errs <- err
					return
				}
				if size == 0 { // the first answer tells how long all are
					in := bufio.NewReader(c)
					for {
						line, err := in.ReadString('\n')
						if err != nil {
							errs <- err
							return
						}
						size += int64(len(line))
						if line == "\r\n" {
							break
						}
					}
					if _, err := io.CopyN(io.Discard, in, 1024); err != nil {
						errs <- err
						return
					}
					size += 1024
					if _, err := io.CopyN(io.Discard, in, size*(batch-1)); err != nil {
						errs <- err
						return
					}
					continue
				}
				for left := size * batch; left > 0; {
					n, err := c.Read(buf[:min(int64(len(buf)), left)])
					if err != nil {
						errs <- err
						return
					}
					left -= int64(n)
				}
			}
		})
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	early, late, next := 0, 0, int64(total/20)
	for at := done.Load(); at < total; at = done.Load() {
		select {
		case err := <-errs:
			t.Fatal(err)
		case <-finished:
		default:
			if at < next {
				time.Sleep(20 * time.Millisecond) // another goroutine's counter, which gives no signal
				continue
			}
		}
		kib := rss(t, p.cmd.Process.Pid)
		t.Logf("%9d requests: %d MiB", at, kib>>10)
		if at <= total/4 {
			early = max(early, kib)
		} else if at > total/2 {
			late = max(late, kib)
		}
		next += total / 20
	}
	<-finished
	if late > 60<<10 {
		t.Errorf("%d MiB; want at most 60", late>>10)
	}
	if late > early+early/10+2048 {
		t.Errorf("%d MiB in the second half, %d in the first quarter: it grows", late>>10, early>>10)
	}
}
