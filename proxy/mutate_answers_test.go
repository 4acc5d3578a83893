package proxy_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// answerScript is what legacy says to one request of a stream, instead of a good answer.
type answerScript struct {
	stream   string
	delivery string
	at       int // the request
	raw      string
	pieces   int // in how many writes
}

// then says what becomes of a legacy connection after an answer.
type then uint8

const (
	goOn     then = iota
	neverUse      // whatever comes on it was sent by mistake
	closeIt
)

// reading is how the reference reads the scripted answer to q.
func (s *answerScript) reading(q *refMessage) (interim []refMessage, a refMessage, rest string, fault *refFault, after then) {
	interim, a, rest, fault = refAnswer(s.raw, q.method == "HEAD", mutationLimits.fields)
	switch {
	case fault != nil && fault.kind == refUnfinished, fault == nil && a.untilClose(q):
		after = closeIt
	case fault != nil || rest != "" || a.last:
		after = neverUse
	}
	return
}

// untilClose tells whether only the connection's end ends the body.
func (q *refMessage) untilClose(to *refMessage) bool {
	return to.method != "HEAD" && q.status != 204 && q.status != 304 && !q.chunked && q.length < 0
}

// answer is what legacy writes to the i-th request: what comes behind the answer's end leaves with its last byte, as a
// proxy cannot know of what has not come.
func (s *answerScript) answer(i int, q *refMessage) (writes []string, after then) {
	if i != s.at {
		return []string{goodAnswer(i, q)}, goOn
	}
	_, _, rest, _, after := s.reading(q)
	raw, end := s.raw, len(s.raw)-len(rest)-1
	for n := s.pieces; n > 1 && end > 1; n-- {
		cut := max(1, end/n)
		writes = append(writes, raw[:cut])
		raw, end = raw[cut:], end-cut
	}
	return append(writes, raw), after
}

// runAnswer sends the stream while legacy follows the script, and says what is wrong with what the client got, or with
// what the next client gets.
func (g *rig) runAnswer(s *answerScript) string {
	g.handle.Store("pass")
	g.legacy.note(func() { g.script = s })
	data, err := g.talk(s.stream, s.delivery)
	got, torn, wrong, late := g.settle()
	g.legacy.note(func() { g.script = nil })
	want := refRead(s.stream, mutationLimits)
	switch {
	case late != nil:
		return late.Error()
	case len(wrong)+len(torn) > 0:
		return fmt.Sprintf("legacy got %q, %q", wrong, torn)
	case err != nil && !errors.Is(err, syscall.ECONNRESET):
		return fmt.Sprintf("the client, who had %.300q, got no end: %v", data, err)
	}
	if why := s.judge(&want, got, data, err); why != "" {
		return why
	}
	if why := g.run("GET /probe HTTP/1.1\r\nHost: t\r\n\r\n", "whole", "pass"); why != "" {
		return "the next client: " + why
	}
	return ""
}

func (s *answerScript) judge(want *refReading, got []refMessage, data string, err error) string {
	before, after := refReading{requests: want.requests[:s.at]}, refReading{requests: want.requests[s.at+1:]}
	q := &want.requests[s.at]
	rest, why := judgeAnswers(&before, 0, data)
	if why != "" {
		return why
	}
	interim, a, _, fault, _ := s.reading(q)
	var said string
	for _, m := range interim {
		if head := m.passed(q); m.status != 100 && q.minor == 1 {
			if fault != nil && !strings.HasPrefix(rest, said+head) {
				break
			}
			said += head
		}
	}
	rest, ok := strings.CutPrefix(rest, said)
	if !ok {
		return fmt.Sprintf("the client did not get the interim answers, but %.300q", rest)
	}
	_, c, behind, bad := refAnswer(rest, q.method == "HEAD", legacyLimits.fields)
	switch {
	case fault == nil && err == nil:
		if bad != nil || c.head != a.passed(q) {
			return fmt.Sprintf("the client got %.300q for %.300q", rest, s.raw)
		}
		if q.minor == 0 { // its end is that of the connection
			c.body, behind = rest[len(c.head):], ""
		}
		if c.body != a.body || a.untilClose(q) && q.minor == 1 && !c.chunked {
			return fmt.Sprintf("the client got the body %.300q, want %.300q", c.body, a.body)
		}
	case fault == nil:
		return fmt.Sprintf("the client, who had %.300q, got no end: %v", data, err)
	case bad == nil && c.status == 502 && slices.Equal(c.all("content-type"), []string{"text/plain; charset=utf-8"}):
	case rest == "" && s.raw == "" && s.at > 0 && len(got) == s.at+1 && (q.method == "GET" || q.method == "HEAD"):
		return "" // the end of a kept connection of legacy is that of the client's, see Exchange.passesOn
	case a.head != "" && strings.HasPrefix(rest, a.passed(q)) && (bad != nil && bad.kind == refUnfinished || q.minor == 0) && strings.HasPrefix(a.body, c.body):
		return "" // cut, and seen to be
	default:
		return fmt.Sprintf("the client got %.300q for %s: %.300q", rest, fault.why, s.raw)
	}
	if behind, why = judgeAnswers(&after, s.at+1, behind); why == "" && behind != "" {
		why = fmt.Sprintf("the client got an answer to nothing: %.300q", behind)
	}
	if why == "" && len(got) != len(want.requests) {
		why = fmt.Sprintf("legacy got %d requests of %d", len(got), len(want.requests))
	}
	return why
}

