package proxy_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"banyan/proxy"
)

// TestHTTP2Floods: whoever costs more than he asks for is told to calm down, and loses the connection, long before he
// has sent a hundred thousand frames.
func TestHTTP2Floods(t *testing.T) {
	blocked := make(chan struct{})
	var running, most atomic.Int64
	s := serve(t, proxy.Config{MaxStreams: 50}, handler(func(x *proxy.Exchange) {
		if string(x.Request.Target()) == "/blocked" {
			n := running.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-blocked
			running.Add(-1)
		}
		x.Body(10)
		x.Reply(200, nil, []byte(strings.Repeat("a", 10000)))
	}))
	defer close(blocked)
	raw := func(kind, flags byte, stream uint32, payload string) func(*frames, int) error {
		n := len(payload)
		b := append(binary.BigEndian.AppendUint32([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags}, stream), payload...)
		return func(f *frames, _ int) error { _, err := f.nc.Write(b); return err }
	}
	for _, c := range []struct {
		name  string
		begin func(f *frames)
		send  func(f *frames, i int) error
	}{
		{"rapid reset", nil, func(f *frames, i int) error {
			id := uint32(2*i + 1)
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.encode(get("/blocked")...), EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return f.WriteRSTStream(id, http2.ErrCodeCancel)
		}},
		{"rapid reset by faults", nil, func(f *frames, i int) error { // CVE-2025-8671: the server is made to reset
			id := uint32(2*i + 1)
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.encode(get("/blocked")...), EndHeaders: true}); err != nil {
				return err
			}
			return f.WriteWindowUpdate(id, 0)
		}},
		{"refused streams", nil, func(f *frames, i int) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: f.encode(get("/blocked")...), EndStream: true, EndHeaders: true})
		}},
		{"malformed requests", nil, func(f *frames, i int) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: f.encode("x: y"), EndStream: true, EndHeaders: true})
		}},
		{"PING", nil, raw(6, 0, 0, "12345678")},
		{"PING replies", nil, raw(6, 1, 0, "12345678")},
		{"SETTINGS", nil, raw(4, 0, 0, "\x00\x04\x00\x00\xff\xff")},
		{"SETTINGS, many in one", nil, raw(4, 0, 0, strings.Repeat("\x00\x04\x00\x00\xff\xff", 1000))},
		{"SETTINGS ACK", nil, raw(4, 1, 0, "")},
		{"PRIORITY", nil, raw(2, 0, 1, "\x00\x00\x00\x00\x01")},
		{"RST_STREAM of a stream that is gone", func(f *frames) { f.ask(1, true, get("/")...); f.answer(1) }, raw(3, 0, 1, "\x00\x00\x00\x08")},
		{"GOAWAY", nil, raw(7, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x00")},
		{"unknown frames", nil, raw(0xbe, 0, 0, "")},
		{"WINDOW_UPDATE", nil, raw(8, 0, 0, "\x00\x00\x00\x01")},
		{"empty DATA", func(f *frames) { f.ask(1, false, post("/blocked")...) }, raw(0, 0, 1, "")},
		{"DATA of padding alone", func(f *frames) { f.ask(1, false, post("/blocked")...) }, raw(0, 8, 1, "\x05\x00\x00\x00\x00\x00")},
		{"DATA dribbled out", func(f *frames) {
			f.do(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
			f.ask(1, true, get("/")...)
		}, raw(8, 0, 1, "\x00\x00\x00\x01")},
		{"CONTINUATION", func(f *frames) {
			f.do(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.encode(get("/")...)}))
		}, raw(9, 0, 1, "\x00\x01x\x01y")},
		{"CONTINUATION, empty", func(f *frames) {
			f.do(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.encode(get("/")...)}))
		}, raw(9, 0, 1, "")},
		{"CONTINUATION, large", func(f *frames) {
			f.do(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.encode(get("/")...)}))
		}, raw(9, 0, 1, strings.Repeat("\x00\x01x\x01y", 3000))},
		{"one name without an end", func(f *frames) {
			f.do(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0, 0x7f, 0xff, 0xff, 0xff, 0x07}}))
		}, raw(9, 0, 1, strings.Repeat("a", 10000))},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := s.prior(t)
			code := make(chan string, 1)
			if c.begin != nil {
				c.begin(f)
			}
			go func() { // ends with the connection
				got := "none"
				for {
					fr, err := f.ReadFrame()
					if err != nil {
						code <- got
						return
					}
					if g, ok := fr.(*http2.GoAwayFrame); ok {
						got = g.ErrCode.String()
					}
				}
			}()
			sent := 0
			f.nc.SetDeadline(time.Now().Add(wait))
			for ; sent < 100000 && c.send(f, sent) == nil; sent++ {
			}
			got := within(t, code, "GOAWAY")
			if got != "ENHANCE_YOUR_CALM" && !(got == "COMPRESSION_ERROR" && c.name == "one name without an end") && (got != "none" || sent == 100000) { // none: our writes met the closed socket before we read
				t.Errorf("after %d: %s", sent, got)
			}
		})
	}
	if n := most.Load(); n > 21*2*50 {
		t.Errorf("%d handlers ran at once", n)
	}
}

