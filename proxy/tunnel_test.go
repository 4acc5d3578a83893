package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/proxy"
	"banyan/proxy/upstream"
)

const (
	handshake = "GET /chat HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)

// websocket lets it pass.
func websocket(u upstream.Upstream) *proxy.Passthrough {
	return &proxy.Passthrough{Upstream: u, Options: proxy.ForwardOptions{Upgrade: []string{"websocket"}}}
}

// switcher is an origin that switches at the first request, whatever it asks for, and hands the connection to serve.
func switcher(t testing.TB, serve func(c *net.TCPConn, r *bufio.Reader)) *origin {
	return newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := head(r); err != nil {
			return
		}
		io.WriteString(c, switching)
		serve(c.(*net.TCPConn), r)
	})
}

// join dials, shakes hands and gives what follows.
func join(t testing.TB, c net.Conn) *bufio.Reader {
	t.Helper()
	io.WriteString(c, handshake)
	r := bufio.NewReader(c)
	if h, err := head(r); err != nil || !strings.HasPrefix(h, "HTTP/1.1 101 ") {
		t.Fatalf("%q, %v", h, err)
	}
	return r
}

// What legacy is asked to switch to, by what the client asks for and what may pass.
func TestWhatMaySwitch(t *testing.T) {
	const up = "Connection: Upgrade\r\n"
	for _, c := range []struct {
		name, request string
		may           []string
		want          string // "": a plain request
	}{
		{"declared", up + "Upgrade: websocket\r\n", []string{"websocket"}, "websocket"},
		{"as it is spelt", "connection: keep-alive, UPGRADE\r\nupgrade:  WebSocket \r\n", []string{"websocket"}, "WebSocket"},
		{"nothing declared", up + "Upgrade: websocket\r\n", nil, ""},
		{"another", up + "Upgrade: h2c\r\n", []string{"websocket"}, ""},
		{"another with HTTP2-Settings", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", []string{"websocket"}, ""},
		{"the declared one of several", up + "Upgrade: h2c, websocket, IRC/6.9\r\n", []string{"websocket"}, "websocket"},
		{"several declared, in the client's order", up + "Upgrade: b/2, a\r\n", []string{"a", "b/2"}, "b/2, a"},
		{"two fields", up + "Upgrade: h2c\r\nUpgrade: websocket\r\n", []string{"websocket"}, "websocket"},
		{"a version is part of it", up + "Upgrade: websocket/13\r\n", []string{"websocket"}, ""},
		{"not a protocol", up + "Upgrade: websocket, h2 c\r\n", []string{"websocket"}, ""},
		{"quoted", up + "Upgrade: \"websocket\"\r\n", []string{"websocket"}, ""},
		{"nothing named", up + "Upgrade: \r\n", []string{"websocket"}, ""},
		{"no field", up, []string{"websocket"}, ""},
		{"Connection says nothing", "Upgrade: websocket\r\n", []string{"websocket"}, ""},
		{"Connection says something else", "Connection: x-upgrade\r\nUpgrade: websocket\r\n", []string{"websocket"}, ""},
		{"a body", up + "Upgrade: websocket\r\nContent-Length: 5\r\n", []string{"websocket"}, ""},
		{"a chunked body", up + "Upgrade: websocket\r\nTransfer-Encoding: chunked\r\n", []string{"websocket"}, ""},
		{"an empty body", up + "Upgrade: websocket\r\nContent-Length: 0\r\n", []string{"websocket"}, "websocket"},
		{"HTTP/1.0", up + "Upgrade: websocket\r\n", []string{"websocket"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, heads := answers(t, ok)
			s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o), Options: proxy.ForwardOptions{Upgrade: c.may}})
			version, body := "1.1", ""
			if c.name == "HTTP/1.0" {
				version = "1.0"
			}
			if strings.Contains(c.request, "Length: 5") {
				body = "12345"
			} else if strings.Contains(c.request, "chunked") {
				body = "5\r\n12345\r\n0\r\n\r\n"
			}
			if got := s.talk(t, "GET / HTTP/"+version+"\r\nHost: t\r\n"+c.request+"\r\n"+body); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
				t.Fatalf("%q", got)
			}
			got := heads()[0]
			want := ""
			if c.want != "" {
				want = "Connection: Upgrade\r\nUpgrade: " + c.want + "\r\n"
			}
			if has := strings.Contains(strings.ToLower(got), "upgrade:") || strings.Contains(strings.ToLower(got), "connection:"); has != (want != "") || !strings.Contains(got, want) {
				t.Errorf("legacy was sent\n%s\nwant in it %q", got, want)
			}
		})
	}
}

