package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sample is what one measurement gave.
type sample struct {
	Requests int
	CPU      float64 // µs of the proxy per request
	Total    float64 // µs of the proxy and of what it asks, where that is measured
	P50, P99 float64 // µs
	RSS      float64 // KiB
	Rate     float64 // answers a second
}

// patience is how long the loader waits for any answer.
const patience = 2 * time.Second

var errSilent = fmt.Errorf("no answer for %v", patience)

// loadMain is the loader: one thread, epoll, each connection sends its next request when it has the whole answer.
func loadMain(args []string) error {
	fs := flag.NewFlagSet("load", flag.ContinueOnError)
	addr := fs.String("addr", "", "")
	pid := fs.String("pid", "", "")
	also := fs.String("also", "", "")
	want := fs.String("want", "", "")
	field := fs.String("field", "", "")
	scripts := fs.String("scripts", "", "")
	dur := fs.Duration("dur", time.Second, "")
	conns := fs.Int("conns", 1, "")
	idle := fs.Int("idle", 0, "")
	method := fs.String("method", "GET", "")
	path := fs.String("path", "/", "")
	bodySize := fs.Int("body", 0, "")
	rate := fs.Float64("rate", 0, "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	l := loader{pid: *pid, also: *also, byFD: map[int32]*client{}, rate: *rate}
	n := max(*conns, *idle)
	if *scripts != "" {
		text, err := os.ReadFile(*scripts)
		if err == nil {
			err = json.Unmarshal(text, &l.scripts)
		}
		if err != nil {
			return err
		}
	} else {
		body, err := os.ReadFile(*want)
		if err != nil {
			return err
		}
		for i := range n { // a session for each connection
			l.scripts = append(l.scripts, []exchange{{Request: request(*method, *path, *addr, fmt.Sprintf("PHPSESSID=%06d1m7r5t8u0w4x6y2z1a3b; lang=en; seen=1", i), "application/x-www-form-urlencoded", strings.Repeat("a", *bodySize)),
				Status: 200, Field: []byte(*field), Want: body, Whole: true}})
		}
	}
	if err := l.open(*addr, n); err != nil {
		return err
	}
	var s sample
	if *idle == 0 {
		if err := l.run(300*time.Millisecond, nil); err != nil {
			return err
		}
		if err := l.run(*dur, &s); err != nil {
			return err
		}
	} else {
		time.Sleep(2 * time.Second) // what only a load needed is given back by then
	}
	s.RSS = rss(*pid)
	return json.NewEncoder(os.Stdout).Encode(s)
}

// request is one of a browser's; without a body it has no type.
func request(method, path, host, cookie, kind, body string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140 Safari/537.36\r\nAccept: application/json, text/plain, */*\r\nAccept-Language: en-GB,en;q=0.7\r\nX-Requested-With: XMLHttpRequest\r\nReferer: http://%s/map.php?x=12&y=40\r\nCookie: %s\r\n", method, path, host, host, cookie)
	if body != "" {
		fmt.Fprintf(&b, "Content-Type: %s\r\nContent-Length: %d\r\n", kind, len(body))
	}
	b.WriteString("\r\n" + body)
	return b.Bytes()
}

type client struct {
	fd     int
	script []exchange
	next   int    // of the script, the one under way or to come
	buf    []byte // what came of the answer
	end    int    // how much the answer is at least
	sent   time.Time
}

type loader struct {
	scripts [][]exchange // of each connection, over and over
	pid     string       // of the proxy, several with ','
	also    string       // of what it asks
	rate    float64      // of requests a second, with the gaps of a Poisson process; 0: as answers come
	ep      int
	clients []*client
	byFD    map[int32]*client
}

// open connects, and lets each connection carry one request.
func (l *loader) open(addr string, n int) (err error) {
	if l.ep, err = syscall.EpollCreate1(0); err != nil {
		return err
	}
	ta, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return err
	}
	sa := &syscall.SockaddrInet4{Port: ta.Port, Addr: [4]byte(ta.IP.To4())}
	buf := make([]byte, 0, 256<<10)
	for i := range n {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := syscall.Connect(fd, sa); err != nil {
			return err
		}
		tv := syscall.NsecToTimeval(int64(patience))
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tv)
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		c := &client{fd: fd, script: l.scripts[i%len(l.scripts)], buf: buf}
		if err := c.first(); err != nil {
			return fmt.Errorf("first answer: %w", err)
		}
		c.buf = nil // idle ones need none
		syscall.SetNonblock(fd, true)
		l.clients = append(l.clients, c)
		l.byFD[int32(fd)] = c
		if err := syscall.EpollCtl(l.ep, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}); err != nil {
			return err
		}
	}
	return nil
}

// first does one blocking request.
func (c *client) first() error {
	if err := c.send(); err != nil {
		return err
	}
	for whole := false; !whole; {
		var err error
		if whole, err = c.read(); err != nil {
			return err
		}
		if !whole && time.Since(c.sent) > patience {
			return errSilent
		}
	}
	return nil
}

func (c *client) send() error {
	if c.buf == nil {
		c.buf = make([]byte, 0, 256<<10)
	}
	c.buf, c.end, c.sent = c.buf[:0], 0, time.Now()
	r := c.script[c.next].Request
	n, err := syscall.Write(c.fd, r)
	if err == nil && n != len(r) {
		err = fmt.Errorf("wrote %d bytes of %d", n, len(r))
	}
	return err
}

// read takes what has come, and reports whether the answer is whole; then it was the right one.
func (c *client) read() (whole bool, err error) {
	n, err := syscall.Read(c.fd, c.buf[len(c.buf):cap(c.buf)])
	if err == syscall.EAGAIN {
		return false, nil
	}
	if err != nil || n == 0 {
		return false, fmt.Errorf("connection broke behind %d bytes: %v", len(c.buf), err)
	}
	c.buf = c.buf[:len(c.buf)+n]
	if len(c.buf) < c.end {
		return false, nil
	}
	var a answer
	if a, c.end, err = parse(c.buf); err != nil || len(c.buf) < c.end {
		return false, err
	}
	if len(c.buf) > c.end {
		return false, fmt.Errorf("answer has %d bytes, not %d", len(c.buf), c.end)
	}
	err = c.script[c.next].check(a)
	c.next = (c.next + 1) % len(c.script)
	return true, err
}

// run loads for d and, if s is not nil, measures.
func (l *loader) run(d time.Duration, s *sample) error {
	var lat []time.Duration
	events := make([]syscall.EpollEvent, 256)
	busy := 0
	free := slices.Clone(l.clients)
	began := time.Now()
	due := began // when the next request is to be sent, at a rate
	if l.rate == 0 {
		free = nil
		for _, c := range l.clients {
			if err := c.send(); err != nil {
				return err
			}
			busy++
		}
	}
	cpu, also := cpuTime(l.pid), cpuTime(l.also)
	for busy > 0 || l.rate > 0 && due.Sub(began) < d {
		for l.rate > 0 && len(free) > 0 && due.Sub(began) < d && !time.Now().Before(due) {
			c := free[len(free)-1]
			if err := c.send(); err != nil {
				return err
			}
			c.sent, free, busy = due, free[:len(free)-1], busy+1 // who waits for a connection waits as well
			due = due.Add(time.Duration(rand.ExpFloat64() / l.rate * 1e9))
		}
		if l.rate > 0 && len(free) > 0 && due.Sub(began) < d {
			if err := l.await(time.Until(due)); err != nil {
				return err
			}
		}
		wait := int(patience.Milliseconds())
		if l.rate > 0 && len(free) > 0 && due.Sub(began) < d {
			wait = 0
		}
		n, err := syscall.EpollWait(l.ep, events, wait)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for answers: %w", err)
		}
		if n == 0 && wait > 0 {
			return errSilent
		}
		now := time.Now()
		for _, e := range events[:n] {
			c := l.byFD[e.Fd]
			whole, err := c.read()
			if err != nil {
				return err
			}
			if !whole {
				continue
			}
			lat = append(lat, now.Sub(c.sent))
			if l.rate > 0 {
				busy, free = busy-1, append(free, c)
			} else if now.Sub(began) > d {
				busy--
			} else if err := c.send(); err != nil {
				return err
			}
		}
	}
	if s == nil {
		return nil
	}
	slices.Sort(lat)
	s.Requests, s.Rate = len(lat), float64(len(lat))/time.Since(began).Seconds()
	s.CPU = (cpuTime(l.pid) - cpu) / 1e3 / float64(len(lat))
	s.Total = s.CPU + (cpuTime(l.also)-also)/1e3/float64(len(lat))
	s.P50 = float64(lat[len(lat)/2]) / 1e3
	s.P99 = float64(lat[len(lat)*99/100]) / 1e3
	return nil
}

// await returns when a connection has something or the time is over: epoll itself counts milliseconds.
func (l *loader) await(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	var set syscall.FdSet
	set.Bits[l.ep/64] |= 1 << (l.ep % 64)
	tv := syscall.NsecToTimeval(int64(d))
	if _, err := syscall.Select(l.ep+1, &set, nil, nil, &tv); err != nil && err != syscall.EINTR {
		return err
	}
	return nil
}

// cpuTime is the time on a CPU of all threads of the processes, in ns.
func cpuTime(pids string) (ns float64) {
	for pid := range strings.SplitSeq(pids, ",") {
		if pid == "" {
			continue
		}
		files, _ := filepath.Glob("/proc/" + pid + "/task/*/schedstat")
		for _, f := range files {
			b, _ := os.ReadFile(f)
			v, _, _ := strings.Cut(string(b), " ")
			n, _ := strconv.ParseFloat(v, 64)
			ns += n
		}
	}
	return ns
}

func rss(pid string) float64 {
	b, _ := os.ReadFile("/proc/" + pid + "/status")
	_, v, _ := strings.Cut(string(b), "VmRSS:")
	n, _ := strconv.ParseFloat(strings.Fields(v + " 0")[0], 64)
	return n
}