const poison = "HTTP/1.1 200 OK\r\nX-Seq: 99\r\nContent-Length: 8\r\n\r\nPOISONED"

// answerMutators change what an answer says; those of draftMutators are made for requests, and do here as well.
var answerMutators = []struct {
	name   string
	mutate func(d *draft, r *rand.Rand)
}{
	{"status", func(d *draft, r *rand.Rand) {
		d.line = "HTTP/1.1 " + oneOf(r, "204 No Content", "304 Not Modified", "101 Switching Protocols", "100 Continue", "199 x", "205 x", "999 x", "099 x", "1000 x", "20 x", "200", "200 ", "200\t", "2OO OK", "200 O\x00K", "200 O\rK", "200 caf\xe9", "+200", "200OK", " 200 OK")
	}},
	{"version", func(d *draft, r *rand.Rand) {
		d.line = oneOf(r, "HTTP/1.0", "HTTP/1.0", "HTTP/2.0", "HTTP/1.2", "http/1.1", "HTTP/1.1 ", "ICY", "HTTP/1.01", "HTTP/0.9") + " 200 OK"
	}},
	{"interim", func(d *draft, r *rand.Rand) {
		i := oneOf(r, "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "HTTP/1.1 102 x\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 199 x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", "HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "HTTP/1.1 100 Continue\n\n", "HTTP/1.1 103 x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", "HTTP/1.0 100 x\r\n\r\n")
		d.line = strings.Repeat(i, []int{1, 1, 2, 64, 65, 100}[r.IntN(6)]) + d.line
	}},
	{"no framing", func(d *draft, r *rand.Rand) { d.framing, d.length = "", "" }},
	{"connection", func(d *draft, r *rand.Rand) {
		d.fields = append(d.fields, "Connection: "+oneOf(r, "close", "keep-alive", "X-A", "Content-Length", "Set-Cookie", "transfer-encoding", "upgrade"), oneOf(r, "Keep-Alive: timeout=0", "Keep-Alive: timeout=5", "Upgrade: h2c", "Trailer: X"))
	}},
}

// newScript is a pipeline and one mutated answer to it.
func newScript(r *rand.Rand, used map[string]int) *answerScript {
	s := &answerScript{delivery: []string{"whole", "split", "cut"}[r.IntN(3)], pieces: 1 + r.IntN(3)}
	n := 1 + r.IntN(4)
	s.at = r.IntN(n)
	for i := range n {
		line, fields := oneOf(r, "GET", "GET", "HEAD", "OPTIONS")+fmt.Sprintf(" /%d HTTP/1.", i), "\r\nHost: t\r\n"
		switch last := i == n-1; {
		case last && r.IntN(4) == 0:
			s.stream += line + "0" + fields + "\r\n"
		case last && r.IntN(4) == 0:
			s.stream += line + "1" + fields + "Connection: close\r\n\r\n"
		case r.IntN(4) == 0:
			s.stream += "POST /p HTTP/1.1" + fields + "Content-Length: 5\r\n\r\nhello"
		default:
			s.stream += line + "1" + fields + "\r\n"
		}
	}
	d := &draft{line: "HTTP/1.1 " + oneOf(r, "200 OK", "200 OK", "404 Not Found", "302 x", "500 Oops", "206 x", "204 x", "304 x"), last: "0"}
	for range r.IntN(4) {
		d.fields = append(d.fields, answerOddities[r.IntN(len(answerOddities))])
	}
	d.addBody(r)
	d.fields = slices.DeleteFunc(d.fields, func(f string) bool { return strings.HasPrefix(f, "Expect") })
	if r.IntN(5) == 0 {
		d.framing = ""
	}
	mutators := answerMutators
	for range []int{0, 1, 1, 1, 2, 3}[r.IntN(6)] {
		if r.IntN(3) > 0 {
			mutators = draftMutators
		}
		m := mutators[r.IntN(len(mutators))]
		m.mutate(d, r)
		used[m.name]++
	}
	if s.raw = d.text(r); r.IntN(3) == 0 && s.raw != "" {
		m := byteMutators[r.IntN(len(byteMutators))]
		s.raw = m.mutate(s.raw, r)
		used["bytes: "+m.name]++
	}
	if r.IntN(5) == 0 {
		s.raw += oneOf(r, poison, "\r\n", "x", "\r\n"+poison, "0\r\n\r\n", poison+poison)
		used["excess"]++
	}
	return s
}