// An answer is a switch only if it answers the request: the rest is an error, and nothing behind it reaches the client.
func TestWhatIsASwitch(t *testing.T) {
	const plain = "GET /chat HTTP/1.1\r\nHost: t\r\n\r\n"
	for _, c := range []struct {
		name, request, answer string
		want                  string // all that the client sees; "502" an error
	}{
		{"handshake", handshake, switching, switching},
		{"another case", handshake, "HTTP/1.1 101 X\r\nUPGRADE: WebSocket\r\nConnection: upgrade\r\n\r\n", "HTTP/1.1 101 X\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n"},
		{"its fields stay, those of one connection do not", handshake, "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade, X-A\r\nX-A: 1\r\nSet-Cookie: a=b\r\nSec-WebSocket-Protocol: chat\r\nContent-Length: 9\r\n\r\n",
			"HTTP/1.1 101 X\r\nSet-Cookie: a=b\r\nSec-WebSocket-Protocol: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
		{"interim before it", handshake, "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + switching, "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + switching},
		{"another protocol", handshake, "HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "502"},
		{"one more protocol", handshake, "HTTP/1.1 101 X\r\nUpgrade: websocket, h2c\r\nConnection: Upgrade\r\n\r\n", "502"},
		{"one more field", handshake, "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "502"},
		{"a part of it", handshake, "HTTP/1.1 101 X\r\nUpgrade: web\r\nConnection: Upgrade\r\n\r\n", "502"},
		{"no protocol", handshake, "HTTP/1.1 101 X\r\nConnection: Upgrade\r\n\r\n", "502"},
		{"an empty one", handshake, "HTTP/1.1 101 X\r\nUpgrade: ,\r\nConnection: Upgrade\r\n\r\n", "502"},
		{"HTTP/1.0", handshake, "HTTP/1.0 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "502"},
		{"not asked for", plain, switching, "502"},
		{"asked for by HTTP/1.0", strings.Replace(handshake, "1.1", "1.0", 1), switching, "502"},
		{"asked for with a body", strings.Replace(handshake, "\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nhi", 1), switching, "502"},
		{"an undeclared one was asked for", strings.Replace(handshake, "websocket", "h2c", 1), "HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "502"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOrigin(t, func(conn net.Conn, r *bufio.Reader) {
				if h, err := head(r); err == nil {
					readBody(r, h)
					io.WriteString(conn, c.answer+"behind it")
					conn.(*net.TCPConn).CloseWrite()
					io.Copy(io.Discard, r)
				}
			})
			p := pool(t, o)
			s := serve(t, proxy.Config{}, websocket(p))
			got := s.talk(t, c.request)
			if c.want == "502" {
				if !strings.HasPrefix(got, "HTTP/1.1 502 ") || strings.Contains(got, "behind") {
					t.Errorf("%q", got)
				}
			} else if inOrder(got) != inOrder(c.want+"behind it") {
				t.Errorf("%q\nwant\n%q", got, c.want+"behind it")
			}
			waitFor(t, "the upstream's connection to be closed", func() bool { return p.Stats().Open == 0 })
		})
	}
}

// inOrder sorts the last head's lines: where Upgrade and Connection stand means nothing.
func inOrder(s string) string {
	at := strings.LastIndex(s, "\r\n\r\n")
	if at < 0 {
		return s
	}
	lines := strings.Split(s[:at], "\r\n")
	slices.Sort(lines)
	return strings.Join(lines, "\r\n") + s[at:]
}

// waitFor waits for what nothing tells.
func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for until := time.Now().Add(wait); !done(); time.Sleep(time.Millisecond) { // between two looks
		if time.Now().After(until) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// WebSocket smuggling: a client asks for a switch in a way that legacy refuses, and a proxy that tunnels all the same
// lets whatever follows pass unseen. Here what follows any other answer is HTTP to the proxy as well.
func TestNoSmugglingBehindARefusedSwitch(t *testing.T) {
	const hidden = "GET /admin HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 1.2.3.4\r\nBanyan-Write: x\r\n\r\n"
	for name, answer := range map[string]string{
		"426":         "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nold",
		"400":         "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
		"200":         "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nhi",
		"200 chunked": "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
		"204":         "HTTP/1.1 204 No Content\r\nUpgrade: websocket\r\n\r\n",
		"100 and 426": "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n",
	} {
		for _, inOne := range []bool{true, false} { // what follows comes with the handshake, or after its answer
			t.Run(fmt.Sprint(name, " ", inOne), func(t *testing.T) {
				var mu sync.Mutex
				var heads []string
				o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
					for {
						h, err := head(r)
						if h != "" {
							mu.Lock()
							heads = append(heads, h)
							mu.Unlock()
						}
						if err != nil {
							return
						}
						if strings.HasPrefix(h, "GET /chat ") {
							io.WriteString(c, answer)
						} else {
							io.WriteString(c, ok)
						}
					}
				})
				p := pool(t, o)
				s := serve(t, proxy.Config{}, websocket(p))
				c := s.dial(t)
				r := bufio.NewReader(c)
				request := strings.Replace(handshake, "Version: 13", "Version: 1337", 1)
				if inOne {
					io.WriteString(c, request+hidden)
				} else {
					io.WriteString(c, request)
					if _, err := head(r); err != nil {
						t.Fatal(err)
					}
					io.WriteString(c, hidden)
				}
				io.WriteString(c, "\x81\x85\x00\x00\x00\x00hello") // a frame, which is no request
				all, _ := io.ReadAll(r)
				if !strings.Contains(string(all), "\r\n\r\nhiHTTP/1.1 400 ") {
					t.Errorf("the hidden request is answered, and then the frame refused: %q", all)
				}
				mu.Lock()
				defer mu.Unlock()
				if len(heads) != 2 || !strings.Contains(heads[1], "X-Forwarded-For: 127.0.0.1\r\n") || strings.Contains(heads[1], "1.2.3.4") || strings.Contains(heads[1], "Banyan") {
					t.Errorf("legacy saw %q", heads)
				}
			})
		}
	}
}

