package fastcgi

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Types of records, and what else of FastCGI 1.0 is used.
const (
	typeBegin  = 1
	typeEnd    = 3
	typeParams = 4
	typeStdin  = 5
	typeStdout = 6
	typeStderr = 7

	headSize   = 8
	requestID  = 1      // of the only request on a connection
	maxContent = 0xfff8 // of a record: php-fpm takes no larger one
)

// appendRecordHead appends a record's head; the content of n bytes follows.
func appendRecordHead(dst []byte, kind byte, n int) []byte {
	return append(dst, 1, kind, 0, requestID, byte(n>>8), byte(n), 0, 0)
}

// appendBegin appends the record that begins a request.
func appendBegin(dst []byte, keep bool) []byte {
	dst = append(appendRecordHead(dst, typeBegin, 8), 0, 1, 0, 0, 0, 0, 0, 0) // role: responder
	if keep {
		dst[len(dst)-6] = 1
	}
	return dst
}

// appendStdin appends a piece of the body as records, and the empty one that ends it.
func appendStdin(dst, b []byte, last bool) []byte {
	for len(b) > 0 {
		n := min(len(b), maxContent)
		dst = append(appendRecordHead(dst, typeStdin, n), b[:n]...)
		b = b[n:]
	}
	if last {
		dst = appendRecordHead(dst, typeStdin, 0)
	}
	return dst
}

// paramWriter appends parameters as records. No parameter is split: php-fpm parses each record alone.
type paramWriter struct {
	b     []byte
	start int               // of the record that is being written
	given map[string]string // by the configuration: left out
	err   error
}

func newParams(dst []byte, given map[string]string) paramWriter {
	return paramWriter{b: appendRecordHead(dst, typeParams, 0), start: len(dst), given: given}
}

var errParamSize = errors.New("a parameter does not fit into a record")

// room begins another record if n more bytes do not fit, and tells whether they do then.
func (w *paramWriter) room(n int) bool {
	if n > maxContent {
		w.err = errParamSize
	}
	if w.err != nil {
		return false
	}
	if len(w.b)-w.start-headSize+n > maxContent {
		w.seal()
		w.start = len(w.b)
		w.b = appendRecordHead(w.b, typeParams, 0)
	}
	return true
}

// sizes are at most so long.
const sizesRoom = 8

// begin writes what stands before a value of n bytes; false says that it is not wanted, or does not fit.
func (w *paramWriter) begin(name string, n int) bool {
	if len(w.given) > 0 {
		if _, ok := w.given[name]; ok {
			return false
		}
	}
	if !w.room(len(name) + n + sizesRoom) {
		return false
	}
	w.b = append(appendSize(appendSize(w.b, len(name)), n), name...)
	return true
}

func (w *paramWriter) add(name string, value []byte) {
	if w.begin(name, len(value)) {
		w.b = append(w.b, value...)
	}
}

func (w *paramWriter) addText(name, value string) {
	if w.begin(name, len(value)) {
		w.b = append(w.b, value...)
	}
}

func (w *paramWriter) seal() {
	binary.BigEndian.PutUint16(w.b[w.start+4:], uint16(len(w.b)-w.start-headSize))
}

// end ends the parameters.
func (w *paramWriter) end() ([]byte, error) {
	w.seal()
	return appendRecordHead(w.b, typeParams, 0), w.err
}

func appendSize(dst []byte, n int) []byte {
	if n < 128 {
		return append(dst, byte(n))
	}
	return binary.BigEndian.AppendUint32(dst, uint32(n)|1<<31)
}

// maxErrors bounds what is kept of one request's STDERR.
const maxErrors = 8 << 10

// records reads the records of one answer. What stands in buf[r:n] has come and is not used. It is strict: only records
// of this request, and only STDOUT, STDERR and END_REQUEST.
type records struct {
	buf  []byte
	r, n int

	out    int // content of the current STDOUT record that was not taken
	errs   int // of the current STDERR record
	skip   int // bytes to throw away: padding
	pad    int // of the current record
	closed bool
	ended  bool

	stderr  []byte
	stderrN int // all that came
}

