package balance

import (
	"testing"
	"testing/synctest"
	"time"

	"banyan/proxy/wire"
)

func epochNow() func() int64 {
	start := time.Now()
	return func() int64 { return int64(time.Since(start)) }
}

// A connection that has switched protocols holds its place and its session until it ends, and its instance's success
// counts at once.
func TestTunnelHoldsItsInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = 10 * time.Minute
		w := newWorld(t, 2, func(c *Config) { c.Now, c.Sticky.Idle = epochNow(), idle })
		const id = "PHPSESSID=a"
		at := end(t, w.ask(t, ""), id)
		w.mu.Lock()
		w.failedLocked(at, 0, "once")
		w.unlock()
		w.fakes[at].status = 101
		l := w.ask(t, id)
		if err := l.Receive(new(wire.Response), nil); err != nil || l.i != at {
			t.Fatalf("at %d, not %d: %v", l.i, at, err)
		}
		l.Hijack()
		if w.ins[at].failures != 0 {
			t.Error("that it switched is not yet a success")
		}
		if err := w.Drain(w.name(at), true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * idle)
		if s := w.Stats().Instances[at]; s.Active != 1 || s.Sessions != 1 {
			t.Errorf("while it is open: %+v", s)
		}
		if got := w.at(t, id); got != at {
			t.Errorf("a request of its session goes to %d, not %d", got, at)
		}
		l.Abort()
		if s := w.Stats().Instances[at]; s.Active != 0 || s.Sessions != 1 {
			t.Errorf("when it has ended: %+v", s)
		}
		time.Sleep(idle + 2*time.Second)
		if s := w.Stats().Instances[at]; s.Sessions != 0 {
			t.Errorf("long after: %+v", s)
		}
	})
}

// A session that is ended, or moved, while its connection is open is not bound again.
func TestTunnelDoesNotReviveASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, func(c *Config) { c.Now = epochNow() })
		const id = "PHPSESSID=a"
		at := end(t, w.ask(t, ""), id)
		l := w.ask(t, id)
		l.Hijack()
		w.mu.Lock()
		w.sessions.Unbind(l.t.keys[l.t.use])
		w.mu.Unlock()
		time.Sleep(3 * time.Hour)
		l.Abort()
		if s := w.Stats().Instances[at]; s.Sessions != 0 || s.Active != 0 {
			t.Errorf("%+v", s)
		}
	})
}
