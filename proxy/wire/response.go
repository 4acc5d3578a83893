package wire

// Framing says how a response's body ends.
type Framing uint8

const (
	NoBody    Framing = iota // by the request's method or the status
	ByLength                 // after Content-Length bytes
	ByChunks                 // with the last chunk
	ByClosing                // when the origin closes
)

// Response is a response's head. Its slices point into the buffer given to Parse and live as long as that does.
type Response struct {
	Head
	status  int
	dropped [MaxFields / 64]uint64
	added   []byte
}

// Reset makes r ready for the next message.
func (r *Response) Reset() {
	r.Head.reset(true)
	r.status, r.dropped, r.added = 0, [MaxFields / 64]uint64{}, r.added[:0]
}

// Parse is Request.Parse for a response's head.
func (r *Response) Parse(buf []byte) (done bool, err error) {
	r.buf = buf
	if r.line == 0 {
		start, end, ok, err := r.nextLine()
		if !ok {
			return false, err
		}
		r.line = r.pos
		if err := r.parseLine(buf[start:end]); err != nil {
			return false, err
		}
	}
	if done, err = r.parseFields(); !done || err != nil {
		return false, err
	}
	err = r.finish()
	return err == nil, err
}

func (r *Response) parseLine(l []byte) error {
	if len(l) < 12 || l[8] != ' ' || len(l) > 12 && l[12] != ' ' || l[9] == '0' || !answerOK(l) {
		return errStatusLine
	}
	if err := r.parseVersion(l[:8]); err != nil {
		return err
	}
	for _, c := range l[9:12] {
		if c < '0' || c > '9' {
			return errStatusLine
		}
		r.status = r.status*10 + int(c-'0')
	}
	return nil
}

// Status is the status code, from 100 to 999.
func (r *Response) Status() int { return r.status }

// Interim tells whether another response to the same request follows.
func (r *Response) Interim() bool { return r.status < 200 && r.status != 101 }

// StatusLine is everything behind the HTTP version, from the space to the CRLF.
func (r *Response) StatusLine() []byte { return r.buf[8:r.line] }

// Framing tells how the body ends when the request's method was HEAD or not.
func (r *Response) Framing(head bool) Framing {
	switch {
	case head || r.status < 200 || r.status == 204 || r.status == 304:
		return NoBody
	case r.Chunked():
		return ByChunks
	case r.length >= 0:
		return ByLength
	}
	return ByClosing
}

// KeepAlive tells whether the origin keeps the connection open.
func (r *Response) KeepAlive() bool { return r.minor == 1 && !r.close }

// Drop leaves the fields called name (lower case) out of what is passed on.
func (r *Response) Drop(name string) {
	for i := range r.fields {
		if Is(r.Name(i), name) {
			r.dropped[i/64] |= 1 << (i % 64)
		}
	}
}

// Dropped tells whether the i-th field is left out.
func (r *Response) Dropped(i int) bool { return r.dropped[i/64]&(1<<(i%64)) != 0 }

// Add appends a field to what is passed on. It reports false, and adds nothing, when name or value could break the head.
func (r *Response) Add(name string, value []byte) bool {
	var ok bool
	r.added, ok = AppendField(r.added, name, value)
	return ok
}

// Added is the lines that Add made.
func (r *Response) Added() []byte { return r.added }

// AppendField appends "name: value" and CRLF; ok is false, and dst as it was, when that would not be one field line.
func AppendField(dst []byte, name string, value []byte) (b []byte, ok bool) {
	for i := range len(name) {
		if tokenClass[name[i]] == notToken {
			return dst, false
		}
	}
	if name == "" || !valueOK(value) {
		return dst, false
	}
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...), true
}

// Pair is a field to add.
type Pair struct {
	Name  string
	Value []byte
}
