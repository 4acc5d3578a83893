package pairs

import (
	"fmt"
	"net/http"
	"testing"

	"banyan/proxy/capture"
	"banyan/proxy/event"
)

// A read that began under one config is a pair of it, though another one serves when it is complete; each is counted by
// itself, metrics see the sum, and a config that comes back goes on.
func TestReadsBelongToTheirConfig(t *testing.T) {
	p, s, _ := start(t, Config{}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "other") })
	one := p.Under("one")
	one.Offer(read("x"))
	two := p.Under("two")
	two.Offer(read("x"))
	p.Under("one").Offer(read("x"))
	p.Start(t.Context())
	for range 3 {
		<-s.got
	}
	p.Stop()
	per := map[string]int{}
	for _, pair := range s.pairs {
		per[pair.Fingerprint]++
	}
	if per["one"] != 2 || per["two"] != 1 {
		t.Fatalf("pairs %v", per)
	}
	p.mu.Lock()
	for config, want := range map[string]uint64{"one": 2, "two": 1} {
		if got := p.tallies[tallyKey{"units", "map", config}]; got == nil || got.Asked != want || got.Sent != want || got.Config != config {
			t.Errorf("%s: %+v", config, got)
		}
	}
	p.mu.Unlock()
	if all := p.Tallies(); len(all) != 1 || all[0].Asked != 3 || all[0].Sent != 3 {
		t.Fatalf("%+v", all)
	}
}

// Of many configs the oldest's tallies are forgotten, and their numbers stay in the sums.
func TestConfigsAreForgotten(t *testing.T) {
	p := New(Config{Replica: "a", Epoch: 1, Publish: func(event.Kind, event.OrderingKey, []byte) bool { return true }})
	const n = maxFingerprints + 10
	for i := range n {
		u := p.Under(fmt.Sprint(i))
		u.Served("units", "map", capture.Legacy, 1)
		u.FellBack("units", "map", "lag")
	}
	if len(p.tallies) > maxFingerprints || len(p.recent) > maxFingerprints {
		t.Fatalf("%d tallies are kept", len(p.tallies))
	}
	all := p.Tallies()
	if len(all) != 1 || all[0].ByLegacy != n || all[0].FellBack["lag"] != n {
		t.Fatalf("%+v", all)
	}
}
