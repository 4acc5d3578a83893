package fastcgi

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"banyan/proxy"
	"banyan/proxy/upstream"
	"banyan/testdata/lab"
)

// buffer is a log that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) { b.mu.Lock(); defer b.mu.Unlock(); return b.b.Write(p) }
func (b *buffer) String() string              { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

func expect(t *testing.T, addr string, o odd, status int, body string) {
	t.Helper()
	resp, got := exchange(t, addr, "", o.raw())
	if resp.StatusCode != status || body != "*" && string(got) != body {
		t.Errorf("%s: %d %.100q, want %d %q", o.line, resp.StatusCode, got, status, body)
	}
}

// quiet waits until no connection is in use: an exchange ends a moment after its answer.
func quiet(t *testing.T, up *Upstream) upstream.Stats {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		s := up.Stats()
		if s.Open == s.Idle {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("still in use: %+v", s)
		}
		time.Sleep(time.Millisecond) // no event tells of it
	}
}

func TestScriptsInTrouble(t *testing.T) {
	root := site(t)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Workers: 2, Ini: map[string]string{"log_errors": "1"}})
	var log buffer
	addr, up := front(t, Config{Address: "unix:" + fpm.Socket, Root: root, MaxConns: 1, Log: slog.New(slog.NewTextHandler(&log, nil))}, proxy.Config{}, proxy.ForwardOptions{})
	hasty, _ := front(t, Config{Address: "unix:" + fpm.Socket, Root: root, MaxConns: 1, Bounds: upstream.Bounds{Timeouts: upstream.Timeouts{FirstByte: 100 * time.Millisecond}}}, proxy.Config{}, proxy.ForwardOptions{})
	ok := func() { t.Helper(); expect(t, addr, odd{line: "GET /answer.php"}, 200, "ok") }
	ok()
	expect(t, addr, odd{line: "GET /answer.php?how=die"}, 502, "*")
	ok()
	expect(t, hasty, odd{line: "GET /answer.php?how=slow&ms=3000"}, 504, "*")
	ok()
	expect(t, addr, odd{line: "GET /answer.php?how=head"}, 502, "*")
	ok()
	for _, how := range []string{"accel", "sendfile"} {
		expect(t, addr, odd{line: "GET /answer.php?how=" + how}, 502, "*")
	}
	expect(t, addr, odd{line: "GET /answer.php?how=complain"}, 200, "complained")
	quiet(t, up)
	if text := log.String(); !strings.Contains(text, "the script complains") || !strings.Contains(text, "script=/answer.php") || len(text) > 2*maxErrors {
		t.Errorf("%d bytes of log: %.300s", len(text), text)
	}
	expect(t, addr, odd{line: "GET /answer.php?how=longer"}, 200, "lon")
	ok()
	if s := quiet(t, up); s.Open > 1 || s.Waiting > 0 {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(log.String(), "more than its head announces") {
		t.Error("an answer that was too long is not in the log")
	}
}

// The pool's connections are the children: one more request waits no longer than it may, and was not sent.
func TestBusy(t *testing.T) {
	root := site(t)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Workers: 2})
	addr, up := front(t, Config{Address: "unix:" + fpm.Socket, Root: root, MaxConns: 1, Bounds: upstream.Bounds{Timeouts: upstream.Timeouts{Dial: 500 * time.Millisecond}}}, proxy.Config{}, proxy.ForwardOptions{})
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o666); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /answer.php?how=events&fifo="+fifo+" HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	expect(t, addr, odd{line: "GET /answer.php"}, 503, "*")
	if resp, _ := exchange(t, addr, "", odd{line: "GET /style.css"}.raw()); resp.StatusCode != 200 {
		t.Error("a file needs no child, and got", resp.StatusCode)
	}
	if _, _, err := ask(up, false); !upstream.Unsent(err) || upstream.ClassOf(err) != upstream.Busy || !strings.Contains(err.Error(), "pm.max_children") {
		t.Error(err)
	}
	// Each event has come before the script goes on: it waits for a line in the fifo.
	body := bufio.NewReader(resp.Body)
	goOn, err := os.OpenFile(fifo, os.O_WRONLY, 0) // once: a writer that is about to close would be met by the next reader
	if err != nil {
		t.Fatal(err)
	}
	defer goOn.Close()
	for i := range 3 {
		if line, err := body.ReadString('\n'); line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("%q, %v", line, err)
		}
		body.ReadString('\n')
		if _, err := io.WriteString(goOn, "go on\n"); err != nil {
			t.Fatal(err)
		}
	}
	if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

