package h2

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

const (
	floor = 100 // bytes a second
	over  = time.Minute
	large = 64 << 20
)

func initial(v uint32) http2.Setting {
	return http2.Setting{ID: http2.SettingInitialWindowSize, Val: v}
}

func send(n int) func(*Stream) error { return func(s *Stream) error { return answer(s, n) } }

// TestStreamFloor: a stream whose client takes less than the floor is reset after a WriteTimeout of waiting, its handler
// ends with it, and the connection goes on; one whose client is slow and above the floor is not.
func TestStreamFloor(t *testing.T) {
	for _, c := range []struct {
		name  string
		rate  int
		every time.Duration
		give  func(r *rig, k int)
		cut   time.Duration // about; 0: never
	}{
		{"nothing", floor, over / 60, func(*rig, int) {}, over},
		{"nothing, without a floor", 0, over / 60, func(*rig, int) {}, over},
		{"a byte a second", floor, time.Second, func(r *rig, _ int) { r.WriteWindowUpdate(1, 1) }, over},
		{"a byte a second, without a floor", 0, time.Second, func(r *rig, _ int) { r.WriteWindowUpdate(1, 1) }, 0},
		{"a byte now and then, without a floor", 0, over * 9 / 10, func(r *rig, _ int) { r.WriteWindowUpdate(1, 1) }, 0},
		{"just below", floor, time.Second, func(r *rig, _ int) { r.WriteWindowUpdate(1, floor-1) }, over},
		{"just above", floor, time.Second, func(r *rig, _ int) { r.WriteWindowUpdate(1, floor+2) }, 0},
		{"above, in large pieces", floor, over / 3, func(r *rig, _ int) { r.WriteWindowUpdate(1, floor*30) }, 0},
		{"PING", floor, time.Second, func(r *rig, _ int) { r.WritePing(false, [8]byte{}) }, over},
		{"the connection's window", floor, time.Second, func(r *rig, _ int) { r.WriteWindowUpdate(0, 1000) }, over},
		{"a byte by SETTINGS", floor, time.Second, func(r *rig, k int) { r.WriteSettings(initial(uint32(k))) }, over},
		{"enough by SETTINGS", floor, time.Second, func(r *rig, k int) { r.WriteSettings(initial(uint32(2 * floor * k))) }, 0},
		{"window given and taken back", floor, time.Second, func(r *rig, k int) {
			r.WriteSettings(initial(0))
			r.WriteWindowUpdate(1, 1)
			r.WriteSettings(initial(1))
		}, over},
		{"fast first", floor, time.Second, func(r *rig, k int) {
			if k < 10 {
				r.WriteWindowUpdate(1, 1<<16)
			} else if k > 20 {
				r.WriteWindowUpdate(1, 1)
			}
		}, 2 * over},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, Config{MinRate: c.rate}, send(large), initial(0))
				r.WriteWindowUpdate(0, 1<<30)
				r.ask(1, true)
				k := 0
				r.each(c.every, 10*over, func() {
					if _, at := r.cutAt(1); at == 0 {
						k++
						c.give(r, k)
					}
				})
				code, at := r.cutAt(1)
				ended, err := r.result(1)
				switch {
				case c.cut == 0 && (at != 0 || ended != 0):
					t.Errorf("cut after %v: %s, %v", at, code, err)
				case c.cut > 0 && (code != "ENHANCE_YOUR_CALM" || at < c.cut || at > c.cut+over/20 || err != ErrSlow || ended != at):
					t.Errorf("cut after %v: %s; the handler ended after %v: %v; want about %v", at, code, ended, err, c.cut)
				}
				if gone := r.goneAt(); gone != 0 {
					t.Errorf("the connection ended after %v", gone)
				}
			})
		})
	}
}

// TestOneSlowStream: a client that pauses one stream and reads others loses that one.
func TestOneSlowStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{MinRate: floor}, send(large), initial(1000))
		r.WriteWindowUpdate(0, 1<<30)
		r.ask(1, true)
		r.ask(3, true)
		r.ask(5, true)
		r.each(time.Second, 10*over, func() {
			r.WriteWindowUpdate(3, 2*floor)
			r.WriteWindowUpdate(5, 100*floor)
		})
		if got := r.resets(); !slices.Equal(got, []uint32{1}) || r.goneAt() != 0 {
			t.Errorf("reset: %v; connection's end: %v", got, r.goneAt())
		}
	})
}

