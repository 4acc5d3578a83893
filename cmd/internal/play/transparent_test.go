package play_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"banyan/cmd/internal/play"
	"banyan/proxy"
	"banyan/proxy/upstream"
	"banyan/testdata/game"
	"banyan/testdata/lab"
)

// pairField tells which request on one side is which on the other.
const pairField = "X-Pair"

// pair is one request and its answer, as one side has them.
type pair struct{ request, answer []byte }

// pairs are what was said at one place.
type pairs struct {
	mu sync.Mutex
	of map[string]pair
}

func (p *pairs) add(id string, request, answer []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[string]pair{}
	}
	if was, twice := p.of[id]; twice {
		id, request = id+" again", append(was.request, request...)
	}
	p.of[id] = pair{request, answer}
}

// exchange reads one answer to r from br, and what it was in bytes.
func exchange(br *bufio.Reader, raw *bytes.Buffer, r *http.Request) (*http.Response, []byte, error) {
	resp, err := http.ReadResponse(br, r)
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	answer := bytes.Clone(raw.Bytes())
	raw.Reset()
	return resp, answer, err
}

// recorder carries players' requests, each on a connection of its own, and keeps the bytes.
type recorder struct {
	pairs
	addr string
	n    atomic.Int64
}

func (c *recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	id := strconv.FormatInt(c.n.Add(1), 10)
	r = r.Clone(r.Context())
	r.Header.Set(pairField, id)
	var request, answer bytes.Buffer
	if err := r.Write(&request); err != nil {
		return nil, err
	}
	nc, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", c.addr)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	defer context.AfterFunc(r.Context(), func() { nc.Close() })()
	if _, err := nc.Write(request.Bytes()); err != nil {
		return nil, err
	}
	resp, raw, err := exchange(bufio.NewReader(io.TeeReader(nc, &answer)), &answer, r)
	if err == nil {
		c.add(id, request.Bytes(), raw)
	}
	return resp, err
}

// tap stands between the proxy and legacy and keeps the bytes.
type tap struct {
	pairs
	legacy string
}

func (p *tap) serve(t *testing.T) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() { // ends with the listener
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.relay(t, nc) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String()
}

// relay ends when the proxy closes the connection.
func (p *tap) relay(t *testing.T, nc net.Conn) {
	defer nc.Close()
	up, err := net.Dial("tcp", p.legacy)
	if err != nil {
		t.Error(err)
		return
	}
	defer up.Close()
	var request, answer bytes.Buffer
	in, out := bufio.NewReader(io.TeeReader(nc, &request)), bufio.NewReader(io.TeeReader(up, &answer))
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
			return
		}
		sent := bytes.Clone(request.Bytes())
		request.Reset()
		if _, err := up.Write(sent); err != nil {
			t.Error(err)
			return
		}
		_, got, err := exchange(out, &answer, r)
		if err != nil {
			t.Error(err)
			return
		}
		p.add(r.Header.Get(pairField), sent, got)
		if _, err := nc.Write(got); err != nil {
			t.Error(err)
			return
		}
	}
}

// cut gives the lines of a head that do not belong to one connection, and the body without its framing.
func cut(t *testing.T, message []byte) (lines []string, body string) {
	t.Helper()
	head, rest, ok := bytes.Cut(message, []byte("\r\n\r\n"))
	if !ok {
		t.Fatalf("no head in %.200q", message)
	}
	for line := range strings.SplitSeq(string(head), "\r\n") {
		switch name, value, _ := strings.Cut(strings.ToLower(line), ":"); {
		case name == "connection" || name == "keep-alive":
		case name == "transfer-encoding" && strings.TrimSpace(value) == "chunked":
			b, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(rest)))
			if err != nil {
				t.Fatal(err)
			}
			rest = b
			lines = append(lines, line)
		default:
			lines = append(lines, line)
		}
	}
	return lines, string(rest)
}

// passThrough is a proxy that hands everything to u.
func passThrough(t *testing.T, u upstream.Upstream) (addr string) {
	t.Helper()
	s, err := proxy.NewServer(proxy.Config{}, &proxy.Passthrough{Upstream: u}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := proxy.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }() // ends with Shutdown
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		<-done
	})
	return l.Addr().String()
}

