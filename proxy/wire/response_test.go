package wire

import (
	"strings"
	"testing"
)

func TestResponseAccepted(t *testing.T) {
	for _, c := range []struct {
		head    string
		status  int
		head2   bool
		framing Framing
		keep    bool
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, false, ByLength, true},
		{"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", 200, false, ByChunks, true},
		{"HTTP/1.1 200 \r\n\r\n", 200, false, ByClosing, true},
		{"HTTP/1.0 404 no\r\nContent-Length: 0\r\n\r\n", 404, false, ByLength, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", 200, true, NoBody, false},
		{"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n", 304, false, NoBody, true},
		{"HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n", 204, false, NoBody, true},
		{"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 103, false, NoBody, true},
		{"HTTP/1.1 200 OK\r\nX: \x01\x1f\r\n\r\n", 200, false, ByClosing, true},
	} {
		for _, step := range []int{0, 1, 3} {
			var r Response
			r.Reset()
			done, err := parse(&r, c.head, step)
			if !done || err != nil || r.Status() != c.status || r.Framing(c.head2) != c.framing || r.KeepAlive() != c.keep {
				t.Errorf("%q, step %d: %v %v, %d %v %v", c.head, step, done, err, r.Status(), r.Framing(c.head2), r.KeepAlive())
			}
		}
	}
}

func TestResponseRefused(t *testing.T) {
	ok := "HTTP/1.1 200 OK\r\n"
	for _, head := range []string{
		"HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 099 OK\r\n\r\n", "http/1.1 200 OK\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.1 200 O\x00K\r\n\r\n", "HTTP/1.1 200 OK\n\n", "200 OK\r\n\r\n",
		ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", ok + "Content-Length: 0x5\r\n\r\n",
		ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", ok + "Transfer-Encoding: xchunked\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ok + "X: a\rb\r\n\r\n", ok + "X: a\x00b\r\n\r\n", ok + "X: a\r\n b\r\n\r\n",
		ok + " X: a\r\n\r\n", ok + " : a\r\n\r\n", ok + "X\r\n\r\n", ok + "X Y: a\r\n\r\n",
	} {
		var r Response
		r.Reset()
		if _, err := r.Parse([]byte(head)); !IsMalformed(err) {
			t.Errorf("%q: %v", head, err)
		}
	}
}

func TestResponseSpaceBeforeColon(t *testing.T) {
	var r Response
	r.Reset()
	if done, err := r.Parse([]byte("HTTP/1.1 200 OK\r\nX-Long \t: a\r\nContent-Length : 5\r\n\r\n")); !done || err != nil {
		t.Fatal(err)
	}
	if got := string(r.Line(0)) + string(r.Line(1)); got != "X-Long: a\r\nContent-Length: 5\r\n" || r.Length() != 5 {
		t.Errorf("%q, length %d", got, r.Length())
	}
}

// What only requests say has no meaning in an answer: Connection may list it (RFC 9110 7.6.1). Framing stands.
func TestResponseConnectionLists(t *testing.T) {
	var r Response
	r.Reset()
	if done, err := r.Parse([]byte("HTTP/1.1 200 OK\r\nX-Forwarded-For: a\r\nProxy: b\r\nContent-Length: 5\r\nX-A: c\r\nConnection: x-forwarded-for, proxy, content-length\r\n\r\n")); !done || err != nil {
		t.Fatal(err)
	}
	for i, want := range []Kind{Hop, Hop, ContentLength, Other, Connection} {
		if r.Kind(i) != want {
			t.Errorf("%s is of kind %d, want %d", r.Name(i), r.Kind(i), want)
		}
	}
}

func TestResponseEdits(t *testing.T) {
	var r Response
	r.Reset()
	if done, err := r.Parse([]byte("HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nX-A: b\r\nset-cookie: c\r\n\r\n")); !done || err != nil {
		t.Fatal(err)
	}
	r.Drop("set-cookie")
	if !r.Dropped(0) || r.Dropped(1) || !r.Dropped(2) {
		t.Error("wrong fields dropped")
	}
	if r.Add("X-B", []byte("a\r\nX-C: d")) || r.Add("X B", nil) || r.Add("", nil) || !r.Add("Server-Timing", []byte("up;dur=1")) {
		t.Error("a field that breaks the head was taken, or a good one was not")
	}
	if string(r.Added()) != "Server-Timing: up;dur=1\r\n" {
		t.Errorf("added %q", r.Added())
	}
	r.Reset()
	if len(r.Added()) != 0 || r.Dropped(0) {
		t.Error("edits outlived Reset")
	}
}

// decode feeds body to a Chunks in pieces of step bytes, into pieces of room bytes.
func decode(body string, step, room int, inPlace bool) (out, rest string, err error) {
	var c Chunks
	for len(body) > 0 && !c.Done() {
		src := []byte(body[:min(step, len(body))])
		for len(src) > 0 && !c.Done() {
			dst := make([]byte, room)
			if inPlace {
				dst = src
			}
			w, r, err := c.Decode(dst, src)
			out += string(dst[:w])
			if err != nil {
				return out, body, err
			}
			src, body = src[r:], body[r:]
		}
	}
	return out, body, nil
}

func TestChunks(t *testing.T) {
	for _, c := range []struct{ body, want, rest string }{
		{"5\r\nhello\r\n0\r\n\r\nGET", "hello", "GET"},
		{"A\r\n0123456789\r\n000\r\n\r\n", "0123456789", ""},
		{"0000000005;a=\"b;c\";d\r\nhello\r\n1\r\n!\r\n0;x\r\nX-T: v\r\nY:\r\n\r\n", "hello!", ""},
	} {
		for _, step := range []int{1, 2, 3, 5, 1000} {
			for _, room := range []int{1, 4, 100} {
				for _, in := range []bool{false, true} {
					out, rest, err := decode(c.body, step, room, in)
					if out != c.want || rest != c.rest || err != nil {
						t.Errorf("%q step %d room %d in place %v: %q, rest %q, %v", c.body, step, room, in, out, rest, err)
					}
				}
			}
		}
	}
	long := strings.Repeat("a", maxExtension+1)
	for _, body := range []string{"0x5\r\n", "+5\r\n", "-0\r\n", "5 \r\n", "5 0\r\n", "g\r\n", "\r\n", ";a\r\n", "5\rh", "5\nh", "5\r\nhello\n", "5\r\nhello0\r\n",
		"5\r\nhello\r\n\r\n", "0\r\nXX\r\n", "0\r\nX Y: z\r\n", "0\r\nX: y\n\n", "0\r\n\n", "0\r\n\x00\r\n", "1000000000000000\r\n", "5;a\rb", "1;\nA", "5;" + long,
		strings.Repeat("1;"+long[:1000]+"\r\na\r\n", 17), "0\r\nX: " + strings.Repeat("a", maxTrailerSize)} {
		for _, step := range []int{1, 100000} {
			if out, _, err := decode(body, step, 100000, false); !IsMalformed(err) {
				t.Errorf("%.40q step %d: %.40q, %v", body, step, out, err)
			}
		}
	}
}

func TestChunkHead(t *testing.T) {
	for n, want := range map[int]string{1: "1\r\n", 16: "10\r\n", 0xabcdef1: "abcdef1\r\n"} {
		var room [ChunkRoom]byte
		if got := string(room[ChunkHead(room[:], n):]); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
}