// Bytes that follow a head at once are not lost, on either side, in whatever pieces they come.
func TestEarlyBytesOfATunnel(t *testing.T) {
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := head(r); err != nil {
			return
		}
		io.WriteString(c, switching+"first")
		io.Copy(c, r)
		io.WriteString(c, "last")
	})
	for name, wrap := range map[string]func(net.Listener) net.Listener{
		"plain": func(l net.Listener) net.Listener { return l }, "bytes": func(l net.Listener) net.Listener { return inPieces{l, false} },
	} {
		s := serve(t, proxy.Config{}, websocket(pool(t, o)), wrap)
		want := strings.Repeat("x", 40<<10)
		got := s.talk(t, handshake+want)
		if _, body, _ := strings.Cut(got, "\r\n\r\n"); body != "first"+want+"last" {
			t.Errorf("%s: %d bytes: %.80q…", name, len(body), body)
		}
	}
}

// Many tunnels at a time, both sides talking at once in pieces of all sizes: each gets what was said to it.
func TestTunnelsMixNothingUp(t *testing.T) {
	const n, size = 8, 2 << 20
	said := func(who byte, i int) []byte {
		b := make([]byte, size)
		rand.NewChaCha8([32]byte{who, byte(i)}).Read(b)
		return b
	}
	say := func(c io.Writer, b []byte, r *rand.Rand) {
		for len(b) > 0 {
			m := min(1+r.IntN(1<<r.IntN(18)), len(b))
			if _, err := c.Write(b[:m]); err != nil {
				return
			}
			b = b[m:]
		}
	}
	heard := make(chan error, 2*n)
	o := switcher(t, func(c *net.TCPConn, r *bufio.Reader) {
		b, _ := r.ReadByte()
		i := int(b)
		done := make(chan struct{})
		go func() {
			defer close(done)
			say(c, said('s', i), rand.New(rand.NewPCG(1, uint64(i))))
			c.CloseWrite()
		}()
		if got, err := io.ReadAll(r); !bytes.Equal(got, said('c', i)) {
			heard <- fmt.Errorf("legacy %d: %d bytes, %v", i, len(got), err)
		} else {
			heard <- nil
		}
		<-done
	})
	p := pool(t, o)
	plain, secure := serve(t, proxy.Config{}, websocket(p)), serve(t, proxy.Config{}, websocket(p), overTLS(t))
	for i := range n {
		var c interface {
			net.Conn
			CloseWrite() error
		} = plain.dial(t)
		if i%2 == 0 {
			c = secure.secure(t, "http/1.1")
		}
		r := join(t, c)
		go func() { // ends with the connection
			c.Write([]byte{byte(i)})
			say(c, said('c', i), rand.New(rand.NewPCG(2, uint64(i))))
			c.CloseWrite()
		}()
		go func() {
			if got, err := io.ReadAll(r); !bytes.Equal(got, said('s', i)) {
				heard <- fmt.Errorf("client %d: %d bytes, %v", i, len(got), err)
			} else {
				heard <- nil
			}
		}()
	}
	for range 2 * n {
		if err := within(t, heard, "all that was said"); err != nil {
			t.Error(err)
		}
	}
}

