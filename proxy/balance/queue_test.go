package balance

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"banyan/proxy/upstream"
)

// clocked makes a world whose clock is the bubble's.
func clocked(t *testing.T, n int, change func(*Config)) *world {
	start := time.Now()
	return newWorld(t, n, func(c *Config) {
		c.Now = func() int64 { return int64(time.Since(start)) }
		if change != nil {
			change(c)
		}
	})
}

// asked is a request that may have to wait.
type asked struct {
	l   *lease
	err error
}

func (w *world) askLater(t *testing.T, cookie string, gone func() bool) chan asked {
	c := make(chan asked, 1)
	d := &upstream.Demand{Request: request(t, cookie), Gone: gone}
	go func() { // ends when it was admitted or turned away, which is bounded
		conn, err := w.Route(d)
		l, _ := conn.(*lease)
		c <- asked{l, err}
	}()
	synctest.Wait() // so that the next one comes later
	return c
}

// Who came first is served first, whether bound or not, and nobody overtakes.
func TestQueueIsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := clocked(t, 1, func(c *Config) { c.Limit = 2 })
		first, second := w.ask(t, "PHPSESSID=a"), w.ask(t, "")
		var waiting []chan asked
		for k := range 10 {
			cookie := ""
			if k%2 == 0 {
				cookie = "PHPSESSID=a"
			}
			waiting = append(waiting, w.askLater(t, cookie, nil))
		}
		if s := w.Stats(); s.Waiting != 10 || s.Instances[0].Active != 2 || s.Instances[0].Waiting != 5 {
			t.Fatalf("%+v", s)
		}
		leases := []*lease{first, second}
		for k, c := range waiting {
			end(t, leases[k], "")
			synctest.Wait()
			select {
			case a := <-c:
				if a.err != nil {
					t.Fatal(a.err)
				}
				leases = append(leases, a.l)
			default:
				t.Fatalf("request %d was overtaken", k)
			}
		}
		end(t, leases[10], "")
		end(t, leases[11], "")
	})
}

// The queue has a length and a wait; both turn away with Busy, unsent, so that the client is told to come again.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := clocked(t, 2, func(c *Config) { c.Limit, c.Queue = 1, Queue{Length: 1, Wait: 3 * time.Second} })
		a, b := w.ask(t, ""), w.ask(t, "")
		start := time.Now()
		late := w.askLater(t, "", nil)
		_, err := w.Get(upstream.Timeouts{}, false)
		if upstream.ClassOf(err) != upstream.Busy || !upstream.Unsent(err) || !strings.Contains(err.Error(), "queue is full") {
			t.Fatal(err)
		}
		got := <-late
		if upstream.ClassOf(got.err) != upstream.Busy || !upstream.Unsent(got.err) || !strings.Contains(got.err.Error(), "in time") || time.Since(start) != 3*time.Second {
			t.Fatal(got.err, time.Since(start))
		}
		if s := w.Stats(); s.Waiting != 0 || s.Turned != (Turned{Full: 1, Late: 1}) {
			t.Fatalf("%+v", s)
		}
		end(t, a, "")
		end(t, b, "")
		end(t, w.ask(t, ""), "")
	})
}

// A client that leaves gives its turn up; a write whose intent stands does not know of leaving.
func TestGoneClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := clocked(t, 1, func(c *Config) { c.Limit = 1 })
		held := w.ask(t, "")
		var mu sync.Mutex
		left := false
		leaving := w.askLater(t, "", func() bool { mu.Lock(); defer mu.Unlock(); return left })
		write := w.askLater(t, "", nil)
		time.Sleep(time.Second)
		if w.Stats().Waiting != 2 {
			t.Fatal("left too early")
		}
		mu.Lock()
		left = true
		mu.Unlock()
		if a := <-leaving; upstream.ClassOf(a.err) != upstream.Busy || w.Stats().Turned.Gone != 1 {
			t.Fatal(a.err)
		}
		end(t, held, "")
		if a := <-write; a.err != nil {
			t.Fatal(a.err)
		} else {
			end(t, a.l, "")
		}
	})
}

// All instances together have a limit of their own.
func TestTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := clocked(t, 3, func(c *Config) { c.Total = 2 })
		a, b := w.ask(t, "PHPSESSID=a"), w.ask(t, "PHPSESSID=b")
		c, d := w.askLater(t, "PHPSESSID=a", nil), w.askLater(t, "", nil)
		if w.Stats().Waiting != 2 {
			t.Fatalf("%+v", w.Stats())
		}
		at := a.i
		end(t, b, "")
		if got := <-c; got.err != nil || got.l.i != at {
			t.Fatal("the session left its instance")
		} else {
			end(t, a, "")
			end(t, got.l, "")
		}
		end(t, (<-d).l, "")
	})
}

