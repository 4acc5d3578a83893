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
}

// loadMain is the loader: one thread, epoll, each connection sends its next request when it has the whole answer.
func loadMain(args []string) error {
	fs := flag.NewFlagSet("load", flag.ContinueOnError)
	addr := fs.String("addr", "", "")
	pid := fs.String("pid", "", "")
	also := fs.String("also", "", "")
	dur := fs.Duration("dur", time.Second, "")
	conns := fs.Int("conns", 1, "")
	idle := fs.Int("idle", 0, "")
	method := fs.String("method", "GET", "")
	path := fs.String("path", "/", "")
	body := fs.Int("body", 0, "")
	rate := fs.Float64("rate", 0, "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	l := loader{request: request(*method, *path, *addr, *body), pid: *pid, also: *also, byFD: map[int32]*client{}, rate: *rate}
	l.session = bytes.Index(l.request, []byte("PHPSESSID=")) + len("PHPSESSID=")
	n := *conns
	if *idle > 0 {
		n = *idle
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
		time.Sleep(time.Second)
	}
	s.RSS = rss(*pid)
	return json.NewEncoder(os.Stdout).Encode(s)
}

func request(method, path, host string, body int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140 Safari/537.36\r\nAccept: application/json, text/plain, */*\r\nAccept-Language: en-GB,en;q=0.7\r\nX-Requested-With: XMLHttpRequest\r\nReferer: http://%s/map.php?x=12&y=40\r\nCookie: PHPSESSID=3k2v9q1m7r5t8u0w4x6y2z1a3b; lang=en; seen=1\r\n", method, path, host, host)
	if body > 0 {
		fmt.Fprintf(&b, "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n", body)
	}
	b.WriteString("\r\n" + strings.Repeat("a", body))
	return b.Bytes()
}

type client struct {
	fd   int
	id   string // of its session
	got  int
	sent time.Time
}

type loader struct {
	request []byte
	pid     string  // of the proxy, several with ','
	also    string  // of what it asks
	rate    float64 // of requests a second, with the gaps of a Poisson process; 0: as answers come
	session int     // where the session's id begins
	size    int     // of one whole answer
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
	buf := make([]byte, 256<<10)
	for i := range n {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := syscall.Connect(fd, sa); err != nil {
			return err
		}
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		if err := l.first(fd, buf); err != nil {
			return err
		}
		syscall.SetNonblock(fd, true)
		c := &client{fd: fd, id: fmt.Sprintf("%06d", i)}
		l.clients = append(l.clients, c)
		l.byFD[int32(fd)] = c
		if err := syscall.EpollCtl(l.ep, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}); err != nil {
			return err
		}
	}
	return nil
}

// first does one blocking request and learns an answer's size.
func (l *loader) first(fd int, buf []byte) error {
	if _, err := syscall.Write(fd, l.request); err != nil {
		return err
	}
	total, want := 0, -1
	for want < 0 || total < want {
		n, err := syscall.Read(fd, buf[total:])
		if err != nil || n == 0 {
			return fmt.Errorf("first answer: %d bytes, then %v", total, err)
		}
		total += n
		if i := bytes.Index(buf[:total], []byte("\r\n\r\n")); i >= 0 && want < 0 {
			head := string(buf[:i])
			_, v, ok := strings.Cut(strings.ToLower(head), "content-length: ")
			length, err := strconv.Atoi(strings.SplitN(v, "\r\n", 2)[0])
			if !ok || err != nil || !strings.HasPrefix(head, "HTTP/1.1 200 ") {
				return fmt.Errorf("first answer: %q", head)
			}
			want = i + 4 + length
		}
	}
	l.size = want
	return nil
}

// run loads for d and, if s is not nil, measures.
func (l *loader) run(d time.Duration, s *sample) error {
	var lat []time.Duration
	buf, events := make([]byte, 256<<10), make([]syscall.EpollEvent, 256)
	busy := 0
	free := slices.Clone(l.clients)
	began := time.Now()
	due := began // when the next request is to be sent, at a rate
	if l.rate == 0 {
		free = nil
		for _, c := range l.clients {
			if err := l.send(c); err != nil {
				return err
			}
			busy++
		}
	}
	cpu, also := cpuTime(l.pid), cpuTime(l.also)
	for busy > 0 || l.rate > 0 && due.Sub(began) < d {
		for l.rate > 0 && len(free) > 0 && due.Sub(began) < d && !time.Now().Before(due) {
			c := free[len(free)-1]
			if err := l.send(c); err != nil {
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
		wait := 2000
		if l.rate > 0 && len(free) > 0 && due.Sub(began) < d {
			wait = 0
		}
		n, err := syscall.EpollWait(l.ep, events, wait)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n == 0 && wait > 0 {
			return fmt.Errorf("no answer for 2 s (%v)", err)
		}
		now := time.Now()
		for _, e := range events[:n] {
			c := l.byFD[e.Fd]
			m, err := syscall.Read(c.fd, buf)
			if err == syscall.EAGAIN {
				continue
			}
			if err != nil || m == 0 {
				return fmt.Errorf("connection broke: %v", err)
			}
			if c.got == 0 && !bytes.HasPrefix(buf[:m], []byte("HTTP/1.1 200 ")) {
				return fmt.Errorf("answer: %.40q", buf[:m])
			}
			if c.got += m; c.got < l.size {
				continue
			}
			if c.got > l.size {
				return fmt.Errorf("answer has %d bytes, not %d", c.got, l.size)
			}
			lat = append(lat, now.Sub(c.sent))
			if l.rate > 0 {
				c.got, busy, free = 0, busy-1, append(free, c)
			} else if now.Sub(began) > d {
				busy--
			} else if err := l.send(c); err != nil {
				return err
			}
		}
	}
	if s == nil {
		return nil
	}
	slices.Sort(lat)
	s.Requests = len(lat)
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

func (l *loader) send(c *client) error {
	c.got, c.sent = 0, time.Now()
	copy(l.request[l.session:], c.id)
	n, err := syscall.Write(c.fd, l.request)
	if err == nil && n != len(l.request) {
		err = fmt.Errorf("wrote %d bytes of %d", n, len(l.request))
	}
	return err
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
