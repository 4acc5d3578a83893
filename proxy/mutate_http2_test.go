package proxy_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestMutatedHTTP2 sends the fields of mutated requests over HTTP/2, where a field may hold any byte. Legacy, which reads
// by the strict reference, gets one request with that body, or none if the client is refused.
func TestMutatedHTTP2(t *testing.T) {
	g := newRig(t)
	g.handle.Store("pass")
	used, answered := map[string]int{}, 0
	for i := range 500 {
		r := rand.New(rand.NewPCG(2, uint64(i)))
		d := newDraft(r)
		for range r.IntN(2) {
			m := draftMutators[r.IntN(len(draftMutators))]
			m.mutate(d, r)
			used[m.name]++
		}
		if why, ok := g.overHTTP2(t, d); why != "" {
			t.Fatalf("request %d, %q: %s", i, d.text(r), why)
		} else if ok {
			answered++
		}
		if why := g.run("GET /probe HTTP/1.1\r\nHost: t\r\n\r\n", "whole", "pass"); why != "" {
			t.Fatalf("behind request %d, %q: %s", i, d.text(r), why)
		}
	}
	t.Logf("%d of 500 forwarded; mutations %v", answered, used)
	if answered < 100 {
		t.Error("too few requests get through for the test to tell anything")
	}
}

// overHTTP2 sends a draft as one stream, and says what is wrong with what became of it.
func (g *rig) overHTTP2(t *testing.T, d *draft) (why string, answered bool) {
	f := g.servers["whole"].prior(t)
	defer f.nc.Close()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	method, target, _ := strings.Cut(d.line, " ")
	target, _, _ = strings.Cut(target, " ")
	fields := []hpack.HeaderField{{Name: ":method", Value: method}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "t"}, {Name: ":path", Value: target}}
	for _, l := range d.fields {
		name, value, _ := strings.Cut(l, ":")
		if l != "Host: t" {
			fields = append(fields, hpack.HeaderField{Name: strings.ToLower(name), Value: strings.TrimLeft(value, " ")})
		}
	}
	if d.length != "" {
		fields = append(fields, hpack.HeaderField{Name: "content-length", Value: d.length})
	}
	for _, h := range fields {
		f.do(enc.WriteField(h))
	}
	if block.Len() > 16<<10 || len(d.body) > 16<<10 {
		return "", false // more than a frame holds
	}
	f.do(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: d.body == ""}))
	if d.body != "" {
		f.do(f.WriteData(1, true, []byte(d.body)))
	}
	a := f.answer(1)
	f.nc.Close()
	got, torn, wrong, err := g.settle()
	switch {
	case err != nil:
		return err.Error(), false
	case len(wrong) > 0 || len(got) > 1:
		return fmt.Sprintf("legacy got %q, %d requests", wrong, len(got)), false
	case a.ended && a.status == 200:
		if len(got) != 1 || len(torn) > 0 || got[0].method != method || got[0].body != d.body || strings.Contains(got[0].head, "_") && !strings.Contains(target, "_") && !strings.Contains(method, "_") {
			return fmt.Sprintf("legacy got %d requests, %q", len(got), torn), false
		}
		return "", true
	case len(got) > 0:
		return fmt.Sprintf("%v, and legacy got %.300q", a, got[0].head), false
	}
	return "", false
}