// TestIdleAnswers: only time in which the client was waited for counts: an answer of which there is nothing to send, and
// then a byte, is no slow client's.
func TestIdleAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{MinRate: floor}, func(s *Stream) error {
			err := s.Send([]byte(answerHead), len(answerHead), false)
			for range 60 {
				time.Sleep(over / 4) // of the bubble's clock
				if err == nil {
					err = s.Send([]byte("tick"), 0, false)
				}
			}
			return err
		}, initial(0))
		r.ask(1, true)
		r.each(over/4+time.Second, 16*over, func() { r.WriteWindowUpdate(1, 4) })
		if ended, err := r.result(1); err != nil || ended == 0 || r.came(1) == 0 {
			t.Errorf("ended after %v: %v, %d bytes came", ended, err, r.came(1))
		}
	})
}

// TestConnectionFloor: a connection whose window does not move is closed; what moves too little for all streams that
// wait is left to those that came first.
func TestConnectionFloor(t *testing.T) {
	const streams = 20
	all := func(from uint32) (ids []uint32) {
		for id := from; id < 2*streams; id += 2 {
			ids = append(ids, id)
		}
		return ids
	}
	for _, c := range []struct {
		name   string
		rate   int
		give   func(r *rig)
		gone   bool
		resets []uint32 // after one WriteTimeout
	}{
		{"nothing", floor, func(*rig) {}, true, nil},
		{"nothing, without a floor", 0, func(*rig) {}, true, nil},
		{"PING", floor, func(r *rig) {
			for range 50 {
				r.WritePing(false, [8]byte{})
			}
		}, true, nil},
		{"windows of streams", floor, func(r *rig) { r.WriteWindowUpdate(1, 1000) }, true, nil},
		{"a byte a second", floor, func(r *rig) { r.WriteWindowUpdate(0, 1) }, true, nil},
		{"a byte a second, without a floor", 0, func(r *rig) { r.WriteWindowUpdate(0, 1) }, false, nil},
		{"enough for five", floor, func(r *rig) { r.WriteWindowUpdate(0, 5*floor+floor/2) }, false, all(11)},
		{"enough for five, and PING", floor, func(r *rig) {
			r.WriteWindowUpdate(0, 5*floor+floor/2)
			for range 40 {
				r.WritePing(false, [8]byte{})
			}
		}, false, all(11)},
		{"enough for all", floor, func(r *rig) { r.WriteWindowUpdate(0, streams*floor+floor) }, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, Config{MinRate: c.rate}, send(large), initial(1<<30))
				for _, id := range all(1) {
					r.ask(id, true)
				}
				if n := r.came(1); n != 65535 {
					t.Fatalf("%d bytes came of the first", n)
				}
				r.each(time.Second, 10*over, func() { c.give(r) })
				switch gone := r.goneAt(); {
				case c.gone && (gone < over || gone > over+over/10 || r.goAway != "ENHANCE_YOUR_CALM"):
					t.Errorf("ended after %v: %s", gone, r.goAway)
				case !c.gone && gone != 0:
					t.Errorf("ended after %v: %s", gone, r.goAway)
				}
				if c.gone {
					for _, id := range all(1) {
						if ended, err := r.result(id); err == nil || ended == 0 {
							t.Errorf("stream %d's handler: %v after %v", id, err, ended)
						}
					}
					return
				}
				if got := r.resets(); !slices.Equal(got, c.resets) {
					t.Errorf("reset: %v, want %v", got, c.resets)
				}
				for _, id := range all(1) {
					if ended, err := r.result(id); slices.Contains(c.resets, id) != (err == ErrSlow && ended > 0) {
						t.Errorf("stream %d's handler: %v after %v", id, err, ended)
					}
				}
			})
		})
	}
}

