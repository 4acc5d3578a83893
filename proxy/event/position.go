package event

import (
	"fmt"
	"strconv"
	"strings"
)

// Position is a commit position of legacy's change log, totally ordered within one server: a PostgreSQL LSN, or a
// MariaDB binlog file number in the upper and an offset in the lower 32 bits. Zero is before everything.
//
// It is printed like an LSN, "hi/lo" in upper-case hexadecimal, whatever the server.
type Position uint64

// MakePosition joins a log file's number and an offset in it.
func MakePosition(file, offset uint32) Position { return Position(uint64(file)<<32 | uint64(offset)) }

// File is the upper half, Offset the lower.
func (p Position) File() uint32 { return uint32(p >> 32) }

// Offset is the lower half.
func (p Position) Offset() uint32 { return uint32(p) }

// String prints "hi/lo".
func (p Position) String() string { return fmt.Sprintf("%X/%X", p.File(), p.Offset()) }

// MarshalText implements encoding.TextMarshaler.
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Position) UnmarshalText(b []byte) error {
	q, err := ParsePosition(string(b))
	if err == nil {
		*p = q
	}
	return err
}

// ParsePosition reads "hi/lo".
func ParsePosition(s string) (Position, error) {
	hi, lo, ok := strings.Cut(s, "/")
	h, err1 := strconv.ParseUint(hi, 16, 32)
	l, err2 := strconv.ParseUint(lo, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("position %q: want hi/lo in hexadecimal", clip(s))
	}
	return Position(h<<32 | l), nil
}
