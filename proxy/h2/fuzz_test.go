package h2

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"banyan/proxy/wire"
)

// FuzzRequest: whatever a client says, it is refused, or the head that is made of it reads back as what was said: one
// request, of that method, target and host, with those fields and no others.
func FuzzRequest(f *testing.F) {
	get := ":method\x00GET\x01:scheme\x00https\x01:authority\x00t\x01:path\x00/x?y\x01"
	for _, s := range []string{get + "accept\x00*/*", get + "cookie\x00a=1\x01x\x00y\x01cookie\x00b=2", get + "host\x00t", get + "content-length\x005",
		get + "x\x00a\r\nhost: evil", get + "transfer-encoding\x00chunked", get + "te\x00trailers", ":method\x00OPTIONS\x01:scheme\x00http\x01:path\x00*\x01host\x00t",
		":method\x00CONNECT\x01:authority\x00t:80", ":method\x00GET /\x01:scheme\x00http\x01:path\x00/ HTTP/1.1\r\n\x01:authority\x00t", get + "content_length\x005", get + "expect\x00100-continue"} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, in []byte, end bool) {
		var fields []hpack.HeaderField
		for _, l := range bytes.Split(in, []byte{1}) {
			n, v, _ := bytes.Cut(l, []byte{0})
			fields = append(fields, hpack.HeaderField{Name: string(n), Value: string(v)})
		}
		head, length, err := appendRequest(nil, fields, end)
		if err != nil {
			return
		}
		var r wire.Request
		r.Reset()
		rest := "GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n"
		done, err := r.Parse(append(bytes.Clone(head), rest...))
		if err != nil {
			return
		}
		if !done || r.Size() != len(head) {
			t.Fatalf("the head of %d bytes ends after %d (%v)\n%q", len(head), r.Size(), done, head)
		}
		want := map[string]string{}
		var names, crumbs []string
		for _, f := range fields {
			switch {
			case f.IsPseudo():
				want[f.Name] = f.Value
			case f.Name == "cookie":
				crumbs = append(crumbs, f.Value)
			case f.Name != "host":
				names = append(names, f.Name+": "+f.Value)
			default:
				want[":authority"] = f.Value
			}
		}
		if string(r.Method()) != want[":method"] || string(r.Target()) != want[":path"] || !wire.Same(r.Host(), want[":authority"]) {
			t.Fatalf("%q reads as %s %s of %s", head, r.Method(), r.Target(), r.Host())
		}
		var got []string
		for n, v := range r.All() {
			switch string(n) {
			case "host":
			case "cookie":
				if string(v) != strings.Trim(strings.Join(crumbs, "; "), " \t") {
					t.Fatalf("cookie %q of %q", v, crumbs)
				}
			case "transfer-encoding":
				if end || length >= 0 || string(v) != "chunked" {
					t.Fatalf("transfer-encoding %q, end %v, length %d", v, end, length)
				}
			default:
				got = append(got, string(n)+": "+string(v))
			}
		}
		if strings.Join(got, "\n") != strings.Join(names, "\n") {
			t.Fatalf("fields %q read as %q", names, got)
		}
		if r.Length() != length || r.Chunked() != (!end && length < 0) || end && length > 0 {
			t.Fatalf("length %d, chunked %v; want %d, end %v", r.Length(), r.Chunked(), length, end)
		}
	})
}

// FuzzAnswer: a head of an answer, as the parser lets it through, decodes to the same fields.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nSet-Cookie: a=b\r\nX-Empty:\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 999 \r\nConnection: close\r\nTransfer-Encoding: chunked\r\nX:  y \t\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var r wire.Response
		r.Reset()
		if done, err := r.Parse(in); !done || err != nil {
			return
		}
		head := append([]byte("HTTP/1.1"), r.StatusLine()...)
		for i := range r.Len() { // as an exchange passes them on
			head = append(head, r.Line(i)...)
		}
		block := appendAnswer(nil, append(head, "\r\n"...))
		fields, err := hpack.NewDecoder(4096, nil).DecodeFull(block)
		if err != nil {
			t.Fatalf("%q: %v", r.Raw(), err)
		}
		if fields[0].Name != ":status" || fields[0].Value != string(r.StatusLine()[1:4]) {
			t.Fatalf("%q: %v", r.Raw(), fields[0])
		}
		fields = fields[1:]
		for n, v := range r.All() {
			lower := strings.ToLower(string(n))
			switch lower {
			case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
				continue
			}
			if len(fields) == 0 || fields[0].Name != lower || fields[0].Value != string(v) {
				t.Fatalf("%q: want %s: %q of %v", r.Raw(), lower, v, fields)
			}
			fields = fields[1:]
		}
		if len(fields) > 0 {
			t.Fatalf("%q: %v too many", r.Raw(), fields)
		}
	})
}

// script is a connection that says what it was given, and then no more.
type script struct {
	bytes.Reader
	said bytes.Buffer
}

func (s *script) Write(p []byte) (int, error)      { return s.said.Write(p) }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return nil }
func (s *script) RemoteAddr() net.Addr             { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// FuzzFrames: whatever frames come, the connection ends, and each request that a handler gets is one for the strict
// parser too, with a body of the length that it says or none to its end. What is said back is whole frames.
func FuzzFrames(f *testing.F) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "t"}, {":path", "/x"}, {"content-length", "3"}} {
		_ = e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}) // into memory
	}
	head := func(flags byte) []byte { return append(appendFrameHead(nil, b.Len(), headers, flags, 1), b.Bytes()...) }
	body := append(appendFrameHead(nil, 3, data, flagEndStream, 1), "abc"...)
	f.Add(append(head(4), body...))
	f.Add(append(head(5), appendNumber(nil, rstStream, 1, 8)...))
	f.Add(append(append(head(4), body[:len(body)-1]...), appendGoAway(nil, 0, 0)...))
	f.Add(append(appendNumber(nil, windowUpdate, 0, 1), append(appendFrameHead(nil, 8, ping, 0, 0), "12345678"...)...))
	f.Add(append(head(0), appendFrameHead(nil, 0, continuation, flagEndHeaders, 1)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		in = append(append([]byte(Preface), appendFrameHead(nil, 0, settings, 0, 0)...), in...)
		nc := &script{}
		nc.Reset(in)
		cfg := &Config{MaxStreams: 10, MaxHead: 4 << 10, HeaderTimeout: time.Second, IdleTimeout: time.Second, BodyTimeout: time.Second, WriteTimeout: time.Second}
		cfg.Serve = func(s *Stream) {
			defer s.Finish()
			var r wire.Request
			r.Reset()
			if done, err := r.Parse(s.Head()); err == nil && len(s.Head()) > 0 && (!done || r.Size() != len(s.Head())) {
				t.Errorf("a head of %d bytes ends after %d (%v): %q", len(s.Head()), r.Size(), done, s.Head())
			}
			var p [100]byte
			total := int64(0)
			for {
				n, end, err := s.Receive(p[:])
				if total += int64(n); err != nil {
					return
				}
				if end {
					break
				}
			}
			if r.Length() >= 0 && total != r.Length() {
				t.Errorf("content-length %d, body of %d", r.Length(), total)
			}
			a := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
			_ = s.Send([]byte(a+"hi"), len(a), true) // the client may be gone
		}
		_ = New(cfg, nc).Serve(nil) // any end is one
		for said := nc.said.Bytes(); len(said) > 0; {
			if len(said) < frameHead || len(said) < frameHead+payloadSize(said) {
				t.Fatalf("half a frame: % x", said)
			}
			said = said[frameHead+payloadSize(said):]
		}
	})
}