// Each side may end its half, and the other goes on.
func TestTunnelsHalfClose(t *testing.T) {
	for _, secure := range []bool{false, true} {
		ended := make(chan string, 1)
		o := switcher(t, func(c *net.TCPConn, r *bufio.Reader) {
			io.WriteString(c, "bye")
			c.CloseWrite()
			b, _ := io.ReadAll(r)
			ended <- string(b)
		})
		var c interface {
			net.Conn
			CloseWrite() error
		}
		if secure {
			s := serve(t, proxy.Config{}, websocket(pool(t, o)), overTLS(t))
			c = s.secure(t, "http/1.1")
		} else {
			c = serve(t, proxy.Config{}, websocket(pool(t, o))).dial(t)
		}
		r := join(t, c)
		if b, err := io.ReadAll(r); string(b) != "bye" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		for range 100 { // legacy has said its last word, the client has not
			fmt.Fprintf(c, "%01000d", 7)
		}
		c.CloseWrite()
		if got := within(t, ended, "the end of what the client says"); len(got) != 100_000 {
			t.Errorf("%d bytes came", len(got))
		}

		o = switcher(t, func(c *net.TCPConn, r *bufio.Reader) {
			b, _ := io.ReadAll(r)
			fmt.Fprintf(c, "%d bytes", len(b))
		})
		s := serve(t, proxy.Config{}, websocket(pool(t, o)))
		if got := s.talk(t, handshake+"hello"); !strings.HasSuffix(got, "\r\n\r\n5 bytes") {
			t.Errorf("%q", got)
		}
	}
}

// When one side is gone the other is told at once, and nothing stays open.
func TestTunnelsEndWithEitherSide(t *testing.T) {
	for _, who := range []string{"client closes", "client resets", "legacy closes", "legacy resets"} {
		t.Run(who, func(t *testing.T) {
			went, gone := make(chan struct{}), make(chan struct{})
			o := switcher(t, func(c *net.TCPConn, r *bufio.Reader) {
				io.WriteString(c, "hi")
				if strings.HasPrefix(who, "legacy") {
					<-went
					if who == "legacy resets" {
						c.SetLinger(0)
					}
					return
				}
				io.Copy(io.Discard, r)
				close(gone)
			})
			p := pool(t, o)
			s := serve(t, proxy.Config{}, websocket(p))
			c := s.dial(t)
			r := join(t, c)
			io.ReadFull(r, make([]byte, 2))
			close(went)
			switch who {
			case "client resets":
				c.SetLinger(0)
				fallthrough
			case "client closes":
				c.Close()
				within(t, gone, "legacy to be told")
			default:
				if b, _ := io.ReadAll(r); len(b) != 0 {
					t.Errorf("%q", b)
				}
				c.Close()
			}
			waitFor(t, "all to be closed", func() bool { return p.Stats().Open == 0 && s.Stats().Conns == 0 && s.Stats().Tunnels.Open == 0 })
		})
	}
}

