package wire

import (
	"bytes"
	"iter"
)

// MaxFields bounds the fields of one head; more are refused with 431.
const MaxFields = 256

// Kind says what a field is to a proxy.
type Kind uint8

const (
	Other            Kind = iota // end to end, nothing special
	Host                         // Host
	ContentLength                // Content-Length
	TransferEncoding             // Transfer-Encoding
	Connection                   // Connection
	Hop                          // hop-by-hop by definition, or because Connection lists it
	Expect                       // Expect
	Cookie                       // Cookie
	ForwardedFor                 // X-Forwarded-For
	ForwardedProto               // X-Forwarded-Proto
	ForwardedHost                // X-Forwarded-Host
	Claim                        // what only a trusted peer may say: Forwarded, X-Real-IP, X-Original-URL, …
	Unsafe                       // never forwarded: Proxy, Banyan-…, names with '_' or '.'
)

// field is a line of the head as spans into its bytes.
type field struct {
	start, nameEnd, valStart, valEnd, end uint32
	kind                                  Kind
}

// Head is a start line and fields, kept as the bytes that came. The zero value is ready; Reset makes it so again.
type Head struct {
	buf    []byte
	pos    int // start of the first line that is not parsed
	line   int // length of the start line with its CRLF
	fields []field
	length int64 // Content-Length, -1 without
	coding int   // Transfer-Encoding fields
	minor  byte  // of the HTTP version
	close  bool  // Connection lists "close"
	listed bool  // a Connection field came
	answer bool  // the rules for responses
}

func (h *Head) reset(answer bool) {
	*h = Head{fields: h.fields[:0], length: -1, answer: answer}
}

// Size is the length of the head with its empty line, once parsed.
func (h *Head) Size() int { return h.pos }

// Raw is the whole head.
func (h *Head) Raw() []byte { return h.buf[:h.pos] }

// Len is the number of fields.
func (h *Head) Len() int { return len(h.fields) }

// Kind is the kind of the i-th field.
func (h *Head) Kind(i int) Kind { return h.fields[i].kind }

// Name is the name of the i-th field, as it came.
func (h *Head) Name(i int) []byte { f := &h.fields[i]; return h.buf[f.start:f.nameEnd] }

// Value is the value of the i-th field without the white space around it.
func (h *Head) Value(i int) []byte { f := &h.fields[i]; return h.buf[f.valStart:f.valEnd] }

// Line is the i-th field's whole line with its CRLF.
func (h *Head) Line(i int) []byte { f := &h.fields[i]; return h.buf[f.start:f.end] }

// Span is where Line(i) stands in Raw: consecutive lines can be copied at once.
func (h *Head) Span(i int) (start, end int) { f := &h.fields[i]; return int(f.start), int(f.end) }

// Field is the value of the first field called name (lower case); nil when there is none, empty when it is empty.
func (h *Head) Field(name string) []byte {
	for i := range h.fields {
		if Is(h.Name(i), name) {
			return h.Value(i)
		}
	}
	return nil
}

// All yields names and values in the order they came.
func (h *Head) All() iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		for i := range h.fields {
			if !yield(h.Name(i), h.Value(i)) {
				return
			}
		}
	}
}

// nextLine gives the next line without its CRLF and moves behind it; ok is false while the line is incomplete.
func (h *Head) nextLine() (start, end int, ok bool, err error) {
	start = h.pos
	i := bytes.IndexByte(h.buf[start:], '\n')
	if i < 0 {
		return 0, 0, false, nil
	}
	if i == 0 || h.buf[start+i-1] != '\r' {
		return 0, 0, false, errBareLF
	}
	h.pos = start + i + 1
	return start, start + i - 1, true, nil
}

// parseFields goes on with the field lines; done after the empty line.
func (h *Head) parseFields() (done bool, err error) {
	for {
		start, end, ok, err := h.nextLine()
		if !ok {
			return false, err
		}
		if start == end {
			return true, nil
		}
		if len(h.fields) == MaxFields {
			return false, errFieldCount
		}
		if err := h.parseField(start, end); err != nil {
			return false, err
		}
	}
}

func (h *Head) parseField(start, end int) error {
	b := h.buf[:end]
	if b[start] == ' ' || b[start] == '\t' {
		return errFold
	}
	colon, class := start, byte(0)
	for colon < end && tokenClass[b[colon]] != notToken {
		class |= tokenClass[b[colon]]
		colon++
	}
	nameEnd := colon
	if h.answer { // move the name over the white space that follows it
		for colon < end && (b[colon] == ' ' || b[colon] == '\t') {
			colon++
		}
		if gap := colon - nameEnd; gap > 0 && nameEnd > start {
			copy(b[start+gap:colon], b[start:nameEnd])
			start, nameEnd = start+gap, colon
		}
	}
	if nameEnd == start || colon == end || b[colon] != ':' {
		return errFieldName
	}
	from, to := colon+1, end
	for from < to && (b[from] == ' ' || b[from] == '\t') {
		from++
	}
	for from < to && (b[to-1] == ' ' || b[to-1] == '\t') {
		to--
	}
	if value := b[from:to]; !valueOK(value) && (!h.answer || !answerOK(value)) {
		return errFieldValue
	}
	kind := classify(b[start:nameEnd])
	if class&foldedToken != 0 && kind == Other && !h.answer {
		kind = Unsafe
	}
	h.fields = append(h.fields, field{uint32(start), uint32(nameEnd), uint32(from), uint32(to), uint32(end + 2), kind})
	return h.note(kind, b[from:to])
}

