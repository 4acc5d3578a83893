package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
	"time"
)

// ackFile keeps the shipping sequence that has been acknowledged, in two slots written in turn: a torn write of one
// leaves the other. Each acknowledgement is given to the operating system at once, so the end of the process repeats
// nothing; it is synced at most once a second and before a segment is removed, so a power cut repeats about a
// second's worth, under the same identities.
type ackFile struct {
	mu     sync.Mutex
	f      *os.File
	ship   ShipSeq
	slot   int64
	dirty  bool
	synced time.Time
}

const (
	ackSlot      = 16
	ackSyncEvery = time.Second
)

func openAck(path string) (*ackFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open acknowledged position: %w", err)
	}
	b := make([]byte, 2*ackSlot)
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		f.Close()
		return nil, fmt.Errorf("read acknowledged position: %w", err)
	}
	a := &ackFile{f: f}
	for i := range int64(2) {
		s := b[i*ackSlot:][:ackSlot]
		n := ShipSeq(binary.LittleEndian.Uint64(s))
		if n > a.ship && binary.LittleEndian.Uint32(s[8:]) == crc32.Checksum(s[:8], castagnoli) {
			a.ship, a.slot = n, 1-i
		}
	}
	return a, nil
}

func (a *ackFile) get() ShipSeq {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ship
}

// set records n if it is higher, and syncs if asked or due.
func (a *ackFile) set(n ShipSeq, sync bool, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n > a.ship {
		var s [ackSlot]byte
		binary.LittleEndian.PutUint64(s[:], uint64(n))
		binary.LittleEndian.PutUint32(s[8:], crc32.Checksum(s[:8], castagnoli))
		if _, err := a.f.WriteAt(s[:], a.slot*ackSlot); err != nil {
			return fmt.Errorf("write acknowledged position: %w", err)
		}
		a.ship, a.slot, a.dirty = n, 1-a.slot, true
	}
	if a.dirty && (sync || now.Sub(a.synced) >= ackSyncEvery) {
		if err := a.f.Sync(); err != nil {
			return fmt.Errorf("sync acknowledged position: %w", err)
		}
		a.dirty, a.synced = false, now
	}
	return nil
}

func (a *ackFile) close() { a.f.Close() }
