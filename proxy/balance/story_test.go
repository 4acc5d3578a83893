package balance_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/proxy"
	"banyan/proxy/balance"
	"banyan/proxy/upstream"
)

// origin is a legacy that holds sessions in its memory, as PHP does in files of one machine. It takes ids that it does
// not know without a word, and begins an empty session under them.
type origin struct {
	t    testing.TB
	addr string
	srv  *http.Server
	done chan struct{}

	mu       sync.Mutex
	sessions map[string]int // what each counted
	begun    int            // sessions begun, by answers that set a cookie
}

func newOrigin(t testing.TB) *origin {
	o := &origin{t: t, addr: "127.0.0.1:0"}
	o.start(map[string]int{})
	t.Cleanup(o.stop)
	return o
}

// start begins at the same address as before.
func (o *origin) start(sessions map[string]int) {
	l, err := net.Listen("tcp", o.addr)
	if err != nil {
		o.t.Fatal(err)
	}
	o.mu.Lock()
	o.addr, o.sessions = l.Addr().String(), sessions
	o.mu.Unlock()
	o.srv, o.done = &http.Server{Handler: o}, make(chan struct{})
	go func() { // ends with stop
		defer close(o.done)
		o.srv.Serve(l)
	}()
}

func (o *origin) stop() {
	o.srv.Close()
	<-o.done
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	id := ""
	if c, err := r.Cookie("sess_4f2a"); err == nil {
		id = c.Value
	}
	set := func(v string) { http.SetCookie(w, &http.Cookie{Name: "sess_4f2a", Value: v, Path: "/"}) }
	fresh := func() string {
		var b [16]byte
		rand.Read(b[:])
		o.begun++
		return hex.EncodeToString(b[:])
	}
	if id == "" {
		id = fresh()
		set(id)
	}
	switch r.URL.Path {
	case "/login": // session_regenerate_id(true)
		n := o.sessions[id]
		delete(o.sessions, id)
		id = fresh()
		o.sessions[id] = n + 1
		set(id)
	case "/logout":
		delete(o.sessions, id)
		http.SetCookie(w, &http.Cookie{Name: "sess_4f2a", Value: "deleted", Path: "/", MaxAge: -1})
	case "/add":
		o.sessions[id]++
	}
	w.Header().Set("X-Instance", o.addr)
	fmt.Fprint(w, o.sessions[id])
}

// place is proxy and balancer before some origins.
type place struct {
	*balance.Balancer
	origins []*origin
	url     string
	log     *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *syncBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

func newPlace(t testing.TB, n int, change func(*balance.Config)) *place {
	t.Helper()
	var origins []*origin
	for range n {
		origins = append(origins, newOrigin(t))
	}
	return placeBefore(t, origins, change)
}

func placeBefore(t testing.TB, origins []*origin, change func(*balance.Config)) *place {
	t.Helper()
	p := &place{log: &syncBuffer{}, origins: origins}
	cfg := balance.Config{Name: "legacy", Sticky: &balance.Sticky{Cookie: "sess_*"}, Log: slog.New(slog.NewTextHandler(p.log, nil)), Dial: 5 * time.Second}
	for _, o := range origins {
		pool, err := upstream.New(upstream.Config{Name: "legacy", URL: "http://" + o.addr})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		cfg.Instances = append(cfg.Instances, balance.Instance{Name: "http://" + o.addr, Upstream: pool})
	}
	if change != nil {
		change(&cfg)
	}
	b, err := balance.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.Balancer, p.url = b, "http://"+serveBalancer(t, b)
	return p
}

// serve gives the address of a proxy with a balancer.
func serve(t testing.TB, cfg balance.Config) string {
	t.Helper()
	b, err := balance.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return serveBalancer(t, b)
}

func serveBalancer(t testing.TB, b *balance.Balancer) string {
	t.Helper()
	s, err := proxy.NewServer(proxy.Config{DrainIdle: time.Millisecond}, &proxy.Passthrough{Upstream: b}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := proxy.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.Shutdown(ctx)
		<-served
	})
	return l.Addr().String()
}

