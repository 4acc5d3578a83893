package story

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/cmd/banyan-demo/scene"
	"banyan/proxy/stage"
)

// Requests go on all the while; none fails, and none reaches the old address once switchTo has returned.
func TestTheLoadBalancerMovesEverybody(t *testing.T) {
	var mu sync.Mutex
	asked := map[string]int{}
	serve := func(name string) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			asked[name]++
		}))
		t.Cleanup(s.Close)
		return s
	}
	a, b := serve("a"), serve("b")
	c := newCrowd(scene.Size{Matches: 1, Players: 10}, 0)
	if err := c.switchTo(t.Context(), strings.TrimPrefix(a.URL, "http://")); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: c}
	ctx, stop := context.WithCancel(t.Context())
	var players sync.WaitGroup
	for range 8 {
		players.Go(func() {
			for ctx.Err() == nil {
				resp, err := client.Get("http://game.example/")
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			}
		})
	}
	count := func(name string) int {
		mu.Lock()
		defer mu.Unlock()
		return asked[name]
	}
	for count("a") < 100 {
		time.Sleep(time.Millisecond) // they play at their pace
	}
	if err := c.switchTo(ctx, strings.TrimPrefix(b.URL, "http://")); err != nil {
		t.Fatal(err)
	}
	at := count("a")
	for from := count("b"); count("b") < from+100; {
		time.Sleep(time.Millisecond) // a request count has no signal; the loop is bounded by the players
	}
	stop()
	players.Wait()
	if now := count("a"); now != at {
		t.Fatalf("%d requests went to the old address after all had moved", now-at)
	}
	c.line.CloseIdleConnections()
}

func TestPollsAreMeasuredByMatchNotByWhoAnswered(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if by := r.URL.Query().Get("by"); by != "" {
			w.Header().Set("Banyan-Served-By", by)
		}
	}))
	t.Cleanup(s.Close)
	m := &meter{next: http.DefaultTransport}
	share := stage.Share{Percent: 100}
	share.Exclude = append(share.Exclude, "match/2")
	m.begin(share)
	for _, q := range []string{"action=map&match=1&by=candidate", "action=units&match=1&by=legacy", "action=map&match=2", "action=state&match=1", "action=map"} {
		resp, err := (&http.Client{Transport: m}).Get(s.URL + "/api.php?" + q)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		resp.Body.Close() // counts once
	}
	w := m.begin(share)
	if got := fmt.Sprint(len(w.legacy), len(w.chosen), len(w.candidate)); got != "1 2 1" {
		t.Fatalf("legacy, chosen, candidate: %s; want 1 2 1", got)
	}
}

func TestQuantile(t *testing.T) {
	var s sample
	if s.quantile(0.5) != 0 {
		t.Fatal("of nothing")
	}
	for n := range 100 {
		s = append(s, time.Duration(100-n))
	}
	if s.quantile(0.5) != 51 || s.quantile(0.95) != 96 || s.quantile(0.99) != 100 || s.quantile(1) != 100 {
		t.Fatal(s.quantile(0.5), s.quantile(0.95), s.quantile(0.99), s.quantile(1))
	}
}

func TestEveryActSaysWhatAndWhy(t *testing.T) {
	for _, a := range append(acts[:len(acts):len(acts)], tryAct) {
		if a.title == "" || a.why == "" || a.do == nil {
			t.Errorf("%+v", a.title)
		}
	}
}
