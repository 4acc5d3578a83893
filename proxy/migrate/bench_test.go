package migrate

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"banyan/legacyadapter/php"
	"banyan/proxy/event"
	"banyan/proxy/expr"
	"banyan/proxy/journal"
	"banyan/proxy/route"
	"banyan/proxy/stage"
)

// asker gives a function that sends a POST of 2 KiB through the proxy and reads the answer: one of 25 writes of a path, told
// apart by the query. Neither the client nor legacy allocates.
func asker(t testing.TB, s stage.State, applied string) func() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi")
	go func() { // ends with the listener, and then with the proxy's connection
		buf := make([]byte, 16<<10)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			for err == nil {
				n := 0
				for n < len(buf) && (n == 0 || string(buf[n-len(filler):n]) != filler) && err == nil {
					var m int
					m, err = c.Read(buf[n:])
					n += m
				}
				if err == nil {
					_, err = c.Write(answer)
				}
			}
		}
	}()
	rule, err := expr.CompileBool(applied, map[string]any{"status": 0, "header": func(string) string { return "" }, "params": map[string]string{}})
	if err != nil {
		t.Fatal(err)
	}
	var routes []route.Route
	writes := map[string]*WriteRoute{}
	for i := range 25 {
		name := fmt.Sprint("write", i)
		routes = append(routes, route.Route{Name: name, Kind: route.Write, Migration: "units", Match: route.Match{Path: "/post", Query: map[string]string{"action": fmt.Sprint("act", i)}}, Params: map[string]string{"match": "query.match"}})
		writes[name] = &WriteRoute{Applied: rule}
	}
	table, err := route.Compile(routes, php.Params{}, php.Nginx{})
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Config{Dir: t.TempDir(), Quota: 4 << 30, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	b := newBench(t, s, func(c *Config) {
		c.Legacy = pool(t, "legacy", "http://"+l.Addr().String())
		c.Table, c.Journal, c.Inline, c.Ack, c.Sessions = table, j, 64<<10, journal.AckMemory, Sessions{Cookie: "PHPSESSID"}
		c.States = func(event.Migration) stage.State { return s }
		c.Migrations["units"].Writes = writes
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	request := []byte("POST /post?page=map&action=act7&match=7 HTTP/1.1\r\nHost: game.example\r\nUser-Agent: Mozilla/5.0\r\nCookie: PHPSESSID=0001m7r5t8u0w4x6y2z1a3b; lang=en; seen=1\r\n" +
		"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 2048\r\n\r\n" + "unit=42&order=" + strings.Repeat("a", 2048-14-len(filler)) + filler)
	buf := make([]byte, len(answer))
	t.Cleanup(func() {
		if n := b.h.Counters.Unrecorded.Load(); n > 0 {
			t.Errorf("%d writes were not recorded", n)
		}
	})
	return func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
		<-b.served
	}
}

// filler ends the body.
const filler = "bbbb"

// BenchmarkWrite is all that the process does for a POST, client and legacy included.
func BenchmarkWrite(b *testing.B) {
	for _, c := range []struct {
		name, rule string
		stage      stage.State
	}{{"off", "status < 400", stage.State{Stage: stage.Off}}, {"status", "status < 400", dual}, {"header", `header("Content-Type") contains "html" && params.match != ""`, dual}} {
		b.Run(c.name, func(b *testing.B) {
			ask := asker(b, c.stage, c.rule)
			b.ReportAllocs()
			for b.Loop() {
				ask()
			}
		})
	}
}
