package h2

import (
	"bytes"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// budget is a Config.Hold.
type budget struct{ limit, used, refused atomic.Int64 }

func (b *budget) hold(n int64) bool {
	if b.used.Add(n) > b.limit.Load() && n > 0 {
		b.used.Add(-n)
		b.refused.Add(1)
		return false
	}
	return true
}

// upload sends as much of n bytes as the windows of the stream and the connection allow, and tells how much that was.
func (r *rig) upload(id uint32, n int) int {
	synctest.Wait()
	r.mu.Lock()
	if _, ok := r.window[id]; !ok {
		r.window[id] = streamWindow
	}
	r.mu.Unlock()
	sent := 0
	for sent < n {
		room := min(r.room(0), r.room(id), frameMax, n-sent)
		if room <= 0 {
			break
		}
		if r.WriteData(id, false, make([]byte, room)) != nil {
			break
		}
		r.mu.Lock()
		r.window[0] -= room
		r.window[id] -= room
		r.mu.Unlock()
		sent += room
	}
	synctest.Wait()
	return sent
}

// reader is a handler that reads as much as it is told to, and ends when told no more.
func reader(orders <-chan int) func(*Stream) error {
	return func(s *Stream) error {
		p := make([]byte, 64<<10)
		for n := range orders {
			for n > 0 {
				k, end, err := s.Receive(p[:min(n, len(p))])
				if err != nil || end {
					return err
				}
				n -= k
			}
		}
		return nil
	}
}

// TestUploadsAreCounted: what uploads hold beyond the protocol's window is asked for before it is granted, and given back
// however it ends.
func TestUploadsAreCounted(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(r *rig, orders chan int)
	}{
		{"read", func(r *rig, orders chan int) {
			for range 10 {
				orders <- streamWindow
			}
		}},
		{"reset by the client", func(r *rig, _ chan int) {
			for id := uint32(1); id < 20; id += 2 {
				r.WriteRSTStream(id, http2.ErrCodeCancel)
			}
		}},
		{"ended by the client, and not read", func(r *rig, orders chan int) {
			for id := uint32(1); id < 20; id += 2 {
				r.WriteData(id, true, nil)
			}
			close(orders)
		}},
		{"not read", func(_ *rig, orders chan int) { close(orders) }},
		{"a fault of the client's", func(r *rig, _ chan int) {
			for id := uint32(1); id < 20; id += 2 {
				r.WriteWindowUpdate(id, 0)
			}
		}},
		{"the connection", func(r *rig, _ chan int) { r.nc.Close() }},
		{"a fault of the connection's", func(r *rig, _ chan int) { r.WriteWindowUpdate(0, 0) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var b budget
				b.limit.Store(10 * streamWindow)
				orders := make(chan int)
				r := newRig(t, Config{Hold: b.hold, BodyTimeout: time.Hour}, reader(orders))
				sent := int64(0)
				for id := uint32(1); id < 20; id += 2 {
					r.ask(id, false)
					if n := r.upload(id, 1<<20); n != streamWindow {
						t.Fatalf("stream %d: %d bytes went", id, n)
					} else if sent += int64(n); b.used.Load() < sent-freeWindow {
						t.Fatalf("%d of %d bytes are counted", b.used.Load(), sent)
					}
				}
				c.end(r, orders)
				synctest.Wait()
				if n := b.used.Load(); n > 0 && r.isOver() || !r.isOver() && n > max(0, int64(r.room(0))-freeWindow) {
					t.Errorf("%d bytes are still counted, window %d", n, r.room(0))
				}
				r.nc.Close()
				if c.name != "ended by the client, and not read" && c.name != "not read" {
					close(orders)
				}
				synctest.Wait()
				if !r.isOver() {
					t.Fatal("the connection has not ended")
				}
				if n := b.used.Load(); n != 0 {
					t.Errorf("%d bytes are still counted though the connection has ended", n)
				}
			})
		})
	}
}

