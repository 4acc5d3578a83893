package balance

import (
	"bytes"

	"banyan/proxy/session"
	"banyan/proxy/wire"
)

// read adds the session ids of a Cookie field's value, in the order in which they came: PHP takes the first of several
// cookies with one name, and so must we.
func (t *ticket) read(value []byte, pattern string, keys *session.Bindings) {
	for len(value) > 0 && t.n < maxCookies {
		pair := value
		if end := bytes.IndexByte(value, ';'); end >= 0 {
			pair, value = value[:end], value[end+1:]
		} else {
			value = nil
		}
		for len(pair) > 0 && (pair[0] == ' ' || pair[0] == '\t') {
			pair = pair[1:]
		}
		eq := bytes.IndexByte(pair, '=')
		if eq <= 0 || !matches(pattern, pair[:eq]) {
			continue
		}
		if id := trimmed(pair[eq+1:]); len(id) > 0 {
			if t.n == 0 {
				t.hash = hashOf(id)
			}
			t.keys[t.n] = keys.Key(id)
			t.n++
		}
	}
}

// claimed reads which instance a cookie of ours names in a Cookie field's value. It may be any client's invention: it is
// believed only for a session that nobody knows, and then the worst that it does is to ask the wrong instance.
func (b *Balancer) claimed(s *Sticky, t *ticket, value []byte) {
	if s.Remember == "" {
		return
	}
	for len(value) > 0 {
		var pair []byte
		pair, value, _ = bytes.Cut(value, []byte(";"))
		k, v, _ := bytes.Cut(trimmed(pair), []byte("="))
		if string(k) != s.Remember {
			continue
		}
		b.mu.Lock()
		for i := range b.n {
			if string(v) == b.ins[i].tag {
				t.claim = i + 1
			}
		}
		b.unlock()
	}
}

// setCookie reads a Set-Cookie value: the session id that it sets, or that it ends the session.
func setCookie(value []byte, pattern string) (id []byte, ends, ok bool) {
	pair, attributes, _ := bytes.Cut(value, []byte(";"))
	name, id, found := bytes.Cut(pair, []byte("="))
	if !found || !matches(pattern, trimmed(name)) {
		return nil, false, false
	}
	id = trimmed(id)
	if len(id) == 0 || string(id) == "deleted" { // what PHP sets to delete one
		return nil, true, true
	}
	for len(attributes) > 0 {
		var a []byte
		a, attributes, _ = bytes.Cut(attributes, []byte(";"))
		k, v, _ := bytes.Cut(a, []byte("="))
		if v = trimmed(v); wire.Is(trimmed(k), "max-age") && len(v) > 0 && (v[0] == '-' || v[0] == '0') {
			return nil, true, true
		}
	}
	return id, false, true
}

func trimmed(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// matches compares a cookie's name, in which case matters; '*' stands for any characters, or none.
func matches(pattern string, name []byte) bool {
	p, n, star, back := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, back = p, n
			p++
		case p < len(pattern) && pattern[p] == name[n]:
			p++
			n++
		case star >= 0:
			back++
			p, n = star+1, back
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