// TestRapidReset: a client that resets what it has opened does not make more handlers run than it may have streams twice.
func TestRapidReset(t *testing.T) {
	var running atomic.Int64
	blocked := make(chan struct{})
	s := serve(t, proxy.Config{MaxStreams: 10}, handler(func(x *proxy.Exchange) {
		running.Add(1)
		<-blocked
		x.Reply(200, nil, nil)
	}))
	f := s.prior(t)
	for id := uint32(1); id < 81; id += 2 {
		f.ask(id, true, get("/")...)
		f.do(f.WriteRSTStream(id, http2.ErrCodeCancel))
	}
	f.ask(81, true, get("/")...)
	if g := f.answer(81); g.String() != "reset REFUSED_STREAM" {
		t.Errorf("a stream beyond: %v", g)
	}
	if n := running.Load(); n > 20 {
		t.Errorf("%d handlers run for a client that may have 10 streams", n)
	}
	close(blocked)
	for id := uint32(83); ; id += 2 { // once they have ended, it is served again
		f.ask(id, true, get("/")...)
		if g := f.answer(id); g.String() == "answer 200" {
			break
		} else if g.reset != "REFUSED_STREAM" {
			t.Fatalf("after the handlers ended: %v", g)
		}
	}
}

// TestResetsCost: also one reset after the other, each of a request that is answered soon after, comes to an end.
func TestResetsCost(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	ended := make(chan proxy.Observation)
	s := serveObserved(t, proxy.Config{}, handler(func(x *proxy.Exchange) {
		started <- struct{}{}
		<-release
		x.Reply(200, nil, nil)
	}), observer(ended))
	f := s.prior(t)
	code, seen := make(chan string, 1), make(chan struct{}, 1)
	go func() { // ends with the connection
		got := "none"
		for {
			fr, err := f.ReadFrame()
			if err != nil {
				code <- got
				return
			}
			switch fr := fr.(type) {
			case *http2.PingFrame:
				seen <- struct{}{}
			case *http2.GoAwayFrame:
				got = fr.ErrCode.String()
			}
		}
	}()
	for n := range 2000 {
		id := uint32(2*n + 1)
		err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.encode(get("/")...), EndStream: true, EndHeaders: true})
		if err == nil {
			select {
			case <-started:
				f.WriteRSTStream(id, http2.ErrCodeCancel)
				err = f.WritePing(false, [8]byte{})
			case got := <-code:
				code <- got
				err = io.EOF
			}
		}
		if err == nil {
			select {
			case <-seen:
			case got := <-code:
				code <- got
				err = io.EOF
			}
			release <- struct{}{}
			<-ended
		}
		if err != nil {
			if got := within(t, code, "the end"); got != "ENHANCE_YOUR_CALM" || n < 50 || n > 600 {
				t.Errorf("%s after %d resets", got, n)
			}
			return
		}
	}
	t.Error("nobody minded 2000 resets")
}

// TestLongHeaderBlock: a block longer than any header list that is taken ends the connection before its end.
func TestLongHeaderBlock(t *testing.T) {
	s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) { x.Reply(200, nil, nil) }))
	f := s.prior(t)
	f.do(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.encode(get("/")...)}))
	for range 12 {
		f.do(f.WriteContinuation(1, false, bytes.Repeat([]byte("\x00\x01x\x01y"), 3000)))
	}
	if code := f.last(); code != "ENHANCE_YOUR_CALM" {
		t.Errorf("180 kB of a header block: %s", code)
	}
}

