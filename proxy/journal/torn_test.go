package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// written makes one ended generation and gives its segment's bytes up to the end of its records, with where each
// record ends.
func written(t testing.TB, n int) (raw []byte, ends []int64) {
	t.Helper()
	j := mustOpen(t, small(t, t.TempDir()))
	for i := range n {
		seq := intent(t, j, fmt.Sprintf("intent %d", i))
		if i != n-2 {
			outcome(t, j, seq, fmt.Sprintf("outcome %d", i))
		}
	}
	j.Close()
	raw, err := os.ReadFile(filepath.Join(j.Dir(), segmentName(1)))
	if err != nil {
		t.Fatal(err)
	}
	sc := scanner{f: memFile(raw), seed: j.seed.Load(), at: headerSize, end: int64(len(raw))}
	for {
		_, err := sc.next()
		if errors.Is(err, io.EOF) {
			return raw, ends
		}
		ends = append(ends, sc.at)
	}
}

// memFile is a segment in memory.
type memFile []byte

func (m memFile) ReadAt(b []byte, at int64) (int, error) {
	if at >= int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(b, m[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (m memFile) WriteAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[at:], b), nil
}

func (m memFile) Close() error         { return nil }
func (m memFile) Sync() error          { return nil }
func (m memFile) Allocate(int64) error { return nil }
func (m memFile) Size() (int64, error) { return int64(len(m)), nil }

func (m memFile) Rename(string, string) error { return nil }

// recovered is what the next process makes of a generation with these bytes as its only segment.
func recovered(t testing.TB, raw []byte) []Item {
	t.Helper()
	h, err := parseHeader(raw)
	if err != nil {
		t.Fatal(err)
	}
	cfg := small(t, "none").withDefaults()
	g := &generation{cfg: cfg, epoch: h.epoch, acked: &ackFile{}, wake: make(chan struct{}, 1)}
	g.segs = []*segment{{header: h, path: segmentName(1), f: memFile(raw), size: int64(len(raw)), end: int64(len(raw))}}
	for range 2 { // twice, as after a crash of the first
		v, err := g.survey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := g.mend(v); err != nil {
			t.Fatal(err)
		}
	}
	return drain(t, newCursor(g))
}

// TestTornTail cuts the log after every byte of its last three records, with zeros or with foreign bytes behind:
// whatever was whole before the cut comes back, nothing else does, and what has no outcome is unknown.
func TestTornTail(t *testing.T) {
	raw, ends := written(t, 6)
	end := ends[len(ends)-1]
	for _, fill := range []byte{0, 0xff} {
		for cut := ends[len(ends)-4]; cut <= end; cut++ {
			torn := append([]byte(nil), raw...)
			for i := cut; i < end+100; i++ {
				torn[i] = fill
			}
			whole := 0
			for _, e := range ends {
				if e <= cut {
					whole++
				}
			}
			check(t, fmt.Sprintf("cut at %d fill %x", cut, fill), recovered(t, torn), whole)
		}
	}
}

// check wants exactly what the first whole records of written(6) say. A record padded with zeros may be whole
// although its padding was cut, so one more is fine if it is right.
func check(t *testing.T, name string, items []Item, whole int) {
	t.Helper()
	// Records: i0 o0 i1 o1 i2 o2 i3 o3 i4 i5 o5
	intents, outcomes := 0, map[int]bool{}
	for k := range whole {
		switch {
		case k == 9:
			intents++
		case k == 10:
			outcomes[5] = true
		case k%2 == 0:
			intents++
		default:
			outcomes[k/2] = true
		}
	}
	got := 0
	for i, it := range items {
		switch {
		case it.Ship != ShipSeq(i+1):
			t.Fatalf("%s: ship %d at %d", name, it.Ship, i)
		case it.Kind == ItemEnd:
			continue
		case it.Kind != ItemWrite || string(it.Intent) != fmt.Sprintf("intent %d", it.Seq-1):
			t.Fatalf("%s: invented %+v", name, it)
		case !it.Recovered && string(it.Outcome) != fmt.Sprintf("outcome %d", it.Seq-1):
			t.Fatalf("%s: invented outcome %+v", name, it)
		case it.Recovered && outcomes[int(it.Seq-1)]:
			t.Fatalf("%s: outcome of %d lost", name, it.Seq)
		}
		got++
	}
	if got != intents && got != intents+1 || items[len(items)-1].Kind != ItemEnd {
		t.Fatalf("%s: %d writes, want %d", name, got, intents)
	}
}

// TestDamageInTheMiddle flips each byte before the last record: what is intact stays, and the loss is said.
func TestDamageInTheMiddle(t *testing.T) {
	raw, ends := written(t, 4)
	for at := int64(headerSize); at < ends[len(ends)-2]; at++ {
		bad := append([]byte(nil), raw...)
		bad[at] ^= 0x40
		items := recovered(t, bad)
		said, writes := false, 0
		for _, it := range items {
			said = said || it.Kind == ItemDamage || it.IntentLost || it.Bare
			if it.Kind != ItemWrite {
				continue
			}
			writes++
			if !it.IntentLost && string(it.Intent) != fmt.Sprintf("intent %d", it.Seq-1) ||
				!it.Bare && !it.Recovered && string(it.Outcome) != fmt.Sprintf("outcome %d", it.Seq-1) {
				t.Fatalf("flip at %d: invented %+v", at, it)
			}
		}
		padding := writes == 4 && !said // the flip hit padding, which nobody reads
		if !padding && (!said || writes < 3) {
			t.Fatalf("flip at %d: said %v, %d writes", at, said, writes)
		}
	}
}

// TestPayloadThatLooksLikeARecord: after damage, bytes chosen by a client are not taken for a record.
func TestPayloadThatLooksLikeARecord(t *testing.T) {
	j := mustOpen(t, small(t, t.TempDir()))
	forged := record{kind: kindIntent, seq: 99, payload: []byte("forged")}
	forged.checksum(0)
	seq := intent(t, j, string(appendRecord(nil, 0, &forged)))
	outcome(t, j, seq, "")
	outcome(t, j, intent(t, j, "honest"), "")
	j.Close()
	raw, err := os.ReadFile(filepath.Join(j.Dir(), segmentName(1)))
	if err != nil {
		t.Fatal(err)
	}
	raw[headerSize+8] ^= 1 // the length of the first record
	for _, it := range recovered(t, raw) {
		if it.Seq == 99 {
			t.Fatalf("forged: %+v", it)
		}
	}
}

// FuzzSegment reads foreign bytes as the only segment of a generation: no panic, no hang, no error, and the records
// come in a shape that can be shipped.
func FuzzSegment(f *testing.F) {
	raw, ends := written(f, 3)
	end := ends[len(ends)-1]
	f.Add(raw[headerSize:end], uint16(0), byte(0))
	f.Add(raw[headerSize:end], uint16(60), byte(1))
	f.Add([]byte{}, uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, body []byte, at uint16, flip byte) {
		seg := make([]byte, 64<<10)
		copy(seg, raw[:headerSize])
		copy(seg[headerSize:len(seg)/2], body) // the other half has room for a bare outcome of each
		seg[headerSize+int(at)%(len(seg)/2-headerSize)] ^= flip
		seen := map[Seq]bool{}
		for _, it := range recovered(t, seg) {
			if it.Kind == ItemWrite && !it.IntentLost && seen[it.Seq] {
				t.Fatalf("write %d twice", it.Seq)
			}
			seen[it.Seq] = true
		}
	})
}