func (d *records) reset() {
	*d = records{buf: d.buf, stderr: d.stderr[:0]}
}

// parse goes on until content of STDOUT follows (out > 0), the answer has ended, or more bytes have to be read.
func (d *records) parse() error {
	for {
		k := min(d.skip, d.n-d.r)
		d.r, d.skip = d.r+k, d.skip-k
		if d.skip > 0 || d.out > 0 {
			return nil
		}
		if d.errs > 0 {
			if d.takeErrors(); d.errs > 0 {
				return nil
			}
			continue
		}
		if d.ended || d.n-d.r < headSize {
			return nil
		}
		more, err := d.begin()
		if err != nil || more {
			return err
		}
	}
}

// begin takes the head of a record. more says that END_REQUEST is not whole.
func (d *records) begin() (more bool, err error) {
	h := d.buf[d.r:]
	size := int(binary.BigEndian.Uint16(h[4:]))
	if h[0] != 1 {
		return false, fmt.Errorf("version %d of a record is unknown", h[0])
	}
	if id := binary.BigEndian.Uint16(h[2:]); id != requestID {
		return false, fmt.Errorf("record of request %d, which was not made", id)
	}
	switch h[1] {
	case typeStdout:
		if d.closed && size > 0 {
			return false, errors.New("STDOUT goes on after its end")
		}
		d.out, d.closed = size, size == 0
	case typeStderr:
		d.errs = size
	case typeEnd:
		if size != 8 {
			return false, fmt.Errorf("END_REQUEST of %d bytes, not 8", size)
		}
		if d.n-d.r < headSize+size {
			return true, nil
		}
		if status := h[headSize+4]; status != 0 {
			return false, fmt.Errorf("request refused: %s", refusal(status))
		}
		d.r += size
		d.ended = true
	default:
		return false, fmt.Errorf("record of type %d is not part of an answer", h[1])
	}
	d.r += headSize
	d.pad = int(h[6])
	if size == 0 || h[1] == typeEnd {
		d.skip = d.pad
	}
	return false, nil
}

func refusal(status byte) string {
	switch status {
	case 1:
		return "connection cannot be shared"
	case 2:
		return "overloaded"
	case 3:
		return "unknown role"
	}
	return fmt.Sprintf("status %d", status)
}

// content is what has come of the current STDOUT record.
func (d *records) content() []byte { return d.buf[d.r:min(d.n, d.r+d.out)] }

// took says that n bytes of the current record's content were used, out of buf or read past it.
func (d *records) took(n int) {
	if d.out -= n; d.out == 0 {
		d.skip = d.pad
	}
}

func (d *records) takeErrors() {
	b := d.buf[d.r:min(d.n, d.r+d.errs)]
	d.stderrN += len(b)
	d.stderr = append(d.stderr, b[:min(len(b), maxErrors-len(d.stderr))]...)
	d.r += len(b)
	if d.errs -= len(b); d.errs == 0 {
		d.skip = d.pad
	}
}

// room gives where to read more bytes to.
func (d *records) room() []byte {
	if d.r == d.n {
		d.r, d.n = 0, 0
	} else if d.n == len(d.buf) {
		d.n = copy(d.buf, d.buf[d.r:d.n])
		d.r = 0
	}
	return d.buf[d.n:]
}

// endAhead tells whether the whole answer stands in buf.
func (d *records) endAhead() bool {
	if d.ended {
		return true
	}
	at := d.r + d.skip + d.out + d.errs
	if d.out+d.errs > 0 {
		at += d.pad
	}
	for at+headSize <= d.n {
		h := d.buf[at:]
		if h[1] == typeEnd {
			return true
		}
		at += headSize + int(binary.BigEndian.Uint16(h[4:])) + int(h[6])
	}
	return false
}