// note keeps what framing and persistence need of a field.
func (h *Head) note(kind Kind, value []byte) error {
	switch kind {
	case ContentLength:
		if h.length >= 0 {
			return errLengthTwice
		}
		n, ok := parseLength(value)
		if !ok {
			return errLength
		}
		h.length = n
	case TransferEncoding:
		if h.coding++; h.coding > 1 || !Is(value, "chunked") {
			return errCoding
		}
	case Connection:
		h.listed = true
	}
	return nil
}

func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// finish checks what only the whole head shows.
func (h *Head) finish() error {
	if h.coding > 0 && h.length >= 0 {
		return errCodingAndLen
	}
	if h.coding > 0 && h.minor == 0 {
		return errCodingOld
	}
	if !h.listed {
		return nil
	}
	names := 0
	for i := range h.fields {
		if h.fields[i].kind != Connection {
			continue
		}
		if !EachToken(h.Value(i), func(t []byte) bool {
			if Is(t, "close") {
				h.close = true
			} else {
				h.nominate(t)
			}
			names++
			return names <= 32
		}) {
			return errConnection
		}
	}
	return nil
}

// nominate makes the fields called name hop-by-hop, if they may be.
func (h *Head) nominate(name []byte) {
	for i := range h.fields {
		if h.nominable(h.fields[i].kind) && Same(h.Name(i), string(name)) {
			h.fields[i].kind = Hop
		}
	}
}

// nominable tells whether Connection may list fields of a kind. Of an answer's, only those that frame it stand.
func (h *Head) nominable(k Kind) bool {
	if h.answer {
		return k != ContentLength && k != TransferEncoding && k != Connection
	}
	return k == Other
}

// EachProtocol calls yield with each protocol that Upgrade fields name, in order (RFC 9110 7.8). It reports false when
// one of them is not a protocol, or when yield does.
func (h *Head) EachProtocol(yield func([]byte) bool) bool {
	for i := range h.fields {
		if Is(h.Name(i), "upgrade") && !EachToken(h.Value(i), func(p []byte) bool { return IsProtocol(p) && yield(p) }) {
			return false
		}
	}
	return true
}

// Chunked tells whether the body is framed by chunks.
func (h *Head) Chunked() bool { return h.coding > 0 }

// Length is the Content-Length, or -1 without one.
func (h *Head) Length() int64 { return h.length }

// Minor is the minor HTTP version: 1, or 0 for an HTTP/1.0 message.
func (h *Head) Minor() int { return int(h.minor) }

// classify finds a name's kind. Names are told apart by length first: most fall through at once.
func classify(n []byte) Kind {
	switch len(n) {
	case 2:
		if Is(n, "te") {
			return Hop
		}
	case 4:
		if Is(n, "host") {
			return Host
		}
	case 5:
		if Is(n, "proxy") {
			return Unsafe
		}
	case 6:
		if Is(n, "cookie") {
			return Cookie
		}
		if Is(n, "expect") {
			return Expect
		}
	case 7:
		if Is(n, "trailer") || Is(n, "upgrade") {
			return Hop
		}
	case 9:
		if Is(n, "forwarded") || Is(n, "x-real-ip") || Is(n, "client-ip") {
			return Claim
		}
	case 10:
		if Is(n, "connection") {
			return Connection
		}
		if Is(n, "keep-alive") {
			return Hop
		}
	case 13:
		if Is(n, "x-rewrite-url") {
			return Claim
		}
	case 14:
		if Is(n, "content-length") {
			return ContentLength
		}
		if Is(n, "x-original-url") {
			return Claim
		}
		if Is(n, "http2-settings") {
			return Hop
		}
	case 15:
		if Is(n, "x-forwarded-for") {
			return ForwardedFor
		}
	case 16:
		if Is(n, "proxy-connection") {
			return Hop
		}
		if Is(n, "x-forwarded-host") {
			return ForwardedHost
		}
	case 17:
		if Is(n, "transfer-encoding") {
			return TransferEncoding
		}
		if Is(n, "x-forwarded-proto") {
			return ForwardedProto
		}
	case 19:
		if Is(n, "proxy-authorization") {
			return Hop
		}
	}
	switch n[0] | 0x20 {
	case 'b':
		if hasPrefix(n, "banyan-") {
			return Unsafe
		}
	case 'x':
		if hasPrefix(n, "x-forwarded-") {
			return Claim
		}
		if hasPrefix(n, "x-banyan-") {
			return Unsafe
		}
	}
	return Other
}

// Moved says that the bytes given to Parse stand in buf now, with room behind them.
func (h *Head) Moved(buf []byte) { h.buf = buf }
