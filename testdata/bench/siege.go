package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What besieges, and who is timed beside it.
const (
	siegeUploads = 200
	siegeBody    = 64 << 20
	siegeSlow    = 1000
	othersConns  = 8
	othersRate   = 500 // requests a second
)

// siegePeers: nginx once as it has to be set up for comparison, since the others pass a body on as it comes, and once as
// it is shipped, which is to take each body whole, into a file, before the origin hears of it.
var siegePeers = []string{"direct", "nginx", "nginx as shipped", "haproxy", "banyan"}

// besieged is what one peer's round gave.
type besieged struct {
	alone, others sample
	quiet, busy   stretch // the uploads while nobody else asks, and while the others do
}

// stretch is what the uploads did in some time.
type stretch struct {
	rate float64 // MiB a second that the origin received
	cpu  float64 // ms of the proxy for a GiB
	busy float64 // of the proxy's core, 1 is all of it
}

// runSiege times small requests of a few clients while two hundred others upload and a thousand are slow, through each
// peer and past it.
//
// What is timed must not wait for what makes the load, or the machine is measured and not the proxy. So all that uploads
// is cheap: the clients send a file's pages as they are, the origin of the uploads throws away what it gets without
// looking at it, and both have one thread each; it is the proxy that has to carry the bytes. They have the other core at
// the usual priority, and there the clients of the small requests and the origin that answers those stand before them
// (SCHED_FIFO, where it is allowed; a nice value would hold only against those of the same session). The proxy alone has
// its core, and no priority. What the machine does to a small request all the same shows in the row "direct": both kinds
// of clients go to their origins without a proxy.
//
// Clients that are faster than the proxy are the worst case for whoever moves one body until it has to wait: nginx may
// answer nobody else for seconds.
func (b *bench) runSiege() error {
	sink, err := freeAddr()
	if err != nil {
		return err
	}
	first := realtime()
	file, err := os.Create(filepath.Join(b.dir, "upload"))
	if err != nil {
		return err
	}
	if err := errors.Join(file.Truncate(siegeBody), file.Close()); err != nil {
		return err
	}
	bp, err := start(b.back, b.backend, append(slices.Clone(first), "nginx", "-p", b.dir, "-c", filepath.Join(b.dir, "backend.conf"))...)
	if err != nil {
		return err
	}
	defer stop(bp)
	sp, err := start(b.back, sink, b.self, "sink", sink)
	if err != nil {
		return err
	}
	defer stop(sp)
	peers, got := b.siegePeers(sink), map[string][]besieged{}
	for round := range b.rounds {
		if round%2 == 1 {
			slices.Reverse(peers)
		}
		for _, p := range peers {
			s, err := b.besiege(p, sink, first)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			got[p.name] = append(got[p.name], s)
		}
		fmt.Fprintf(os.Stderr, "siege, round %d of %d\n", round+1, b.rounds)
	}
	reportSiege(got)
	return nil
}

// siegePeers are those that are there; with cmd nil, nothing stands before the origins.
func (b *bench) siegePeers(sink string) (all []peer) {
	nginx := func(buffering string) func(string, protocol) []string {
		return func(a string, _ protocol) []string {
			writePeer(b.dir, a, b.backend, "", "client_max_body_size 0; location = /upload { proxy_request_buffering "+buffering+"; proxy_pass http://"+sink+"; }")
			return []string{"nginx", "-p", b.dir, "-c", filepath.Join(b.dir, "peer.conf")}
		}
	}
	cmds := map[string]func(string, protocol) []string{
		"direct": nil, "nginx": nginx("off"), "nginx as shipped": nginx("on"),
		"haproxy": func(a string, _ protocol) []string {
			conf := strings.Replace(haproxyConf, "default_backend", "use_backend uploads if { path /upload }\n  default_backend", 1) + "backend uploads\n  server one " + sink + "\n"
			return []string{"haproxy", "-db", "-f", b.write("haproxy.cfg", conf, "LISTEN", a, "LEGACY", b.backend, "MOST", "8000")}
		},
		"banyan": func(a string, _ protocol) []string {
			admin, _ := freeAddr() // without it, the program does not start
			file := b.write("siege.yaml", fmt.Sprintf("version: 1\nproxy: { listen: %q, admin: %q }\nupstreams: { legacy: { http: %q }, uploads: { http: %q } }\nroutes: [{ match: { path: /upload }, to: uploads }]\n",
				a, admin, "http://"+b.backend, "http://"+sink))
			return []string{b.binary, "proxy", "-c", file, "--log-level", "error"}
		},
	}
	for _, name := range siegePeers {
		if name == "haproxy" {
			if _, err := exec.LookPath(name); err != nil {
				fmt.Println("absent: haproxy: not installed; Debian's package haproxy has it")
				continue
			}
		}
		if name == "direct" || b.wanted == "" || slices.Contains(strings.Split(b.wanted, ","), name) {
			all = append(all, peer{name: name, cmd: cmds[name]})
		}
	}
	return all
}

