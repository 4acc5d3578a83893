package php

import (
	"bytes"
	"strings"
)

// PHP's multipart parser is not MIME's: lines may end with LF alone, the last boundary may be missing, quotes may be
// single, header lines without a colon belong to the one before, and what is not understood is skipped. This is the
// same machine, reading from memory. (main/rfc1867.c)

const (
	fillUnit = 5120 // of its buffer; a longer line is taken apart there
	maxParts = 1020 // max_multipart_body_parts: max_input_vars and max_file_uploads
)

// parts reads a multipart body.
type parts struct {
	rest     []byte
	boundary string // with the two dashes
	next     []byte // line feed, boundary
	buffer   int
}

// multipart is $_POST of a multipart body.
func (v *vars) multipart(contentType string, body []byte) {
	boundary, ok := boundaryOf(contentType)
	if !ok {
		return
	}
	p := &parts{rest: body, boundary: "--" + boundary, next: []byte("\n--" + boundary), buffer: max(fillUnit, len(boundary)+6)}
	values := 0
	for left := maxParts; len(p.rest) > 0; {
		disposition, there, ok := p.header()
		if !ok {
			break
		}
		if !there {
			continue
		}
		if left--; left < 0 {
			break
		}
		name, named, file := names(disposition)
		switch {
		case !named && !file:
			return // garbled: PHP reads no further
		case file:
			p.skipFile(name, named)
		default:
			value := p.value()
			if values++; values <= maxVars {
				v.add(name, view(value))
			}
		}
	}
}

func verbatim(s string) string { return s }

// boundaryOf finds the boundary wherever in the content type "boundary" and a '=' stand.
func boundaryOf(contentType string) (string, bool) {
	i := strings.Index(contentType, "boundary")
	if i < 0 {
		i = strings.Index(asciiLower(contentType), "boundary")
	}
	if i < 0 {
		return "", false
	}
	_, b, ok := strings.Cut(contentType[i:], "=")
	if !ok {
		return "", false
	}
	if strings.HasPrefix(b, `"`) {
		b, _, ok = strings.Cut(b[1:], `"`)
		return b, ok
	}
	if i := strings.IndexAny(b, ",;"); i >= 0 {
		b = b[:i]
	}
	return b, true
}

func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// line takes a line, without its end and up to a NUL. A last line without an end is none.
func (p *parts) line() (string, bool) {
	n := min(len(p.rest), p.buffer)
	i := bytes.IndexByte(p.rest[:n], '\n')
	var l []byte
	switch {
	case i > 0 && p.rest[i-1] == '\r':
		l, p.rest = p.rest[:i-1], p.rest[i+1:]
	case i >= 0:
		l, p.rest = p.rest[:i], p.rest[i+1:]
	case n < p.buffer:
		return "", false
	default:
		l, p.rest = p.rest[:n], p.rest[n:]
	}
	if i := bytes.IndexByte(l, 0); i >= 0 {
		l = l[:i]
	}
	return string(l), true
}

// header goes to the next boundary and reads the part's header; ok is false when there is no boundary any more.
func (p *parts) header() (disposition string, there, ok bool) {
	for {
		l, ok := p.line()
		if !ok {
			return "", false, false
		}
		if l == p.boundary {
			break
		}
	}
	var key string
	var value strings.Builder
	open, done := false, false
	flush := func() {
		if open && !done && strings.EqualFold(key, "Content-Disposition") {
			disposition, there, done = value.String(), true, true
		}
	}
	for {
		l, ok := p.line()
		if !ok || l == "" {
			break
		}
		colon := -1
		if !isSpace(l[0]) {
			colon = strings.IndexByte(l, ':')
		}
		switch {
		case colon >= 0:
			flush()
			key, open = l[:colon], true
			value.Reset()
			value.WriteString(strings.TrimLeft(l[colon+1:], " \t\n\v\f\r"))
		case open:
			value.WriteString(l)
		}
	}
	flush()
	return disposition, there, true
}

// end is where the part's body ends: at the next boundary, or at what may become one where the body was cut.
func (p *parts) end() (n int, found bool) {
	if i := bytes.Index(p.rest, p.next); i >= 0 {
		return i, true
	}
	for i := max(0, len(p.rest)-len(p.next)+1); i < len(p.rest); i++ {
		if bytes.HasPrefix(p.next, p.rest[i:]) {
			return i, true
		}
	}
	return len(p.rest), false
}

// value takes the body of a part.
func (p *parts) value() []byte {
	n, found := p.end()
	b := p.rest[:n]
	if found && n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	p.rest = p.rest[len(b):]
	return b
}

// skipFile takes a file away; one with a name that PHP does not like is left to the search for the next boundary.
func (p *parts) skipFile(name string, named bool) {
	depth := 0
	for i := 0; named && i < len(name); i++ {
		switch name[i] {
		case '[':
			depth++
		case ']':
			if depth--; i+1 < len(name) && name[i+1] != '[' {
				return
			}
		}
		if depth < 0 {
			return
		}
	}
	if depth == 0 {
		p.value()
	}
}

// names are the form field's name, whether there is one, and whether a file's name is given.
func names(disposition string) (name string, named, file bool) {
	d := strings.TrimLeft(disposition, " \t\n\v\f\r")
	for d != "" {
		var pair string
		pair, d = word(d, ';')
		d = strings.TrimLeft(d, " \t\n\v\f\r")
		if strings.IndexByte(pair, '=') < 0 {
			continue
		}
		key, text := word(pair, '=')
		switch {
		case strings.EqualFold(key, "name"):
			name, named = unquote(text), true
		case strings.EqualFold(key, "filename"):
			file = true
		}
	}
	return name, named, file
}

// word takes what stands before stop outside of quotes, and passes all stops that follow.
func word(s string, stop byte) (w, rest string) {
	i := 0
	for i < len(s) && s[i] != stop {
		quote := s[i]
		i++
		if quote != '"' && quote != '\'' {
			continue
		}
		for i < len(s) && s[i] != quote {
			if s[i] == '\\' && i+1 < len(s) && s[i+1] == quote {
				i++
			}
			i++
		}
		if i < len(s) {
			i++
		}
	}
	if i == len(s) {
		return s, ""
	}
	w = s[:i]
	for i < len(s) && s[i] == stop {
		i++
	}
	return w, s[i:]
}

// unquote reads a value: to its closing quote, or to the first space.
func unquote(s string) string {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	if s == "" {
		return ""
	}
	quote := byte(0)
	if s[0] == '"' || s[0] == '\'' {
		quote, s = s[0], s[1:]
	} else if i := strings.IndexAny(s, " \t\n\v\f\r"); i >= 0 {
		s = s[:i]
	}
	var b strings.Builder
	for i := 0; i < len(s) && (quote == 0 || s[i] != quote); i++ {
		if s[i] == '\\' && i+1 < len(s) && (s[i+1] == '\\' || quote != 0 && s[i+1] == quote) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