// TestDeadSocket: a client that reads nothing is cut, whatever it sends.
func TestDeadSocket(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{MinRate: floor}, send(large), initial(1<<30))
		close(r.reads)
		r.WriteWindowUpdate(0, 1<<30)
		r.ask(1, true)
		r.ask(3, true)
		for r.goneAt() == 0 && time.Since(r.start) < 10*over {
			time.Sleep(over / 60) // of the bubble's clock
			r.WriteWindowUpdate(1, 1)
		}
		if gone := r.goneAt(); gone < over || gone > over*5/4+over/60 {
			t.Errorf("ended after %v", gone)
		}
		for _, id := range []uint32{1, 3} {
			if ended, err := r.result(id); err != ErrGone || ended == 0 {
				t.Errorf("stream %d's handler: %v after %v", id, err, ended)
			}
		}
	})
}

// TestSlowSocket: one that reads slowly is not, and has everything in the end.
func TestSlowSocket(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const size = 1 << 20
		r := newRig(t, Config{MinRate: floor}, send(size), initial(1<<30))
		close(r.reads)
		r.WriteWindowUpdate(0, 1<<30)
		r.ask(1, true)
		b := make([]byte, 3000)
		for total := 0; total < size; {
			time.Sleep(time.Second) // of the bubble's clock
			n, err := r.nc.Read(b)
			if total += n; err != nil {
				t.Fatalf("after %d bytes, %v: %v", total, time.Since(r.start), err)
			}
		}
	})
}

// waitingFor makes a rig whose streams 1 and 3 wait for the connection's window, with much of their own.
func waitingFor(t *testing.T, serve func(s *Stream) error) (r *rig, a, b *Stream) {
	r = newRig(t, Config{MinRate: floor}, serve, initial(1<<20))
	r.ask(1, true)
	r.ask(3, true)
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if a, b = r.c.streams[1], r.c.streams[3]; len(r.c.waiting) != 2 || r.c.waiting[0] != a {
		t.Fatalf("%d streams wait for the connection", len(r.c.waiting))
	}
	return r, a, b
}

// TestTurnInVain: a stream whose turn it is, and which cannot use it, passes it on.
func TestTurnInVain(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(r *rig, a *Stream)
	}{
		{"its window was taken back before", func(r *rig, _ *Stream) {
			r.WriteSettings(initial(0))
			r.WriteWindowUpdate(0, 1000)
		}},
		{"its window was taken back since", func(r *rig, a *Stream) {
			r.c.mu.Lock()
			defer r.c.mu.Unlock()
			r.c.sendWindow += 1000
			r.c.wakeLocked() // it is a's turn
			a.sendWindow = -5
		}},
		{"it was reset before", func(r *rig, _ *Stream) {
			r.WriteRSTStream(1, http2.ErrCodeCancel)
			synctest.Wait()
			r.WriteWindowUpdate(0, 1000)
		}},
		{"it was reset since", func(r *rig, a *Stream) {
			r.c.mu.Lock()
			defer r.c.mu.Unlock()
			r.c.sendWindow += 1000
			r.c.wakeLocked()
			r.c.dropLocked(a, ErrGone)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				hold := make(chan struct{})
				defer close(hold)
				r, a, _ := waitingFor(t, func(s *Stream) error {
					err := answer(s, large)
					if s.id == 1 { // an answer may be read on though its client is gone
						<-hold
					}
					return err
				})
				if c.name[:9] == "its windo" && c.name[len(c.name)-6:] == "before" {
					r.c.mu.Lock()
					r.c.streams[3].sendWindow += 1 << 21 // b keeps some
					r.c.mu.Unlock()
				}
				c.do(r, a)
				if n := r.came(3); n != 1000 {
					t.Errorf("%d bytes of 1000 came of the stream behind, and no time has passed", n)
				}
			})
		})
	}
}

// TestTurnTaken: a stream that finds room though nobody called it is not called later, when it waits for nothing.
func TestTurnTaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hold := make(chan struct{})
		defer close(hold)
		r, a, _ := waitingFor(t, func(s *Stream) error {
			if s.id != 1 {
				return answer(s, large)
			}
			s.Send([]byte(answerHead), len(answerHead), false)
			err := s.Send(make([]byte, 65535+10), 0, true)
			<-hold
			return err
		})
		r.c.mu.Lock()
		r.c.sendWindow += 10
		a.cond.Signal() // as a SETTINGS frame does
		r.c.mu.Unlock()
		if n := r.came(1); n != 65535+10 {
			t.Fatalf("%d bytes came", n)
		}
		r.WriteWindowUpdate(0, 1000)
		if n := r.came(3); n != 1000 {
			t.Errorf("%d bytes of 1000 came of the stream behind, and no time has passed", n)
		}
	})
}