// What legacy said before it closed reaches the client, though the client is sending all the time.
func TestLastWordsOfLegacy(t *testing.T) {
	const last = 32 << 10 // what a socket takes at once: more would be lost when legacy closes one that it has not read empty
	o := switcher(t, func(c *net.TCPConn, r *bufio.Reader) {
		r.ReadByte()
		zeros(c, last)
	})
	s := serve(t, proxy.Config{}, websocket(pool(t, o)))
	for range 20 {
		c := s.dial(t)
		r := join(t, c)
		go func() { // ends with the connection
			for {
				if _, err := c.Write(make([]byte, 1000)); err != nil {
					return
				}
			}
		}()
		n, err := io.Copy(io.Discard, r)
		if n != last || err != nil { // nor is the client's connection reset for what it sent in vain
			t.Errorf("%d bytes, then %v", n, err)
		}
		c.Close()
	}
}

// A client whose legacy is gone is told by an end, not by a reset: what it was just sent could be lost with it.
func TestClientIsNotResetWithLegacy(t *testing.T) {
	o := switcher(t, func(c *net.TCPConn, r *bufio.Reader) { c.SetLinger(0) })
	s := serve(t, proxy.Config{}, websocket(pool(t, o)))
	c := s.dial(t)
	r := join(t, c)
	if b, err := io.ReadAll(r); len(b) > 0 || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
	for range 20 {
		if _, err := io.WriteString(c, "x"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // for the reset that must not come
	}
}

// Silence on both sides ends a tunnel; what one side says keeps it open for both.
func TestSilentTunnelsEnd(t *testing.T) {
	const idle = 500 * time.Millisecond // a machine that is busy with others must not pause for as long
	o := switcher(t, func(c *net.TCPConn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	p := pool(t, o)
	s := serve(t, proxy.Config{UpgradeTimeout: idle}, websocket(p))
	c := s.dial(t)
	r := join(t, c)
	start := time.Now()
	for time.Since(start) < 3*idle {
		if _, err := io.WriteString(c, "x"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(idle / 50) // what is tested: pauses shorter than idle, for longer than it
	}
	start = time.Now()
	c.SetReadDeadline(time.Now().Add(wait))
	if b, err := io.ReadAll(r); len(b) > 0 || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v", b, err)
	}
	if took := time.Since(start); took < idle/2 {
		t.Errorf("closed after %v", took)
	}
	waitFor(t, "the upstream's side", func() bool { return p.Stats().Open == 0 })
}

// A client that takes nothing ends its tunnel as well.
func TestStuckTunnelsEnd(t *testing.T) {
	o := switcher(t, func(c *net.TCPConn, r *bufio.Reader) { zeros(c, big) })
	p := pool(t, o)
	s := serve(t, proxy.Config{UpgradeTimeout: 100 * time.Millisecond}, websocket(p))
	join(t, s.dial(t))
	waitFor(t, "both sides to be closed", func() bool { return p.Stats().Open == 0 && s.Stats().Tunnels.Open == 0 && s.Stats().Conns == 0 })
}

// A drain leaves tunnels open until its time is over, then closes both sides; that is no error. What else is cut is.
func TestDrainClosesTunnels(t *testing.T) {
	for _, stuck := range []int{0, 1} {
		t.Run(fmt.Sprint(stuck, " stuck requests"), func(t *testing.T) {
			const n = 5
			gone := make(chan string, n)
			release := make(chan struct{})
			o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
				h, err := head(r)
				if err != nil {
					return
				}
				if strings.HasPrefix(h, "GET /stuck") {
					gone <- "stuck"
					<-release
					return
				}
				io.WriteString(c, switching)
				b, _ := io.ReadAll(r)
				gone <- string(b)
			})
			p := pool(t, o)
			s := serve(t, proxy.Config{}, websocket(p))
			var conns []net.Conn
			var readers []*bufio.Reader
			for range n {
				c := s.dial(t)
				conns, readers = append(conns, c), append(readers, join(t, c))
			}
			if stuck > 0 {
				io.WriteString(s.dial(t), "GET /stuck HTTP/1.1\r\nHost: t\r\n\r\n")
				within(t, gone, "the request")
			}
			ctx, cancel := context.WithCancelCause(context.Background())
			result := make(chan error, 1)
			go func() { result <- s.Shutdown(ctx) }()
			waitFor(t, "the drain to begin", func() bool {
				c, err := net.Dial("tcp", s.addr)
				if err == nil {
					c.Close()
				}
				return err != nil
			})
			for i, c := range conns { // while it lasts, all is as before
				fmt.Fprintf(c, "%d", i)
			}
			waitFor(t, "bytes to pass", func() bool { return s.Stats().Tunnels.Received == n })
			over := errors.New("time is over")
			cancel(over)
			err := within(t, result, "the end of the drain")
			if stuck == 0 && err != nil || stuck > 0 && (!errors.Is(err, over) || !strings.Contains(err.Error(), ": 1 connections cut")) {
				t.Errorf("%v", err)
			}
			if open := s.Stats().Tunnels.Open; open != 0 {
				t.Errorf("%d tunnels are open when it has ended", open)
			}
			close(release)
			for i := range n {
				if got := within(t, gone, "legacy's side to be closed"); len(got) != 1 {
					t.Errorf("legacy got %q", got)
				}
				if b, _ := io.ReadAll(readers[i]); len(b) != 0 {
					t.Errorf("%q", b)
				}
			}
		})
	}
}

// A drain ends at once when the last tunnel does.
func TestDrainEndsWithTheLastTunnel(t *testing.T) {
	o := switcher(t, func(c *net.TCPConn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	s := serve(t, proxy.Config{}, websocket(pool(t, o)))
	c := s.dial(t)
	join(t, c)
	result := make(chan error, 1)
	go func() { result <- s.Shutdown(context.Background()) }()
	c.Close()
	if err := within(t, result, "the end of the drain"); err != nil {
		t.Error(err)
	}
}

// A tunnel takes a place among the client's and among the upstream's connections until it ends.
func TestTunnelsCount(t *testing.T) {
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		if h, err := head(r); err == nil {
			if strings.Contains(h, "Upgrade") {
				io.WriteString(c, switching)
				io.Copy(io.Discard, r)
			} else {
				io.WriteString(c, ok)
			}
		}
	})
	p := pool(t, o, func(c *upstream.Config) { c.MaxConns = 1; c.Timeouts.Dial = 10 * time.Millisecond })
	s := serve(t, proxy.Config{MaxConns: 2}, websocket(p))
	c := s.dial(t)
	join(t, c)
	const get = "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
	if got := s.talk(t, get); !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, "the upstream is busy") {
		t.Errorf("the upstream's only connection is taken: %q", got)
	}
	waitFor(t, "that connection to end", func() bool { return s.Stats().Conns == 1 })
	second := s.dial(t)
	waitFor(t, "a second connection", func() bool { return s.Stats().Conns == 2 })
	if got := s.talk(t, get); !strings.HasPrefix(got, "HTTP/1.1 503 ") || strings.Contains(got, "upstream") {
		t.Errorf("one connection too many: %q", got)
	}
	second.Close()
	c.Close()
	waitFor(t, "the tunnel to end", func() bool { return p.Stats().Open == 0 && s.Stats().Conns == 0 })
	if got := s.talk(t, get); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("%q", got)
	}
}