// TestMaxStreams: one more than agreed is refused, the others are served.
func TestMaxStreams(t *testing.T) {
	blocked := make(chan struct{})
	s := serve(t, proxy.Config{MaxStreams: 3}, handler(func(x *proxy.Exchange) { <-blocked; x.Reply(200, nil, nil) }))
	f := s.prior(t)
	for id := uint32(1); id <= 7; id += 2 {
		f.ask(id, true, get("/")...)
	}
	if g := f.answer(7); g.String() != "reset REFUSED_STREAM" {
		t.Errorf("the fourth: %v", g)
	}
	close(blocked)
	ended := map[uint32]bool{}
	for len(ended) < 3 {
		fr := f.until(func(fr http2.Frame) bool { _, ok := fr.(*http2.MetaHeadersFrame); return ok })
		ended[fr.Header().StreamID] = true
	}
}

// TestHeaderBomb: a few bytes that decode to many megabytes cost neither memory nor the connection.
func TestHeaderBomb(t *testing.T) {
	s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) { x.Reply(200, nil, nil) }))
	f := s.prior(t)
	block := f.encode(append(get("/"), "x-bomb: "+strings.Repeat("a", 3900))...)
	block = append(block, bytes.Repeat([]byte{0x80 | 62}, 60<<10)...)
	used := allocated(func() {
		first := block[:16<<10]
		f.do(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndStream: true}))
		for rest := block[len(first):]; len(rest) > 0; {
			n := min(len(rest), 16<<10)
			f.do(f.WriteContinuation(1, n == len(rest), rest[:n]))
			rest = rest[n:]
		}
		if g := f.answer(1); g.String() != "answer 431 head is too large" {
			t.Errorf("%v", g)
		}
	})
	if used > 1<<19 {
		t.Errorf("%d bytes allocated for a header list of %d MiB", used, 60<<10*3900>>20)
	}
	f.ask(3, true, get("/")...)
	if g := f.answer(3); g.String() != "answer 200" {
		t.Errorf("the next request: %v", g)
	}
}

// TestEmptyNames: fields without name and value cost their place in the list all the same.
func TestEmptyNames(t *testing.T) {
	s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) { x.Reply(200, nil, nil) }))
	f := s.prior(t)
	block := append(f.encode(get("/")...), bytes.Repeat([]byte{0, 0, 0}, 5000)...)
	f.do(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true}))
	if g := f.answer(1); g.String() != "answer 431 head is too large" {
		t.Errorf("%v", g)
	}
}

// TestWindowsAreKept: DATA beyond a window ends the stream, or the connection.
func TestWindowsAreKept(t *testing.T) {
	blocked := make(chan struct{})
	defer close(blocked)
	s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) { <-blocked }))
	f := s.prior(t)
	f.ask(1, false, post("/")...)
	piece := make([]byte, 16<<10)
	for range 9 {
		f.do(f.WriteData(1, false, piece))
	}
	if g := f.answer(1); g.String() != "reset FLOW_CONTROL_ERROR" {
		t.Errorf("beyond the stream's window: %v", g)
	}
	f = serve(t, proxy.Config{MaxBuffered: 1 << 20}, handler(func(x *proxy.Exchange) { <-blocked })).prior(t) // half of it is for windows
	for id := uint32(1); id < 21; id += 2 {
		f.ask(id, false, post("/")...)
		for range 8 {
			if f.WriteData(id, false, piece) != nil {
				break
			}
		}
	}
	if code := f.last(); code != "FLOW_CONTROL_ERROR" {
		t.Errorf("beyond the connection's window: %s", code)
	}
	f = s.prior(t)
	f.do(f.WriteWindowUpdate(0, 1<<31-1))
	if code := f.last(); code != "FLOW_CONTROL_ERROR" {
		t.Errorf("overflow of the connection's window: %s", code)
	}
}

// TestUnreadBodies: bodies that nobody reads do not use the connection's window up.
func TestUnreadBodies(t *testing.T) {
	s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) { x.Reply(200, nil, nil) }))
	f := s.prior(t)
	piece := make([]byte, 16<<10)
	for id := uint32(1); id < 400; id += 2 { // 3 MiB, without looking at windows
		f.ask(id, false, post("/")...)
		f.do(f.WriteData(id, true, piece))
		if g := f.answer(id); g.status != 200 {
			t.Fatalf("stream %d: %v", id, g)
		}
	}
}