// TestMutatedAnswers lets legacy answer one request of a pipeline badly, always the same ways. The client gets exactly
// the right answer, or an error, or one that is seen to be cut; and nothing of it reaches another request.
func TestMutatedAnswers(t *testing.T) { mutatedAnswers(t, 1, 3000, time.Now().Add(time.Minute)) }

func mutatedAnswers(t *testing.T, seed uint64, n int, until time.Time) int {
	used, ends := map[string]int{}, map[string]int{}
	g := newRig(t)
	for i := range n {
		if i%64 == 0 && time.Now().After(until) {
			n = i
			break
		}
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		s := newScript(r, used)
		if why := g.runAnswer(s); why != "" {
			least, why2 := shrink(t, s.raw, why, func(raw string, g *rig) string {
				less := *s
				less.raw = raw
				return g.runAnswer(&less)
			})
			t.Fatalf("seed %d, answer %d: %s\nshrunk: %s\n{%q, %q, %d, %q, %d},", seed, i, why, why2, s.stream, s.delivery, s.at, least, s.pieces)
		}
		q := refRead(s.stream, mutationLimits).requests[s.at]
		_, _, rest, fault, _ := s.reading(&q)
		switch {
		case fault != nil && fault.kind == refUnfinished:
			ends["cut"]++
		case fault != nil:
			ends["malformed"]++
		case rest != "":
			ends["good, with excess"]++
		default:
			ends["good"]++
		}
	}
	t.Logf("%d answers: %v; mutations %v", n, ends, used)
	return n
}

// mutatedAnswerRows are answers that were once passed on wrongly, by the proxy or by a bug planted into it.
var mutatedAnswerRows = []struct{ name, raw string }{
	{"excess behind a bare 404", "HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\nx"},
	{"another answer behind one", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + poison},
	{"another answer behind a last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + poison},
	{"nothing", ""}, // the client's connection ends as legacy's does
	{"cut in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"},
	{"coding of a 204", "HTTP/1.1 204 \r\nTransfer-Encoding: chunked\r\n\r\n"},
	{"length of a 204", "HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n"},
	{"same length twice", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"},
	{"65 interim answers", strings.Repeat("HTTP/1.1 103 x\r\n\r\n", 65) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
	{"Connection lists a request's field", "HTTP/1.1 206 x\r\nX-Forwarded-For: 1\r\nExpect: x\r\nConnection: X-Forwarded-For, expect\r\nContent-Length: 2\r\n\r\nok"},
}

func TestMutatedAnswerRows(t *testing.T) {
	for _, row := range mutatedAnswerRows {
		scope := &trial{TB: t}
		g := newRig(scope)
		for _, method := range []string{"GET", "HEAD"} {
			for _, minor := range []string{"1", "0"} {
				for pieces := 1; pieces <= 3; pieces++ {
					s := &answerScript{delivery: "whole", at: 1, raw: row.raw, pieces: pieces, stream: "GET /0 HTTP/1.1\r\nHost: t\r\n\r\n" +
						method + " /1 HTTP/1.1\r\nHost: t\r\n\r\nGET /2 HTTP/1." + minor + "\r\nHost: t\r\n\r\n"}
					if why := g.runAnswer(s); why != "" {
						t.Errorf("%s, %s, HTTP/1.%s, %d pieces: %s", row.name, method, minor, pieces, why)
					}
				}
			}
		}
		scope.end()
	}
}