// besiege measures one peer: the others alone, the uploads alone, then both. Whatever uploads is ended behind that, so
// that nginx, where it takes bodies whole, writes what comes in these seconds and no more.
func (b *bench) besiege(p peer, sink string, first []string) (s besieged, err error) {
	small, uploads, pid := b.backend, sink, ""
	if p.cmd != nil {
		cmd, addr, err := b.begin(p, http1)
		if err != nil {
			return s, err
		}
		defer stop(cmd)
		small, uploads, pid = addr, addr, strconv.Itoa(cmd.Process.Pid)
	}
	others := func() (sample, error) {
		w := works[0]
		run := append(slices.Clone(first), b.self)
		return load(run[0], b.back, append(run[1:], "load", "-addr", small, "-pid", pid, "-dur", b.dur.String(), "-conns", strconv.Itoa(othersConns),
			"-method", w.method, "-path", w.path, "-rate", strconv.Itoa(othersRate), "-want", filepath.Join(b.dir, w.answer), "-field", field)...)
	}
	if s.alone, err = others(); err != nil {
		return s, err
	}
	begun, err := freeAddr()
	if err != nil {
		return s, err
	}
	siege, err := start(b.back, begun, b.self, "besiege", uploads, filepath.Join(b.dir, "upload"), begun)
	if err != nil {
		return s, err
	}
	defer stop(siege)
	time.Sleep(time.Second) // windows grow
	if s.quiet, err = during(sink, pid, func() error { time.Sleep(b.dur); return nil }); err != nil {
		return s, err
	}
	s.busy, err = during(sink, pid, func() error {
		var err error
		if s.others, err = others(); err != nil && strings.Contains(err.Error(), errSilent.Error()) {
			s.others, err = sample{P50: math.Inf(1), P99: math.Inf(1), RSS: rss(pid)}, nil
		}
		return err
	})
	if n, _ := syscall.Wait4(siege.Process.Pid, nil, syscall.WNOHANG, nil); n != 0 {
		err = errors.Join(err, errors.New("the uploads ended")) // why, it has said itself
	}
	return s, err
}

// during tells what the uploads did while f ran.
func during(sink, pid string, f func() error) (s stretch, err error) {
	before, err := received(sink)
	if err != nil {
		return s, err
	}
	began, cpu := time.Now(), cpuTime(pid)
	if err := f(); err != nil {
		return s, err
	}
	took, cpu := time.Since(began), cpuTime(pid)-cpu
	after, err := received(sink)
	mib := (after - before) / (1 << 20)
	return stretch{rate: mib / took.Seconds(), cpu: cpu / 1e6 / (mib / 1024), busy: cpu / float64(took)}, err
}

// received asks the origin of the uploads how many bytes it got.
func received(sink string) (float64, error) {
	text, err := fetch("http://"+sink+"/", "")
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(text, 64)
}

func reportSiege(got map[string][]besieged) {
	fmt.Printf("%d connections, %d requests a second for 1 KiB in an open loop, alone and beside %d uploads of %d MiB and %d slow clients\n",
		othersConns, othersRate, siegeUploads, siegeBody>>20, siegeSlow)
	fmt.Printf("+Inf: for %v nobody was answered\n", patience)
	fmt.Printf("%-17s %10s %8s %12s %8s %8s %14s %14s %8s %8s %8s\n", "", "alone: p50", "p99 µs", "beside: p50", "p99 µs", "x alone", "uploads MiB/s", "beside others", "ms/GiB", "core", "RSS MiB")
	for _, name := range siegePeers {
		all := got[name]
		if len(all) == 0 {
			continue
		}
		mid := func(f func(besieged) float64) float64 {
			var v []float64
			for _, s := range all {
				v = append(v, f(s))
			}
			slices.Sort(v)
			return v[len(v)/2]
		}
		fmt.Printf("%-17s %10.0f %8.0f %12.0f %8.0f %8.1f %14.0f %14.0f %8.0f %8.2f %8.1f\n", name,
			mid(func(s besieged) float64 { return s.alone.P50 }), mid(func(s besieged) float64 { return s.alone.P99 }),
			mid(func(s besieged) float64 { return s.others.P50 }), mid(func(s besieged) float64 { return s.others.P99 }),
			mid(func(s besieged) float64 { return s.others.P99 / s.alone.P99 }),
			mid(func(s besieged) float64 { return s.quiet.rate }), mid(func(s besieged) float64 { return s.busy.rate }),
			mid(func(s besieged) float64 { return s.busy.cpu }), mid(func(s besieged) float64 { return s.busy.busy }), mid(func(s besieged) float64 { return s.others.RSS / 1024 }))
	}
}
