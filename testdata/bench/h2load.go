package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"
)

// loadHTTP2Main is the loader of the scene h2: each connection has the same number of requests under way at any time.
func loadHTTP2Main(args []string) error {
	fs := flag.NewFlagSet("load2", flag.ContinueOnError)
	addr := fs.String("addr", "", "")
	pid := fs.String("pid", "", "")
	dur := fs.Duration("dur", time.Second, "")
	conns := fs.Int("conns", 1, "")
	depth := fs.Int("streams", 1, "")
	secure := fs.Bool("tls", false, "")
	path := fs.String("path", "/", "")
	file := fs.String("want", "", "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	want, err := os.ReadFile(*file)
	if err != nil {
		return err
	}
	debug.SetGCPercent(400)
	var all []*h2client
	for range *conns {
		c, err := dialHTTP2(*addr, *path, *secure, want)
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	var s sample
	for _, d := range []time.Duration{300 * time.Millisecond, *dur} { // warm up, measure
		cpu, until := cpuTime(*pid), time.Now().Add(d)
		errs := make([]error, len(all))
		var wg sync.WaitGroup
		for i, c := range all {
			wg.Go(func() { c.lat = c.lat[:0]; errs[i] = c.run(*depth, until) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		var lat []time.Duration
		for _, c := range all {
			lat = append(lat, c.lat...)
		}
		slices.Sort(lat)
		s = sample{Requests: len(lat), CPU: (cpuTime(*pid) - cpu) / 1e3 / float64(len(lat)), P50: float64(lat[len(lat)/2]) / 1e3, P99: float64(lat[len(lat)*99/100]) / 1e3}
	}
	s.RSS = rss(*pid)
	return json.NewEncoder(os.Stdout).Encode(s)
}

type h2client struct {
	nc       net.Conn
	in       []byte
	r, n     int
	block    []byte // of each request, once the first has filled the server's table
	next     uint32
	sent     map[uint32]time.Time
	want     []byte         // each answer's body
	got      map[uint32]int // how much of it has come
	lat      []time.Duration
	received int
}

func dialHTTP2(addr, path string, secure bool, want []byte) (*h2client, error) {
	nc, err := net.Dial("tcp", addr)
	if err == nil && secure {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	}
	if err != nil {
		return nil, err
	}
	c := &h2client{nc: nc, in: make([]byte, 64<<10), next: 1, sent: map[uint32]time.Time{}, want: want, got: map[uint32]int{}}
	scheme := "http"
	if secure {
		scheme = "https"
	}
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	encode := func() []byte {
		b.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":path", path}, {":scheme", scheme}, {":authority", addr},
			{"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140 Safari/537.36"}, {"accept", "application/json, text/plain, */*"},
			{"accept-language", "en-GB,en;q=0.7"}, {"x-requested-with", "XMLHttpRequest"}, {"referer", "http://" + addr + "/map.php?x=12&y=40"},
			{"cookie", "PHPSESSID=3k2v9q1m7r5t8u0w4x6y2z1a3b"}, {"cookie", "lang=en"}, {"cookie", "seen=1"}} {
			_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // into memory
		}
		return bytes.Clone(b.Bytes())
	}
	first := encode()
	c.block = encode()
	out := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), h2frame(4, 0, 0, []byte{0, 4, 0, 16, 0, 0})...) // windows that no answer fills
	out = append(out, h2frame(8, 0, 0, []byte{0x7f, 0, 0, 0})...)
	out = append(out, h2frame(1, 5, c.take(), first)...)
	if _, err := c.nc.Write(out); err != nil {
		return nil, err
	}
	return c, c.await(1)
}

func (c *h2client) take() uint32 {
	id := c.next
	c.next += 2
	c.sent[id] = time.Now()
	return id
}

func h2frame(kind, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	return append(binary.BigEndian.AppendUint32([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags}, stream), payload...)
}

// run keeps depth requests under way until the time is over, and ends when all are answered.
func (c *h2client) run(depth int, until time.Time) error {
	var out []byte
	for range depth {
		out = append(out, h2frame(1, 5, c.take(), c.block)...)
	}
	for busy := depth; busy > 0; {
		if _, err := c.nc.Write(out); err != nil {
			return err
		}
		out = out[:0]
		done, err := c.answers()
		if err != nil {
			return err
		}
		for range done {
			if time.Now().After(until) {
				busy--
			} else {
				out = append(out, h2frame(1, 5, c.take(), c.block)...)
			}
		}
		if c.received > 1<<29 {
			out = append(out, h2frame(8, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(c.received)))...)
			c.received = 0
		}
	}
	return nil
}

func (c *h2client) await(n int) error {
	for n > 0 {
		done, err := c.answers()
		if err != nil {
			return err
		}
		n -= done
	}
	return nil
}

// answers reads once, and tells how many answers ended.
func (c *h2client) answers() (done int, err error) {
	n, err := c.nc.Read(c.in[c.n:])
	if err != nil {
		return 0, err
	}
	c.n += n
	for c.n-c.r >= 9 {
		b := c.in[c.r:c.n]
		size := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		if len(b) < 9+size {
			break
		}
		c.r += 9 + size
		id := binary.BigEndian.Uint32(b[5:])
		switch kind, flags, payload := b[3], b[4], b[9:9+size]; {
		case kind == 3 || kind == 7:
			return 0, fmt.Errorf("frame %d on stream %d: % x", kind, id, payload)
		case kind == 4 && flags == 0:
			if _, err := c.nc.Write(h2frame(4, 1, 0, nil)); err != nil {
				return 0, err
			}
		case kind == 1 && payload[0] != 0x88 && payload[1] != 0x88 && payload[2] != 0x88: // behind table size updates
			return 0, errors.New("an answer is not 200")
		case kind == 0 && flags&8 != 0:
			return 0, errors.New("an answer's data is padded")
		case kind == 0:
			if !bytes.HasPrefix(c.want[min(c.got[id], len(c.want)):], payload) {
				return 0, fmt.Errorf("an answer's body: %.200q behind %d bytes", payload, c.got[id])
			}
			c.got[id] += size
		}
		if (b[3] == 0 || b[3] == 1) && b[4]&1 != 0 {
			if c.got[id] != len(c.want) {
				return 0, fmt.Errorf("an answer's body has %d bytes, not %d", c.got[id], len(c.want))
			}
			c.lat = append(c.lat, time.Since(c.sent[id]))
			delete(c.sent, id)
			delete(c.got, id)
			done++
		}
		if b[3] == 0 {
			c.received += size
		}
	}
	c.n = copy(c.in, c.in[c.r:c.n])
	c.r = 0
	if done == 0 && n == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return done, nil
}