// TestNegativeWindow: SETTINGS may make a window negative; then it has to be made good first.
func TestNegativeWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{MinRate: floor}, send(large), initial(1000))
		r.ask(1, true)
		r.WriteSettings(initial(0)) // -1000
		r.WriteWindowUpdate(1, 1000)
		if n := r.came(1); n != 1000 {
			t.Errorf("%d bytes came, of a window of 1000", n)
		}
		r.WriteWindowUpdate(1, 1)
		if n := r.came(1); n != 1001 {
			t.Errorf("%d bytes came, of a window of 1001", n)
		}
		r.WriteSettings(initial(50))
		if n := r.came(1); n != 1051 {
			t.Errorf("%d bytes came, of a window of 1051", n)
		}
	})
}

// TestNobodyIsForgotten: whatever windows come, change and go, and whoever is reset meanwhile, nobody stands in line while
// there is room, and in the end all that are left have their answers. No time passes.
func TestNobodyIsForgotten(t *testing.T) {
	const streams, size = 6, 100_000
	for seed := range uint64(300) {
		bubble(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			hold := make(chan struct{})
			defer close(hold)
			r := newRig(t, Config{MinRate: floor}, func(s *Stream) error {
				id := s.id
				err := answer(s, size)
				if err != nil && id%4 == 1 { // an answer may be read on though its client is gone
					<-hold
				}
				return err
			}, initial(uint32(rnd.IntN(3)*40_000)))
			quiet := func() {
				synctest.Wait()
				r.c.mu.Lock()
				defer r.c.mu.Unlock()
				needing := 0
				for _, s := range r.c.waiting {
					if s.needs {
						needing++
					}
				}
				if r.c.sendWindow > 0 && len(r.c.waiting) > 0 || needing != r.c.needing {
					t.Fatalf("seed %d: window %d, and %d streams in line, %d of them for it (%d are counted)", seed, r.c.sendWindow, len(r.c.waiting), needing, r.c.needing)
				}
			}
			gone := map[uint32]bool{}
			for id := uint32(1); id < 2*streams; id += 2 {
				r.ask(id, true)
			}
			for range 60 {
				id := uint32(2*rnd.IntN(streams) + 1)
				switch rnd.IntN(8) {
				case 0, 1:
					r.WriteWindowUpdate(0, uint32(1+rnd.IntN(10_000)))
				case 2, 3:
					r.WriteWindowUpdate(id, uint32(1+rnd.IntN(30_000)))
				case 4, 5:
					r.WriteSettings(initial(uint32(rnd.IntN(60_000))))
				case 6:
					if rnd.IntN(6) == 0 {
						r.WriteRSTStream(id, http2.ErrCodeCancel)
						gone[id] = true
					}
				default:
					quiet()
				}
			}
			quiet()
			r.WriteSettings(initial(1 << 20))
			r.WriteWindowUpdate(0, 1<<20)
			quiet()
			for id := uint32(1); id < 2*streams; id += 2 {
				if n := r.came(id); n != size && !gone[id] || time.Since(r.start) > 0 {
					t.Errorf("seed %d, stream %d: %d bytes of %d came, after %v", seed, id, n, size, time.Since(r.start))
				}
			}
		})
	}
}

// TestClosedBeforeItsHandlerReturns: a stream whose answer and request are complete is closed for its client, whatever its
// handler still does.
func TestClosedBeforeItsHandlerReturns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hold := make(chan struct{})
		defer close(hold)
		r := newRig(t, Config{}, func(s *Stream) error {
			err := answer(s, 1)
			<-hold
			return err
		})
		r.ask(1, true)
		r.ask(1, true)
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.goAway != "STREAM_CLOSED" {
			t.Errorf("HEADERS on a closed stream: %q, %v", r.goAway, r.reset)
		}
	})
}