// Who waits for an instance that goes is placed anew, and keeps the turn.
func TestQueueMovesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := clocked(t, 2, func(c *Config) { c.Limit, c.Eject.Failures = 1, 1 })
		a := w.ask(t, "PHPSESSID=a")
		other := w.ask(t, "")
		bound := w.askLater(t, "PHPSESSID=a", nil)
		later := w.askLater(t, "", nil)
		if a.i == other.i || w.Stats().Instances[a.i].Waiting != 1 {
			t.Fatal("not as planned")
		}
		a.Conn.(*fakeConn).cut = true
		gone := end(t, a, "") // ejects its instance
		synctest.Wait()
		if s := w.Stats(); s.Instances[gone].State != Ejected || s.Waiting != 2 {
			t.Fatalf("%+v", s)
		}
		end(t, other, "")
		got := <-bound
		if got.err != nil || got.l.i == gone || w.Stats().Instances[gone].Moved != 1 {
			t.Fatalf("%+v %v", got, w.Stats())
		}
		end(t, got.l, "")
		end(t, (<-later).l, "")
	})
}

// An ejected instance is asked again when its time is over, also by those who wait already.
func TestEjectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := clocked(t, 2, func(c *Config) {
			c.Limit, c.Eject = 1, Eject{Failures: 1, For: time.Second, AtMost: 4 * time.Second}
		})
		fail := func(want time.Duration) {
			t.Helper()
			l, other := w.ask(t, ""), w.ask(t, "")
			if l.i != 0 {
				l, other = other, l
			}
			l.Conn.(*fakeConn).cut = true
			end(t, l, "")
			start := time.Now()
			got := <-w.askLater(t, "", nil)
			if got.err != nil || got.l.i != 0 || time.Since(start) < want || time.Since(start) > want+lookForGone {
				t.Fatalf("%+v after %v, want %v", got, time.Since(start), want)
			}
			end(t, got.l, "")
			end(t, other, "")
		}
		for _, want := range []time.Duration{1, 2, 4, 4} { // grows, bounded
			fail(want * time.Second)
		}
		time.Sleep(5 * time.Second)
		fail(time.Second) // its past is forgotten
		if n := w.log.count("instance is left alone"); n != 5 {
			t.Errorf("told %d times", n)
		}
	})
}

// A refused connection costs an unbound request nothing: it goes on at once, and nobody is ejected who is the last.
func TestUnboundGoesOnAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := clocked(t, 3, nil)
		w.fakes[0].set(true)
		w.fakes[1].set(true)
		start := time.Now()
		for range 20 {
			if i := w.at(t, ""); i != 2 {
				t.Fatal(i)
			}
		}
		w.fakes[2].set(true)
		for range 10 {
			_, err := w.Get(upstream.Timeouts{}, false)
			if upstream.ClassOf(err) != upstream.Dial || !upstream.Unsent(err) {
				t.Fatal(err)
			}
		}
		if time.Since(start) != 0 {
			t.Error("somebody paused")
		}
		s := w.Stats()
		if s.Instances[0].State != Ejected || s.Instances[1].State != Ejected || s.Instances[2].State != Up {
			t.Errorf("%+v", s)
		}
		w.fakes[0].set(false) // ejected as it is, it is asked before the client gets an error
		if i := w.at(t, "PHPSESSID=x"); i != 0 {
			t.Error(i)
		}
	})
}

// An instance that comes back gets its share of new sessions slowly.
func TestSlowStart(t *testing.T) {
	w := newWorld(t, 2, func(c *Config) {
		c.SlowStart, c.Health = 10*time.Second, &Health{Path: "/", Unhealthy: 1, Healthy: 1}
	})
	w.check(0, errRefused)
	w.check(0, nil)
	share := func() (n int) {
		var ls []*lease
		for range 100 {
			l := w.ask(t, "")
			if l.i == 0 {
				n++
			}
			ls = append(ls, l)
		}
		for _, l := range ls {
			end(t, l, "")
		}
		return n
	}
	var got []int
	for range 4 {
		got = append(got, share())
		w.advance(4 * time.Second)
	}
	if got[0] > 12 || got[1] <= got[0] || got[2] <= got[1] || got[3] != 50 {
		t.Error(got)
	}
}

