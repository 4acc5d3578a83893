package event

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unsafe"
)

// The journal's form of Intent and Result: a version byte, then the fields in the order of the struct, strings and
// bytes with a varint length, times as Unix nanoseconds, parameters in any order. JSON would cost the request path about
// four times as much CPU (BenchmarkIntent). Fields are only ever appended to it; a reader takes what it knows and ignores
// the rest of a newer version.

const codecVersion = 1

// MaxField bounds one field of the journal's form, in bytes. It is above every inline_limit.
const MaxField = 64 << 20

var errShort = errors.New("ends early")

// Append appends the journal's form.
func (in *Intent) Append(b []byte) []byte {
	b = append(b, codecVersion)
	b = appendString(b, in.UUID)
	b = appendString(b, in.Route)
	b = appendAddresses(b, in.Addresses)
	b = appendString(b, in.Method)
	b = appendString(b, in.Host)
	b = appendString(b, in.Target)
	b = appendString(b, in.ContentType)
	b = binary.AppendUvarint(b, uint64(len(in.Params)))
	for k, v := range in.Params {
		b = appendString(appendString(b, k), v)
	}
	b = binary.AppendUvarint(b, uint64(len(in.Body)))
	b = append(b, in.Body...)
	b = binary.AppendVarint(b, in.BodyLength)
	b = appendString(b, in.Session)
	b = appendString(b, in.Player)
	b = appendString(b, in.Trace)
	return appendTime(b, in.At)
}

// DecodeIntent reads the journal's form. The result shares no memory with b.
func DecodeIntent(b []byte) (Intent, error) {
	var in Intent
	err := in.Read(bytes.Clone(b))
	return in, err
}

// Read reads the journal's form as [DecodeIntent] does, but for the shipper, which writes out what it reads at once: all
// strings and the body are parts of b, so that in is good only until b changes, and in's list and map are used again.
func (in *Intent) Read(b []byte) error {
	d := decoder{b: b, what: "intent"}
	d.version()
	*in = Intent{UUID: d.string(), Route: d.string(), Addresses: d.addresses(in.Addresses), Method: d.string(), Host: d.string(),
		Target: d.string(), ContentType: d.string(), Params: in.Params}
	clear(in.Params)
	n := d.count(2)
	if in.Params == nil && n > 0 {
		in.Params = make(map[string]string, n)
	}
	for range n {
		k := d.string()
		in.Params[k] = d.string()
	}
	in.Body = d.bytes()
	in.BodyLength = d.varint()
	in.Session, in.Player, in.Trace, in.At = d.string(), d.string(), d.string(), d.time()
	return d.err
}

// Append appends the journal's form.
func (r *Result) Append(b []byte) []byte {
	b = append(b, codecVersion)
	b = appendString(b, string(r.Outcome))
	b = appendString(b, r.Reason)
	b = binary.AppendVarint(b, int64(r.Status))
	b = appendString(b, r.Location)
	b = binary.AppendVarint(b, r.BodyLength)
	gone := byte(0)
	if r.ClientGone {
		gone = 1
	}
	b = append(b, gone)
	b = appendAddresses(b, r.Keys)
	return appendTime(appendTime(b, r.Forwarded), r.End)
}

// DecodeResult reads the journal's form. The result shares no memory with b.
func DecodeResult(b []byte) (Result, error) {
	var r Result
	err := r.Read(bytes.Clone(b))
	return r, err
}

// Read is to [DecodeResult] what [Intent.Read] is to [DecodeIntent].
func (r *Result) Read(b []byte) error {
	d := decoder{b: b, what: "result"}
	d.version()
	*r = Result{Outcome: Outcome(d.string()), Reason: d.string(), Status: int(d.varint()), Location: d.string(),
		BodyLength: d.varint(), ClientGone: d.byte() == 1, Keys: d.addresses(r.Keys), Forwarded: d.time(), End: d.time()}
	return d.err
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendAddresses(b []byte, as []Address) []byte {
	b = binary.AppendUvarint(b, uint64(len(as)))
	for _, a := range as {
		b = appendString(appendString(b, string(a.Migration)), string(a.Key))
		p := byte(0)
		if a.Primary {
			p = 1
		}
		b = append(b, p)
	}
	return b
}

// The zero time has no Unix nanoseconds of its own; the smallest integer stands for it.
func appendTime(b []byte, t time.Time) []byte {
	n := int64(math.MinInt64)
	if !t.IsZero() {
		n = t.UnixNano()
	}
	return binary.AppendVarint(b, n)
}

// decoder remembers the first error; after it every read is zero.
type decoder struct {
	b    []byte
	what string
	err  error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = fmt.Errorf("journal %s: %w", d.what, err)
		d.b = nil
	}
}

func (d *decoder) version() {
	if v := d.byte(); d.err == nil && v < codecVersion {
		d.fail(fmt.Errorf("version %d", v))
	}
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail(errShort)
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) uvarint() uint64 {
	n, k := binary.Uvarint(d.b)
	if k <= 0 {
		d.fail(errShort)
		return 0
	}
	d.b = d.b[k:]
	return n
}

func (d *decoder) varint() int64 {
	n, k := binary.Varint(d.b)
	if k <= 0 {
		d.fail(errShort)
		return 0
	}
	d.b = d.b[k:]
	return n
}

// bytes is a part of what is decoded.
func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > MaxField {
		d.fail(fmt.Errorf("a field of %d bytes, limit %d", n, MaxField))
		return nil
	}
	if n > uint64(len(d.b)) {
		d.fail(errShort)
		return nil
	}
	s := d.b[:n:n]
	d.b = d.b[n:]
	return s
}

// string is a part of what is decoded, too: that is what [Intent.Read] says, and makes twenty allocations none.
func (d *decoder) string() string {
	s := d.bytes()
	return unsafe.String(unsafe.SliceData(s), len(s))
}

// count reads a number of elements, each at least min bytes long, so that a lie cannot make us allocate.
func (d *decoder) count(min int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/min) {
		d.fail(errShort)
		return 0
	}
	return int(n)
}

// addresses are put into as, if there are any.
func (d *decoder) addresses(as []Address) []Address {
	n := d.count(3)
	if n == 0 {
		return nil
	}
	as = slices.Grow(as[:0], n)
	for range n {
		as = append(as, Address{Migration(d.string()), OrderingKey(d.string()), d.byte() == 1})
	}
	return as
}

func (d *decoder) time() time.Time {
	n := d.varint()
	if n == math.MinInt64 || d.err != nil {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
