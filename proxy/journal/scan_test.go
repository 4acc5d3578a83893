package journal

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// Whatever of a growing file is asked for, the window gives the file's bytes, and what it says it holds is the file's.
func TestWindowGivesTheFilesBytes(t *testing.T) {
	raw := make([]byte, 4<<20)
	for i := range raw {
		raw[i] = byte(i*7 + i>>8*13 + i>>16*31)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := scanner{f: memFile(raw)}
		at := int64(0)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			s.end = min(int64(len(raw)), max(s.end, at)+rapid.Int64Range(0, 80<<10).Draw(t, "grows"))
			if rapid.IntRange(0, 50).Draw(t, "jump") == 0 {
				at = rapid.Int64Range(0, s.end).Draw(t, "to")
			}
			n := rapid.Int64Range(0, min(s.end-at, rapid.SampledFrom([]int64{100, 5000, 600 << 10}).Draw(t, "most"))).Draw(t, "n")
			b, err := s.bytes(at, int(n))
			if err != nil || !bytes.Equal(b, raw[at:at+n]) {
				t.Fatalf("%d bytes at %d: %v, others than the file's", n, at, err)
			}
			back := max(0, at-rapid.Int64Range(0, 200<<10).Draw(t, "back"))
			m := min(rapid.Int64Range(1, 5000).Draw(t, "m"), s.end-back)
			if b := s.held(back, int(m)); b != nil && !bytes.Equal(b, raw[back:back+m]) {
				t.Fatalf("%d bytes at %d are held, others than the file's", m, back)
			}
			if int64(len(s.win)) > s.end-s.winAt {
				t.Fatal("bytes beyond the end were read: they may not be final")
			}
			at += n
		}
		if cap(s.win) > behind+max(2*window, 600<<10) {
			t.Fatalf("a window of %d bytes", cap(s.win))
		}
	})
}

type countedFS struct {
	osFS
	reads atomic.Int64
}

type countedFile struct {
	file
	fs *countedFS
}

func (f *countedFS) Create(path string) (file, error) {
	in, err := f.osFS.Create(path)
	return &countedFile{in, f}, err
}

func (f *countedFile) ReadAt(b []byte, at int64) (int, error) {
	f.fs.reads.Add(1)
	return f.file.ReadAt(b, at)
}

// Intents are shipped moments after they were scanned: they are not read from the file once more, each by itself.
func TestShippingReadsWritesOnce(t *testing.T) {
	fs := &countedFS{}
	j := mustOpen(t, Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler), fs: fs})
	const writes, flying = 1000, 20
	var seqs []Seq
	outcome := func(seq Seq) {
		if _, err := j.AppendOutcome(seq, Outcome{Payload: make([]byte, 100)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range writes {
		seq, err := j.AppendIntent(Intent{Payload: fmt.Appendf(make([]byte, 1000), "%d", i), Ack: AckMemory})
		if err != nil {
			t.Fatal(err)
		}
		if seqs = append(seqs, seq); len(seqs) == flying {
			outcome(seqs[0])
			seqs = seqs[1:]
		}
	}
	for _, seq := range seqs {
		outcome(seq)
	}
	if err := j.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := fs.reads.Load()
	var it Item
	for i := range writes {
		if err := j.Cursor().Next(t.Context(), &it); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Append(make([]byte, 1000), i); !bytes.Equal(it.Intent, want) {
			t.Fatalf("write %d: %q", i, it.Intent)
		}
	}
	if n := fs.reads.Load() - before; n > 10 { // 1.2 MB, 256 KiB at a time
		t.Errorf("%d reads of the file for %d writes", n, writes)
	}
}
