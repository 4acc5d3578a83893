package wire

import "bytes"

var hostByte = func() (t [256]bool) {
	for _, c := range "-._~%!$&'()*+;=0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = true
	}
	return t
}()

// hostOK tells whether b is uri-host [ ":" port ] of RFC 9110 7.2, or empty. A comma is refused although a reg-name may
// hold one: recipients that fold fields would read two hosts.
func hostOK(b []byte) bool {
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 3 {
			return false
		}
		for _, c := range b[1:end] {
			if !hostByte[c] && c != ':' {
				return false
			}
		}
		return portOK(b[end+1:])
	}
	for i, c := range b {
		if c == ':' {
			return portOK(b[i:])
		}
		if !hostByte[c] {
			return false
		}
	}
	return true
}

// portOK tells whether b is empty or ":" and a port, which may be empty.
func portOK(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if b[0] != ':' || len(b) > 6 {
		return false
	}
	n := 0
	for _, c := range b[1:] {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n < 1<<16
}