// player is a browser.
type player struct {
	http.Client
	url string
	at  string // the instance that answered last
}

func (p *place) player(t testing.TB) *player {
	jar, _ := cookiejar.New(nil) // never fails
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &player{Client: http.Client{Jar: jar, Transport: tr, Timeout: time.Minute}, url: p.url}
}

// do gives what the session counted.
func (p *player) do(path string) (int, error) {
	resp, err := p.Get(p.url + path)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != 200 {
		return 0, fmt.Errorf("status %d: %s", resp.StatusCode, b)
	}
	p.at = resp.Header.Get("X-Instance")
	return strconv.Atoi(string(b))
}

func (p *player) must(t testing.TB, path string, want int) {
	t.Helper()
	if got, err := p.do(path); err != nil || got != want {
		t.Fatalf("%s: the session holds %d (%v), want %d", path, got, err, want)
	}
}

func (p *place) stats(addr string) balance.InstanceStats {
	for _, s := range p.Stats().Instances {
		if s.Name == "http://"+addr {
			return s
		}
	}
	return balance.InstanceStats{}
}

func (p *place) origin(addr string) *origin {
	for _, o := range p.origins {
		if o.addr == addr {
			return o
		}
	}
	return nil
}

// A login changes the id: the new one is bound to where it was made, whatever its hash says.
func TestLoginChangesTheID(t *testing.T) {
	p := newPlace(t, 3, nil)
	for range 20 {
		c := p.player(t)
		c.must(t, "/add", 1)
		at := c.at
		c.must(t, "/login", 2)
		for k := range 3 {
			c.must(t, "/add", 3+k)
			if c.at != at {
				t.Fatal("the session's requests went to two instances")
			}
		}
		c.must(t, "/login", 6)
		c.must(t, "/add", 7)
	}
	for _, s := range p.Stats().Instances {
		if s.Moved != 0 || s.Requests == 0 {
			t.Errorf("%+v", s)
		}
	}
}

// Thirty players at once, one instance drains in the middle: nobody's session is lost, and new ones stay away from it.
func TestThirtyPlayersAndADrain(t *testing.T) {
	p := newPlace(t, 3, nil)
	leaving := p.origins[0]
	var wg sync.WaitGroup
	half, drained := make(chan struct{}, 30), make(chan struct{})
	for range 30 {
		wg.Go(func() {
			c := p.player(t)
			for k := range 20 {
				if k == 10 {
					half <- struct{}{}
					<-drained
				}
				path := "/add"
				if k%7 == 3 {
					path = "/login"
				}
				if got, err := c.do(path); err != nil || got != k+1 {
					t.Errorf("the session holds %d (%v), want %d", got, err, k+1)
					return
				}
			}
		})
	}
	for range 30 {
		<-half
	}
	before := p.stats(leaving.addr).Sessions
	if err := p.Drain("http://"+leaving.addr, true); err != nil {
		t.Fatal(err)
	}
	leaving.mu.Lock()
	begun := leaving.begun
	leaving.mu.Unlock()
	close(drained)
	for range 20 {
		c := p.player(t)
		c.must(t, "/add", 1)
		if c.at == leaving.addr {
			t.Error("a new session came to an instance that drains")
		}
	}
	wg.Wait()
	s := p.stats(leaving.addr)
	if before == 0 || s.Sessions == 0 || s.State != balance.Draining || s.Moved != 0 {
		t.Errorf("%d sessions before, now %+v", before, s)
	}
	if leaving.begun == begun {
		t.Error("no login at the draining instance: the test shows nothing")
	}
}