// A kept connection whose php-fpm was restarted is found before anything is written to it, with and without more body.
func TestRestartBetweenRequests(t *testing.T) {
	root := site(t)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Workers: 3})
	addr, up := front(t, Config{Address: "unix:" + fpm.Socket, Root: root, MaxConns: 3, Bounds: upstream.Bounds{IdleTimeout: time.Hour}}, proxy.Config{}, proxy.ForwardOptions{})
	big := odd{line: "POST /answer.php?how=digest", lines: "Content-Type: text/plain", body: strings.Repeat("x", 200_000)}
	sum := md5.Sum([]byte(big.body))
	for range 2 {
		for _, end := range []func() error{fpm.Stop, fpm.Crash} {
			expect(t, addr, odd{line: "GET /answer.php"}, 200, "ok")
			if quiet(t, up).Idle == 0 {
				t.Fatal("nothing is kept")
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
			expect(t, addr, odd{line: "GET /answer.php"}, 502, "*")
			if err := fpm.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			expect(t, addr, big, 200, fmt.Sprintf("200000 %s", hex.EncodeToString(sum[:])))
		}
	}
	expect(t, addr, odd{line: "GET /answer.php"}, 200, "ok")
	if err := fpm.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := fpm.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, addr, odd{line: "GET /answer.php"}, 200, "ok")
}

// Over TCP a request can be written to a connection that the other side has closed, and is lost: it is found before.
func TestStaleConnectionOverTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	closed := make(chan bool, 4)
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if readRequest(c) == nil {
				io.WriteString(c, out(head+"hi")+over())
			}
			c.Close()
			closed <- true
		}
	}()
	u, err := New(Config{Name: "legacy", Address: l.Addr().String(), Root: site(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	body := strings.Repeat("x", 100_000)
	for range 2 {
		if status, got, err := ask(u, false); status != 200 || got != "hi" {
			t.Fatal(status, got, err)
		}
		<-closed
		c, _ := u.Get(upstream.Timeouts{}, false)
		m := &upstream.Message{Head: []byte("POST /dump.php HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"), Body: []byte(body)}
		if status, got, err := converse(c, m, false); status != 200 || got != "hi" {
			t.Fatal(status, got, err)
		}
		c.Release()
		<-closed
	}
}

func TestConnectionsAreKeptOrNot(t *testing.T) {
	root := site(t)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Workers: 2})
	for limit, idle := range map[int]int{0: 1, 1: 0, 3: 0} {
		addr, up := front(t, Config{Address: "unix:" + fpm.Socket, Root: root, MaxConns: 1, RequestsPerConn: limit, Bounds: upstream.Bounds{IdleTimeout: time.Hour}}, proxy.Config{}, proxy.ForwardOptions{})
		for range 3 {
			expect(t, addr, odd{line: "GET /answer.php"}, 200, "ok")
		}
		if s := quiet(t, up); s.Idle != idle {
			t.Errorf("%d requests per connection: %+v", limit, s)
		}
	}
}

// patterned gives size bytes without holding them.
type patterned struct{ left int }

func (p *patterned) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n := min(len(b), p.left)
	for i := range b[:n] {
		b[i] = byte(p.left - i)
	}
	p.left -= n
	return n, nil
}

