package h2

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rig is a connection and its client, in a bubble: its time passes when nobody has anything to do.
type rig struct {
	*http2.Framer
	t     *testing.T
	c     *Conn
	nc    net.Conn
	start time.Time
	over  chan error

	mu     sync.Mutex
	sent   map[uint32]int           // bytes of answers that came, by stream
	reset  map[uint32]string        // code
	cut    map[uint32]time.Duration // when it came
	end    map[uint32]error         // what Send said last, once the handler has ended
	ended  map[uint32]time.Duration // when it did
	window map[uint32]int           // to send to, 0: the connection's
	goAway string                   // code
	gone   time.Duration            // when the connection ended
	reads  chan struct{}            // closed: the client reads nothing any more
}

const answerHead = "HTTP/1.1 200 OK\r\n\r\n"

// answer sends a body of n bytes.
func answer(s *Stream, n int) error {
	err := s.Send([]byte(answerHead), len(answerHead), false)
	for piece := make([]byte, 32<<10); n > 0 && err == nil; {
		b := piece[:min(n, len(piece))]
		n -= len(b)
		err = s.Send(b, 0, n == 0)
	}
	return err
}

// newRig connects a client whose settings are given. serve gives what its last Send said.
func newRig(t *testing.T, cfg Config, serve func(s *Stream) error, settings ...http2.Setting) *rig {
	server, client := net.Pipe()
	r := &rig{Framer: http2.NewFramer(client, client), t: t, nc: client, start: time.Now(), over: make(chan error, 1), sent: map[uint32]int{}, reset: map[uint32]string{},
		cut: map[uint32]time.Duration{}, end: map[uint32]error{}, ended: map[uint32]time.Duration{}, window: map[uint32]int{0: freeWindow}, reads: make(chan struct{})}
	r.AllowIllegalWrites = true
	cfg.MaxStreams, cfg.MaxHead, cfg.HeaderTimeout, cfg.IdleTimeout = 100, 4<<10, time.Second, 24*time.Hour
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = time.Minute
	}
	if cfg.BodyTimeout == 0 {
		cfg.BodyTimeout = 30 * time.Second
	}
	cfg.Serve = func(s *Stream) {
		id := s.id
		err := serve(s)
		s.Finish()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.end[id], r.ended[id] = err, time.Since(r.start)
	}
	r.c = New(&cfg, server)
	go func() { // ends with the connection
		err := r.c.Serve(nil)
		r.mu.Lock()
		r.gone = time.Since(r.start)
		r.mu.Unlock()
		r.over <- err
	}()
	go r.read() // ends with the connection
	io.WriteString(client, Preface)
	r.WriteSettings(settings...)
	synctest.Wait()
	t.Cleanup(func() { client.Close(); synctest.Wait() })
	return r
}

func (r *rig) read() {
	for {
		select {
		case <-r.reads:
			return
		default:
		}
		f, err := r.ReadFrame()
		if err != nil {
			return
		}
		r.mu.Lock()
		switch f := f.(type) {
		case *http2.DataFrame:
			r.sent[f.StreamID] += len(f.Data())
		case *http2.RSTStreamFrame:
			r.reset[f.StreamID], r.cut[f.StreamID] = f.ErrCode.String(), time.Since(r.start)
		case *http2.GoAwayFrame:
			r.goAway = f.ErrCode.String()
		case *http2.WindowUpdateFrame:
			r.window[f.StreamID] += int(f.Increment)
		}
		r.mu.Unlock()
	}
}

// ask opens a stream; end says that no body follows.
func (r *rig) ask(id uint32, end bool) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, l := range []string{":method POST", ":scheme http", ":authority t", ":path /" + strconv.Itoa(int(id))} {
		n, v, _ := strings.Cut(l, " ")
		_ = e.WriteField(hpack.HeaderField{Name: n, Value: v}) // into memory
	}
	r.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndStream: end, EndHeaders: true})
	synctest.Wait()
}

// each calls f again and again for a time, until the connection has ended.
func (r *rig) each(every, for_ time.Duration, f func()) {
	for until := time.Now().Add(for_); time.Now().Before(until) && r.goneAt() == 0; {
		time.Sleep(every) // of the bubble's clock
		f()
		synctest.Wait()
	}
}

func (r *rig) isOver() bool { synctest.Wait(); return len(r.over) > 0 }

func (r *rig) goneAt() time.Duration { r.mu.Lock(); defer r.mu.Unlock(); return r.gone }

func (r *rig) cutAt(id uint32) (string, time.Duration) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reset[id], r.cut[id]
}

// resets are the streams that were reset, in order.
func (r *rig) resets() (ids []uint32) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.reset {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (r *rig) came(id uint32) int {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[id]
}

func (r *rig) room(id uint32) int {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.window[id]
}

// result is what the handler's last Send said, and when it ended; no time: it has not.
func (r *rig) result(id uint32) (at time.Duration, err error) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended[id], r.end[id]
}

// bubble runs a story on a clock of its own.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
