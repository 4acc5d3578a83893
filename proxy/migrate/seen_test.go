package migrate

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/pending"
	"banyan/proxy/stage"
)

// browser keeps the cookies that it is given.
type browser struct {
	*bench
	cookies map[string]string
}

func newBrowser(b *bench) *browser {
	return &browser{b, map[string]string{"PHPSESSID": "abc"}}
}

func (s *browser) get(target string) (by string, resp *http.Response) {
	s.t.Helper()
	var list []string
	for k, v := range s.cookies {
		list = append(list, k+"="+v)
	}
	resp, body := s.do("GET", target, "", list...)
	for _, c := range resp.Cookies() {
		s.cookies[c.Name] = c.Value
	}
	by, _, _ = strings.Cut(body, " ")
	return by, resp
}

func (s *browser) seen() pending.Seen { return pending.ParseSeen(s.cookies[pending.SeenCookie]) }

const mapTarget = "/api.php?action=map&match=7"

// What legacy has shown to a session, the candidate does not take back: it answers again once its read model is there.
func TestReadsDoNotGoBack(t *testing.T) {
	b := newBench(t, live)
	s := newBrowser(b)
	b.model.holds = false
	s.cookies[pending.Cookie] = pending.Tokens{}.Add(pending.Token{Migration: "units", Key: "match/7", Write: event.WriteID{Replica: "a", Epoch: 1, Seq: 1}}).String()
	if by, resp := s.get(mapTarget); by != "legacy" || resp.Header.Get("Banyan-Served-By") != "legacy" {
		t.Fatal(by)
	}
	if x, ok := s.seen().For("units", "match/7"); !ok || time.Since(x.At) > time.Minute || len(s.seen()) != 1 {
		t.Fatalf("%+v", s.seen())
	}
	if _, other := s.seen().For("units", "match/8"); other {
		t.Fatal("another match was not shown")
	}
	b.model.holds, b.model.behind = true, time.Hour // its own write is there, what others did is not
	since := s.seen()[0].Since.Add(-pending.SeenFor / 2)
	s.cookies[pending.SeenCookie] = pending.Seen{{Migration: "units", Key: "match/7", At: s.seen()[0].At, Since: since}}.String()
	if by, _ := s.get(mapTarget); by != "legacy" {
		t.Fatal("the candidate may show less than legacy did")
	}
	if x := s.seen(); len(x) != 1 || !x[0].Since.Equal(since) || x[0].At.Before(since) {
		t.Fatalf("the row goes on: %+v", x)
	}
	b.model.behind = -time.Minute
	if by, resp := s.get(mapTarget); by != "candidate" || len(resp.Cookies()) != 0 {
		t.Fatal(by, resp.Cookies(), b.copies.fellBack)
	}
	b.copies.mu.Lock()
	defer b.copies.mu.Unlock()
	if got := fmt.Sprint(b.copies.fellBack); got != "[own_writes seen]" {
		t.Fatal(got)
	}
}

// The fence has to be sent after the answer by more than the clocks may differ.
func TestWhatWasSeenIsWidenedByTheClockError(t *testing.T) {
	b := newBench(t, live, func(c *Config) { c.ClockError = time.Hour })
	s := newBrowser(b)
	at := time.UnixMilli(time.Now().UnixMilli())
	s.cookies[pending.SeenCookie] = pending.Seen{{Migration: "units", Key: "match/7", At: at, Since: at}}.String()
	s.get(mapTarget)
	if len(b.model.asked) == 0 || !b.model.asked[0].Equal(at.Add(time.Hour)) {
		t.Fatal(b.model.asked, at)
	}
}

// Legacy's answers that were given only because of earlier ones do not follow each other for ever.
func TestASessionDoesNotStickToLegacy(t *testing.T) {
	b := newBench(t, live)
	b.model.behind = time.Hour
	s := newBrowser(b)
	now := time.Now()
	set := func(since time.Time) {
		s.cookies[pending.SeenCookie] = pending.Seen{{Migration: "units", Key: "match/7", At: now, Since: since}}.String()
	}
	set(now.Add(-pending.SeenFor / 2))
	if by, _ := s.get(mapTarget); by != "legacy" {
		t.Fatal(by)
	}
	set(now.Add(-pending.SeenFor - time.Millisecond)) // the cookie has whole milliseconds, rounded up
	if by, resp := s.get(mapTarget); by != "candidate" || len(resp.Cookies()) != 0 {
		t.Fatal(by)
	}
}

// Nobody knows what a page shows that no route names: it may be anything of what is live.
func TestAPageMayShowAnyKey(t *testing.T) {
	b := newBench(t, live)
	kind := "text/html; charset=utf-8"
	status := 200
	b.legacy = func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Cookie"), "banyan") {
			t.Error("legacy got our cookie:", r.Header.Get("Cookie"))
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		fmt.Fprint(w, "legacy page")
	}
	s := newBrowser(b)
	s.get("/index.php?page=map")
	if x := s.seen(); len(x) != 1 || x[0].Key != pending.AnyKey {
		t.Fatalf("%+v", x)
	}
	b.model.behind = time.Hour
	if by, _ := s.get(mapTarget); by != "legacy" {
		t.Fatal(by)
	}
	notes := func(b *bench, cookies ...string) bool {
		resp, _ := b.do("GET", "/index.php?page=map", "", cookies...)
		return len(resp.Cookies()) > 0
	}
	if !notes(b, "PHPSESSID=abc") || notes(b) {
		t.Error("sessions are noted, strangers are not")
	}
	kind = "image/png"
	if notes(b, "PHPSESSID=abc") {
		t.Error("an image shows no state")
	}
	kind, status = "text/html", 302
	if notes(b, "PHPSESSID=abc") {
		t.Error("a redirect shows no state")
	}
	status = 200
	b.mu.Lock()
	b.state = shadow
	b.mu.Unlock()
	if notes(b, "PHPSESSID=abc") {
		t.Error("no migration is live")
	}
	b.mu.Lock()
	b.state = stage.State{Version: 4, Stage: stage.Live, Share: stage.Share{Percent: 0}}
	b.mu.Unlock()
	if resp, _ := b.do("GET", mapTarget, "", "PHPSESSID=abc"); len(resp.Cookies()) != 0 {
		t.Error("the key is not in the share: legacy answers all its reads")
	}
}
