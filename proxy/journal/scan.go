package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// scanner walks the records of one segment. It verifies each, and steps over bytes that are none.
type scanner struct {
	f    file
	seed uint32
	at   int64 // next byte to look at
	end  int64 // records end here at the latest

	win   []byte
	winAt int64
}

// found is one record of a segment. A record whose head is intact and whose payload is not is found damaged.
type found struct {
	record
	at      int64 // of the record's head
	size    int   // of the payload
	damaged bool
	skipped int64 // bytes before it that are no record
}

// next gives the next record. The payload is valid until the following call. At the end it returns io.EOF, and in
// found.skipped the bytes at the end that are no record.
func (s *scanner) next() (f found, err error) {
	for s.at+headSize <= s.end {
		head, err := s.bytes(s.at, headSize)
		if err != nil {
			return f, err
		}
		if binary.LittleEndian.Uint64(head) == 0 { // allocated, never written
			s.at, f.skipped = s.at+8, f.skipped+8
			continue
		}
		r, size, err := parseHead(head, s.seed)
		if err != nil || s.at+frameSize(size) > s.end {
			s.at, f.skipped = s.at+8, f.skipped+8
			continue
		}
		frame, err := s.bytes(s.at, headSize+size)
		if err != nil {
			return f, err
		}
		f.record, f.at, f.size = r, s.at, size
		f.payload = frame[headSize:]
		f.damaged = !intact(frame, f.payload, s.seed)
		s.at += frameSize(size)
		return f, nil
	}
	f.skipped += max(0, s.end-s.at)
	s.at = max(s.at, s.end)
	return f, io.EOF
}

// Of the bytes of a segment that are held in memory: how many are read ahead, at most, and how many stay behind, so that
// the intents of the outcomes that come next need not be read again.
const (
	window = 256 << 10
	behind = 128 << 10
)

// bytes gives n bytes at an offset, valid until the next call.
func (s *scanner) bytes(at int64, n int) ([]byte, error) {
	if b := s.held(at, n); b != nil {
		return b, nil
	}
	until := at + min(max(window, int64(n)), s.end-at)
	if at < s.winAt || at > s.winAt+int64(len(s.win)) {
		s.win, s.winAt = s.win[:0], at
	}
	if until-s.winAt > int64(cap(s.win)) {
		s.slide(at, int(until-at))
	}
	from := len(s.win)
	s.win = s.win[:until-s.winAt]
	got, err := s.f.ReadAt(s.win[from:], s.winAt+int64(from))
	if want := len(s.win) - from; got < want {
		s.win = s.win[:0]
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read %d bytes at %d: %w", want, until-int64(want), err)
	}
	return s.held(at, n), nil
}

// held gives the bytes if they are in memory, nil if not.
func (s *scanner) held(at int64, n int) []byte {
	if at < s.winAt || at+int64(n) > s.winAt+int64(len(s.win)) {
		return nil
	}
	return s.win[at-s.winAt:][:n]
}

// slide makes room for n bytes at an offset that the window has or ends at, and keeps what is just behind it.
func (s *scanner) slide(at int64, n int) {
	keep := s.win[max(0, at-s.winAt-behind):]
	s.winAt = max(s.winAt, at-behind)
	if room := behind + n; cap(s.win) < room {
		s.win = make([]byte, max(room, 2*window))
	}
	s.win = s.win[:copy(s.win[:cap(s.win)], keep)]
}
