package fastcgi

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"banyan/proxy/upstream"
	"banyan/proxy/wire"
)

// rec is one record.
func rec(kind byte, id uint16, content string, pad int) string {
	h := []byte{1, kind, 0, 0, 0, 0, byte(pad), 0}
	binary.BigEndian.PutUint16(h[2:], id)
	binary.BigEndian.PutUint16(h[4:], uint16(len(content)))
	return string(h) + content + strings.Repeat("p", pad)
}

const endBody = "\x00\x00\x00\x00\x00\x00\x00\x00"

func out(content string) string { return rec(typeStdout, 1, content, 0) }
func over() string              { return rec(typeEnd, 1, endBody, 0) }

const head = "Content-Type: text/plain\r\n\r\n"

var answers = []struct {
	name, raw  string
	status     int
	body       string
	err        string // of Receive or Body
	class      upstream.Class
	kept, head bool // kept: the connection may carry another request; head: a HEAD request
}{
	{name: "plain", raw: out(head+"hi") + over(), status: 200, body: "hi", kept: true},
	{name: "two records", raw: out(head+"h") + out("i") + over(), status: 200, body: "hi", kept: true},
	{name: "head in many records", raw: out("Content-Ty") + out("pe: a\r") + out("\n\r") + out("\nhi") + over(), status: 200, body: "hi", kept: true},
	{name: "padding", raw: rec(typeStdout, 1, head+"hi", 255) + rec(typeStdout, 1, "", 7) + rec(typeEnd, 1, endBody, 3), status: 200, body: "hi", kept: true},
	{name: "empty record ends STDOUT", raw: out(head+"hi") + out("") + over(), status: 200, body: "hi", kept: true},
	{name: "bare line feeds", raw: out("Content-Type: a\nStatus: 404 Gone Away\n\nhi") + over(), status: 404, body: "hi", kept: true},
	{name: "no field at all", raw: out("\r\nhi") + over(), status: 200, body: "hi", kept: true},
	{name: "STDERR between", raw: rec(typeStderr, 1, "oh", 6) + out(head+"h") + rec(typeStderr, 1, "no", 0) + out("i") + over(), status: 200, body: "hi", kept: true},
	{name: "much STDERR", raw: strings.Repeat(rec(typeStderr, 1, strings.Repeat("e", 60000), 0), 20) + out(head) + over(), status: 200, kept: true},
	{name: "no body", raw: out("Status: 204\r\n\r\n") + over(), status: 204, kept: true},
	{name: "a body that is none", raw: out("Status: 304\r\n\r\nnever seen") + over(), status: 304, kept: true},
	{name: "HEAD", raw: out(head+"never seen") + over(), status: 200, head: true, kept: true},
	{name: "length", raw: out("Content-Length: 2\r\n\r\nhi") + over(), status: 200, body: "hi", kept: true},
	{name: "longer than its length", raw: out("Content-Length: 2\r\n\r\nhigh") + over(), status: 200, body: "hi"},
	{name: "location", raw: out("Location: /x\r\n\r\n") + over(), status: 302, kept: true},
	{name: "exit status", raw: out(head+"hi") + rec(typeEnd, 1, "\x00\x00\x00\xff\x00\x00\x00\x00", 0), status: 200, body: "hi", kept: true},
	{name: "bytes behind the end", raw: out(head+"hi") + over() + "x", status: 200, body: "hi"},

	{name: "shorter than its length", raw: out("Content-Length: 9\r\n\r\nhi") + over(), status: 200, err: "body is shorter", class: upstream.Malformed},
	{name: "cut in the body", raw: out(head + "hi"), status: 200, err: "closed before", class: upstream.Cut},
	{name: "cut in a record", raw: rec(typeStdout, 1, head+"hi", 0)[:20], err: "closed before", class: upstream.Cut},
	{name: "cut in END_REQUEST", raw: out(head+"hi") + over()[:12], status: 200, err: "closed before", class: upstream.Cut},
	{name: "nothing", raw: "", err: "closed before", class: upstream.Cut},
	{name: "ends without a head", raw: over(), err: "before its head was complete", class: upstream.Malformed},
	{name: "ends in its head", raw: out("A: b\r\n") + over(), err: "before its head was complete", class: upstream.Malformed},
	{name: "unknown type", raw: rec(11, 1, "hi", 0), err: "record of type 11", class: upstream.Malformed},
	{name: "management record", raw: rec(10, 0, "hi", 0), err: "record of request 0", class: upstream.Malformed},
	{name: "another request", raw: rec(typeStdout, 2, head, 0), err: "record of request 2", class: upstream.Malformed},
	{name: "another version", raw: "\x02" + out(head)[1:], err: "version 2", class: upstream.Malformed},
	{name: "short END_REQUEST", raw: out(head) + rec(typeEnd, 1, "\x00\x00\x00\x00", 0), status: 200, err: "END_REQUEST of 4 bytes", class: upstream.Malformed},
	{name: "overloaded", raw: rec(typeEnd, 1, "\x00\x00\x00\x00\x02\x00\x00\x00", 0), err: "overloaded", class: upstream.Malformed},
	{name: "STDOUT after its end", raw: out(head) + out("") + out("more") + over(), status: 200, err: "goes on after its end", class: upstream.Malformed},
	{name: "HTTP itself", raw: "HTTP/1.1 400 Bad Request\r\n\r\n", err: "version 72", class: upstream.Malformed},
	{name: "no field", raw: out("no colon\r\n\r\n") + over(), err: "is no field", class: upstream.Malformed},
	{name: "folded field", raw: out("A: b\r\n c\r\n\r\n") + over(), err: "is no field", class: upstream.Malformed},
	{name: "space in a name", raw: out("A b: c\r\n\r\n") + over(), err: "", class: upstream.Malformed},
	{name: "NUL", raw: out("A: b\x00\r\n\r\n") + over(), err: "", class: upstream.Malformed},
	{name: "lone CR", raw: out("A: b\rSet-Cookie: c\r\n\r\n") + over(), err: "", class: upstream.Malformed},
	{name: "two lengths", raw: out("Content-Length: 1\r\nContent-Length: 2\r\n\r\nhi") + over(), err: "", class: upstream.Malformed},
	{name: "two statuses", raw: out("Status: 200\r\nStatus: 500\r\n\r\n") + over(), err: "two Status", class: upstream.Malformed},
	{name: "interim status", raw: out("Status: 101 Switching Protocols\r\n\r\n") + over(), err: "no final code", class: upstream.Malformed},
	{name: "status of words", raw: out("Status: OK\r\n\r\n") + over(), err: "no final code", class: upstream.Malformed},
	{name: "endless head", raw: strings.Repeat(out("X: "+strings.Repeat("y", 1000)+"\r\n"), 200), err: "larger than the limit", class: upstream.Malformed},
	{name: "accelerated", raw: out("X-Accel-Redirect: /x\r\n\r\n") + over(), err: "fastcgi.internal", class: upstream.Malformed, kept: true},
	{name: "sent as a file", raw: out("X-Sendfile: /etc/passwd\r\n\r\n") + over(), err: "fastcgi.sendfile", class: upstream.Malformed, kept: true},
	{name: "two files", raw: out("X-Sendfile: /x\r\nX-Accel-Redirect: /x\r\n\r\n") + over(), err: "names two files", class: upstream.Malformed},
	{name: "the same file twice", raw: out("X-Accel-Redirect: /x\r\nX-Accel-Redirect: /x\r\n\r\n") + over(), err: "names two files", class: upstream.Malformed},
	{name: "a file, and cut in the body", raw: out("X-Sendfile: /x\r\n\r\nhi"), err: "closed before", class: upstream.Cut},
}

