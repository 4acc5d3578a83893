package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// files raises how many a process may open: each connection is one here, and two in the proxy.
func files(t *testing.T, n uint64) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if l.Cur = max(l.Cur, min(n, l.Max)); l.Cur < n {
		if os.Getenv("BANYAN_REQUIRE") == "all" {
			t.Fatalf("%d open files are allowed, %d are needed: ulimit -Hn", l.Cur, n)
		}
		t.Skipf("%d open files are allowed, %d are needed: ulimit -Hn", l.Cur, n)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
}

// status is a figure of a process in KiB, as proc_pid_status(5) names it.
func status(t *testing.T, pid int, name string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), name+":")
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib
}

// memory is what a process holds, in MiB.
func memory(t *testing.T, pid int) int { t.Helper(); return status(t, pid, "VmRSS") >> 10 }

// peak is the most that it held.
func peak(t *testing.T, pid int) int { t.Helper(); return status(t, pid, "VmHWM") >> 10 }

// TestWhatTheStartNeededIsGivenBack: soon after the port is open less of the program's file is resident.
func TestWhatTheStartNeededIsGivenBack(t *testing.T) {
	p := start(t, "proxy", "--listen", "127.0.0.1:0", "--legacy", sink(t))
	began, at := status(t, p.cmd.Process.Pid, "RssFile"), time.Now()
	for now := began; now > began*3/4; now = status(t, p.cmd.Process.Pid, "RssFile") {
		if time.Since(at) > 10*time.Second {
			t.Fatalf("%d KiB of the file are resident, %d at the start", now, began)
		}
		time.Sleep(20 * time.Millisecond) // another process's memory gives no signal
	}
}

// sink reads bodies and answers with their length.
func sink(t *testing.T) string {
	s := httptest.NewServer(length)
	t.Cleanup(s.Close)
	return s.URL
}

var length http.HandlerFunc = func(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body)
	fmt.Fprint(w, n)
}

// idlers opens n connections that have been served once, and gives what the proxy holds then.
func idlers(t *testing.T, n int) int {
	t.Helper()
	files(t, uint64(n)+1000)
	p := start(t, "proxy", "--listen", "127.0.0.1:0", "--legacy", sink(t))
	var wg sync.WaitGroup
	conns, next := make([]net.Conn, n), atomic.Int64{}
	errs := make(chan error, 16)
	for range cap(errs) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				c, err := net.Dial("tcp", p.addr)
				if err == nil {
					conns[i] = c
					_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: game.test\r\n\r\n")
				}
				if err == nil {
					var a *http.Response
					if a, err = http.ReadResponse(bufio.NewReaderSize(c, 512), nil); err == nil {
						_, err = io.Copy(io.Discard, a.Body)
					}
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
	return memory(t, p.cmd.Process.Pid)
}

func TestIdleConnectionsHoldLittle(t *testing.T) {
	got := idlers(t, 1000)
	t.Logf("1000 idle connections: %d MiB", got)
	if got > 80 {
		t.Errorf("%d MiB, want at most 80", got)
	}
}

// uploadsEnv makes this program an origin, and let it upload, in a process of its own: hundreds of senders in one process
// wait for each other.
const uploadsEnv = "BANYAN_TEST_UPLOADS"

// relayEnv makes it pass connections on to the address that it holds, and do nothing else.
const relayEnv = "BANYAN_TEST_RELAY"

// relay says where it listens.
func relay(to string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println("relay:", err)
		return
	}
	fmt.Println("http://" + l.Addr().String())
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			o, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer o.Close()
			go io.Copy(struct{ io.Writer }{o}, c) // a plain writer: read and written like a proxy's, not spliced
			io.Copy(struct{ io.Writer }{c}, o)
		}()
	}
}

// upload says where it takes uploads, reads where to send how many of which size, and says what went wrong.
func upload() {
	s := httptest.NewServer(length)
	fmt.Println(s.URL)
	var addr string
	var n, size int
	if _, err := fmt.Scanln(&addr, &n, &size); err != nil {
		fmt.Println("upload:", err)
		return
	}
	piece := make([]byte, 64<<10)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				fmt.Println("an upload:", err)
				return
			}
			defer c.Close()
			fmt.Fprintf(c, "POST /upload HTTP/1.1\r\nHost: game.test\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", size)
			for sent := 0; sent < size && err == nil; sent += len(piece) {
				_, err = c.Write(piece[:min(len(piece), size-sent)])
			}
			b, _ := io.ReadAll(c)
			if err != nil || !strings.HasSuffix(string(b), "\r\n\r\n"+strconv.Itoa(size)) {
				fmt.Printf("an upload: %v, %q\n", err, b)
			}
		})
	}
	wg.Wait()
}

// helper starts this program as env says, and gives where it listens, how to tell it something and what else it says.
func helper(t *testing.T, env string) (url string, in io.Writer, says *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	says = bufio.NewScanner(out)
	if !says.Scan() {
		t.Fatalf("the process of %s does not say where it listens", env)
	}
	return says.Text(), in, says
}

