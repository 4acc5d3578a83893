package event

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"
)

// The JSON form of a write is written by hand: it is made once for every write, and encoding/json took as much CPU as
// all else on the way to Kafka. A test holds it to the struct's tags.
//
// The body is the one field that is not as the tags say. A record is read by people, and a form's body as base64 tells
// them nothing; so it is `body`, a string, and only what no JSON string holds is `body_base64`, as CloudEvents do with
// data and data_base64. Before version 2 `body` was base64.

// longText is the length from which a body must not grow more by escapes than by base64, in bytes as encoded: a record
// that is too large for Kafka goes without its body.
const longText = 64 << 10

// AppendJSON appends the JSON form of the version that w.V says.
func (w *Write) AppendJSON(b []byte) []byte {
	b = slices.Grow(b, w.SizeHint())
	b = strconv.AppendInt(append(b, `{"v":`...), int64(w.V), 10)
	b = append(b, `,"id":"`...)
	if !w.ID.IsZero() {
		b = w.ID.AppendText(b) // nothing in it needs an escape
	}
	b = strconv.AppendUint(append(b, `","ship":`...), w.Ship, 10)
	b = appendAddressFields(append(b, ','), &w.Address)
	b = w.Intent.appendJSON(append(b, `,"intent":`...), w.V)
	b = w.Result.appendJSON(append(b, `,"result":`...))
	return append(b, '}')
}

// SizeHint is about how many bytes the JSON form takes.
func (w *Write) SizeHint() int { return 1024 + len(w.Intent.Target) + len(w.Intent.Body)*5/4 }

// MarshalJSON implements [json.Marshaler], for a write that is part of another record.
func (w Write) MarshalJSON() ([]byte, error) { return w.AppendJSON(nil), nil }

func (in *Intent) appendJSON(b []byte, version int) []byte {
	b = appendQuoted(append(b, `{"uuid":`...), in.UUID)
	b = appendQuoted(append(b, `,"route":`...), in.Route)
	b = appendJSONAddresses(append(b, `,"addresses":`...), in.Addresses)
	b = appendQuoted(append(b, `,"method":`...), in.Method)
	b = appendField(b, `,"host":`, in.Host)
	b = appendQuoted(append(b, `,"target":`...), in.Target)
	b = appendField(b, `,"content_type":`, in.ContentType)
	if len(in.Params) > 0 {
		b = appendParams(append(b, `,"params":`...), in.Params)
	}
	if len(in.Body) > 0 {
		b = appendBody(b, in.Body, version)
	}
	b = strconv.AppendInt(append(b, `,"body_length":`...), in.BodyLength, 10)
	b = appendField(b, `,"session":`, in.Session)
	b = appendField(b, `,"player":`, in.Player)
	b = appendField(b, `,"trace":`, in.Trace)
	b = appendInstant(append(b, `,"at":`...), in.At)
	return append(b, '}')
}

func (r *Result) appendJSON(b []byte) []byte {
	b = appendQuoted(append(b, `{"outcome":`...), r.Outcome)
	b = appendField(b, `,"reason":`, r.Reason)
	b = appendCount(b, `,"status":`, int64(r.Status))
	b = appendField(b, `,"location":`, r.Location)
	b = appendCount(b, `,"response_length":`, r.BodyLength)
	if r.ClientGone {
		b = append(b, `,"client_gone":true`...)
	}
	if len(r.Keys) > 0 {
		b = appendJSONAddresses(append(b, `,"keys":`...), r.Keys)
	}
	b = appendInstant(append(b, `,"forwarded":`...), r.Forwarded)
	b = appendInstant(append(b, `,"end":`...), r.End)
	return append(b, '}')
}

// appendBody appends the body as text where a JSON string holds it as it is. NUL is text too, but nothing that people
// write has it, and some databases and terminals take none.
func appendBody(b, body []byte, version int) []byte {
	if version < 2 {
		return appendBase64(append(b, `,"body":`...), body)
	}
	text := unsafe.String(unsafe.SliceData(body), len(body))
	n := plain(text)
	if bytes.IndexByte(body[n:], 0) < 0 && utf8.Valid(body[n:]) {
		start := len(b)
		b = appendFrom(append(b, `,"body":`...), text, n)
		if n := len(b) - start; n < longText || n <= base64.StdEncoding.EncodedLen(len(body)) {
			return b
		}
		b = b[:start]
	}
	return appendBase64(append(b, `,"body_base64":`...), body)
}

func appendBase64(b, body []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(b, '"'), body), '"')
}

func appendParams(b []byte, params map[string]string) []byte {
	type param struct{ name, value string }
	var few [16]param // no allocation for the usual number
	sorted := few[:0]
	for k, v := range params {
		sorted = append(sorted, param{k, v})
	}
	slices.SortFunc(sorted, func(a, b param) int { return strings.Compare(a.name, b.name) })
	sep := byte('{')
	for _, p := range sorted {
		b = appendQuoted(append(b, sep), p.name)
		b = appendQuoted(append(b, ':'), p.value)
		sep = ','
	}
	return append(b, '}')
}

