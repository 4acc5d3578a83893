package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// Records and segment headers, little endian, each record padded to 8 bytes:
//
//	record   0 crc of 4..48   4 crc of the payload   8 payload length   12 version   13 kind   14 flags (2)
//	         16 seq   24 ship   32 unix nanoseconds   40 count   48 payload
//	header   0 magic   8 version (4)   12 crc of the rest (4)   16 epoch   24 number   32 previous end
//	         40 last seq before   48 last ship before   56 seed (4)   60 reused (1)   61 zero
//
// Both checksums of a record start from the segment's seed.
const (
	recordVersion = 1
	headSize      = 48
	headerSize    = 64
	magic         = "BNYJRNL\n"
)

type kind uint8

const (
	kindIntent kind = iota + 1
	kindOutcome
	kindGap // opens, counts or closes a gap, by its flags
	kindEnd // the generation was sealed with nothing in flight, or recovered
)

const (
	flagMemory    uint16 = 1 << iota // intent: AckMemory
	flagRecovered                    // outcome: unknown, found without one; gap: closed by recovery; end: by recovery
	flagBare                         // outcome: its payload did not fit
	flagGapOpen
	flagGapClose
	flagAtLeast // gap: the count is a lower bound
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type record struct {
	kind    kind
	flags   uint16
	seq     Seq
	ship    ShipSeq
	time    int64
	count   uint64
	payload []byte
	sum     uint32 // of the payload, see checksum
}

// checksum is taken before the lock: it is the larger part of the framing.
func (r *record) checksum(seed uint32) { r.sum = crc32.Update(seed, castagnoli, r.payload) }

func frameSize(payload int) int64 { return int64(headSize+payload+7) &^ 7 }

// appendRecord frames r, whose checksum has been taken, at the end of b.
func appendRecord(b []byte, seed uint32, r *record) []byte {
	at, n := len(b), int(frameSize(len(r.payload)))
	b = slices.Grow(b, n)[:at+n]
	h := b[at:][:headSize] // in place: a checksum lets its argument escape
	le := binary.LittleEndian
	le.PutUint32(h[4:], r.sum)
	le.PutUint32(h[8:], uint32(len(r.payload)))
	h[12], h[13] = recordVersion, byte(r.kind)
	le.PutUint16(h[14:], r.flags)
	le.PutUint64(h[16:], uint64(r.seq))
	le.PutUint64(h[24:], uint64(r.ship))
	le.PutUint64(h[32:], uint64(r.time))
	le.PutUint64(h[40:], r.count)
	sealHead(h, seed)
	copied := copy(b[at+headSize:], r.payload)
	clear(b[at+headSize+copied:])
	return b
}

// sealHead gives a head, payload's checksum included, its own.
func sealHead(h []byte, seed uint32) {
	binary.LittleEndian.PutUint32(h[0:], crc32.Update(seed, castagnoli, h[4:headSize]))
}

// reseal gives framed records the checksums of another seed.
func reseal(b []byte, seed uint32) {
	le := binary.LittleEndian
	for len(b) > 0 {
		size := int(le.Uint32(b[8:]))
		le.PutUint32(b[4:], crc32.Update(seed, castagnoli, b[headSize:headSize+size]))
		sealHead(b, seed)
		b = b[frameSize(size):]
	}
}

var errHead = errors.New("no record here")

// parseHead reads a record's first 48 bytes, without the payload, whose length it returns.
func parseHead(b []byte, seed uint32) (r record, payload int, err error) {
	le := binary.LittleEndian
	if len(b) < headSize || le.Uint32(b) != crc32.Update(seed, castagnoli, b[4:headSize]) {
		return r, 0, errHead
	}
	if b[12] != recordVersion { // cannot be: the segment's header has this version
		return r, 0, errHead
	}
	r = record{
		kind: kind(b[13]), flags: le.Uint16(b[14:]), seq: Seq(le.Uint64(b[16:])), ship: ShipSeq(le.Uint64(b[24:])),
		time: int64(le.Uint64(b[32:])), count: le.Uint64(b[40:]),
	}
	n := le.Uint32(b[8:])
	if r.kind < kindIntent || r.kind > kindEnd || n > 64<<20 {
		return r, 0, errHead
	}
	return r, int(n), nil
}

// intact says whether the payload is the one that the head was made for.
func intact(head, payload []byte, seed uint32) bool {
	return binary.LittleEndian.Uint32(head[4:]) == crc32.Update(seed, castagnoli, payload)
}

// header is the start of a segment.
type header struct {
	epoch    Epoch
	number   uint64
	prevEnd  int64 // where the segment before this one ends: bytes beyond do not count
	lastSeq  Seq
	lastShip ShipSeq
	seed     uint32
	reused   bool // the file held an earlier segment: bytes of it may follow the records
}

func (h *header) encode() []byte {
	b := make([]byte, headerSize)
	le := binary.LittleEndian
	copy(b, magic)
	le.PutUint32(b[8:], recordVersion)
	le.PutUint64(b[16:], uint64(h.epoch))
	le.PutUint64(b[24:], h.number)
	le.PutUint64(b[32:], uint64(h.prevEnd))
	le.PutUint64(b[40:], uint64(h.lastSeq))
	le.PutUint64(b[48:], uint64(h.lastShip))
	le.PutUint32(b[56:], h.seed)
	if h.reused {
		b[60] = 1
	}
	le.PutUint32(b[12:], crc32.Checksum(b[16:], castagnoli))
	return b
}

var errNoHeader = errors.New("no segment header")

func parseHeader(b []byte) (h header, err error) {
	le := binary.LittleEndian
	if len(b) < headerSize || string(b[:8]) != magic || le.Uint32(b[12:]) != crc32.Checksum(b[16:headerSize], castagnoli) {
		return h, errNoHeader
	}
	if v := le.Uint32(b[8:]); v != recordVersion {
		return h, fmt.Errorf("segment version %d, this build reads %d: ship it with the build that wrote it", v, recordVersion)
	}
	return header{
		epoch: Epoch(le.Uint64(b[16:])), number: le.Uint64(b[24:]), prevEnd: int64(le.Uint64(b[32:])),
		lastSeq: Seq(le.Uint64(b[40:])), lastShip: ShipSeq(le.Uint64(b[48:])), seed: le.Uint32(b[56:]), reused: b[60] == 1,
	}, nil
}
