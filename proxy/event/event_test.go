package event

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestWriteIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := WriteID{
			Replica(rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_-]{0,31}`).Draw(t, "replica")),
			Epoch(rapid.Uint64Min(1).Draw(t, "epoch")), Seq(rapid.Uint64Min(1).Draw(t, "seq")),
		}
		got, err := ParseWriteID(id.String())
		if err != nil || got != id {
			t.Fatalf("%v -> %q -> %v, %v", id, id.String(), got, err)
		}
	})
}

func TestParseWriteIDRefusesWhatIsNeverPrinted(t *testing.T) {
	for _, s := range []string{"", "a", "a.1", "a.1.", "a.0.1", "a.1.0", "a.01.1", "a.+1.1", ".1.1", "-a.1.1", "a b.1.1",
		"a*/.1.1", "a.1.1.1", "a.1.18446744073709551616", strings.Repeat("a", 33) + ".1.1"} {
		if id, err := ParseWriteID(s); err == nil {
			t.Errorf("ParseWriteID(%q) = %v, want an error", s, id)
		}
	}
}

func TestPosition(t *testing.T) {
	p := MakePosition(12, 0x1a2b)
	if p.String() != "C/1A2B" || p.File() != 12 || p.Offset() != 0x1a2b {
		t.Fatalf("%s %d %d", p, p.File(), p.Offset())
	}
	if q, err := ParsePosition("C/1A2B"); q != p || err != nil {
		t.Fatal(q, err)
	}
	if MakePosition(2, 0) <= MakePosition(1, math.MaxUint32) {
		t.Fatal("a later file must sort after every offset of an earlier one")
	}
	for _, s := range []string{"", "1", "/", "1/", "g/1", "1/1/1", "123456789/0"} {
		if q, err := ParsePosition(s); err == nil {
			t.Errorf("ParsePosition(%q) = %v", s, q)
		}
	}
}

// The function is a promise for ever: these numbers may never change.
func TestPartitionIsStable(t *testing.T) {
	for k, want := range map[OrderingKey]int32{"match/1": 13, "match/7": 21, "match/42": 12, "": 9} {
		if got := Partition(k, 24); got != want {
			t.Errorf("Partition(%q, 24) = %d, want %d", k, got, want)
		}
	}
}

func sampleIntent() Intent {
	return Intent{UUID: "0190", Route: "move", Addresses: []Address{{"units", "match/7", true}, {"economy", "match/7", false}},
		Method: "POST", Host: "game.example", Target: "/index.php?page=unit&action=move", ContentType: "application/x-www-form-urlencoded",
		Params: map[string]string{"unit": "42", "to": "9"}, Body: []byte("unit=42&to=9\x00\xff"), BodyLength: 14, Session: "h", Player: "3",
		Trace: "00-a-b-01", At: time.Unix(1700000000, 123456789).UTC()}
}

func sampleResult() Result {
	return Result{Outcome: Applied, Reason: "rule", Status: 302, Location: "/index.php?msg=moved", BodyLength: 3, ClientGone: true,
		Keys: []Address{{"units", "match/8", false}}, Forwarded: time.Unix(1700000000, 2).UTC(), End: time.Unix(1700000001, 3).UTC()}
}

func TestJournalForm(t *testing.T) {
	in, r := sampleIntent(), sampleResult()
	form := in.Append(nil)
	gotIn, err := DecodeIntent(form)
	clear(form) // what is decoded is no part of it
	if err != nil || !cmp.Equal(in, gotIn) {
		t.Fatal(err, cmp.Diff(in, gotIn))
	}
	form = r.Append(nil)
	gotR, err := DecodeResult(form)
	clear(form)
	if err != nil || !cmp.Equal(r, gotR) {
		t.Fatal(err, cmp.Diff(r, gotR))
	}
	if z, err := DecodeResult((&Result{}).Append(nil)); err != nil || !z.End.IsZero() {
		t.Fatal("the zero time must stay the zero time", z, err)
	}
	b := in.Append(nil)
	for i := range b {
		if _, err := DecodeIntent(b[:i]); err == nil {
			t.Fatalf("an intent cut at byte %d of %d was taken for whole", i, len(b))
		}
	}
}

func FuzzDecodeIntent(f *testing.F) {
	in, r := sampleIntent(), sampleResult()
	f.Add(in.Append(nil))
	f.Add(r.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if in, err := DecodeIntent(b); err == nil {
			again, err := DecodeIntent(in.Append(nil))
			if err != nil || !cmp.Equal(in, again) {
				t.Fatal(err, cmp.Diff(in, again))
			}
		}
		_, _ = DecodeResult(b)
	})
}

func TestRecordsRefuseNewerVersionsAndGarbage(t *testing.T) {
	w := Write{V: WriteVersion, ID: WriteID{"a", 1, 2}, Ship: 3, Address: Address{"units", "match/7", true}, Intent: sampleIntent(), Result: sampleResult()}
	got, err := DecodeWrite(Encode(w))
	if err != nil || !cmp.Equal(&w, got) {
		t.Fatal(err, cmp.Diff(&w, got))
	}
	w.V++
	for name, b := range map[string][]byte{"newer": Encode(w), "none": []byte(`{}`), "garbage": []byte("\x00"), "wrong": []byte(`[]`)} {
		if _, err := DecodeWrite(b); err == nil || !strings.Contains(err.Error(), "write record") {
			t.Errorf("%s: error %v; want one that names the record", name, err)
		}
	}
}

func TestValuesKeepDigits(t *testing.T) {
	c := Change{V: 1, Rows: []RowChange{{Table: "t", Op: Insert, After: Values{"a": json.Number("1.10"), "b": nil, "c": "x", "d": true}}}}
	got, err := DecodeChange(Encode(c))
	if err != nil || !cmp.Equal(&c, got) {
		t.Fatal(err, cmp.Diff(&c, got))
	}
	if _, err := DecodeChange([]byte(`{"v":1,"rows":[{"after":{"a":[1]}}]}`)); err == nil {
		t.Fatal("a column that is a list was taken")
	}
}

func TestCloudEventHeaders(t *testing.T) {
	e := Event{ID: "x", Source: "/banyan/units", Type: "game.unit.moved", Version: 2, Subject: "unit/42", Time: time.Unix(5, 0).UTC(), Key: "match/7",
		Data: []byte(`{"to":9}`), Cause: "a.1.2", Position: MakePosition(1, 2), Sequence: 3, Traceparent: "00-a-b-01"}
	got, err := ParseEvent(e.Headers(), e.Data)
	if err != nil || !cmp.Equal(&e, got) {
		t.Fatal(err, cmp.Diff(&e, got))
	}
	for _, bad := range []Header{{"ce_id", nil}, {"ce_schemaversion", []byte("x")}, {"ce_schemaversion", []byte("0")}, {"ce_legacyposition", []byte("x")},
		{"ce_time", []byte("x")}, {"ce_specversion", []byte("0.3")}} {
		if _, err := ParseEvent(append(e.Headers(), bad), nil); err == nil || !strings.Contains(err.Error(), bad.Key) {
			t.Errorf("%s=%q: %v; want an error that names the header", bad.Key, bad.Value, err)
		}
	}
}

func TestProgressHolds(t *testing.T) {
	w := WriteID{"a", 2, 5}
	p := Progress{Migration: "units", Replicas: map[Replica]Reached{"a": {Epoch: 2, Seq: 5}}}
	if !p.Holds(w, "match/7") {
		t.Fatal("covered, not listed, not held: must hold")
	}
	for name, q := range map[string]Progress{
		"unknown replica": {Replicas: map[Replica]Reached{"b": {Epoch: 9, Seq: 9}}},
		"earlier seq":     {Replicas: map[Replica]Reached{"a": {Epoch: 2, Seq: 4}}},
		"earlier epoch":   {Replicas: map[Replica]Reached{"a": {Epoch: 1, Seq: 9}}},
		"unsettled":       {Replicas: p.Replicas, Unsettled: []Unsettled{{ID: w}}},
		"held":            {Migration: "units", Replicas: p.Replicas, Held: []Held{{"units", "match/7", 1}}},
		"held for all":    {Migration: "units", Replicas: p.Replicas, Held: []Held{{"units", "", 1}}},
		"parked":          {Replicas: p.Replicas, Parked: []OrderingKey{"match/7"}},
	} {
		if q.Holds(w, "match/7") {
			t.Errorf("%s: must not hold", name)
		}
	}
}

func TestAHeldKeyIsCompleteOnlyBelowWhereItIsHeld(t *testing.T) {
	p := Progress{Migration: "units", Position: 100, Held: []Held{{"units", "match/7", 40}, {"units", "match/8", 200}, {"economy", "match/9", 1}}, Parked: []OrderingKey{"match/6"}}
	for k, want := range map[OrderingKey]Position{"match/7": 39, "match/8": 100, "match/9": 100, "match/6": 0} {
		if got := p.Complete(k); got != want {
			t.Errorf("%s: %s, want %s", k, got, want)
		}
	}
}

// BenchmarkIntent compares the journal's form of an intent with a form of 2 KiB, which is made on the request path, with
// the JSON form, which is made afterwards.
func BenchmarkIntent(b *testing.B) {
	in := sampleIntent()
	in.Body = bytes.Repeat([]byte("unit=42&to=9&"), 2048/13)
	for name, form := range map[string]func([]byte) []byte{"journal": in.Append, "json": func(b []byte) []byte { return in.appendJSON(b, WriteVersion) }} {
		b.Run(name, func(b *testing.B) {
			buf := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				buf = form(buf[:0])
			}
		})
	}
}