// An instance dies: its players go on elsewhere, as strangers, and that is counted and told once. It comes back: who
// was moved stays where the newer state is, and it gets new players.
func TestDeadInstance(t *testing.T) {
	p := newPlace(t, 2, func(c *balance.Config) { c.Eject.For, c.Eject.AtMost = 50*time.Millisecond, 50*time.Millisecond })
	var there, others []*player
	dying := p.origins[0]
	for len(there) < 4 || len(others) < 4 {
		c := p.player(t)
		c.must(t, "/login", 1)
		if c.at == dying.addr {
			there = append(there, c)
		} else {
			others = append(others, c)
		}
	}
	dying.stop()
	for _, c := range there {
		if _, err := c.do("/add"); err != nil || c.at == dying.addr {
			t.Fatalf("at %s: %v", c.at, err)
		}
		c.must(t, "/add", 2) // what it holds where it went
	}
	if s := p.stats(dying.addr); s.Moved != int64(len(there)) || s.Ejections < 1 {
		t.Errorf("%+v", s)
	}
	dying.start(map[string]int{})
	back := func() bool {
		c := p.player(t)
		_, err := c.do("/add")
		return err == nil && c.at == dying.addr
	}
	for end := time.Now().Add(time.Minute); !back(); {
		if time.Now().After(end) {
			t.Fatal("the instance gets no new players")
		}
	}
	for _, c := range there {
		c.must(t, "/add", 3)
		if c.at == dying.addr {
			t.Error("a session went back to where it is older")
		}
	}
	for _, c := range others {
		c.must(t, "/add", 2)
	}
	if n := strings.Count(p.log.String(), "sessions lose what their instance held"); n < 1 || n > 2 {
		t.Errorf("told %d times:\n%s", n, p.log.String())
	}
}

// A restart that is over before the instance is given up costs no request and no session of those who were not there.
// Players who are bound to it wait for it instead of being moved.
func TestRestartLosesNoSession(t *testing.T) {
	p := newPlace(t, 2, func(c *balance.Config) { c.Eject.Failures = 20 })
	c := p.player(t)
	c.must(t, "/login", 1)
	o := p.origin(c.at)
	o.stop()
	answer := make(chan error, 1)
	go func() {
		n, err := c.do("/add")
		if err == nil && n != 2 {
			err = fmt.Errorf("the session holds %d", n)
		}
		answer <- err
	}()
	for p.stats(o.addr).Failures == 0 { // until it was refused once
		time.Sleep(time.Millisecond) // no event tells
	}
	o.start(o.sessions) // memory that survives a front end's restart
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	if s := p.stats(o.addr); s.Moved != 0 || s.Ejections != 0 {
		t.Errorf("%+v", s)
	}
}

// A proxy that is restarted, or another one, asks the instance that holds the session, if the client may carry a cookie
// of ours; else it guesses, and counts that.
func TestAnotherProxy(t *testing.T) {
	for _, remember := range []string{"banyan_at", ""} {
		change := func(c *balance.Config) { c.Sticky.Remember = remember }
		one := newPlace(t, 3, change)
		two := placeBefore(t, one.origins, change)
		lost := 0
		for range 20 {
			c := one.player(t)
			c.must(t, "/login", 1)
			at := c.at
			c.url = two.url
			got, err := c.do("/add")
			if err != nil {
				t.Fatal(err)
			}
			if got != 2 {
				lost++
			}
			if remember == "" {
				continue
			}
			c.url = one.url
			c.must(t, "/login", 3)
			c.url = two.url
			c.must(t, "/logout", 0)
			c.must(t, "/add", 1)
			if c.at == "" || at == "" {
				t.Fatal("nobody answered")
			}
		}
		if remember != "" && (lost > 0 || two.Stats().Placed > 0) {
			t.Errorf("%d sessions were lost, %d placed", lost, two.Stats().Placed)
		}
		if remember == "" && (lost == 0 || two.Stats().Placed != 20) {
			t.Errorf("%d sessions were lost, %d placed: the test shows nothing", lost, two.Stats().Placed)
		}
	}
}
