package standin_test

import (
	"strings"
	"sync"
	"testing"

	"banyan/cmd/internal/play"
	"banyan/testdata/game"
)

// Endpoints that two thousand requests of the driver are sure to touch.
var endpoints = []string{
	"page login", "form login", "page map", "page unit", "page province", "page market", "page diplomacy", "page messages", "page ranking",
	"api state", "api map", "api units", "api resources", "api trades", "api messages",
	"form move", "json move", "form attack", "json attack", "form recruit", "json recruit", "form orders", "json orders",
	"form build", "json build", "form offer", "json offer", "form accept", "json accept", "form give", "json give", "form send", "json send",
}

// The driver that plays the original finds nothing wrong with either.
func TestPlayersNoticeNothing(t *testing.T) {
	size := game.Size{Matches: 2, Players: 10, Provinces: 20, Units: 100}
	t.Run("original", func(t *testing.T) { playThrough(t, original(t, size)) })
	t.Run("stand-in", func(t *testing.T) { playThrough(t, stand(t, size)) })
}

func playThrough(t *testing.T, w *world) {
	t.Helper()
	const requests = 2000
	var mu sync.Mutex
	outcomes := map[string]play.Outcome{}
	d, err := play.New(play.Config{BaseURL: w.url, Players: 12, Matches: 2, Seed: 1, Run: "t", Requests: requests, Wrote: func(wrote play.Write) {
		mu.Lock()
		defer mu.Unlock()
		outcomes[wrote.Ref] = wrote.Outcome
		if len(outcomes)%50 == 0 {
			if err := w.cron(); err != nil {
				t.Error(err)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := d.Totals()
	var table strings.Builder
	if err := all.Print(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table.String())
	if all.Requests < requests || all.Errors != 0 || all.Missed != 0 {
		t.Errorf("%d requests, %d errors, %d own writes missed: %v", all.Requests, all.Errors, all.Missed, all.Examples)
	}
	met := map[string]int{}
	for _, row := range all.Rows {
		met[row.Endpoint] += row.Count - row.Refused
	}
	for _, endpoint := range endpoints {
		if met[endpoint] == 0 {
			t.Errorf("%s was never answered without a refusal", endpoint)
		}
	}
	logged := map[string]int{}
	for _, r := range w.rows("SELECT client_ref FROM action_log WHERE client_ref <> ''") {
		logged[r["client_ref"]]++
	}
	for ref, outcome := range outcomes {
		if want := map[play.Outcome]int{play.Done: 1}[outcome]; logged[ref] != want {
			t.Errorf("%s is %s, and %d times in the log", ref, outcome, logged[ref])
		}
	}
}