func appendJSONAddresses(b []byte, as []Address) []byte {
	if as == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i := range as {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendAddressFields(append(b, '{'), &as[i]), '}')
	}
	return append(b, ']')
}

func appendAddressFields(b []byte, a *Address) []byte {
	b = appendQuoted(append(b, `"migration":`...), a.Migration)
	b = appendQuoted(append(b, `,"key":`...), a.Key)
	if a.Primary {
		b = append(b, `,"primary":true`...)
	}
	return b
}

// appendField appends a string that is left out when it is empty.
func appendField(b []byte, name, s string) []byte {
	if s == "" {
		return b
	}
	return appendQuoted(append(b, name...), s)
}

// appendCount appends a number that is left out when it is zero.
func appendCount(b []byte, name string, n int64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(append(b, name...), n, 10)
}

func appendInstant(b []byte, t time.Time) []byte {
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

// appendQuoted appends s as a JSON string: what must be escaped is, and nothing else, so that a query or a body can be
// read. A byte that is no UTF-8 becomes U+FFFD, as in encoding/json.
func appendQuoted[S ~string](b []byte, s S) []byte { return appendText(b, string(s)) }

// appendText takes what needs no escape at once, which is most texts as a whole, and then eight bytes at a time.
func appendText(b []byte, s string) []byte { return appendFrom(b, s, plain(s)) }

// appendFrom is appendText where n of the first bytes are known to need no escape.
func appendFrom(b []byte, s string, n int) []byte {
	b = append(slices.Grow(b, len(s)+2), '"')
	b = append(b, s[:n]...)
	if n < len(s) {
		b = appendEscaped(b, s[n:])
	}
	return append(b, '"')
}

func appendEscaped(b []byte, s string) []byte {
	for len(s) >= 8 {
		x := eight(s)
		b = binary.LittleEndian.AppendUint64(b, x)
		marks := special(x)
		if marks == 0 {
			s = s[8:]
			continue
		}
		n := bits.TrailingZeros64(marks) / 8
		b, s = appendRune(b[:len(b)-8+n], s[n:])
	}
	for s != "" {
		b, s = appendRune(b, s)
	}
	return b
}

// appendRune appends the first character of s, and gives what is left of it.
func appendRune(b []byte, s string) ([]byte, string) {
	c := s[0]
	switch {
	case c >= utf8.RuneSelf:
		r, size := utf8.DecodeRuneInString(s)
		return utf8.AppendRune(b, r), s[size:] // U+FFFD of a byte that is no UTF-8
	case c < ' ' || c == '"' || c == '\\':
		return appendEscape(b, c), s[1:]
	}
	return append(b, c), s[1:]
}

// plain is how many of the first bytes, or a few less, are ASCII that needs no escape: all of them if all are.
func plain(s string) int {
	n := 0
	for ; len(s)-n >= 32; n += 32 {
		if t := s[n:]; special(eight(t))|special(eight(t[8:]))|special(eight(t[16:]))|special(eight(t[24:])) != 0 {
			return n
		}
	}
	for ; len(s)-n >= 8; n += 8 {
		if special(eight(s[n:])) != 0 {
			return n
		}
	}
	last := [8]byte{' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '}
	copy(last[:], s[n:])
	if special(binary.LittleEndian.Uint64(last[:])) != 0 {
		return n
	}
	return len(s)
}

// eight are the first bytes of s; the compiler makes one load of it.
func eight(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// special is not 0 where one of eight bytes is no ASCII or needs an escape. It marks the lowest such byte; what is marked
// above it may be a mistake, through the borrow of a subtraction. Bytes above ASCII keep their highest bit in at least
// one of the three.
func special(x uint64) uint64 {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	return ((x - ones*' ') | ((x ^ ones*'"') - ones) | ((x ^ ones*'\\') - ones)) & tops
}

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

// AppendJSON appends the JSON form. It spares the writes' bodies three readings by encoding/json.
func (e *Entry) AppendJSON(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"v":`...), int64(e.V), 10)
	b = appendQuoted(append(b, `,"migration":`...), e.Migration)
	b = appendQuoted(append(b, `,"key":`...), e.Key)
	b = appendQuoted(append(b, `,"from":`...), e.From.String())
	b = appendQuoted(append(b, `,"to":`...), e.To.String())
	if len(e.Changes) > 0 {
		b = append(append(b, `,"changes":`...), Encode(e.Changes)...)
	}
	for i := range e.Writes {
		sep := `,`
		if i == 0 {
			sep = `,"writes":[`
		}
		b = e.Writes[i].appendJSON(append(b, sep...))
	}
	if len(e.Writes) > 0 {
		b = append(b, ']')
	}
	b = appendInstant(append(b, `,"clock":`...), e.Clock)
	return append(b, '}')
}

func (s *SettledWrite) appendJSON(b []byte) []byte {
	b = s.Write.AppendJSON(append(b, `{"write":`...))
	b = appendQuoted(append(b, `,"verdict":`...), s.Verdict)
	if len(s.Effects) > 0 {
		b = append(append(b, `,"effects":`...), Encode(s.Effects)...)
	}
	if s.Late {
		b = append(b, `,"late":true`...)
	}
	if len(s.Overlaps) > 0 {
		b = append(append(b, `,"overlaps":`...), Encode(s.Overlaps)...)
	}
	return append(b, '}')
}

// AppendJSON appends the JSON form, in which encoding/json would write it. Proxies write hundreds of marks in a second.
func (m *ReplicaMark) AppendJSON(b []byte) []byte {
	b = slices.Grow(b, 192+160*len(m.InFlight)) // about what it takes
	b = strconv.AppendInt(append(b, `{"v":`...), int64(m.V), 10)
	b = appendQuoted(append(b, `,"replica":`...), m.Replica)
	b = strconv.AppendUint(append(b, `,"epoch":`...), uint64(m.Epoch), 10)
	b = strconv.AppendUint(append(b, `,"seq":`...), uint64(m.Seq), 10)
	b = appendInstant(append(b, `,"clock":`...), m.Clock)
	for i := range m.InFlight {
		sep := `,`
		if i == 0 {
			sep = `,"in_flight":[`
		}
		b = m.InFlight[i].appendJSON(append(b, sep...))
	}
	if len(m.InFlight) > 0 {
		b = append(b, ']')
	}
	if m.Ended {
		b = append(b, `,"ended":true`...)
	}
	if m.Idle {
		b = append(b, `,"idle":true`...)
	}
	return append(b, '}')
}

func (f *InFlight) appendJSON(b []byte) []byte {
	b = strconv.AppendUint(append(b, `{"seq":`...), uint64(f.Seq), 10)
	if len(f.Addresses) > 0 {
		b = appendJSONAddresses(append(b, `,"addresses":`...), f.Addresses)
	}
	b = appendInstant(append(b, `,"start":`...), f.Start)
	if !f.Until.IsZero() {
		b = appendInstant(append(b, `,"until":`...), f.Until)
	}
	if f.Epoch != 0 {
		b = strconv.AppendUint(append(b, `,"epoch":`...), uint64(f.Epoch), 10)
	}
	return append(b, '}')
}

// plainWrite and plainEntry are without their methods.
type (
	plainWrite Write
	plainEntry Entry
)

// writeForm is the form of versions 1 and 2 for encoding/json: the structs, and the body in their place.
type writeForm struct {
	plainWrite
	Intent struct {
		Intent
		Body   string `json:"body"`
		Base64 []byte `json:"body_base64"`
	} `json:"intent"`
}

func (f *writeForm) version() int { return f.V }

func (f *writeForm) write() (Write, error) {
	w := Write(f.plainWrite)
	w.Intent = f.Intent.Intent
	w.Intent.Body = f.Intent.Base64
	var err error
	switch {
	case f.Intent.Body == "":
	case f.V < 2:
		w.Intent.Body, err = base64.StdEncoding.DecodeString(f.Intent.Body)
	default:
		w.Intent.Body = []byte(f.Intent.Body)
	}
	return w, err
}

// entryForm is the same for an entry.
type entryForm struct {
	plainEntry
	Writes []struct {
		SettledWrite
		Write writeForm `json:"write"`
	} `json:"writes"`
}

func (f *entryForm) version() int { return f.V }

// UnmarshalJSON implements [json.Unmarshaler], for a write that is part of another record.
func (w *Write) UnmarshalJSON(b []byte) error {
	var f writeForm
	err := json.Unmarshal(b, &f)
	if err == nil {
		*w, err = f.write()
	}
	return err
}

// DecodeWrite reads the JSON form.
func DecodeWrite(b []byte) (*Write, error) {
	f, err := decode[writeForm](b, KindWrite, WriteVersion)
	if err != nil {
		return nil, err
	}
	w, err := f.write()
	if err != nil {
		return nil, fmt.Errorf("%s record: %w", KindWrite, err)
	}
	return &w, nil
}

// DecodeEntry reads the JSON form.
func DecodeEntry(b []byte) (*Entry, error) {
	f, err := decode[entryForm](b, KindEntry, EntryVersion)
	if err != nil {
		return nil, err
	}
	e := Entry(f.plainEntry)
	for i := range f.Writes {
		s := f.Writes[i].SettledWrite
		if s.Write, err = f.Writes[i].Write.write(); err != nil {
			return nil, fmt.Errorf("%s record: write %s: %w", KindEntry, s.Write.ID, err)
		}
		e.Writes = append(e.Writes, s)
	}
	return &e, nil
}