func overHTTP(t *testing.T, legacy string) upstream.Upstream {
	t.Helper()
	u, err := upstream.New(upstream.Config{Name: "legacy", URL: "http://" + legacy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

// TestTheGameCannotTell plays through the proxy, with a tap on each side of it: what legacy got and what the players got
// is what was sent, but for the fields that package proxy names.
func TestTheGameCannotTell(t *testing.T) {
	address, _ := world(t)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: game.Root(), Workers: 4, Env: address.Env(t.TempDir(), true)})
	legacy := strings.TrimPrefix(lab.NginxPHP(t, fpm, game.Root()), "http://")
	behind := &tap{legacy: legacy}
	before := &recorder{addr: passThrough(t, overHTTP(t, behind.serve(t)))}
	const requests = 1000
	d, err := play.New(play.Config{BaseURL: "http://" + before.addr, Players: 12, Matches: 2, Seed: 2, Requests: requests, Transport: before})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(before.of); n < requests {
		t.Errorf("%d pairs, want %d", n, requests)
	}
	if len(before.of) != len(behind.of) {
		t.Errorf("players have %d pairs, legacy %d", len(before.of), len(behind.of))
	}
	statuses := map[string]int{}
	for id, client := range before.of {
		lines, body := cut(t, client.request)
		want := fmt.Sprintf("%q", append(lines, "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: "+before.addr))
		lines, got := cut(t, behind.of[id].request)
		if fmt.Sprintf("%q", lines) != want || got != body {
			t.Fatalf("pair %s: legacy got\n%q\n%q\nwant\n%s\n%q", id, lines, got, want, body)
		}
		sent, wantBody := cut(t, behind.of[id].answer)
		lines, body = cut(t, client.answer)
		if fmt.Sprint(lines) != fmt.Sprint(sent) || body != wantBody {
			t.Fatalf("pair %s: the player got\n%q\n%q\nwant\n%q\n%q", id, lines, body, sent, wantBody)
		}
		statuses[strings.Fields(lines[0])[1]]++
	}
	for _, s := range []string{"200", "302"} {
		if statuses[s] == 0 {
			t.Errorf("no answer was a %s: %v", s, statuses)
		}
	}
	t.Logf("%d pairs: %v", len(before.of), statuses)
}

// differs is what two answers to the same request differ in, whoever passes them on.
var differs = regexp.MustCompile(`(?m)^Date: .*$|PHPSESSID=\w+|name="token" value="\w+"`)

// TestDirectAndThrough asks scripts and files whose answers do not change, of legacy itself and through the proxy.
func TestDirectAndThrough(t *testing.T) {
	address, _ := world(t)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: game.Root(), Workers: 4, Env: address.Env(t.TempDir(), true)})
	legacy := strings.TrimPrefix(lab.NginxPHP(t, fpm, game.Root()), "http://")
	through := passThrough(t, overHTTP(t, legacy))
	for _, c := range []struct{ method, target, fields, body string }{
		{"GET", "/", "", ""},
		{"GET", "/index.php?page=login", "", ""},
		{"HEAD", "/index.php?page=login", "", ""},
		{"GET", "/index.php?page=map", "", ""},
		{"GET", "/index.php?page=nowhere", "", ""},
		{"POST", "/index.php?page=login&action=login", "Content-Type: application/x-www-form-urlencoded\r\n", "login=p1_1&password=wrong"},
		{"POST", "/api.php", "Content-Type: application/json\r\n", `{"action":"state"}`},
		{"POST", "/api.php", "Content-Type: application/json\r\n", `{`},
		{"GET", "/style.css", "", ""},
		{"GET", "/style.css", "Range: bytes=0-9\r\n", ""},
		{"GET", "/style.css", "Range: bytes=9999999-\r\n", ""},
		{"GET", "/style.css", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n", ""},
		{"GET", "/missing.png", "", ""},
		{"GET", "/..%2f", "", ""},
		{"DELETE", "/style.css", "", ""},
	} {
		request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: game\r\n%sContent-Length: %d\r\n\r\n%s", c.method, c.target, c.fields, len(c.body), c.body)
		ask := func(addr string) string {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if _, err := io.WriteString(nc, request); err != nil {
				t.Fatal(err)
			}
			var raw bytes.Buffer
			_, answer, err := exchange(bufio.NewReader(io.TeeReader(nc, &raw)), &raw, &http.Request{Method: c.method})
			if err != nil {
				t.Fatalf("%s %s: %v", c.method, c.target, err)
			}
			lines, body := cut(t, answer)
			return differs.ReplaceAllString(strings.Join(lines, "\n")+"\n\n"+body, "…")
		}
		if want, got := ask(legacy), ask(through); got != want {
			t.Errorf("%s %s %s: through the proxy\n%s\ndirect\n%s", c.method, c.target, c.fields, got, want)
		}
	}
}
