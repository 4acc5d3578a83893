package proxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"banyan/proxy"
)

// endless is an origin whose answers have 64 MiB, and which tells when it has begun one and when one was given up.
func endless(t testing.TB) (o net.Listener, begun, gone chan struct{}) {
	begun, gone = make(chan struct{}, 1<<12), make(chan struct{}, 1<<12)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quick" {
			io.WriteString(w, "quick")
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(64<<20))
		begun <- struct{}{}
		zeros(w, 64<<20)
		<-r.Context().Done()
		gone <- struct{}{}
	})
	s := httptest.NewUnstartedServer(h)
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		c.(*net.TCPConn).SetWriteBuffer(32 << 10) // a thousand of what the kernel takes by itself is more than it has for all sockets
		return ctx
	}
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener, begun, gone
}

// TestHTTP2SlowReader: a client that gives window a byte at a time loses the stream, and the upstream its request.
func TestHTTP2SlowReader(t *testing.T) {
	o, _, gone := endless(t)
	s := serve(t, proxy.Config{WriteTimeout: 100 * time.Millisecond, MinBodyRate: 10000}, &proxy.Passthrough{Upstream: pool(t, o)})
	f := s.prior(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	f.ask(1, true, get("/")...)
	done := make(chan struct{})
	go func() { // ends when the stream does
		defer close(done)
		for range 2000 {
			select {
			case <-gone:
				return
			case <-time.After(10 * time.Millisecond): // what is tested is slowness
			}
			if f.WriteWindowUpdate(1, 1) != nil {
				return
			}
		}
		t.Error("the upstream's request went on")
	}()
	if g := f.answer(1); g.status != 200 || g.reset != "ENHANCE_YOUR_CALM" {
		t.Errorf("%v, %s", g, g.reset)
	}
	within(t, done, "the end of the upstream's request")
	f.do(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000}))
	f.ask(3, true, get("/quick")...)
	if g := f.answer(3); g.String() != "answer 200 quick" {
		t.Errorf("the next one: %v", g)
	}
}

// TestHTTP2SlowSocket: a client that reads slowly from a full socket is not cut while the kernel says that it reads: a
// socket becomes writable only when much of its buffer is free, and that may take longer than WriteTimeout.
func TestHTTP2SlowSocket(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			t.Parallel()
			const size = 64 << 20
			o, _, _ := endless(t)
			var wrap []func(net.Listener) net.Listener
			if secure {
				wrap = append(wrap, overTLS(t))
			}
			s := serve(t, proxy.Config{WriteTimeout: 1500 * time.Millisecond, MinBodyRate: 1000}, &proxy.Passthrough{Upstream: pool(t, o)}, wrap...)
			raw := s.dial(t)
			raw.SetReadBuffer(64 << 10)
			nc := net.Conn(raw)
			if secure {
				c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
				if err := c.Handshake(); err != nil {
					t.Fatal(err)
				}
				nc = c
			}
			f := over(t, nc, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
			f.do(f.WriteWindowUpdate(0, 1<<30))
			f.ask(1, true, get("/")...)
			total, b := 0, make([]byte, 64<<10)
			for began := time.Now(); total < size; {
				if time.Since(began) < 4*time.Second {
					b = b[:4<<10]
					time.Sleep(15 * time.Millisecond) // what is tested is slowness
				} else {
					b = b[:64<<10]
				}
				n, err := nc.Read(b)
				if total += n; err != nil {
					t.Fatalf("after %d bytes and %v: %v", total, time.Since(began), err)
				}
			}
		})
	}
}

// TestHTTP2NobodyReads: a thousand answers of 64 MiB that nobody gives window for take a bounded memory and a bounded
// time, and others are served meanwhile.
func TestHTTP2NobodyReads(t *testing.T) {
	const conns, streams = 10, 100
	o, begun, gone := endless(t)
	s := serve(t, proxy.Config{WriteTimeout: 3 * time.Second, MinBodyRate: 100}, &proxy.Passthrough{Upstream: pool(t, o)})
	before := heap()
	var clients []*frames
	for range conns {
		f := s.prior(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		for id := uint32(1); id < 2*streams; id += 2 {
			f.ask(id, true, get("/")...)
		}
		clients = append(clients, f)
	}
	for range conns * streams {
		within(t, begun, "a request")
	}
	used := heap() - before
	if used > 300<<20 { // of both sides, and the origin: 64 KiB of it are the piece of an answer that waits
		t.Errorf("%d KiB for a stream", used>>10/(conns*streams))
	}
	t.Logf("%d KiB for a stream", used>>10/(conns*streams))
	if got := s.talk(t, "GET /quick HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"); !strings.HasSuffix(got, "\r\n\r\nquick") {
		t.Errorf("another client: %q", got)
	}
	for range conns * streams {
		within(t, gone, "the end of a request that nobody reads")
	}
	for _, f := range clients { // which gives windows back, and is served on
		f.do(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000}))
		f.ask(2*streams+1, true, get("/quick")...)
		if g := f.answer(2*streams + 1); g.String() != "answer 200 quick" {
			t.Errorf("%v", g)
		}
	}
}

