package proxy_test

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/proxy"
)

// corpusCase is a line of the corpus of malformed messages.
type corpusCase struct {
	Name, Side, Expected, Enc string
	Raw                       []byte
	Method                    string
	Want                      []seen
	AltWant                   [][]seen          `json:"alt_want"`
	WantReject                []seen            `json:"want_reject"`
	MustNot                   []string          `json:"must_not"`
	MustNotValue              map[string]string `json:"must_not_value"`
	MustHave                  map[string]string `json:"must_have"`
	MustHaveName              []string          `json:"must_have_name"`
	EOF, RClose               bool
	Body                      string
	Status                    int
}

// seen is a request as the origin got it: method, target, body in base64.
type seen [3]string

func loadCorpus(t testing.TB) (cases []corpusCase) {
	b, err := os.ReadFile("../testdata/corpora/http/http-malformed.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for l := range bytes.Lines(b) {
		var c corpusCase
		if err := json.Unmarshal(l, &c); err != nil {
			t.Fatal(err)
		}
		if c.Enc == "zlib" {
			z, err := zlib.NewReader(bytes.NewReader(c.Raw))
			if err != nil {
				t.Fatal(err)
			}
			if c.Raw, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
		cases = append(cases, c)
	}
	return cases
}

// strictOrigin reads requests by the letter, and notes each whole one and each breach of the grammar.
type strictOrigin struct {
	mu         sync.Mutex
	requests   []seen
	fields     []map[string][]string
	violations []string
	open       int // heads whose request has not ended yet
	answer     []byte
	rclose     bool
}

var errViolation = errors.New("violation")

var (
	tokenRE = regexp.MustCompile("^[!#$%&'*+\\-.^_`|~0-9A-Za-z]+$")
	sizeRE  = regexp.MustCompile(`^([0-9A-Fa-f]{1,16})((?:[ \t]*;[^\r\n\x00]*)?)$`)
	lenRE   = regexp.MustCompile(`^[0-9]{1,19}$`)
	hostRE  = regexp.MustCompile(`[\s/@,\\]`)
)

func (o *strictOrigin) reset(answer []byte, rclose bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests, o.fields, o.violations, o.answer, o.rclose = nil, nil, nil, answer, rclose
}

func (o *strictOrigin) serve(c net.Conn, r *bufio.Reader) {
	for {
		if _, err := r.Peek(1); err != nil {
			return
		}
		o.mu.Lock()
		o.open++
		o.mu.Unlock()
		more, err := o.one(c, r)
		o.mu.Lock()
		o.open--
		if errors.Is(err, errViolation) {
			o.violations = append(o.violations, err.Error())
		}
		o.mu.Unlock()
		if err != nil || !more {
			return
		}
	}
}

func strictLine(r *bufio.Reader) (string, error) {
	l, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	l, ok := strings.CutSuffix(l, "\r\n")
	if !ok || strings.ContainsAny(l, "\r\n") {
		return "", fmt.Errorf("%w: line %.60q", errViolation, l)
	}
	return l, nil
}

func strictFields(r *bufio.Reader) (map[string][]string, error) {
	hs := map[string][]string{}
	for {
		l, err := strictLine(r)
		if err != nil || l == "" {
			return hs, err
		}
		n, v, ok := strings.Cut(l, ":")
		if !ok || !tokenRE.MatchString(n) || strings.Contains(v, "\x00") {
			return nil, fmt.Errorf("%w: field %.60q", errViolation, l)
		}
		n = strings.ToLower(n)
		hs[n] = append(hs[n], strings.Trim(v, " \t"))
	}
}

// one reads a request and answers it; more tells whether the connection goes on.
func (o *strictOrigin) one(c net.Conn, r *bufio.Reader) (more bool, err error) {
	line, err := strictLine(r)
	if err != nil {
		return false, err
	}
	bad := func(what string) (bool, error) { return false, fmt.Errorf("%w: %s in %.80q", errViolation, what, line) }
	p := strings.Split(line, " ")
	if len(p) != 3 || !tokenRE.MatchString(p[0]) || p[2] != "HTTP/1.1" && p[2] != "HTTP/1.0" || p[1] == "" || strings.Contains(p[1], "#") {
		return bad("request line")
	}
	hs, err := strictFields(r)
	if err != nil {
		return false, err
	}
	cl, te, host := hs["content-length"], hs["transfer-encoding"], hs["host"]
	switch {
	case len(host) > 1 || p[2] == "HTTP/1.1" && len(host) != 1 || len(host) == 1 && hostRE.MatchString(host[0]):
		return bad("host")
	case len(cl)+len(te) > 1 || len(te) == 1 && (!strings.EqualFold(te[0], "chunked") || p[2] == "HTTP/1.0") || len(cl) == 1 && !lenRE.MatchString(cl[0]):
		return bad("framing")
	}
	var body []byte
	if len(cl) == 1 {
		n, _ := strconv.Atoi(cl[0])
		body, err = io.ReadAll(io.LimitReader(r, int64(n)))
		if err == nil && len(body) < n {
			err = io.ErrUnexpectedEOF
		}
	} else if len(te) == 1 {
		body, err = strictChunks(r)
	}
	if err != nil {
		return false, err
	}
	o.mu.Lock()
	o.requests = append(o.requests, seen{p[0], latin(p[1]), base64.StdEncoding.EncodeToString(body)})
	o.fields = append(o.fields, hs)
	raw, rclose := o.answer, o.rclose
	o.mu.Unlock()
	if strings.HasPrefix(p[1], "/resp-case") && raw != nil {
		_, err = c.Write(raw)
		return !rclose, err
	}
	text := fmt.Sprintf("%s %s %d", p[0], p[1], len(body))
	out := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Echo: %.200s\r\nContent-Length: %d\r\n\r\n", p[1], len(text))
	if p[0] != "HEAD" {
		out += text
	}
	_, err = io.WriteString(c, out)
	return true, err
}

// latin reads bytes as Latin-1, as the corpus writes targets.
func latin(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

func strictChunks(r *bufio.Reader) (body []byte, err error) {
	for {
		l, err := strictLine(r)
		if err != nil {
			return nil, err
		}
		m := sizeRE.FindStringSubmatch(l)
		if m == nil {
			return nil, fmt.Errorf("%w: chunk size %.40q", errViolation, l)
		}
		n, _ := strconv.ParseInt(m[1], 16, 64)
		if n == 0 {
			_, err := strictFields(r)
			return body, err
		}
		data := make([]byte, n+2)
		if _, err := io.ReadFull(r, data); err != nil {
			return nil, err
		}
		if string(data[n:]) != "\r\n" {
			return nil, fmt.Errorf("%w: chunk end", errViolation)
		}
		body = append(body, data[:n]...)
	}
}

// reply is an answer as the client got it.
type reply struct {
	status int
	fields map[string]string
	body   string
	whole  bool
}

// parseReplies reads what the client got. Interim answers are left out.
func parseReplies(data []byte, methods []string) (out []reply) {
	r := bufio.NewReader(bytes.NewReader(data))
	for {
		if _, err := r.Peek(1); err != nil {
			return out
		}
		h, err := head(r)
		if err != nil || len(h) < 12 {
			return append(out, reply{})
		}
		a := reply{fields: map[string]string{}}
		a.status, _ = strconv.Atoi(h[9:12])
		for _, l := range strings.Split(h, "\r\n")[1:] {
			n, v, _ := strings.Cut(l, ":")
			a.fields[strings.ToLower(n)] = strings.TrimSpace(v)
		}
		if a.status >= 100 && a.status < 200 && a.status != 101 {
			continue
		}
		method := "GET"
		if len(methods) > 0 {
			method, methods = methods[0], methods[1:]
		}
		switch {
		case method == "HEAD" || a.status == 204 || a.status == 304:
			a.whole = true
		case a.fields["transfer-encoding"] != "":
			b, err := strictChunks(r)
			a.body, a.whole = string(b), err == nil
		case a.fields["content-length"] != "":
			n, _ := strconv.Atoi(a.fields["content-length"])
			b := make([]byte, n)
			m, err := io.ReadFull(r, b)
			a.body, a.whole = string(b[:m]), err == nil
		default:
			b, _ := io.ReadAll(r)
			a.body, a.whole = string(b), true
		}
		if out = append(out, a); !a.whole {
			return out
		}
	}
}

// TestCorpus holds the proxy to a corpus of malformed and odd messages: none may be read in two ways. Each case's
// connection ends with a half-close, so that "nothing more comes" needs no waiting.
func TestCorpus(t *testing.T) {
	cases := loadCorpus(t)
	if len(cases) != 260 {
		t.Fatalf("%d cases", len(cases))
	}
	for _, mode := range []string{"whole", "drip", "cut"} {
		t.Run(mode, func(t *testing.T) {
			const workers = 8
			var wg sync.WaitGroup
			for w := range workers {
				o := &strictOrigin{}
				l := newOrigin(t, o.serve)
				var wrap []func(net.Listener) net.Listener
				if mode != "whole" {
					wrap = append(wrap, func(l net.Listener) net.Listener { return inPieces{l, mode == "cut"} })
				}
				s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, l)}, wrap...)
				wg.Go(func() {
					for i := w; i < len(cases); i += workers {
						if mode == "drip" && len(cases[i].Raw) > 2048 {
							continue
						}
						if cases[i].Name == "rl-h2-preface" {
							continue // not a request any more: a connection that starts so is HTTP/2, see TestH2Spec
						}
						if why := runCase(t, s, o, &cases[i]); why != "" {
							t.Errorf("%s (%s): %s", cases[i].Name, cases[i].Expected, why)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func runCase(t *testing.T, s *running, o *strictOrigin, c *corpusCase) string {
	method := c.Method
	if method == "" {
		method = "GET"
	}
	raw := string(c.Raw)
	o.reset(nil, false)
	if c.Side == "response" {
		o.reset(c.Raw, c.RClose)
		raw = method + " /resp-case HTTP/1.1\r\nHost: t.local\r\n\r\n"
	}
	data := s.talk(t, raw)
	// A request still under way at the origin belongs to this case.
	for deadline := time.Now().Add(wait); ; time.Sleep(time.Millisecond) {
		o.mu.Lock()
		open := o.open
		o.mu.Unlock()
		if open == 0 || time.Now().After(deadline) {
			break
		}
	}
	o.mu.Lock()
	got, fields, violations := o.requests, o.fields, o.violations
	o.mu.Unlock()
	var methods []string
	for _, g := range got {
		methods = append(methods, g[0])
	}
	if c.Side == "response" {
		methods = []string{method}
	}
	replies := parseReplies([]byte(data), methods)
	for i := range 2 { // whatever came before, the next clients get their own answers
		target := fmt.Sprintf("/probe/%d", i)
		if p := parseReplies([]byte(s.talk(t, "GET "+target+" HTTP/1.1\r\nHost: t.local\r\nConnection: close\r\n\r\n")), nil); len(p) != 1 || p[0].fields["x-echo"] != target {
			return fmt.Sprintf("desync: the next request got %v", p)
		}
	}
	if len(violations) > 0 {
		return "ambiguous: " + violations[0]
	}
	if c.Side == "response" {
		return judgeAnswer(c, method, data, replies)
	}
	return judgeRequest(c, got, fields, replies)
}

func judgeRequest(c *corpusCase, got []seen, fields []map[string][]string, replies []reply) string {
	in := func(l []seen, s seen) bool { return slices.Contains(l, s) }
	for _, g := range got {
		if strings.Contains(g[1], "SMUGGLED") && !in(c.Want, g) && !in(c.WantReject, g) {
			return "desync: a hidden request reached the origin"
		}
	}
	if len(got) > len(replies) && !c.EOF {
		return fmt.Sprintf("desync: %d requests at the origin, %d answers", len(got), len(replies))
	}
	accepted := len(c.Want) > 0 && slices.Equal(got, c.Want)
	for _, alt := range c.AltWant {
		accepted = accepted || slices.Equal(got, alt)
	}
	refused := slices.Equal(got, c.WantReject)
	if len(replies) > 0 && len(got) == 0 && replies[0].status < 400 {
		return fmt.Sprintf("answered %d without asking the origin", replies[0].status)
	}
	switch c.Expected {
	case "close":
		if len(got) > len(c.WantReject) {
			return fmt.Sprintf("a cut request was forwarded as a whole one: %v", got)
		}
	case "reject":
		if !refused || len(replies) == 0 && !c.EOF || len(replies) > 0 && replies[len(replies)-1].status < 400 {
			return fmt.Sprintf("not refused: origin got %v, client got %v", got, replies)
		}
	case "accept":
		if !accepted {
			return fmt.Sprintf("not accepted: origin got %.200v, want %.200v", got, c.Want)
		}
	default:
		if !accepted && !refused && len(c.Want) > 0 {
			return fmt.Sprintf("forwarded otherwise: %.200v, want %.200v or nothing", got, c.Want)
		}
	}
	if len(fields) == 0 {
		return ""
	}
	h := fields[0]
	for _, n := range c.MustNot {
		if name, v, ok := strings.Cut(n, ":"); ok && slices.Contains(h[name], v) || h[n] != nil {
			return "forwarded field " + n
		}
	}
	for n, v := range c.MustNotValue {
		if slices.Equal(h[n], []string{v}) {
			return "forwarded field " + n
		}
	}
	for n, v := range c.MustHave {
		if !slices.Contains(h[n], v) {
			return fmt.Sprintf("field %s is %v, want %s", n, h[n], v)
		}
	}
	for _, n := range c.MustHaveName {
		if h[n] == nil {
			return "no field " + n
		}
	}
	return ""
}

func judgeAnswer(c *corpusCase, method, data string, replies []reply) string {
	if len(replies) > 1 && method != "HEAD" || strings.Contains(data, "SMUGGLED") {
		return "desync: more than one answer"
	}
	h, _, _ := strings.Cut(data, "\r\n\r\n")
	if strings.ContainsAny(strings.ReplaceAll(h, "\r\n", ""), "\r\n\x00") {
		return "ambiguous: bare CR, LF or NUL sent to the client"
	}
	broken := len(replies) == 0 || !replies[0].whole || replies[0].status >= 500
	status := c.Status
	if status == 0 {
		status = 200
	}
	good := len(replies) > 0 && replies[0].whole && replies[0].body == c.Body && replies[0].status == status
	switch c.Expected {
	case "accept":
		if !good {
			return fmt.Sprintf("client got %v", replies)
		}
	case "close", "reject":
		if !broken {
			return fmt.Sprintf("passed on: %v", replies)
		}
	default:
		if !good && !broken {
			return fmt.Sprintf("client got %v", replies)
		}
	}
	for _, n := range c.MustNot {
		if _, ok := replies[0].fields[n]; ok {
			return "passed field " + n
		}
	}
	return ""
}
