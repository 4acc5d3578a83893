package h2

import (
	"golang.org/x/net/http2/hpack"

	"banyan/proxy/wire"
)

// The refusals of a request. All are malformed in the sense of RFC 9113 section 8.1.1.
var (
	errName       = malformed("field name is no token in lower case")
	errValue      = malformed("field value holds NUL, CR or LF, or starts or ends with white space")
	errPseudo     = malformed("pseudo field is unknown, repeated, or stands behind a field")
	errMissing    = malformed("pseudo field is missing")
	errMethod     = malformed(":method is no token")
	errPath       = malformed(":path does not start with '/', and is not '*' for OPTIONS")
	errScheme     = malformed(":scheme is neither http nor https")
	errAuthority  = malformed(":authority or Host is empty")
	errHost       = malformed("Host is repeated, or differs from :authority")
	errConnection = malformed("field of an HTTP/1.1 connection")
	errTE         = malformed("TE is not trailers")
	errLength     = malformed("content-length is repeated, or not one decimal number")
	errMismatch   = malformed("content-length is not the body's length")
	errTunnel     = malformed("CONNECT with :scheme or :path, or without :authority")
	errTrailer    = malformed("pseudo field among trailers")
)

func malformed(reason string) *streamError { return &streamError{ProtocolError, reason} }

// nameByte is what a name may be made of: a token's bytes (RFC 9110 5.6.2), capitals aside.
var nameByte = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz" {
		t[c] = true
	}
	return t
}()

func nameOK(s string) bool {
	for i := range len(s) {
		if !nameByte[s[i]] {
			return false
		}
	}
	return s != ""
}

func valueOK(s string) bool {
	for i := range len(s) {
		if c := s[i]; c == 0 || c == '\r' || c == '\n' {
			return false
		}
	}
	return s == "" || !blank(s[0]) && !blank(s[len(s)-1])
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// pseudo are the pseudo fields of a request.
type pseudo struct {
	method, scheme, authority, path string
	seen                            [4]bool
}

func (p *pseudo) set(f hpack.HeaderField) bool {
	i, v := 0, &p.method
	switch f.Name {
	case ":method":
	case ":scheme":
		i, v = 1, &p.scheme
	case ":authority":
		i, v = 2, &p.authority
	case ":path":
		i, v = 3, &p.path
	default:
		return false
	}
	if p.seen[i] {
		return false
	}
	p.seen[i], *v = true, f.Value
	return true
}

func (p *pseudo) check() error {
	if !p.seen[0] {
		return errMissing
	}
	for i := range len(p.method) {
		if c := p.method[i]; !nameByte[c] && (c < 'A' || c > 'Z') {
			return errMethod
		}
	}
	if p.method == "" {
		return errMethod
	}
	if p.method == "CONNECT" { // for the parser to refuse, as it does in HTTP/1.1
		if p.seen[1] || p.seen[3] || p.authority == "" {
			return errTunnel
		}
		return nil
	}
	switch {
	case !p.seen[1] || !p.seen[3]:
		return errMissing
	case p.scheme != "http" && p.scheme != "https":
		return errScheme
	case p.seen[2] && p.authority == "":
		return errAuthority
	case p.path == "" || p.path[0] != '/' && (p.path != "*" || p.method != "OPTIONS"):
		return errPath
	}
	return nil
}

// appendRequest appends the head of an HTTP/1.1 request with these fields, for the parser that reads every request. end
// says that no body follows; length is the body's, or -1 when the client does not say it.
//
// What passes here cannot be two requests, or another one, for whoever reads the bytes: names are tokens, values hold
// nothing that ends a line, and framing is what this function says. All else is left for the parser to judge.
func appendRequest(dst []byte, fields []hpack.HeaderField, end bool) (head []byte, length int64, err error) {
	var p pseudo
	n := 0
	for ; n < len(fields) && fields[n].IsPseudo(); n++ {
		if !p.set(fields[n]) {
			return dst, 0, errPseudo
		}
		if !valueOK(fields[n].Value) {
			return dst, 0, errValue
		}
	}
	if err := p.check(); err != nil {
		return dst, 0, err
	}
	target := p.path
	if p.method == "CONNECT" {
		target = p.authority
	}
	dst = append(append(append(append(dst, p.method...), ' '), target...), " HTTP/1.1\r\n"...)
	if p.seen[2] {
		dst = appendLine(dst, "host", p.authority)
	}
	length = -1
	host, cookies := false, false
	for i, f := range fields[n:] {
		switch {
		case f.IsPseudo():
			return dst, 0, errPseudo
		case !nameOK(f.Name):
			return dst, 0, errName
		case !valueOK(f.Value):
			return dst, 0, errValue
		}
		switch f.Name {
		case "host":
			if f.Value == "" {
				return dst, 0, errAuthority
			}
			if host || p.seen[2] && !wire.Same([]byte(f.Value), p.authority) {
				return dst, 0, errHost
			}
			if host = true; p.seen[2] {
				continue
			}
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
			return dst, 0, errConnection
		case "te":
			if f.Value != "trailers" {
				return dst, 0, errTE
			}
		case "content-length":
			if length >= 0 || !parseLength(f.Value, &length) {
				return dst, 0, errLength
			}
			if end && length > 0 {
				return dst, 0, errMismatch
			}
		case "cookie":
			if cookies {
				continue
			}
			cookies = true
			dst = appendCookies(dst, fields[n+i:])
			continue
		}
		dst = appendLine(dst, f.Name, f.Value)
	}
	if !end && length < 0 {
		dst = append(dst, "transfer-encoding: chunked\r\n"...)
	}
	return append(dst, "\r\n"...), length, nil
}

func appendLine(dst []byte, name, value string) []byte {
	return append(append(append(append(dst, name...), ": "...), value...), "\r\n"...)
}

// appendCookies joins the crumbs of RFC 9113 8.2.3. Those behind the first are checked by the caller as it gets there.
func appendCookies(dst []byte, fields []hpack.HeaderField) []byte {
	sep := "cookie: "
	for _, f := range fields {
		if f.Name == "cookie" {
			dst = append(append(dst, sep...), f.Value...)
			sep = "; "
		}
	}
	return append(dst, "\r\n"...)
}

func parseLength(s string, n *int64) bool {
	if s == "" || len(s) > 18 {
		return false
	}
	*n = 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		*n = *n*10 + int64(s[i]-'0')
	}
	return true
}

// checkTrailers refuses what a head would be refused for. What passes is dropped: no backend waits for it.
func checkTrailers(fields []hpack.HeaderField) error {
	for _, f := range fields {
		switch {
		case f.IsPseudo():
			return errTrailer
		case !nameOK(f.Name):
			return errName
		case !valueOK(f.Value):
			return errValue
		}
		switch f.Name {
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te":
			return errConnection
		}
	}
	return nil
}