// Statuses of the rule count as failures, others do not; one success ends the row.
func TestStatuses(t *testing.T) {
	w := newWorld(t, 2, nil)
	ask := func(status int) {
		l := w.ask(t, "")
		for l.i != 0 {
			end(t, l, "")
			l = w.ask(t, "")
		}
		w.fakes[0].status = status
		end(t, l, "")
		w.fakes[0].status = 0
	}
	for _, status := range []int{503, 503, 500, 503, 502, 404} {
		ask(status)
	}
	if s := w.Stats().Instances[0]; s.State != Up || s.Failures != 4 {
		t.Fatalf("%+v", s)
	}
	for _, status := range []int{503, 504, 502} {
		ask(status)
	}
	if s := w.Stats().Instances[0]; s.State != Ejected || s.Ejections != 1 {
		t.Fatalf("%+v", s)
	}
}

func TestBreaker(t *testing.T) {
	w := newWorld(t, 1, func(c *Config) { c.Breaker = &Breaker{Failures: 2, Open: time.Second, AtMost: 3 * time.Second} })
	fail := func() { l := w.ask(t, ""); l.Conn.(*fakeConn).cut = true; end(t, l, "") }
	fail()
	w.at(t, "")
	fail()
	if !w.Allow() {
		t.Fatal("opened by failures that are not in a row")
	}
	fail()
	for _, pause := range []time.Duration{1, 2, 3, 3} {
		if w.Allow() || !w.Stats().Open {
			t.Fatal("not open")
		}
		w.advance(pause*time.Second - 1)
		if w.Allow() {
			t.Fatal("tried too early")
		}
		w.advance(1)
		if !w.Allow() || w.Allow() {
			t.Fatal("want one to try")
		}
		fail()
		fail() // what was under way does not count
	}
	w.at(t, "") // the breaker is a question: who comes all the same is served
	if !w.Allow() || w.Stats().Open || w.log.count("breaker opens") != 1 || w.log.count("breaker closes") != 1 {
		t.Fatalf("not closed, or told too often:\n%s", w.log)
	}
}

// Checks take an instance out and bring it back; when they fail everywhere, all are asked.
func TestChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := clocked(t, 2, func(c *Config) { c.Health = &Health{Path: "/health", Every: time.Second, Healthy: 2, Unhealthy: 3} })
		w.Start(t.Context())
		defer w.Stop()
		at := w.at(t, "PHPSESSID=a")
		w.fakes[at].set(true)
		time.Sleep(1500 * time.Millisecond)
		if s := w.Stats().Instances[at]; s.State != Up {
			t.Fatalf("%+v", s)
		}
		time.Sleep(2 * time.Second)
		if s := w.Stats().Instances[at]; s.State != Unhealthy {
			t.Fatalf("%+v", s)
		}
		if w.at(t, "PHPSESSID=a") == at || w.Stats().Instances[at].Moved != 1 {
			t.Fatal("the session stayed")
		}
		w.fakes[1-at].set(true)
		time.Sleep(4 * time.Second)
		w.fakes[0].set(false)
		w.fakes[1].set(false)
		if w.at(t, "PHPSESSID=a") == at || w.Stats().Instances[at].Moved != 1 {
			t.Fatal("moved although all are unhealthy")
		}
		time.Sleep(3 * time.Second)
		for _, s := range w.Stats().Instances {
			if s.State != Up {
				t.Fatalf("%+v", s)
			}
		}
		if w.log.count("is unhealthy") != 2 || w.log.count("asked again") != 2 {
			t.Error(w.log)
		}
	})
}

func TestWhereAsksNobody(t *testing.T) {
	w := newWorld(t, 3, nil)
	for k := range 20 {
		cookie := fmt.Sprintf("PHPSESSID=%d", k)
		where := w.Where(cookie)
		if got := w.ins[w.at(t, cookie)].Name; got != where || w.Where(cookie) != where {
			t.Fatal(got, where)
		}
	}
	l := w.ask(t, "")
	at := end(t, l, "PHPSESSID=new")
	if w.Where("x=y; PHPSESSID=new") != w.ins[at].Name {
		t.Error("the binding does not count")
	}
}

