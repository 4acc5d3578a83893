package play

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPacerKeepsTheRateWithoutSleepingAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(100, rand.New(rand.NewPCG(1, 2)))
		start := time.Now()
		for range 1000 {
			if err := p.turn(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("1000 turns at 100 per second took %s", took)
		}
		time.Sleep(time.Minute) // nobody asked, as when the server hangs
		start = time.Now()
		for range 1000 {
			_ = p.turn(t.Context())
		}
		if took := time.Since(start); took < 8*time.Second {
			t.Errorf("after a stall 1000 turns took %s: more than a second of arrears was made up for", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if p.turn(ctx) == nil {
			t.Error("a turn was given after the end")
		}
	})
}

func TestQuantilesAreUpperBoundsWithinFivePercent(t *testing.T) {
	var l latencies
	for i := 1; i <= 1000; i++ {
		l.add(time.Duration(i) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500, 0.95: 950, 0.99: 990, 1: 1000} {
		want *= time.Millisecond
		if got := l.quantile(q); got < want || float64(got) > 1.05*float64(want) {
			t.Errorf("quantile %g of 1…1000 ms is %s", q, got)
		}
	}
	var none latencies
	if none.quantile(0.5) != 0 {
		t.Error("no data has a quantile")
	}
}

func TestWindowsShareNothingAndSumUp(t *testing.T) {
	d, err := New(Config{BaseURL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	seen := func(by string, took time.Duration) {
		d.count(func(t *tally) { t.exchange(Exchange{Endpoint: "api map", ServedBy: by, Took: took}) })
	}
	seen("legacy", time.Second)
	if w := d.Window(); w.Requests != 1 {
		t.Errorf("first window has %d requests", w.Requests)
	}
	seen("candidate", time.Millisecond)
	seen("candidate", time.Millisecond)
	w := d.Window()
	if side := w.Side("candidate", nil); side.Count != 2 || side.P99 > 2*time.Millisecond {
		t.Errorf("candidate in the second window: %+v", side)
	}
	if side := w.Side("legacy", nil); side.Count != 0 {
		t.Errorf("legacy in the second window: %+v", side)
	}
	if all := d.Totals(); all.Requests != 3 {
		t.Errorf("%d requests in all, want 3", all.Requests)
	}
}

func TestOwnWritesThatAReadDoesNotShow(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(o *own)
		want string
	}{
		"a stale mark": {func(o *own) {
			o.marked(1, mark{ref: "b", to: 7})
			o.units([]unit{{ID: 1, Province: 3, ClientRef: "a"}})
		}, "client_ref"},
		"another target": {func(o *own) {
			o.marked(1, mark{ref: "b", to: 7})
			o.units([]unit{{ID: 1, Province: 3, Target: 8, ClientRef: "b"}})
		}, "ordered was 7"},
		"on its way": {func(o *own) {
			o.marked(1, mark{ref: "b", to: 7})
			o.units([]unit{{ID: 1, Province: 3, Target: 7, ClientRef: "b"}})
		}, ""},
		"arrived": {func(o *own) {
			o.marked(1, mark{ref: "b", to: 7})
			o.units([]unit{{ID: 1, Province: 7, ClientRef: "b"}})
		}, ""},
		"killed":         {func(o *own) { o.marked(1, mark{ref: "b"}); o.units(nil); o.mapUnits(nil) }, ""},
		"came back":      {func(o *own) { o.marked(1, mark{ref: "b"}); o.units(nil); o.mapUnits([]mapUnit{{ID: 1}}) }, "there again"},
		"disbanded":      {func(o *own) { o.gone(1); o.mapUnits([]mapUnit{{ID: 1}}) }, "still there"},
		"answer unknown": {func(o *own) { o.marked(1, mark{ref: "a"}); o.unsure(1); o.units([]unit{{ID: 1, ClientRef: "b"}}) }, ""},
		"refused": {func(o *own) {
			o.marked(1, mark{ref: "a"})
			o.restore(1, o.unsure(1))
			o.units([]unit{{ID: 1, ClientRef: "x"}})
		}, "client_ref"},
		"closed trade": {func(o *own) { o.closed(4); o.trades([]trade{{ID: 4}}) }, "still open"},
		"taken offer":  {func(o *own) { o.offered(4); o.trades(nil); o.trades(nil) }, ""},
		"late offer":   {func(o *own) { o.offered(4); o.trades(nil); o.trades([]trade{{ID: 4}}) }, "there again"},
	} {
		t.Run(name, func(t *testing.T) {
			var misses []string
			complain := func(format string, args ...any) { misses = append(misses, format) }
			o := newOwn(complain, complain)
			c.do(&o)
			got := strings.Join(misses, "; ")
			switch {
			case c.want == "" && got != "":
				t.Errorf("complains: %s", got)
			case c.want != "" && len(misses) != 1:
				t.Errorf("complains %d times: %s", len(misses), got)
			}
		})
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	for want, cfg := range map[string]Config{
		"BaseURL": {},
		"Rate":    {BaseURL: "http://x", Rate: -1},
		"Run":     {BaseURL: "http://x", Run: "much-too-long-for-a-ref"},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want it to name %s", cfg, err, want)
		}
	}
}
