package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// exchange is a request and what its answer has to be.
type exchange struct {
	Request []byte
	Status  int
	Field   []byte // stands in the head
	Want    []byte // stands in the body
	Whole   bool   // and is all of it
}

type answer struct {
	status     int
	head, body []byte
}

func (e *exchange) check(a answer) error {
	switch {
	case a.status != e.Status:
		return fmt.Errorf("an answer is not %d: %.300q", e.Status, a.head)
	case !bytes.Contains(a.head, e.Field):
		return fmt.Errorf("an answer's head lacks %q: %q", e.Field, a.head)
	case e.Whole && !bytes.Equal(a.body, e.Want):
		return fmt.Errorf("an answer's body is not the backend's of %d bytes, it has %d: %.300q", len(e.Want), len(a.body), a.body)
	case !e.Whole && !bytes.Contains(a.body, e.Want):
		return fmt.Errorf("an answer's body lacks %q: %.300q", e.Want, a.body)
	}
	return nil
}

// parse reads an answer. It is whole when b has end bytes; before, end is how many it needs at least.
func parse(b []byte) (a answer, end int, err error) {
	i := bytes.Index(b, []byte("\r\n\r\n"))
	if i < 0 {
		return a, len(b) + 1, nil
	}
	a.head = b[:i+2]
	rest := a.head
	length, chunked := -1, false
	for first := true; len(rest) > 0; first = false {
		line, after, _ := bytes.Cut(rest, []byte("\r\n"))
		rest = after
		if first {
			code, ok := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
			if a.status, err = strconv.Atoi(string(code[:min(3, len(code))])); !ok || err != nil {
				return a, 0, fmt.Errorf("no answer: %.200q", b)
			}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return a, 0, fmt.Errorf("length of an answer: %q", line)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = string(value) == "chunked"
		}
	}
	if chunked {
		var n int
		a.body, n, err = dechunk(b[i+4:])
		return a, i + 4 + n, err
	}
	if length < 0 {
		return a, 0, fmt.Errorf("an answer without a length: %q", a.head)
	}
	end = i + 4 + length
	a.body = b[i+4 : min(end, len(b))]
	return a, end, nil
}

// dechunk gives a body and how long its chunks are, or more than there is as long as it is not whole.
func dechunk(b []byte) (body []byte, end int, err error) {
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte("\r\n"))
		if i < 0 {
			return nil, len(b) + 1, nil
		}
		size, err := strconv.ParseUint(string(b[at:at+i]), 16, 31)
		if err != nil {
			return nil, 0, fmt.Errorf("size of a chunk: %q", b[at:at+i])
		}
		at += i + 2
		if end = at + int(size) + 2; end > len(b) {
			return nil, end, nil
		}
		if string(b[end-2:end]) != "\r\n" {
			return nil, 0, errors.New("a chunk does not end where it should")
		}
		if size == 0 {
			return body, end, nil
		}
		body = append(body, b[at:end-2]...)
		at = end
	}
}