// A tunnel is told of when it ends: how long the switch took is one number, how long it was open another.
func TestTunnelIsObserved(t *testing.T) {
	o := switcher(t, func(c *net.TCPConn, r *bufio.Reader) {
		io.WriteString(c, "hello")
		io.Copy(io.Discard, r)
	})
	seen := make(observer, 1)
	s := serveObserved(t, proxy.Config{}, websocket(pool(t, o)), seen)
	c := s.dial(t)
	r := join(t, c)
	io.ReadFull(r, make([]byte, 5))
	if st := s.Stats().Tunnels; st.Open != 1 || st.Ended != 0 {
		t.Errorf("%+v", st)
	}
	time.Sleep(50 * time.Millisecond) // that it is open for a while is what is measured
	io.WriteString(c, "abc")
	c.Close()
	ob := within(t, seen, "the observation")
	if ob.Status != 101 || ob.RequestBytes != 3 || ob.ResponseBytes != 5 || ob.Err != nil || ob.ClientGone || ob.Upstream != "legacy" ||
		ob.Tunnel < 50*time.Millisecond || ob.Duration > ob.Tunnel || ob.FirstByte == 0 || ob.FirstByte > ob.Duration {
		t.Errorf("%+v", ob)
	}
	if st := s.Stats().Tunnels; st.Open != 0 || st.Ended != 1 || st.Received != 3 || st.Sent != 5 || st.Time < 50*time.Millisecond {
		t.Errorf("%+v", st)
	}
}