// TestHTTP2UploadsAreCounted: what uploads hold is part of Stats.Buffered, takes no more than half of MaxBuffered, and is
// given back; nobody fails for it who can wait.
func TestHTTP2UploadsAreCounted(t *testing.T) {
	const limit, free = 2 << 20, 65535
	release := make(chan struct{})
	s := serve(t, proxy.Config{MaxBuffered: limit}, handler(func(x *proxy.Exchange) {
		if string(x.Request.Target()) == "/hold" {
			<-release
		}
		b, _, err := x.Body(1 << 20)
		if err != nil {
			x.Fail(err)
			return
		}
		x.Reply(200, nil, fmt.Append(nil, len(b)))
	}))
	const conns, streams, size = 8, 4, 128 << 10
	answers := make(chan got, conns*streams)
	for range conns {
		f := s.prior(t)
		room := map[uint32]int{0: free}
		for id := uint32(1); id < 2*streams; id += 2 {
			f.ask(id, false, post("/hold")...)
			room[id] = size
		}
		go f.uploads(room, streams, answers) // ends when its streams have
	}
	for deadline := time.Now().Add(wait); s.Stats().Buffered < limit/2-free && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // the server reads in its own time
	}
	if n := s.Stats().Buffered; n > limit/2 || n < limit/2-free {
		t.Errorf("%d bytes are counted for %d of uploads that nobody reads", n, conns*streams*size)
	}
	body := strings.Repeat("a", limit/2-(100<<10))
	if got := s.talk(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)); !strings.HasSuffix(got, "\r\n\r\n"+strconv.Itoa(len(body))) {
		t.Errorf("a body of the other half: %.80q", got)
	}
	close(release)
	ok := 0
	for range conns * streams {
		g := within(t, answers, "an answer")
		if g.status == 200 && string(g.body) == strconv.Itoa(size) {
			ok++
		} else if g.status != 503 || len(g.fields["retry-after"]) != 1 { // what a handler buffers is counted as over HTTP/1.1
			t.Errorf("%v", g)
		}
	}
	if ok < limit/size/2 {
		t.Errorf("%d of %d uploads were answered", ok, conns*streams)
	}
	for deadline := time.Now().Add(wait); s.Stats().Buffered > conns*2*size && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // a handler ends behind its answer
	}
}

// uploads sends each stream a body as long as its window, as windows allow, and gives the answers out.
func (f *frames) uploads(room map[uint32]int, streams int, answers chan<- got) {
	left, open := map[uint32]int{}, map[uint32]*got{}
	for id := range room {
		if id > 0 {
			left[id], open[id] = room[id], &got{fields: map[string][]string{}}
		}
	}
	for len(open) > 0 {
		for id := range open {
			for left[id] > 0 && room[0] > 0 {
				n := min(left[id], room[0], 16<<10)
				left[id], room[0] = left[id]-n, room[0]-n
				if f.WriteData(id, left[id] == 0, make([]byte, n)) != nil {
					return
				}
			}
		}
		fr, err := f.ReadFrame()
		if err != nil {
			return
		}
		id := fr.Header().StreamID
		g, ended := open[id], false
		switch fr := fr.(type) {
		case *http2.WindowUpdateFrame:
			if id == 0 {
				room[0] += int(fr.Increment)
			}
		case *http2.MetaHeadersFrame:
			g.status, _ = strconv.Atoi(fr.PseudoValue("status"))
			for _, h := range fr.RegularFields() {
				g.fields[h.Name] = append(g.fields[h.Name], h.Value)
			}
			ended = fr.StreamEnded()
		case *http2.DataFrame:
			g.body = append(g.body, fr.Data()...)
			ended = fr.StreamEnded()
		}
		if ended {
			delete(open, id)
			answers <- *g
		}
	}
}

// TestHTTP2Crowded: a body that does not come because there is no memory for it is answered with 503 and Retry-After,
// not with 408, and a client that may hardly send is not called slow.
func TestHTTP2Crowded(t *testing.T) {
	const free = 65535
	release := make(chan struct{})
	s := serve(t, proxy.Config{MaxBuffered: 1 << 20, BodyTimeout: 60 * time.Millisecond, MinBodyRate: 1000}, handler(func(x *proxy.Exchange) {
		if string(x.Request.Target()) == "/hold" {
			<-release
		}
		if _, _, err := x.Body(1 << 10); err != nil {
			x.Fail(err)
			return
		}
		x.Reply(200, nil, nil)
	}))
	fill := s.prior(t) // takes all there is for windows
	room := free
	for id := uint32(1); id < 13; id += 2 {
		fill.ask(id, false, post("/hold")...)
		for sent := 0; sent < 128<<10 && room > 0; {
			n := min(room, 16<<10, 128<<10-sent)
			fill.do(fill.WriteData(id, false, make([]byte, n)))
			sent, room = sent+n, room-n
			fill.do(fill.WritePing(false, [8]byte{}))
			fill.until(func(fr http2.Frame) bool {
				if w, ok := fr.(*http2.WindowUpdateFrame); ok && w.StreamID == 0 {
					room += int(w.Increment)
				}
				p, ok := fr.(*http2.PingFrame)
				return ok && p.IsAck()
			})
		}
	}
	f := s.prior(t)
	f.ask(1, false, post("/hold")...)
	for sent := 0; sent < free-100; {
		n := min(16<<10, free-100-sent)
		f.do(f.WriteData(1, false, make([]byte, n)))
		sent += n
	}
	f.ask(3, false, post("/")...)
	done := make(chan struct{})
	go func() { // ends after half a second
		defer close(done)
		for range 50 {
			if f.WriteData(3, false, []byte("a")) != nil {
				return
			}
			time.Sleep(5 * time.Millisecond) // what is tested is slowness
		}
	}()
	if g := f.answer(3); g.status != 503 || len(g.fields["retry-after"]) != 1 {
		t.Errorf("%v, %v", g, g.fields)
	}
	<-done
	if st := s.Stats(); st.Overflow != 1 {
		t.Errorf("%+v", st)
	}
	close(release)
	for _, f := range []*frames{f, fill} {
		f.nc.Close()
	}
	for deadline := time.Now().Add(wait); s.Stats().Buffered > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // the server sees the end of a connection in its own time
	}
	if n := s.Stats().Buffered; n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
}