// Bodies of 64 MiB, of known and of unknown length, stored first or not, and answers of that size: memory stays flat.
func TestLargeBodies(t *testing.T) {
	root := site(t)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Workers: 2, Ini: map[string]string{"post_max_size": "100M"}})
	const size = 64 << 20
	h := md5.New()
	io.Copy(h, &patterned{size})
	want := fmt.Sprintf("%d %x", size, h.Sum(nil))
	for _, spool := range []bool{false, true} {
		addr, _ := front(t, Config{Address: "unix:" + fpm.Socket, Root: root, Spool: spool, SpoolDir: t.TempDir()}, proxy.Config{}, proxy.ForwardOptions{})
		for _, length := range []int64{size, -1} {
			if spool && length < 0 {
				continue // the same
			}
			grown := growth(func() {
				req, err := http.NewRequest("POST", "http://"+addr+"/answer.php?how=digest", struct{ io.Reader }{&patterned{size}})
				if err != nil {
					t.Fatal(err)
				}
				req.ContentLength = length
				req.Header.Set("Content-Type", "application/octet-stream")
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if b, err := io.ReadAll(resp.Body); string(b) != want || err != nil {
					t.Errorf("spool %v, length %d: %q, %v; want %q", spool, length, b, err, want)
				}
			})
			if grown > 8<<20 {
				t.Errorf("spool %v, length %d: the heap grew by %d bytes", spool, length, grown)
			}
		}
		grown := growth(func() {
			resp, err := http.Get("http://" + addr + "/answer.php?how=large&mib=64")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
		if grown > 8<<20 {
			t.Errorf("an answer: the heap grew by %d bytes", grown)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// growth is by how much the live heap is larger after do.
func growth(do func()) int64 {
	var a, b runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&a)
	do()
	runtime.ReadMemStats(&b)
	return int64(b.HeapSys) - int64(a.HeapSys)
}

// A script that has ended before the whole body was sent is heard, and the connection is not used again.
func TestEarlyAnswer(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.ReadFull(c, make([]byte, 1000)) // parameters and some body
			io.WriteString(c, rec(typeStderr, 1, "too much", 0)+out("Status: 413\r\n\r\nenough")+over())
			defer c.Close() // not before the test has ended
		}
	}()
	addr, up := front(t, Config{Address: "unix:" + l.Addr().String(), Root: site(t)}, proxy.Config{}, proxy.ForwardOptions{})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go io.WriteString(c, "POST /answer.php HTTP/1.1\r\nHost: a\r\nContent-Length: 99000000\r\n\r\n"+strings.Repeat("x", 4<<20)) // ends with c
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 413 || string(b) != "enough" {
		t.Errorf("%d %q", resp.StatusCode, b)
	}
	if s := quiet(t, up); s.Idle > 0 {
		t.Errorf("%+v", s)
	}
}

// What a write does is done: its script is heard to its end though the client has left. Of others it is told.
func TestClientGone(t *testing.T) {
	root := site(t)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Workers: 2})
	ended := make(chan proxy.Result, 1)
	addr, _ := front(t, Config{Address: "unix:" + fpm.Socket, Root: root}, proxy.Config{},
		proxy.ForwardOptions{IgnoreClientGone: true, BeforeEnd: func(_ *proxy.Exchange, r *proxy.Result) { ended <- *r }})
	file := filepath.Join(t.TempDir(), "end")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "POST /answer.php?how=gone&file="+file+" HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	c.Read(make([]byte, 10))
	c.Close()
	r := <-ended
	other, up := front(t, Config{Address: "unix:" + fpm.Socket, Root: root}, proxy.Config{}, proxy.ForwardOptions{})
	if c, err = net.Dial("tcp", other); err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "POST /answer.php?how=gone&file="+file+".2 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	c.Read(make([]byte, 10))
	c.Close()
	if s := quiet(t, up); s.Open != 0 {
		t.Errorf("a script whose client has left was heard to its end: %+v", s)
	}
	if b, err := os.ReadFile(file); string(b) != "end" || !r.ClientGone || r.BodyBytes != 300*8192 {
		t.Errorf("%q, %v, %+v", b, err, r)
	}
}

// php-fpm is reloaded under load: no request runs twice, none that was answered is missing, and none fails but those that
// were in flight.
func TestRestartUnderLoad(t *testing.T) {
	root := site(t)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Workers: 5})
	const conns, clients, each = 4, 8, 120
	addr, up := front(t, Config{Address: "unix:" + fpm.Socket, Root: root, MaxConns: conns}, proxy.Config{}, proxy.ForwardOptions{})
	file := filepath.Join(t.TempDir(), "ran")
	var mu sync.Mutex
	done, answered, failed := 0, map[string]bool{}, 0
	step := make(chan int, clients*each)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range each {
				id := fmt.Sprintf("%d-%d", c, i)
				resp, err := http.Post("http://"+addr+"/answer.php?how=append&file="+file+"&id="+id, "text/plain", strings.NewReader("x"))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				mu.Lock()
				if done++; resp.StatusCode == 200 {
					answered[id] = true
				} else {
					failed++
				}
				step <- done
				mu.Unlock()
			}
		})
	}
	reloads := 0
	go func() { // ends with the clients; one that gives up takes fewer steps
		wg.Wait()
		close(step)
	}()
	for n := range step {
		if n%240 == 0 && n < clients*each { // not at the end: php-fpm takes no leave while it reloads
			if err := syscall.Kill(fpm.Pid(), syscall.SIGUSR2); err != nil {
				t.Fatal(err)
			}
			reloads++
		}
	}
	http.DefaultClient.CloseIdleConnections()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]int{}
	for id := range strings.FieldsSeq(string(b)) {
		if ran[id]++; ran[id] > 1 {
			t.Errorf("%s ran %d times", id, ran[id])
		}
	}
	for id := range answered {
		if ran[id] != 1 {
			t.Errorf("%s was answered and ran %d times", id, ran[id])
		}
	}
	if failed > 2*reloads*conns { // a request may be taken by a child that is about to be ended, too
		t.Errorf("%d requests failed in %d reloads with %d connections", failed, reloads, conns)
	}
	t.Logf("%d requests, %d reloads, %d failed; %+v", clients*each, reloads, failed, up.Stats())
}