// TestWindowIsWithheld: beyond the budget nobody is refused and nothing is lost: the window does not grow, until somebody
// has read, or there is memory again.
func TestWindowIsWithheld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var b budget
		b.limit.Store(streamWindow)
		orders := make(chan int)
		r := newRig(t, Config{Hold: b.hold, BodyTimeout: time.Hour}, reader(orders))
		total := 0
		for id := uint32(1); id < 20; id += 2 {
			r.ask(id, false)
			total += r.upload(id, 1<<20)
		}
		if total > freeWindow+streamWindow || total < streamWindow || b.refused.Load() == 0 {
			t.Errorf("%d bytes went, of a budget of %d and %d free", total, streamWindow, freeWindow)
		}
		other := newRig(t, Config{Hold: b.hold}, reader(orders))
		other.ask(1, false)
		if n := other.upload(1, 1<<20); n != freeWindow {
			t.Errorf("%d bytes went over another connection, of %d free", n, freeWindow)
		}
		if n := r.upload(1, 1<<20); n != 0 {
			t.Errorf("%d more bytes went", n)
		}
		b.limit.Store(1 << 30)
		time.Sleep(2 * askAgain) // of the bubble's clock
		if n := r.upload(19, 1<<20); n != streamWindow {
			t.Errorf("%d bytes went once there was memory", n)
		}
		close(orders)
	})
}

// TestReadersGoOn: with no budget at all an upload goes on at the pace at which it is read.
func TestReadersGoOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var b budget
		orders := make(chan int, 1)
		orders <- 10 << 20
		r := newRig(t, Config{Hold: b.hold}, reader(orders))
		r.ask(1, false)
		for total := 0; total < 10<<20; {
			n := r.upload(1, 10<<20-total)
			if total += n; n == 0 {
				t.Fatalf("stuck after %d bytes", total)
			}
		}
		close(orders)
		if n := b.used.Load(); n != 0 {
			t.Errorf("%d bytes are counted", n)
		}
	})
}

// TestWindowGrows: whose body is read as it comes may send more ahead than the protocol's window, if there is memory.
func TestWindowGrows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var b budget
		b.limit.Store(1 << 30)
		orders := make(chan int, 1)
		orders <- 1 << 20
		r := newRig(t, Config{Hold: b.hold}, reader(orders))
		r.ask(1, false)
		for total := 0; total < 1<<20; {
			total += r.upload(1, 1<<20-total)
		}
		room := r.room(0)
		if room < streamWindow || int64(room) > freeWindow+b.used.Load() {
			t.Errorf("the window is %d, %d bytes are counted", room, b.used.Load())
		}
		close(orders)
		r.nc.Close()
		if ended, n := r.isOver(), b.used.Load(); !ended || n != 0 {
			t.Errorf("%d bytes are still counted, ended %v", n, ended)
		}
	})
}

// TestCrowded: a body that has to wait for memory too long is told from one whose client is slow.
func TestCrowded(t *testing.T) {
	for _, crowded := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			var b budget
			if !crowded {
				b.limit.Store(1 << 30)
			}
			hold := make(chan struct{})
			defer close(hold)
			r := newRig(t, Config{Hold: b.hold}, func(s *Stream) error {
				if s.id == 1 {
					<-hold
					return nil
				}
				_, _, err := s.Receive(make([]byte, 1))
				return err
			})
			r.ask(1, false)
			r.upload(1, freeWindow)
			r.ask(3, false)
			time.Sleep(time.Minute) // of the bubble's clock
			want := ErrSlow
			if crowded {
				want = ErrCrowded
			}
			if at, err := r.result(3); err != want || at != 30*time.Second {
				t.Errorf("crowded %v: %v after %v", crowded, err, at)
			}
		})
	}
}

// TestBody: a queue of bytes gives what it was given, and keeps one piece when it is empty.
func TestBody(t *testing.T) {
	var b body
	var want bytes.Buffer
	r := rand.New(rand.NewPCG(1, 2))
	for range 1500 {
		p := make([]byte, r.IntN(3*frameMax))
		if r.IntN(2) == 0 && b.size < streamWindow {
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			b.add(p)
			want.Write(p)
		} else {
			n := b.take(p)
			w := want.Next(len(p))
			if !bytes.Equal(p[:n], w) {
				t.Fatalf("%d bytes taken, want %d, or others", n, len(w))
			}
		}
		if b.size != want.Len() || len(b.pieces) > b.size/frameMax+2 {
			t.Fatalf("%d bytes in %d pieces, want %d", b.size, len(b.pieces), want.Len())
		}
	}
	if b.drop(); b.size != 0 || len(b.pieces) != 0 || b.take(make([]byte, 1)) != 0 {
		t.Errorf("%d bytes are left", b.size)
	}
}