func TestCookies(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{{"PHPSESSID", "PHPSESSID", true}, {"PHPSESSID", "phpsessid", false}, {"PHPSESSID", "PHPSESSID2", false}, {"sess_*", "sess_", true},
		{"sess_*", "sess_ab", true}, {"sess_*", "xsess_ab", false}, {"*_id", "a_id_id", true}, {"a*b*c", "a1b2b3c", true}, {"a*b*c", "a1b2", false}} {
		if matches(c.pattern, []byte(c.name)) != c.want {
			t.Error(c)
		}
	}
	for _, c := range []struct {
		value, id string
		ends, ok  bool
	}{{"PHPSESSID=abc; path=/", "abc", false, true}, {" PHPSESSID = abc ", "abc", false, true}, {"PHPSESSID=deleted; Max-Age=0", "", true, true},
		{"PHPSESSID=; expires=x", "", true, true}, {"PHPSESSID=abc; path=/; max-age=0", "", true, true}, {"PHPSESSID=abc; Max-Age=3600", "abc", false, true},
		{"other=abc", "", false, false}, {"PHPSESSID", "", false, false}, {"", "", false, false}} {
		id, ends, ok := setCookie([]byte(c.value), "PHPSESSID")
		if string(id) != c.id || ends != c.ends || ok != c.ok {
			t.Errorf("%q: %q %v %v", c.value, id, ends, ok)
		}
	}
	w := newWorld(t, 1, func(c *Config) { c.Sticky.Cookie = "sess_*" })
	var one, many ticket
	one.read([]byte("a=b; sess_1=x"), "sess_*", w.sessions)
	many.read([]byte("sess_1=x;sess_2=y ; sess_3=; =; ;;sess_4=1;sess_5=2;sess_6=3"), "sess_*", w.sessions)
	if one.n != 1 || many.n != maxCookies || one.hash != many.hash || one.keys[0] != many.keys[0] {
		t.Error(one, many)
	}
}

// Of several cookies that match, the one that is bound is the session's.
func TestTheBoundCookieCounts(t *testing.T) {
	w := newWorld(t, 5, func(c *Config) { c.Sticky.Cookie = "sess_*" })
	at := end(t, w.ask(t, ""), "sess_new=1")
	for k := range 20 {
		if got := w.at(t, fmt.Sprintf("sess_old=%d; sess_new=1", k)); got != at {
			t.Fatal(got, at)
		}
	}
}

func TestConfig(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"":                    func(*Config) {},
		"http: 0 instances":   func(c *Config) { c.Instances = nil },
		"is given twice":      func(c *Config) { c.Instances[1] = c.Instances[0] },
		"max_connections: -1": func(c *Config) { c.Limit = -1 },
		"max_requests: -1":    func(c *Config) { c.Total = -1 },
		"queue.length: -1":    func(c *Config) { c.Queue.Length = -1 },
		"queue.wait: -1s":     func(c *Config) { c.Queue.Wait = -time.Second },
		"sticky.cookie: \"\"": func(c *Config) { c.Sticky.Cookie = "" },
		"sticky.cookie: \"*\"": func(c *Config) {
			c.Sticky.Cookie = "*"
		},
		"sticky.cookie: \"a;b\": ';'": func(c *Config) { c.Sticky.Cookie = "a;b" },
		"sticky.remember: \"a b\"":    func(c *Config) { c.Sticky.Remember = "a b" },
		"sticky.remember: \"sess_at\" would": func(c *Config) {
			c.Sticky.Cookie, c.Sticky.Remember = "sess_*", "sess_at"
		},
		"sticky.idle: 1ms":          func(c *Config) { c.Sticky.Idle = time.Millisecond },
		"sticky.sessions: 1 is not": func(c *Config) { c.Sticky.Sessions = 1 },
		"health.path: \"health\"":   func(c *Config) { c.Health = &Health{Path: "health"} },
		"health.timeout: 2s":        func(c *Config) { c.Health = &Health{Path: "/", Every: time.Second, Timeout: 2 * time.Second} },
		"health.host: \"a b\"":      func(c *Config) { c.Health = &Health{Path: "/", Host: "a b"} },
		"eject.at_most: 1s":         func(c *Config) { c.Eject = Eject{For: 2 * time.Second, AtMost: time.Second} },
		"eject.statuses: 404":       func(c *Config) { c.Eject.Statuses = []int{404} },
		"breaker.at_most":           func(c *Config) { c.Breaker = &Breaker{Open: time.Minute, AtMost: time.Second} },
	} {
		c := Config{Name: "legacy", Sticky: &Sticky{Cookie: "PHPSESSID"}, Instances: []Instance{{Name: "http://a"}, {Name: "http://b"}}}
		change(&c)
		if err := c.Validate(); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// FuzzCookies: whatever a client or legacy says, no panic, and ids that begin inside the value.
func FuzzCookies(f *testing.F) {
	f.Add("a=b; PHPSESSID=x", "PHPSESSID")
	f.Add(";;=;sess_=;sess_1=2", "sess_*")
	f.Fuzz(func(t *testing.T, value, pattern string) {
		if cookiePattern(pattern) != nil {
			return
		}
		w := newWorld(t, 1, nil)
		var k ticket
		k.read([]byte(value), pattern, w.sessions)
		id, ends, ok := setCookie([]byte(value), pattern)
		if !strings.Contains(value, string(id)) || ends && len(id) > 0 || !ok && (ends || id != nil) {
			t.Fatalf("%q %v %v", id, ends, ok)
		}
	})
}
