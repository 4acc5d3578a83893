package fastcgi

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"banyan/proxy/wire"
)

// headEnd finds where a CGI head with its empty line ends, looking from where another search stopped; 0 while it has not
// come. Lines end in CRLF or LF (RFC 3875 6.1).
func headEnd(b []byte, from int) int {
	for at := max(0, from-2); at < len(b); {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return 0
		}
		line := at + i + 1
		if line == 1 || line == 2 && b[0] == '\r' {
			return line // no field at all
		}
		rest := b[line:]
		if len(rest) > 0 && rest[0] == '\n' {
			return line + 1
		}
		if len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n' {
			return line + 2
		}
		at = line
	}
	return 0
}

var (
	errHeadSize  = errors.New("head of the answer is larger than the limit")
	errHeadShort = errors.New("the script ended before its head was complete")
	errLine      = errors.New("a line of the head is no field")
	errStatus    = errors.New("status is no final code")
	errStatuses  = errors.New("head has two Status fields")
	errTwoFiles  = errors.New("head names two files: X-Accel-Redirect and X-Sendfile are for one")
)

// appendAnswer makes an HTTP/1.1 head of a CGI one. It is strict in what concerns the framing; wire.Response is in the
// rest. names tells that the script only names a file, which is the answer's body.
func appendAnswer(dst, head []byte) (out []byte, names bool, err error) {
	var status []byte
	redirects, dated := false, false
	for rest := head; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		if len(line) == 0 {
			continue // the end
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || len(name) == 0 {
			return dst, false, fmt.Errorf("%w: %.40q", errLine, line)
		}
		switch len(name) {
		case 4:
			dated = dated || wire.Is(name, "date")
		case 6:
			if wire.Is(name, "status") {
				if status != nil {
					return dst, false, errStatuses
				}
				if status = bytes.Trim(value, " \t"); !finalStatus(status) {
					return dst, false, fmt.Errorf("%w: %.40q", errStatus, status)
				}
			}
		case 8:
			redirects = redirects || wire.Is(name, "location")
		case 10, 16:
			if wire.Is(name, "x-sendfile") || wire.Is(name, "x-accel-redirect") {
				if names {
					return dst, false, errTwoFiles
				}
				names = true
			}
		}
	}
	if status == nil {
		status = []byte("200 OK")
		if redirects {
			status = []byte("302 Found")
		}
	}
	dst = append(append(dst, "HTTP/1.1 "...), status[:3]...)
	if len(status) > 3 {
		dst = append(dst, status[3:]...)
	} else if n, _ := strconv.Atoi(string(status)); n > 0 {
		dst = append(append(dst, ' '), http.StatusText(n)...)
	}
	dst = append(dst, "\r\n"...)
	if !dated { // an origin server has to send one
		dst = append(time.Now().UTC().AppendFormat(append(dst, "Date: "...), http.TimeFormat), "\r\n"...)
	}
	for rest := head; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		if len(line) > 0 && !ownField(line) {
			dst = append(append(dst, line...), "\r\n"...)
		}
	}
	return append(dst, "\r\n"...), names, nil
}

func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return b, nil
	}
	line, rest = b[:i], b[i+1:]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, rest
}

// finalStatus tells whether b is a code from 200 to 999, alone or with a reason behind a space.
func finalStatus(b []byte) bool {
	return len(b) >= 3 && '2' <= b[0] && b[0] <= '9' && isDigit(b[1]) && isDigit(b[2]) && (len(b) == 3 || b[3] == ' ')
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// ownField tells whether a line is meant for the web server, or is about a connection that is not there.
func ownField(line []byte) bool {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return false
	}
	name := line[:colon]
	switch len(name) {
	case 6:
		return wire.Is(name, "status")
	case 10:
		return wire.Is(name, "connection") || wire.Is(name, "keep-alive")
	case 17:
		return wire.Is(name, "transfer-encoding") || wire.Is(name, "x-accel-buffering")
	case 15:
		return wire.Is(name, "x-accel-expires") || wire.Is(name, "x-accel-charset")
	case 18:
		return wire.Is(name, "x-accel-limit-rate")
	}
	return false
}
