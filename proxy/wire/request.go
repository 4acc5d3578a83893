package wire

import "bytes"

// maxMethod bounds a method's length; the longest registered one has 17 letters.
const maxMethod = 64

// Request is a request's head. Its slices point into the buffer given to Parse and live as long as that does.
type Request struct {
	Head
	method, target span
	host           int // index of the Host field, -1 without
	absolute       span
	rootTarget     bool // absolute form without a path: the target is "/"
	empty          int  // empty lines before the start line
	upgrade        bool
	expects        bool
}

type span struct{ start, end uint32 }

func (s span) of(b []byte) []byte { return b[s.start:s.end] }

// Reset makes r ready for the next message.
func (r *Request) Reset() {
	r.Head.reset(false)
	r.method, r.target, r.absolute = span{}, span{}, span{}
	r.host, r.rootTarget, r.empty, r.upgrade, r.expects = -1, false, 0, false, false
}

// Parse goes on with buf, which starts with what earlier calls since Reset were given (it may have moved). done says
// that the head is complete; Size is then where the body starts. After an error r must be Reset.
func (r *Request) Parse(buf []byte) (done bool, err error) {
	r.buf = buf
	for r.line == 0 {
		start, end, ok, err := r.nextLine()
		if !ok {
			if err == nil && len(buf) > start && tokenClass[buf[start]] == notToken && buf[start] != '\r' {
				err = errMethod
			}
			return false, err
		}
		if start == end { // one empty line before a request is allowed (RFC 9112 2.2)
			if r.empty++; r.empty > 1 {
				return false, errStartLine
			}
			continue
		}
		r.line = r.pos
		if err := r.parseLine(start, end); err != nil {
			return false, err
		}
	}
	if done, err = r.parseFields(); !done || err != nil {
		return false, err
	}
	err = r.finish()
	return err == nil, err
}

// parseLine takes the request line apart.
func (r *Request) parseLine(start, end int) error {
	l := r.buf[start:end]
	first, last := bytes.IndexByte(l, ' '), bytes.LastIndexByte(l, ' ')
	if first < 0 || first == last {
		return errStartLine
	}
	r.method = span{uint32(start), uint32(start + first)}
	r.target = span{uint32(start + first + 1), uint32(start + last)}
	if m := l[:first]; !isToken(m) || len(m) > maxMethod {
		return errMethod
	}
	if err := r.parseVersion(l[last+1:]); err != nil {
		return err
	}
	if string(r.Method()) == "CONNECT" {
		return errConnect
	}
	return r.parseTarget()
}

func (h *Head) parseVersion(v []byte) error {
	switch string(v) {
	case "HTTP/1.1":
		h.minor = 1
		return nil
	case "HTTP/1.0":
		return nil
	}
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	if len(v) == 8 && string(v[:5]) == "HTTP/" && digit(v[5]) && v[6] == '.' && digit(v[7]) {
		return errVersionOther
	}
	return errVersion
}

func (r *Request) parseTarget() error {
	t := r.target.of(r.buf)
	if len(t) == 0 {
		return errStartLine
	}
	for _, c := range t {
		if c <= 0x20 || c == 0x7f || c == '#' {
			return errTargetByte
		}
	}
	if t[0] == '/' || len(t) == 1 && t[0] == '*' && string(r.Method()) == "OPTIONS" {
		return nil
	}
	return r.parseAbsolute(t)
}

// parseAbsolute takes the authority off an absolute-form target, and leaves what an origin server is asked for.
func (r *Request) parseAbsolute(t []byte) error {
	scheme := 7
	if len(t) > 8 && Same(t[:8], "https://") {
		scheme = 8
	} else if len(t) < 8 || !Same(t[:7], "http://") {
		return errTarget
	}
	authority := t[scheme:]
	if i := bytes.IndexAny(authority, "/?"); i >= 0 {
		if authority[i] == '?' { // nothing to send byte for byte
			return errTarget
		}
		authority = authority[:i]
	} else {
		r.rootTarget = true
	}
	if len(authority) == 0 || !hostOK(authority) {
		return errTarget
	}
	from := r.target.start + uint32(scheme)
	r.absolute = span{from, from + uint32(len(authority))}
	r.target.start = r.absolute.end
	return nil
}

func (r *Request) finish() error {
	if err := r.Head.finish(); err != nil {
		return err
	}
	for i := range r.fields {
		switch r.fields[i].kind {
		case Host:
			if r.host >= 0 {
				return errHostTwice
			}
			r.host = i
		case Expect:
			if !Same(r.Value(i), "100-continue") {
				return errExpect
			}
			r.expects = r.minor == 1
		}
	}
	if r.host < 0 {
		if r.minor == 1 {
			return errHostMissing
		}
	} else if !hostOK(r.Host()) {
		return errHostValue
	}
	if r.absolute.end > 0 && !Same(r.absolute.of(r.buf), string(r.Host())) {
		return errHostMismatch
	}
	if r.listed {
		r.upgrade = r.listsUpgrade()
	}
	return nil
}

func (r *Request) listsUpgrade() bool {
	for i := range r.fields {
		if r.fields[i].kind == Connection && !EachToken(r.Value(i), func(t []byte) bool { return !Is(t, "upgrade") }) {
			return true
		}
	}
	return false
}

// Method is the method as it came.
func (r *Request) Method() []byte { return r.method.of(r.buf) }

var root = []byte("/")

// Target is the request target, byte for byte, in origin form ("*" for OPTIONS *). Of an absolute-form target the
// scheme and authority are left out: they equal Host.
func (r *Request) Target() []byte {
	if r.rootTarget {
		return root
	}
	return r.target.of(r.buf)
}

// Host is the value of the Host field; empty when an HTTP/1.0 request has none.
func (r *Request) Host() []byte {
	if r.host < 0 {
		return nil
	}
	return r.Value(r.host)
}

// KeepAlive tells whether the connection may carry another request. HTTP/1.0 ones end with their answer, as RFC 9112
// C.2.2 asks of a proxy.
func (r *Request) KeepAlive() bool { return r.minor == 1 && !r.close }

// HasBody tells whether a body is announced; one of length 0 counts as none.
func (r *Request) HasBody() bool { return r.Chunked() || r.length > 0 }

// Expects tells whether the client waits for "100 Continue" before it sends the body.
func (r *Request) Expects() bool { return r.expects }

// Upgrades tells whether the client asks to switch protocols, as far as Connection says: an HTTP/1.0 client cannot.
// EachProtocol has the protocols, if any are named.
func (r *Request) Upgrades() bool { return r.upgrade && r.minor == 1 }

// IsHead tells whether the method is HEAD, whose answer has no body.
func (r *Request) IsHead() bool { return string(r.Method()) == "HEAD" }

// IsRead tells whether the method is GET or HEAD.
func (r *Request) IsRead() bool { return string(r.Method()) == "GET" || r.IsHead() }