// fake is a php-fpm that gives each request on a connection the same bytes, in pieces of some size, and closes after one
// that it did not end.
func fake(t testing.TB, raw string, piece int) (u *Upstream) {
	t.Helper()
	socket := t.TempDir() + "/s"
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection, which the pool closes
				defer c.Close()
				for readRequest(c) == nil {
					for rest := raw; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
						if _, err := io.WriteString(c, rest[:min(piece, len(rest))]); err != nil {
							return
						}
					}
					if !strings.HasSuffix(raw, over()) {
						return
					}
				}
			}()
		}
	}()
	u, err = New(Config{Name: "legacy", Address: "unix:" + socket, Root: site(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

// readRequest reads to the empty STDIN record.
func readRequest(r io.Reader) error {
	var h [headSize]byte
	for {
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return err
		}
		n := int64(binary.BigEndian.Uint16(h[4:])) + int64(h[6])
		if _, err := io.CopyN(io.Discard, r, n); err != nil {
			return err
		}
		if h[1] == typeStdin && n == 0 {
			return nil
		}
	}
}

// Each answer in large and in small pieces: what is not FastCGI, or no proper head, is an error and never an answer.
func TestAnswers(t *testing.T) {
	for _, a := range answers {
		for _, piece := range []int{1 << 20, 7} {
			if piece == 7 && len(a.raw) > 10_000 {
				continue
			}
			u := fake(t, a.raw, piece)
			status, body, err := ask(u, a.head)
			failed := a.class != upstream.OK
			if status != a.status || failed != (err != nil) || !failed && body != a.body {
				t.Errorf("%s, %d at a time: %d %q, %v", a.name, piece, status, body, err)
			}
			if failed && (upstream.ClassOf(err) != a.class || !strings.Contains(err.Error(), a.err) || upstream.Unsent(err)) {
				t.Errorf("%s, %d at a time: %v, want %v %q", a.name, piece, err, a.class, a.err)
			}
			if s := u.Stats(); s.Idle == 1 != a.kept || s.Open != s.Idle {
				t.Errorf("%s, %d at a time: %+v, want kept %v", a.name, piece, s, a.kept)
			}
		}
	}
}

func ask(u *Upstream, isHead bool) (status int, body string, err error) {
	method := "GET"
	if isHead {
		method = "HEAD"
	}
	c, err := u.Get(upstream.Timeouts{}, false)
	if err != nil {
		return 0, "", err
	}
	status, body, err = converse(c, &upstream.Message{Head: []byte(method + " /dump.php HTTP/1.1\r\nHost: a\r\n\r\n"), NoBody: isHead}, isHead)
	if err != nil {
		c.Abort()
		return status, body, err
	}
	c.Release()
	return status, body, nil
}

func converse(c upstream.Conn, m *upstream.Message, isHead bool) (status int, body string, err error) {
	var resp wire.Response
	var in upstream.Inbox
	if err := c.Send(m); err != nil && err != upstream.ErrAnswered {
		return 0, "", err
	}
	if err := c.Receive(&resp, &in); err != nil {
		return 0, "", err
	}
	status = resp.Status()
	if resp.Framing(isHead) == wire.NoBody {
		return status, "", nil
	}
	for buf := make([]byte, 5); ; {
		n, end, err := c.Body(buf)
		body += string(buf[:n])
		if err != nil || end {
			return status, body, err
		}
	}
}

// drink takes all records out of d, which is fed pieces.
func drink(d *records, raw []byte, piece func(left int) int) (stdout []byte, err error) {
	for {
		if err = d.parse(); err != nil {
			return stdout, err
		}
		d.endAhead()
		if b := d.content(); len(b) > 0 {
			stdout = append(stdout, b...)
			d.r += len(b)
			d.took(len(b))
			continue
		}
		if d.ended || len(raw) == 0 {
			return stdout, nil
		}
		room := d.room()
		n := copy(room[:min(len(room), max(1, piece(len(raw))))], raw)
		d.n += n
		raw = raw[n:]
	}
}

// However the bytes come, they mean the same, and no bytes make the reader panic, stand still or keep much.
func FuzzRecords(f *testing.F) {
	for _, a := range answers {
		if len(a.raw) < 2000 {
			f.Add([]byte(a.raw), uint8(3))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, step uint8) {
		a, b := &records{buf: make([]byte, 64<<10)}, &records{buf: make([]byte, 16)}
		x, errX := drink(a, raw, func(n int) int { return n })
		y, errY := drink(b, raw, func(int) int { return int(step) })
		if !bytes.Equal(x, y) || (errX == nil) != (errY == nil) || a.ended != b.ended || a.stderrN != b.stderrN {
			t.Errorf("%q, %v, %v; in pieces %q, %v, %v", x, errX, a.ended, y, errY, b.ended)
		}
		if len(a.stderr) > maxErrors {
			t.Errorf("%d bytes of STDERR are kept", len(a.stderr))
		}
	})
}

// A CGI head that is taken is a strict HTTP head, and says nothing that the script did not say.
func FuzzHead(f *testing.F) {
	for _, s := range []string{head, "\r\n", "Status: 404\r\n\r\n", "Status:200 OK\nA: b\n\n", "Location: /x\r\n\r\n", "A:\r\n\r\n", "A: b\r\n c\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		end := headEnd(raw, 0)
		if end == 0 {
			return
		}
		out, _, err := appendAnswer(nil, raw[:end])
		if err != nil {
			return
		}
		var r wire.Response
		done, err := r.Parse(out)
		if err != nil {
			return
		}
		if !done || r.Size() != len(out) || r.Interim() || r.Status() < 200 || r.Chunked() || r.Minor() != 1 {
			t.Errorf("%q made %q: %v", raw[:end], out, done)
		}
		for name, value := range r.All() {
			if !wire.Is(name, "date") && (!bytes.Contains(raw, name) || !bytes.Contains(raw, value)) {
				t.Errorf("%q: %q was not said in %q", name, value, raw)
			}
		}
	})
}

// headEnd finds the same end however the head comes.
func FuzzHeadEnd(f *testing.F) {
	f.Add([]byte("A: b\r\n\r\nbody"), uint8(4))
	f.Add([]byte("A: b\n\nbody"), uint8(5))
	f.Add([]byte("\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, raw []byte, cut uint8) {
		want := headEnd(raw, 0)
		at := min(int(cut), len(raw))
		got := headEnd(raw[:at], 0)
		if got == 0 {
			got = headEnd(raw, at)
		}
		if got != want {
			t.Errorf("%q, cut at %d: %d, want %d", raw, at, got, want)
		}
	})
}
