package proxy_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestMutations sends mutated pipelines, always the same ones, and compares what became of them with what the strict
// reference reads in them: what legacy got, byte for byte, and what the client got.
func TestMutations(t *testing.T) {
	mutations(t, 1, 3000, time.Now().Add(time.Minute))
}

// mutations runs up to n streams of a seed, or until the time is over, and tells how many it ran. A failing one is
// shrunk, and printed as a row for mutatedRows.
func mutations(t *testing.T, seed uint64, n int, until time.Time) int {
	used, ends := map[string]int{}, map[string]int{}
	g := newRig(t)
	for i := range n {
		if i%64 == 0 && time.Now().After(until) {
			n = i
			break
		}
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		stream := newStream(r, used)
		delivery, handling := deliveries[r.IntN(len(deliveries))], handlings[r.IntN(len(handlings))]
		if delivery == "drip" && len(stream) > 4<<10 {
			delivery = "cut" // in time
		}
		if strings.HasPrefix(stream, "PRI * HTTP/2.0\r\n") {
			continue // no request: HTTP/2
		}
		if why := g.run(stream, delivery, handling); why != "" {
			least, why2 := shrink(t, stream, why, func(s string, g *rig) string { return g.run(s, delivery, handling) })
			t.Fatalf("seed %d, stream %d: %s\nshrunk: %s\n{%q, %q, %q},", seed, i, why, why2, delivery, handling, least)
		}
		ends[end(stream)]++
	}
	t.Logf("%d streams: %v; mutations %v", n, ends, used)
	return n
}

// end says how the reference reads a stream, for counts.
func end(stream string) string {
	switch w := refRead(stream, mutationLimits); {
	case w.fault == nil:
		return "read to the end"
	case w.fault.kind == refUnfinished:
		return "unfinished"
	case w.torn != nil:
		return "malformed body"
	}
	return "malformed head"
}

// shrink leaves pieces out of a failing input as long as it fails, for at most ten seconds. Each trial has a rig of its own.
func shrink(t *testing.T, s, why string, try func(string, *rig) string) (string, string) {
	until := time.Now().Add(10 * time.Second)
	for size := len(s) / 2; size > 0; size /= 2 {
		for i := 0; i+size <= len(s) && time.Now().Before(until); {
			less, scope := s[:i]+s[i+size:], &trial{TB: t}
			if w := try(less, newRig(scope)); w != "" {
				s, why = less, w
			} else {
				i += size
			}
			scope.end()
		}
	}
	return s, why
}

// trial is a test within a test that leaves no line in its log.
type trial struct {
	testing.TB
	ends []func()
}

func (t *trial) Cleanup(f func()) { t.ends = append(t.ends, f) }

func (t *trial) end() {
	for len(t.ends) > 0 {
		last := len(t.ends) - 1
		t.ends[last]()
		t.ends = t.ends[:last]
	}
}

// mutatedRows are streams that were once handled wrongly, by the proxy or by a bug planted into it.
var mutatedRows = []struct{ name, stream string }{
	{"signed length", "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: +5\r\n\r\nhello"},
	{"same length twice", "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab"},
	{"length and coding", "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\ntransfer-encoding:Chunked\r\n\r\n0\r\n\r\n" + smuggled},
	{"fold, empty", "GET / HTTP/1.1\r\nHost: t\r\na:\r\n \r\n\r\n"},
	{"space before a colon", "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding\t:chunked\r\n\r\n0\r\n\r\n" + smuggled},
	{"LF in a chunk's extension", "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5;\nX\r\nhello\r\n0\r\n\r\n"},
	{"LF in the last chunk's extension", "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0;\n\r\n\r\n" + smuggled},
	{"0x", "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n"},
	{"size of 16 digits", "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\nhello"},
	{"chunk ends with another byte and LF", "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\n0\r\n\r\n"},
	{"request line as trailer", "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n" + smuggled},
	{"absolute target of another host", "GET http://u/ HTTP/1.1\r\nHost: t\r\n\r\n"},
	{"names that PHP folds", "GET / HTTP/1.1\r\nHost:t\r\nX_Forwarded.For: 6.6.6.6\r\n.:\r\n\r\n"},
	{"Connection lists Host and Cookie", "GET / HTTP/1.1\r\nHost: t\r\nCookie: a=b\r\nConnection: cookie, HOST, Content-Length\r\n\r\n"},
	{"a request behind a malformed body", "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nX\r\n" + smuggled},
	{"NUL and an old version", "D \x00 HTTP/0.9\r\n"},
	{"bytes behind a connection's last request", "POST / HTTP/1.0\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello\r\n" + smuggled},
}

func TestMutatedRows(t *testing.T) {
	for _, row := range mutatedRows {
		scope := &trial{TB: t}
		g := newRig(scope)
		for _, delivery := range deliveries {
			for _, handling := range handlings {
				if why := g.run(row.stream, delivery, handling); why != "" {
					t.Errorf("%s, %s, %s: %s", row.name, delivery, handling, why)
				}
			}
		}
		scope.end()
	}
}
