package event

import (
	"fmt"
	"strconv"
	"strings"
)

// Replica names one proxy instance: 1 to 32 of [A-Za-z0-9_-], starting with a letter or digit. It is stable over
// restarts, so that an epoch means something.
type Replica string

// Epoch counts the starts of one replica. It grows durably at each start, 1 is the first.
type Epoch uint64

// Seq counts the intents of one epoch, 1 is the first.
type Seq uint64

// WriteID is the identity of a write. Its text form "replica.epoch.seq" travels to legacy in the field Banyan-Write
// and in SQL comments, so its alphabet is closed: letters, digits, '-', '_' and the two dots.
type WriteID struct {
	Replica Replica
	Epoch   Epoch
	Seq     Seq
}

// IsZero says that there is no write.
func (w WriteID) IsZero() bool { return w == WriteID{} }

// String is the text form, "" for the zero value.
func (w WriteID) String() string {
	if w.IsZero() {
		return ""
	}
	return string(w.AppendText(make([]byte, 0, 48)))
}

// AppendText appends the text form without other allocation; it is on the request path.
func (w WriteID) AppendText(b []byte) []byte {
	b = append(b, w.Replica...)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(w.Epoch), 10)
	b = append(b, '.')
	return strconv.AppendUint(b, uint64(w.Seq), 10)
}

// MarshalText implements encoding.TextMarshaler.
func (w WriteID) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (w *WriteID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*w = WriteID{}
		return nil
	}
	id, err := ParseWriteID(string(b))
	if err == nil {
		*w = id
	}
	return err
}

// Validate says whether the name can stand in a [WriteID].
func (r Replica) Validate() error {
	if len(r) == 0 || len(r) > 32 {
		return fmt.Errorf("replica name %q: want 1 to 32 characters", r)
	}
	for i := 0; i < len(r); i++ {
		c := r[i]
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && (i == 0 || c != '-' && c != '_') {
			return fmt.Errorf("replica name %q: character %q; want letters, digits, '-' and '_', a letter or digit first", r, c)
		}
	}
	return nil
}

// ParseWriteID reads the text form. It is strict: what [WriteID.String] does not print is refused.
func ParseWriteID(s string) (WriteID, error) {
	r, rest, ok := strings.Cut(s, ".")
	e, q, ok2 := strings.Cut(rest, ".")
	epoch, err1 := parseCount(e)
	seq, err2 := parseCount(q)
	if !ok || !ok2 || err1 != nil || err2 != nil || Replica(r).Validate() != nil {
		return WriteID{}, fmt.Errorf("write id %q: want replica.epoch.seq", clip(s))
	}
	return WriteID{Replica(r), Epoch(epoch), Seq(seq)}, nil
}

// parseCount refuses what strconv takes but String never prints: leading zeros, signs, zero itself.
func parseCount(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err == nil && (n == 0 || s[0] < '1' || s[0] > '9') {
		err = strconv.ErrSyntax
	}
	return n, err
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
