package wire

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzRequest: a head reads the same whole and byte by byte; and what a proxy copies from it, line by line, is a head
// that reads the same again.
func FuzzRequest(f *testing.F) {
	f.Add("GET / HTTP/1.1\r\nHost: t\r\nConnection: close, x\r\nX: y\r\n\r\n")
	f.Add("POST http://t/a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n")
	f.Add("\r\nGET * HTTP/1.0\r\nContent-Length: 4\r\nA:\tb \r\n\r\n")
	f.Fuzz(func(t *testing.T, s string) {
		var whole, drip Request
		whole.Reset()
		drip.Reset()
		done, err := parse(&whole, s, 0)
		done2, err2 := parse(&drip, s, 1)
		if err != nil || err2 != nil {
			if done || done2 {
				t.Fatalf("done with an error: %v, %v", err, err2)
			}
			if (err == nil) != (err2 == nil) {
				t.Fatalf("whole %v, drip %v", err, err2)
			}
			return
		}
		if done != done2 || whole.Size() != drip.Size() || !bytes.Equal(whole.Target(), drip.Target()) {
			t.Fatalf("whole and drip differ: %v %v", done, done2)
		}
		if !done {
			return
		}
		if !reads(whole.Raw()) {
			t.Fatalf("accepted what a strict reader would not: %q", whole.Raw())
		}
		out := string(whole.Method()) + " " + string(whole.Target()) + " HTTP/1.1\r\n"
		if whole.Host() == nil {
			out += "Host: \r\n"
		}
		for i := range whole.Len() {
			out += string(whole.Line(i))
		}
		var again Request
		again.Reset()
		if done, err := parse(&again, out+"\r\n", 0); !done || err != nil {
			t.Fatalf("%q was made from %q and does not parse: %v", out, s, err)
		}
		if again.Length() != whole.Length() || again.Chunked() != whole.Chunked() || !bytes.Equal(again.Host(), whole.Host()) {
			t.Fatalf("%q reads otherwise than %q", out, s)
		}
	})
}

// reads is a slow strict reading of a request's head, written another way.
func reads(raw []byte) bool {
	s := strings.TrimPrefix(string(raw), "\r\n")
	lines := strings.Split(s, "\r\n")
	if len(lines) < 3 || lines[len(lines)-1] != "" || lines[len(lines)-2] != "" || strings.ContainsAny(strings.Join(lines, ""), "\r\n\x00") {
		return false
	}
	if len(strings.Split(lines[0], " ")) != 3 {
		return false
	}
	count := map[string]int{}
	for _, l := range lines[1 : len(lines)-2] {
		name, _, ok := strings.Cut(l, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t\"(),/;<=>?@[\\]{}") {
			return false
		}
		count[strings.ToLower(name)]++
	}
	return count["host"] <= 1 && count["content-length"]+count["transfer-encoding"] <= 1
}

// FuzzResponse: as for requests; and the kept lines make a head with the same framing.
func FuzzResponse(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX : y\r\n\r\nhello")
	f.Add("HTTP/1.0 304 \r\nConnection: close\r\n\r\n")
	f.Fuzz(func(t *testing.T, s string) {
		var r, drip Response
		r.Reset()
		drip.Reset()
		done, err := parse(&r, s, 0)
		done2, err2 := parse(&drip, s, 1)
		// Drip moves the buffer, so a name that was moved over its white space is moved again: only verdicts compare.
		if (err == nil) != (err2 == nil) || done != done2 {
			t.Fatalf("whole %v %v, drip %v %v", done, err, done2, err2)
		}
		if !done {
			return
		}
		out := "HTTP/1.1" + string(r.StatusLine())
		for i := range r.Len() {
			out += string(r.Line(i))
		}
		var again Response
		again.Reset()
		if done, err := again.Parse([]byte(out + "\r\n")); !done || err != nil || again.Framing(false) != r.Framing(false) || again.Length() != r.Length() {
			t.Fatalf("%q was made from %q: %v %v", out, s, done, err)
		}
	})
}

// FuzzChunks: a body decodes the same whole, in pieces and in place, and what is framed anew decodes to itself.
func FuzzChunks(f *testing.F) {
	f.Add("5\r\nhello\r\n0\r\n\r\n", 3)
	f.Add("5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nrest", 1)
	f.Fuzz(func(t *testing.T, s string, step int) {
		step = 1 + (step&0xff)%64
		a, restA, errA := decode(s, len(s)+1, len(s)+1, false)
		b, restB, errB := decode(s, step, step, false)
		c, restC, errC := decode(s, step, 0, true)
		if (errA == nil) != (errB == nil) || (errA == nil) != (errC == nil) {
			t.Fatalf("%v, %v, %v", errA, errB, errC)
		}
		if errA == nil && (a != b || a != c || restA != restB || restA != restC) {
			t.Fatalf("%q %q %q", a, b, c)
		}
		if errA == nil && len(a) > 0 {
			var room [ChunkRoom]byte
			framed := string(room[ChunkHead(room[:], len(a)):]) + a + "\r\n" + LastChunk
			if d, rest, err := decode(framed, step, step, false); d != a || rest != "" || err != nil {
				t.Fatalf("%q became %q, %v", a, d, err)
			}
		}
	})
}
