package pending

import (
	"strings"
	"testing"
	"time"

	"banyan/proxy/event"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Whatever was added, the cookie is bounded, and asks for no less than was seen; only a migration's last sight, the
// oldest of more migrations than there is room for, is let go.
func TestSightsAreKeptOrAskForMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Seen
		newest := map[event.OrderingKey]time.Time{}
		for i := range rapid.IntRange(0, 20).Draw(t, "n") {
			k := rapid.SampledFrom([]event.OrderingKey{AnyKey, "a", "b~:", "c", "d", "e", "f"}).Draw(t, "key")
			at := time.UnixMilli(int64(1000 * (i + 1)))
			s = s.Add(Sight{"units", k, at, at})
			newest[k] = at
		}
		if len(s) > MaxSeen {
			t.Fatal(s)
		}
		again := ParseSeen(s.String())
		if d := cmp.Diff(s, again); d != "" {
			t.Fatal(d)
		}
		for k, at := range newest {
			if x, ok := again.For("units", k); !ok || x.At.Before(at) {
				t.Fatalf("%s was seen at %s, kept is %+v of %+v", k, at, x, again)
			}
		}
	})
}

func TestSightsOfManyMigrations(t *testing.T) {
	var s Seen
	for i := range 2 * MaxSeen {
		s = s.Add(Sight{event.Migration(rune('a' + i)), "k", time.UnixMilli(int64(i)), time.UnixMilli(int64(i))})
	}
	if _, ok := s.For("h", "k"); len(s) != MaxSeen || !ok {
		t.Fatal(s)
	}
	if len(Seen(nil).Add(Sight{"m", event.OrderingKey(strings.Repeat("k", 10)), time.Now(), time.Now()}).String()) > 40 {
		t.Fatal("the cookie is to be small")
	}
}

func TestTimesAreRoundedUp(t *testing.T) {
	at := time.Unix(5, 1)
	if x := ParseSeen(Seen{{"m", "k", at, at}}.String()); !x[0].At.Equal(time.UnixMilli(5001)) {
		t.Fatal(x)
	}
}

func FuzzParseSeen(f *testing.F) {
	f.Add("units~match%2F7~m3k2.m3k1:units~*~0.0")
	f.Fuzz(func(t *testing.T, v string) {
		s := ParseSeen(v)
		for _, x := range s {
			if strings.ContainsAny(string(x.Migration), ":~") {
				t.Fatal(x)
			}
		}
		if d := cmp.Diff(s, ParseSeen(s.String())); d != "" {
			t.Fatal(d)
		}
	})
}
