package proxy_test

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"

	"banyan/proxy"
)

var update = flag.Bool("update", false, "rewrite testdata/desync.txt")

// TestDesync sends each request of the table over HTTP/2, and then a harmless one. The table says what became of it, and
// what the origin behind a tap got: one request, or none. Cases are separated by empty lines; "> " starts what came out.
func TestDesync(t *testing.T) {
	b, err := os.ReadFile("testdata/desync.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cases := 0
	for _, text := range strings.Split(strings.TrimSpace(string(b)), "\n\n") {
		lines := strings.Split(text, "\n")
		if !strings.HasPrefix(lines[0], "case ") {
			out.WriteString(text + "\n\n")
			continue
		}
		cases++
		var in []string
		for _, l := range lines {
			if !strings.HasPrefix(l, "> ") {
				in = append(in, l)
			}
		}
		var result []string
		t.Run(strings.TrimPrefix(in[0], "case "), func(t *testing.T) { result = desync(t, in) })
		now := strings.Join(append(in, result...), "\n")
		if d := cmp.Diff(text, now); d != "" && !*update {
			t.Errorf("%s\n%s", in[0], d)
		}
		out.WriteString(now + "\n\n")
	}
	if cases < 60 {
		t.Errorf("%d cases, want 60 or more", cases)
	}
	if *update {
		if err := os.WriteFile("testdata/desync.txt", []byte(strings.TrimSpace(out.String())+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// desync runs one case: field lines ("get" and "post" stand for four pseudo fields), "repeat N field", "body quoted",
// "end" without a body, "open" without an end, "trailer field", "trailers go on".
func desync(t *testing.T, in []string) (out []string) {
	origin := &strictOrigin{}
	tp := newTap(t, newOrigin(t, origin.serve))
	s := serve(t, proxy.Config{MaxHead: 16 << 10}, &proxy.Passthrough{Upstream: pool(t, tp)})
	f := s.prior(t)
	defer f.nc.Close()
	var fields, trailers, body []string
	end, more, open := false, false, false
	for _, l := range in[1:] {
		word, rest, _ := strings.Cut(l, " ")
		switch word {
		case "get":
			fields = append(fields, get("/x")...)
		case "post":
			fields = append(fields, post("/x")...)
		case "repeat":
			n, field, _ := strings.Cut(rest, " ")
			count, _ := strconv.Atoi(n)
			for range count {
				fields = append(fields, field)
			}
		case "long":
			fields = append(fields, "x-long: "+strings.Repeat("a", 20<<10))
		case "body":
			q, err := strconv.Unquote(rest)
			if err != nil {
				t.Fatalf("%s: %v", l, err)
			}
			body = append(body, q)
		case "end":
			end = true
		case "open":
			open = true
		case "trailer":
			trailers = append(trailers, rest)
		case "trailers":
			more = true
		default:
			fields = append(fields, l)
		}
	}
	end = end || len(body)+len(trailers) == 0
	block := f.encode(fields...)
	n := min(len(block), 16<<10)
	f.do(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:n], EndStream: end, EndHeaders: n == len(block)}))
	if n < len(block) {
		f.do(f.WriteContinuation(1, true, block[n:]))
	}
	for i, b := range body {
		f.do(f.WriteData(1, i == len(body)-1 && trailers == nil && !open, []byte(b)))
	}
	if trailers != nil {
		f.ask(1, !more, trailers...)
	}
	g := f.answer(1)
	out = append(out, "> "+strings.ReplaceAll(g.String(), "\n", " "))
	after := s.prior(t)
	defer after.nc.Close()
	after.ask(1, true, get("/harmless")...)
	if g := after.answer(1); g.status != 200 || string(g.body) != "GET /harmless 0" {
		t.Errorf("%s: the harmless request got %v", in[0], g)
	}
	origin.mu.Lock()
	defer origin.mu.Unlock()
	want := 1
	if strings.HasPrefix(out[0], "> answer 200") {
		want = 2
	}
	if n := len(origin.requests); n != want || len(origin.violations) > 0 {
		t.Errorf("the origin saw %d requests, with the harmless one, and not %d: %q, %q", n, want, origin.requests, origin.violations)
	}
	up, _ := tp.take()
	if strings.HasPrefix(out[0], "> reset") || strings.HasPrefix(out[0], "> goaway") {
		return out // of a body that turns out to be wrong, a part may have been on its way
	}
	up, _, _ = strings.Cut(up, "GET /harmless HTTP/1.1\r\n")
	for l := range strings.Lines(up) {
		l = strings.TrimSuffix(strings.TrimSuffix(l, "\n"), "\r")
		if q := fmt.Sprintf("%q", l); q != `"`+strings.ReplaceAll(l, `"`, `\"`)+`"` {
			l = q
		}
		if len(l) > 120 {
			l = l[:120] + "..."
		}
		out = append(out, "> origin: "+l)
	}
	return out
}
