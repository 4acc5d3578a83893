package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"banyan/proxy/h2"
)

// frames is a client of HTTP/2 that sends whatever frames a test wants.
type frames struct {
	*http2.Framer
	t     testing.TB
	nc    net.Conn
	enc   *hpack.Encoder
	block bytes.Buffer
}

// prior connects with the preface in clear, or takes a connection that is there.
func (s *running) prior(t testing.TB, settings ...http2.Setting) *frames {
	t.Helper()
	return over(t, s.dial(t), settings...)
}

func over(t testing.TB, nc net.Conn, settings ...http2.Setting) *frames {
	t.Helper()
	f := &frames{Framer: http2.NewFramer(nc, nc), t: t, nc: nc}
	f.AllowIllegalWrites = true
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.enc = hpack.NewEncoder(&f.block)
	f.must(io.WriteString(nc, h2.Preface))
	f.do(f.WriteSettings(settings...))
	return f
}

func (f *frames) must(_ int, err error) { f.t.Helper(); f.do(err) }

func (f *frames) do(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// encode makes a header block of lines "name: value"; a line in quotes has a quoted name and a quoted value.
func (f *frames) encode(lines ...string) []byte {
	f.block.Reset()
	for _, l := range lines {
		name, value := cutField(f.t, l)
		f.do(f.enc.WriteField(hpack.HeaderField{Name: name, Value: value}))
	}
	return bytes.Clone(f.block.Bytes())
}

func cutField(t testing.TB, l string) (name, value string) {
	t.Helper()
	if !strings.HasPrefix(l, `"`) {
		i := strings.Index(l[1:], ":") + 1
		return l[:i], strings.TrimPrefix(l[i+1:], " ")
	}
	q, err := strconv.QuotedPrefix(l)
	if err == nil {
		name, err = strconv.Unquote(q)
	}
	if err == nil {
		value, err = strconv.Unquote(strings.TrimSpace(l[len(q):]))
	}
	if err != nil {
		t.Fatalf("%s: %v", l, err)
	}
	return name, value
}

func get(path string) []string {
	return []string{":method: GET", ":scheme: http", ":authority: t", ":path: " + path}
}

func post(path string, more ...string) []string {
	return append([]string{":method: POST", ":scheme: http", ":authority: t", ":path: " + path}, more...)
}

// ask sends HEADERS.
func (f *frames) ask(id uint32, end bool, lines ...string) {
	f.t.Helper()
	f.do(f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.encode(lines...), EndStream: end, EndHeaders: true}))
}

// got is what came of one stream.
type got struct {
	status  int
	fields  map[string][]string
	body    []byte
	interim []int
	reset   string // code of RST_STREAM
	ended   bool
	goAway  string // code, when the connection ended instead
	closed  bool
}

func (g got) String() string {
	switch {
	case g.reset != "" && !g.ended:
		return "reset " + g.reset
	case g.goAway != "" && !g.ended:
		return "goaway " + g.goAway
	case g.closed && !g.ended:
		return "closed"
	}
	body := strconv.QuoteToASCII(strings.TrimSpace(string(g.body)))
	return strings.TrimSpace(fmt.Sprintf("answer %d %s", g.status, body[1:len(body)-1]))
}

// answer reads until stream id has ended, in one way or another. Frames of other streams are passed over.
func (f *frames) answer(id uint32) (g got) {
	f.t.Helper()
	g.fields = map[string][]string{}
	f.nc.SetReadDeadline(time.Now().Add(wait))
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			g.closed = true
			if strings.Contains(err.Error(), "timeout") {
				f.t.Fatalf("stream %d: nothing came for %v", id, wait)
			}
			return g
		}
		if fr, ok := fr.(*http2.GoAwayFrame); ok && fr.ErrCode != http2.ErrCodeNo {
			g.goAway = fr.ErrCode.String()
			return g
		}
		if fr.Header().StreamID != id {
			continue
		}
		switch fr := fr.(type) {
		case *http2.MetaHeadersFrame:
			n, _ := strconv.Atoi(fr.PseudoValue("status"))
			if n < 200 {
				g.interim = append(g.interim, n)
				continue
			}
			g.status = n
			for _, h := range fr.RegularFields() {
				g.fields[h.Name] = append(g.fields[h.Name], h.Value)
			}
			g.ended = fr.StreamEnded()
		case *http2.DataFrame:
			g.body = append(g.body, fr.Data()...)
			g.ended = fr.StreamEnded()
		case *http2.RSTStreamFrame:
			g.reset = fr.ErrCode.String()
			return g
		}
		if g.ended {
			return g
		}
	}
}

// last reads until the connection ends, and gives the code of its GOAWAY.
func (f *frames) last() string {
	f.t.Helper()
	code := "none"
	f.nc.SetReadDeadline(time.Now().Add(wait))
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			if strings.Contains(err.Error(), "timeout") {
				f.t.Fatal("the connection did not end")
			}
			return code
		}
		if g, ok := fr.(*http2.GoAwayFrame); ok {
			code = g.ErrCode.String()
		}
	}
}