// service is how long requests took.
type service struct{ p50, p99 time.Duration }

func (s service) String() string { return fmt.Sprintf("p50 %v, p99 %v", s.p50, s.p99) }

// asks gives how a connection's requests were served, one after the other, until ctx ends and there were so many.
func asks(t *testing.T, ctx context.Context, addr string, atLeast int) service {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	var took []time.Duration
	for len(took) < atLeast || ctx.Err() == nil {
		began := time.Now()
		io.WriteString(c, "POST /other HTTP/1.1\r\nHost: game.test\r\nContent-Length: 5\r\n\r\nhello")
		a, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("request %d of the others: %v", len(took), err)
		}
		b, err := io.ReadAll(a.Body)
		if err != nil || a.StatusCode != 200 || string(b) != "5" {
			t.Fatalf("request %d of the others: %d %q: %v", len(took), a.StatusCode, b, err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return service{took[len(took)/2], took[len(took)*99/100]}
}

// middle is the medians of some windows.
func middle(all []service) (m service) {
	if len(all) == 0 {
		return m
	}
	for _, of := range []func(s *service) *time.Duration{func(s *service) *time.Duration { return &s.p50 }, func(s *service) *time.Duration { return &s.p99 }} {
		var v []time.Duration
		for i := range all {
			v = append(v, *of(&all[i]))
		}
		slices.Sort(v)
		*of(&m) = v[len(v)/2]
	}
	return m
}

// siege is what came of one.
type siege struct {
	most                    int     // MiB that the proxy held
	without, with           service // others, before the siege and in it
	relayedWithout, relayed service // and those who ask by way of a process that has nothing else to do: the machine's part
	windows                 int     // with and relayed are the medians of so many
}

func (s siege) String() string {
	return fmt.Sprintf("at most %d MiB; others %v, past the proxy %v (medians of %d windows); before %v, past the proxy %v",
		s.most, s.with, s.relayed, s.windows, s.without, s.relayedWithout)
}

// besieged has slow clients, who begin a head and send a byte of it now and then, and parallel uploads of size bytes to
// an origin of their own, while others are served: in turn through the proxy, and past it through a relay.
func besieged(t *testing.T, slow, n, size int) (s siege) {
	t.Helper()
	files(t, uint64(slow+2*n)+1000)
	url, order, says := helper(t, uploadsEnv+"=1")
	dir := t.TempDir()
	file := filepath.Join(dir, "banyan.yaml")
	legacy, _, _ := helper(t, uploadsEnv+"=1") // of the others
	past, _, _ := helper(t, relayEnv+"="+strings.TrimPrefix(legacy, "http://"))
	past = strings.TrimPrefix(past, "http://")
	rewrite(t, file, fmt.Sprintf(`version: 1
proxy: { listen: "127.0.0.1:0", admin: "127.0.0.1:0", journal: { dir: %q } }
upstreams: { legacy: { http: %q }, uploads: { http: %q } }
routes: [{ match: { path: /upload }, to: uploads }]
`, dir, legacy, url))
	p := start(t, "proxy", "-c", file)
	over, stop := context.WithCancel(t.Context())
	stop()
	s.relayedWithout, s.without = asks(t, over, past, 1000), asks(t, over, p.addr, 1000)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for range slow {
		wg.Go(func() {
			for ctx.Err() == nil { // who is thrown out comes back
				c, err := net.Dial("tcp", p.addr)
				if err != nil {
					return
				}
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: game.test\r\nX-Slow: ")
				for err == nil && ctx.Err() == nil {
					select {
					case <-ctx.Done():
					case <-time.After(500 * time.Millisecond):
					}
					_, err = c.Write([]byte("a"))
				}
				c.Close()
			}
		})
	}
	wg.Go(func() { // ends with the uploads
		defer stop()
		fmt.Fprintln(order, p.addr, n, size)
		for says.Scan() {
			t.Error(says.Text())
		}
	})
	var with, relayed []service
	for len(with) == 0 || ctx.Err() == nil {
		window, end := context.WithTimeout(ctx, 250*time.Millisecond)
		one := asks(t, window, p.addr, 100)
		end()
		window, end = context.WithTimeout(ctx, 250*time.Millisecond)
		two := asks(t, window, past, 100)
		end()
		if len(with) == 0 || ctx.Err() == nil { // the last one is only in part beside the uploads
			with, relayed = append(with, one), append(relayed, two)
		}
	}
	wg.Wait()
	s.with, s.relayed, s.windows, s.most = middle(with), middle(relayed), len(with), peak(t, p.cmd.Process.Pid)
	return s
}

func TestSlowClientsAndUploadsHoldLittle(t *testing.T) {
	s := besieged(t, 100, 20, 2<<20)
	t.Logf("100 slow clients and 20 uploads of 2 MiB: %v", s)
	if s.most > 120 {
		t.Errorf("%d MiB, want at most 120", s.most)
	}
}