// A handshake that legacy may have seen is not sent again, though the handler calls the request repeatable.
func TestHandshakesAreSentOnce(t *testing.T) {
	var mu sync.Mutex
	shakes := 0
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for {
			h, err := head(r)
			if err != nil {
				return
			}
			if strings.HasPrefix(h, "GET /chat ") {
				mu.Lock()
				shakes++
				mu.Unlock()
				return
			}
			io.WriteString(c, ok)
		}
	})
	h := websocket(pool(t, o))
	h.Options.Repeatable = true
	s := serve(t, proxy.Config{}, h)
	s.talk(t, "GET / HTTP/1.1\r\nHost: t\r\n\r\n")
	if got := s.talk(t, handshake); !strings.Contains(got, "HTTP/1.1 502 ") {
		t.Errorf("%q", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if shakes != 1 {
		t.Errorf("sent %d times", shakes)
	}
}

// An idle tunnel holds neither the buffers of its request nor one to read into.
func TestIdleTunnelsAreSmall(t *testing.T) {
	const n, most = 500, 64 << 10
	o := switcher(t, func(c *net.TCPConn, _ *bufio.Reader) {
		var b [1]byte
		for {
			if _, err := c.Read(b[:]); err != nil {
				return
			}
			c.Write(b[:])
		}
	})
	s := serve(t, proxy.Config{}, websocket(pool(t, o, func(c *upstream.Config) { c.MaxConns = n })))
	held := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools keep for one more round
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	before := held()
	for range n {
		c := s.dial(t)
		io.WriteString(c, handshake)
		io.ReadFull(c, make([]byte, len(switching)))
		io.WriteString(c, "x") // it was used, and is silent now
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	per := (held() - before) / n
	t.Logf("%d bytes each, both ends and their goroutines in this process included", per)
	if per > most {
		t.Errorf("%d bytes each, want at most %d", per, most)
	}
}

// A drain that cuts tunnels returns when they have ended on both sides.
func TestDrainAwaitsWhatItCuts(t *testing.T) {
	o := switcher(t, func(c *net.TCPConn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	h, ending, goOn := websocket(pool(t, o)), make(chan struct{}), make(chan struct{})
	h.Options.BeforeEnd = func(*proxy.Exchange, *proxy.Result) { close(ending); <-goOn }
	s := serve(t, proxy.Config{}, h)
	join(t, s.dial(t))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	result := make(chan error, 1)
	go func() { result <- s.Shutdown(ctx) }()
	within(t, ending, "the tunnel to be cut")
	select {
	case err := <-result:
		t.Errorf("returned before it had ended: %v", err)
		close(goOn)
	case <-time.After(50 * time.Millisecond): // time for what must not come
		close(goOn)
		if err := within(t, result, "the end of the drain"); err != nil || s.Stats().Tunnels.Open != 0 {
			t.Errorf("%v, %+v", err, s.Stats().Tunnels)
		}
	}
}

type front struct{ upstream.Upstream }

func (front) Front() {}

// Scripts cannot switch, and are not asked to.
func TestAFrontIsNotAskedToSwitch(t *testing.T) {
	o, heads := answers(t, ok)
	s := serve(t, proxy.Config{}, websocket(front{pool(t, o)}))
	if got := s.talk(t, handshake); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("%q", got)
	}
	if h := heads()[0]; strings.Contains(h, "Upgrade") {
		t.Errorf("%q", h)
	}
}
