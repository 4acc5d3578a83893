package wire

import (
	"bytes"
	"encoding/binary"
)

// Classes of bytes in tokens. '_' and '.' are legal in a field name, but PHP folds both into what it makes of '-'.
const (
	notToken byte = iota
	plainToken
	foldedToken
)

var tokenClass = func() (t [256]byte) {
	for _, c := range "!#$%&'*+-^`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = plainToken
	}
	t['_'], t['.'] = foldedToken, foldedToken
	return t
}()

func isToken(b []byte) bool {
	for _, c := range b {
		if tokenClass[c] == notToken {
			return false
		}
	}
	return len(b) > 0
}

// valueOK tells whether b holds no control byte but HTAB, eight bytes at a time.
func valueOK(b []byte) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		del := x ^ 0x7f*ones
		if ((x-0x20*ones)&^x|(del-ones)&^del)&tops != 0 && !valueOKSlow(b[:8]) {
			return false
		}
		b = b[8:]
	}
	return valueOKSlow(b)
}

func valueOKSlow(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// answerOK is valueOK for an origin's fields: RFC 9110 5.5 lets a recipient keep control bytes other than these three.
func answerOK(b []byte) bool {
	if valueOK(b) {
		return true
	}
	for _, c := range b {
		if c == 0 || c == '\r' || c == '\n' {
			return false
		}
	}
	return true
}

// Is tells whether name equals lower, a lower-case name of letters, digits and '-', whatever name's case.
func Is(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, c := range name {
		if c|0x20 != lower[i] {
			return false
		}
	}
	return true
}

func hasPrefix(name []byte, lower string) bool {
	return len(name) >= len(lower) && Is(name[:len(lower)], lower)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// EachToken calls yield with each element of a comma-separated list, trimmed; empty ones are left out.
func EachToken(list []byte, yield func([]byte) bool) bool {
	for len(list) > 0 {
		end := 0
		for end < len(list) && list[end] != ',' {
			end++
		}
		if t := trim(list[:end]); len(t) > 0 && !yield(t) {
			return false
		}
		list = list[min(end+1, len(list)):]
	}
	return true
}

// IsProtocol tells whether b is a protocol as Upgrade names it: a token, or two with a slash between them.
func IsProtocol(b []byte) bool {
	name, version, versioned := bytes.Cut(b, []byte("/"))
	return len(name) > 0 && isToken(name) && (!versioned || len(version) > 0 && isToken(version))
}

// Same tells whether two names, or hosts, are the same but for case.
func Same(name []byte, other string) bool {
	if len(name) != len(other) {
		return false
	}
	for i, c := range name {
		if lower(c) != lower(other[i]) {
			return false
		}
	}
	return true
}
