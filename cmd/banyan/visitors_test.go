package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// visitors ask a proxy, whose legacy echoes, all the time. None sends a request twice: one that fails is a failure, with
// which its visitor leaves.
type visitors struct {
	stop        context.CancelFunc
	all         sync.WaitGroup
	served      chan struct{} // a request ended well, and somebody waited for it
	failed      chan error
	requests    atomic.Int64
	connections atomic.Int64
}

// visitor asks until ctx ends or a request fails.
type visitor func(ctx context.Context, v *visitors) error

// visit begins; each of them is a visitor of its own.
func visit(t *testing.T, each ...visitor) *visitors {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	v := &visitors{stop: stop, served: make(chan struct{}), failed: make(chan error, len(each))}
	for i, one := range each {
		v.all.Go(func() {
			if err := one(ctx, v); err != nil {
				v.failed <- fmt.Errorf("visitor %d: %w", i, err)
			}
		})
	}
	t.Cleanup(stop)
	return v
}

func (v *visitors) answered() {
	v.requests.Add(1)
	select {
	case v.served <- struct{}{}:
	default:
	}
}

// await waits until n more requests have ended well.
func (v *visitors) await(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case <-v.served:
		case err := <-v.failed:
			t.Fatal(err)
		}
	}
}

// end sends them home, and fails the test for each whose request failed. What passed is for the log.
func (v *visitors) end(t *testing.T, passed string) {
	t.Helper()
	v.stop()
	v.all.Wait()
	close(v.failed)
	for err := range v.failed {
		t.Error(err)
	}
	t.Logf("%d requests on %d connections over %s", v.requests.Load(), v.connections.Load(), passed)
}

// overHTTP1 are n that keep their connections until they are told that one closes.
func overHTTP1(n int, addr string) (out []visitor) {
	for range n {
		out = append(out, func(ctx context.Context, v *visitors) error {
			for ctx.Err() == nil {
				v.connections.Add(1)
				if _, err := client(addr, func(int) bool { v.answered(); return ctx.Err() == nil }); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return out
}

// overHTTP2 are n that keep their connections, over TLS, until they are told that one closes.
func overHTTP2(n int, addr string) (out []visitor) {
	for range n {
		out = append(out, func(ctx context.Context, v *visitors) error {
			tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
				DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
					v.connections.Add(1)
					return new(net.Dialer).DialContext(ctx, network, addr)
				}}
			defer tr.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				body := fmt.Sprintf("request %d", n)
				// Go's client may close the body of a request that it has not begun, when the connection that it chose for
				// it says just then that it ends, and asks for another body. None is sent twice behind the test's back.
				var begun atomic.Bool
				begins := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{WroteHeaders: func() { begun.Store(true) }})
				q, _ := http.NewRequestWithContext(begins, "POST", "https://"+addr+"/echo", strings.NewReader(body)) // cannot fail
				q.GetBody = func() (io.ReadCloser, error) {
					if begun.Load() {
						return nil, errors.New("was sent, and would have to be sent again")
					}
					return io.NopCloser(strings.NewReader(body)), nil
				}
				a, err := tr.RoundTrip(q)
				if err != nil {
					return fmt.Errorf("%s: %w", body, err)
				}
				if err := echoed(a, 2, body); err != nil {
					return fmt.Errorf("%s: %w", body, err)
				}
				v.answered()
			}
			return nil
		})
	}
	return out
}

// client sends requests on one connection until it is told that the connection closes, or more wants no more after n, and
// gives their number.
func client(addr string, more func(n int) bool) (n int, err error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	in := bufio.NewReader(nc)
	for {
		body := fmt.Sprintf("request %d", n)
		fmt.Fprintf(nc, "POST /echo HTTP/1.1\r\nHost: game.test\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return n, fmt.Errorf("%s of its connection: %w", body, err)
		}
		if err := echoed(resp, 1, body); err != nil {
			return n, fmt.Errorf("%s of its connection: %w", body, err)
		}
		if n++; !more(n) || resp.Close {
			return n, nil
		}
	}
}

func echoed(a *http.Response, major int, want string) error {
	defer a.Body.Close()
	got, err := io.ReadAll(a.Body)
	if err != nil || a.ProtoMajor != major || a.StatusCode != http.StatusOK || string(got) != want {
		return fmt.Errorf("%s %d %q: %w", a.Proto, a.StatusCode, got, err)
	}
	return nil
}
