package parked

import (
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/shadow/stream"
)

var owner = Owner{"project", "units", 1}

func stop(offset int64, at int) *event.Parked {
	return &event.Parked{V: event.ParkedVersion, Migration: "units", Generation: 1, Stage: "project", Key: "match/7", Offset: offset, At: time.Unix(int64(at), 123456789)}
}

func fold(t *testing.T, k *Keys, ps ...*event.Parked) {
	t.Helper()
	for _, p := range ps {
		if _, err := k.Take(&stream.Record{Kind: event.KindParked, Value: event.Encode(p)}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAReleaseFreesOneStopOnly(t *testing.T) {
	first, second := stop(5, 1), stop(5, 2)
	release := first.Release("ada", "mended", time.Unix(9, 0))
	k := New(owner)
	fold(t, k, first, release, second, release)
	if p := k.Get("match/7"); p == nil || p.Released {
		t.Fatalf("%+v", p)
	}
	fold(t, k, second.Release("ada", "mended", time.Unix(10, 0)), first.CaughtUp(9, true, time.Unix(11, 0)))
	if p := k.Get("match/7"); p == nil || !p.Released || p.Who != "ada" {
		t.Fatalf("%+v", p)
	}
	fold(t, k, second.CaughtUp(9, true, time.Unix(12, 0)))
	if k.Len() != 0 {
		t.Fatal(k.All())
	}
	other := stop(5, 1)
	other.Generation = 2
	fold(t, k, other)
	if k.Len() != 0 {
		t.Fatal("another generation's")
	}
}

func TestOwnRecordsComeBack(t *testing.T) {
	first := stop(5, 1)
	k := New(owner)
	fold(t, k, first, first.Release("ada", "mended", time.Unix(9, 0)))
	k.Apply([]Progress{{Of: k.Get("match/7"), Next: 50}})
	fold(t, k, first.CaughtUp(20, false, time.Unix(10, 0)), first)
	if p := k.Get("match/7"); p.Offset != 50 || !p.Released {
		t.Fatalf("%+v", p)
	}
	if from, ok := k.Behind(50); !ok || from != 50 {
		t.Fatal("it stands where the others are, and is not told so", from, ok)
	}
}
