// Command bench compares the CPU that a plain request costs banyan's request path with what it costs nginx, as whole
// processes: a backend nginx and a loader on one core, nginx and banyan in turn alone on another. It prints medians of
// alternating rounds, and the median of each round's ratio, which holds on a machine whose absolute numbers do not.
//
//	go run ./testdata/bench                      3 rounds of 2 s for each kind of request, about twelve minutes
//	go run ./testdata/bench -scenes h1           over HTTP/1.1 alone, with HAProxy, Caddy, Traefik, fasthttp and httputil.ReverseProxy
//	go run ./testdata/bench -scenes mirror       POSTs that go to Kafka through the journal, against nginx's mirror; then Kafka dies
//	go run ./testdata/bench -scenes h2           over HTTP/2 alone, in clear and over TLS, with net/http, Caddy and Traefik
//	go run ./testdata/bench -rounds 5 -work get1k -peers nginx,banyan
//	go run ./testdata/bench -scenes php          the same for a tiny script of php-fpm, which each front asks over FastCGI
//	go run ./testdata/bench -scenes game         the same for the game of testdata/game, with its database
//	go run ./testdata/bench -scenes siege        small requests beside 200 uploads and 1,000 slow clients, with nginx, HAProxy and no proxy
//
// The scene siege is about time, not CPU: p50 and p99 of small requests alone and beside the load, past every proxy and
// through each, and what the uploads get meanwhile. It stands alone, and takes about a minute a round. How the measurement
// is kept from being what waits stands at runSiege.
//
// Each answer is compared with what the backend gives: a peer that errs, shortens or mixes up ends the run. All proxies
// have one core, so Go's have GOMAXPROCS 1, keep connections on both sides, and write no access log; each is set up as
// its documentation recommends for that. Caddy, Traefik and fasthttp are built when they are wanted, from the modules
// below peers.
//
// It needs nginx and taskset, two cores, for mirror Java and Kafka as package lab finds them, for php and game php-fpm, for
// game MariaDB, and nobody else's load on them to be exact. CPU time is read from /proc/PID/task/*/schedstat.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type work struct {
	name, method, path string
	body               int
	rate               int    // requests a second, however long the answers take; 0: each connection asks again at once
	answer             string // the file that is the answer's body
}

// The query takes part in the choice of a route, and none matches.
var works = []work{
	{"get1k", "GET", "/1k?page=map&action=view&match=7", 0, 0, "1k"},
	{"post2k", "POST", "/post?page=map&action=view&match=7", 2048, 0, "post"},
	{"get64k", "GET", "/64k?page=map&action=view&match=7", 0, 0, "64k"},
	{"get1k-open", "GET", "/1k?page=map&action=view&match=7", 0, 2000, "1k"},
}

// bench is one run.
type bench struct {
	rounds                                 int
	dur                                    time.Duration
	conns                                  int
	idle                                   []int
	only                                   string
	front, back, self, dir, profile, extra string
	backend, second, broker, binary        string
	features                               bool
	starts                                 int
	home, admin                            string   // of the last banyan
	origin                                 []string // ids of the backend's processes
	wanted                                 string   // names of peers, "" for all
	programs                               map[string]error
}

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "proxy":
			exit(serve(os.Args[2:]))
		case "nethttp":
			exit(serveNetHTTP(os.Args[2:]))
		case "load":
			exit(loadMain(os.Args[2:]))
		case "load2":
			exit(loadHTTP2Main(os.Args[2:]))
		case "besiege":
			exit(besiegeMain(os.Args[2:]))
		case "sink":
			exit(sinkMain(os.Args[2:]))
		}
	}
	if err := raiseFiles(); err != nil {
		exit(err)
	}
	runtime.LockOSThread() // a parent, to the kernel, is the thread that starts servers: it must not end before they do
	rounds := flag.Int("rounds", 3, "alternations")
	dur := flag.Duration("dur", 2*time.Second, "of one measurement")
	conns := flag.Int("conns", 64, "keep-alive connections")
	idle := flag.String("idle", "2000,10000", "idle connections for the memory figures, \"\" for none")
	only := flag.String("work", "get1k,post2k,get64k,get1k-open", "kinds of request")
	scenes := flag.String("scenes", "h1,mirror,h2", "h1, h2: HTTP/1.1 and HTTP/2 towards the clients; mirror: POSTs to Kafka as well; php: a tiny script over FastCGI; game: a game in PHP; siege: small requests beside large uploads")
	features := flag.Bool("features", true, "in h1 and h2, measure the real program with routes, sticky sessions and metrics besides the bare request path")
	binary := flag.String("binary", "", "of banyan; default: it is built")
	cores := flag.String("cores", "0,1", "of the proxy; of backend and loader")
	profile := flag.String("profile", "", "write banyan's CPU profile of the first kind of request here")
	wanted := flag.String("peers", "", "in h1, h2 and siege, only these of the proxies besides nginx, by their names in the tables; default: all")
	extra := flag.String("peer", "", "another proxy to measure: a command in which LISTEN and LEGACY are replaced by host:port")
	flag.Parse()
	exit((&bench{rounds: *rounds, dur: *dur, conns: *conns, idle: idles(*idle), only: *only, profile: *profile, extra: *extra, binary: *binary, features: *features, wanted: *wanted}).run(*scenes, *cores))
}

// idles are the numbers of idle connections that the loader may have.
func idles(list string) (all []int) {
	for text := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(text)
		if err != nil || n > openFiles()-100 {
			fmt.Printf("absent: %s idle connections: the limit is %d open files\n", text, openFiles())
			continue
		}
		all = append(all, n)
	}
	return all
}

// raiseFiles lets all that is started have as many open files as any of them may ask for.
func raiseFiles() error {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	files.Cur = files.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (b *bench) run(scenes, cores string) (err error) {
	var ok bool
	if b.front, b.back, ok = strings.Cut(cores, ","); !ok {
		return errors.New("-cores wants two, as 0,1")
	}
	if b.dir, err = os.MkdirTemp("", "banyan-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.backend, err = freeAddr(); err != nil {
		return err
	}
	if b.second, err = freeAddr(); err != nil {
		return err
	}
	if err := writeBackend(b.dir, b.backend, b.second); err != nil {
		return err
	}
	h1, h2, mirror := strings.Contains(scenes, "h1"), strings.Contains(scenes, "h2"), strings.Contains(scenes, "mirror")
	php, game := strings.Contains(scenes, "php"), strings.Contains(scenes, "game")
	kafka := (h1 || h2) && b.features || mirror
	siege := strings.Contains(scenes, "siege")
	if kafka || php || game || siege {
		if err := b.buildBanyan(); err != nil {
			return err
		}
	}
	if php {
		if err := b.runPHP(); err != nil {
			return fmt.Errorf("php: %w", err)
		}
	}
	if game {
		if err := b.runGame(); err != nil {
			return fmt.Errorf("game: %w", err)
		}
	}
	if siege {
		if err := b.runSiege(); err != nil {
			return fmt.Errorf("siege: %w", err)
		}
	}
	bp, err := start(b.back, b.backend, "nginx", "-p", b.dir, "-c", filepath.Join(b.dir, "backend.conf"))
	if err != nil {
		return err
	}
	defer stop(bp)
	b.origin = append(children(bp.Process.Pid), strconv.Itoa(bp.Process.Pid))
	if kafka {
		k, err := b.startKafka()
		if err != nil {
			return err
		}
		if k != nil {
			defer k.Stop()
		}
		if mirror && k != nil {
			if err := b.runMirror(k); err != nil {
				return err
			}
		}
	}
	if h1 {
		if err := b.runHTTP1(); err != nil {
			return err
		}
	}
	if h2 {
		return b.runHTTP2()
	}
	return nil
}

// buildBanyan makes the program as `make build` does.
func (b *bench) buildBanyan() error {
	if b.binary != "" {
		return nil
	}
	b.binary = filepath.Join(b.dir, "banyan")
	cmd := exec.Command("go", "build", "-trimpath", "-o", b.binary, "banyan/cmd/banyan")
	cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	return cmd.Run()
}

func (b *bench) runHTTP1() error {
	peers, absent := b.peers("nginx", "banyan", "bare", "net/http", "haproxy", "caddy", "traefik", "traefik-fast", "fasthttp", "other")
	var names []string
	for _, p := range peers {
		names = append(names, p.name)
	}
	got := map[string][]sample{}
	for round := range b.rounds {
		if round%2 == 1 {
			slices.Reverse(peers)
		}
		for _, p := range peers {
			if err := b.measure(p, round, got); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
		for _, w := range works { // what is asked itself, for what a proxy adds
			if w.rate > 0 && b.wants(w) {
				s, err := b.ask(w, b.backend, "")
				if err != nil {
					return err
				}
				got["direct "+w.name] = append(got["direct "+w.name], s)
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, b.rounds)
	}
	fmt.Printf("HTTP/1.1, %d connections; -open: 2,000 requests a second, however long the answers take\n", b.conns)
	if b.features {
		fmt.Println("banyan: the program with 100 routes, sessions kept at one of two instances, metrics, journal; bare: its request path alone")
	}
	for _, a := range absent {
		fmt.Println("absent:", a)
	}
	for _, n := range b.idle {
		for _, p := range peers {
			if !p.holds(n) {
				fmt.Printf("absent: %s with %d idle connections: the limit of %d open files lets it have %d\n", p.name, n, openFiles(), p.most)
			}
		}
	}
	kinds := make([]string, len(works))
	for i, w := range works {
		kinds[i] = w.name
	}
	report(got, kinds, append(names, "direct"), b.idle)
	return nil
}

func (b *bench) wants(w work) bool { return slices.Contains(strings.Split(b.only, ","), w.name) }

// What is timed must not wait for Kafka. In an open loop it takes some milliseconds of the loader's core for each second's
// marks; where writes are mirrored it would take most of that core, and the proxy would be idle at times. So loader and
// origin stand before it.
func (b *bench) ask(w work, addr, pid string) (sample, error) {
	run := []string{b.self}
	if first := realtime(); (w.rate > 0 || w == mirrored) && first != nil {
		run = append(first, b.self)
		for _, id := range b.origin {
			if err := policy("-f", "1", id); err != nil {
				return sample{}, err
			}
			defer policy("-o", "0", id)
		}
	}
	return load(run[0], b.back, append(run[1:], "load", "-addr", addr, "-pid", pid, "-dur", b.dur.String(), "-conns", strconv.Itoa(b.conns),
		"-method", w.method, "-path", w.path, "-body", strconv.Itoa(w.body), "-rate", strconv.Itoa(w.rate), "-want", filepath.Join(b.dir, w.answer), "-field", field)...)
}

// realtime is what a command is to begin with so that nothing of the usual priority is run before it (SCHED_FIFO), nil
// where that is not allowed. A nice value would hold only against those of the same session.
func realtime() []string {
	first := []string{"chrt", "-f", "1"}
	if out, err := exec.Command(first[0], append(first[1:], "true")...).CombinedOutput(); err != nil {
		absent.Do(func() {
			fmt.Printf("absent: SCHED_FIFO (%v: %s): what is timed has to wait for what else runs on its core\n", err, strings.TrimSpace(string(out)))
		})
		return nil
	}
	return first
}

var absent sync.Once

// policy sets how a process is scheduled, see chrt(1).
func policy(kind, priority, id string) error {
	if out, err := exec.Command("chrt", kind, "-p", priority, id).CombinedOutput(); err != nil {
		return fmt.Errorf("chrt: %w: %s", err, out)
	}
	return nil
}

// measure runs one peer through all kinds of request.
func (b *bench) measure(p peer, round int, got map[string][]sample) error {
	cmd, addr, err := b.begin(p, http1)
	if err != nil {
		return err
	}
	defer stop(cmd)
	pid := strconv.Itoa(cmd.Process.Pid)
	if _, err := b.ask(works[0], addr, pid); err != nil { // it warms up: pools fill, a start's own work ends
		return err
	}
	for _, w := range works {
		if !b.wants(w) {
			continue
		}
		s, err := b.ask(w, addr, pid)
		if err != nil {
			return err
		}
		got[p.name+" "+w.name] = append(got[p.name+" "+w.name], s)
	}
	for _, n := range b.idle {
		if round > 0 || !p.holds(n) {
			continue
		}
		s, err := load(b.self, b.back, "load", "-addr", addr, "-pid", pid, "-idle", strconv.Itoa(n), "-path", "/1k", "-want", filepath.Join(b.dir, "1k"), "-field", field)
		if err != nil {
			return err
		}
		key := fmt.Sprintf("%s idle %d", p.name, n)
		got[key] = append(got[key], s)
	}
	return nil
}

func load(self, core string, args ...string) (s sample, err error) {
	out, err := exec.Command("taskset", append([]string{"-c", core, self}, args...)...).Output()
	if err != nil {
		var e *exec.ExitError
		if errors.As(err, &e) {
			err = fmt.Errorf("load: %s", e.Stderr)
		}
		return s, err
	}
	return s, json.Unmarshal(out, &s)
}

func report(got map[string][]sample, works, peers []string, idle []int) {
	mid := func(key string, f func(sample) float64) float64 { return median(got[key], f) }
	cpu := func(s sample) float64 { return s.CPU }
	fmt.Printf("%-10s %-12s %16s %12s %9s %9s\n", "request", "proxy", "CPU µs/request", "x nginx's", "p50 µs", "p99 µs")
	for _, w := range works {
		for _, p := range peers {
			key := p + " " + w
			if c := mid(key, cpu); len(got[key]) > 0 {
				fmt.Printf("%-10s %-12s %16.1f %12.2f %9.0f %9.0f\n", w, p, c, over(got[key], got["nginx "+w], cpu),
					mid(key, func(s sample) float64 { return s.P50 }), mid(key, func(s sample) float64 { return s.P99 }))
			}
		}
	}
	for _, n := range idle {
		for _, p := range peers {
			if m := mid(fmt.Sprintf("%s idle %d", p, n), func(s sample) float64 { return s.RSS / 1024 }); m > 0 {
				fmt.Printf("RSS with %d idle connections: %s %.1f MiB\n", n, p, m)
			}
		}
	}
}

// over is the median of the one over the other, round by round: what makes a machine slower for some seconds does so for
// both.
func over(one, other []sample, f func(sample) float64) float64 {
	var v []float64
	for i := range min(len(one), len(other)) {
		v = append(v, f(one[i])/f(other[i]))
	}
	return middle(v)
}

func median(got []sample, f func(sample) float64) float64 {
	var v []float64
	for _, s := range got {
		v = append(v, f(s))
	}
	return middle(v)
}

// middle is 0 where there is nothing.
func middle(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// start runs a server on one core and waits until addr answers.
func start(core, addr string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command("taskset", append([]string{"-c", core}, args...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // nothing outlives a bench that is killed; see main
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(5 * time.Second); ; {
		network := "tcp"
		if strings.HasPrefix(addr, "/") {
			network = "unix"
		}
		if c, err := net.Dial(network, addr); err == nil {
			c.Close()
			return cmd, nil
		}
		if time.Now().After(deadline) {
			stop(cmd)
			return nil, fmt.Errorf("%s does not listen on %s", args[0], addr)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func stop(cmd *exec.Cmd) {
	cmd.Process.Signal(os.Interrupt)
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		cmd.Process.Kill()
		<-done
	}
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

const conf = `worker_processes 1; daemon off; master_process off; pid DIR/NAME.pid; error_log DIR/NAME.err warn;
events { worker_connections 16384; }
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 300s; sendfile on; tcp_nodelay on; server_tokens off; client_body_buffer_size 64k;
  client_body_temp_path DIR/NAME.body; proxy_temp_path DIR/NAME.proxy; fastcgi_temp_path DIR/NAME.f; uwsgi_temp_path DIR/NAME.u; scgi_temp_path DIR/NAME.s;
  HTTP
}
`

func writeConf(dir, name, http string) error {
	c := strings.NewReplacer("DIR", dir, "NAME", name).Replace(conf)
	c = strings.Replace(c, "HTTP", strings.ReplaceAll(http, "DIR", dir), 1)
	return os.WriteFile(filepath.Join(dir, name+".conf"), []byte(c), 0o644)
}

// order is what a POST is answered.
const order = `{"ok":true,"order":"accepted","arrival":1763881200,"units":[1,2,3,4,5]}`

// legacyFields are what PHP adds to the head of each answer.
const legacyFields = `default_type application/json;
    add_header X-Powered-By "PHP/8.2.30"; add_header Expires "Thu, 19 Nov 1981 08:52:00 GMT"; add_header Cache-Control "no-store, no-cache, must-revalidate";
    add_header Pragma "no-cache"; add_header Set-Cookie "` + field + `";`

func writeBackend(dir string, addrs ...string) error {
	for name, text := range map[string]string{"1k": numbers(1 << 10), "64k": numbers(64 << 10), "post": order} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	listen := ""
	for _, a := range addrs {
		listen += "listen " + a + " backlog=8192; "
	}
	return writeConf(dir, "backend", `open_file_cache max=100;
  server {
    `+listen+` root DIR;
    `+legacyFields+`
    location = /post { return 200 '`+order+`'; }
  }`)
}

// field stands in the head of each of the backend's answers.
const field = "lang=en; path=/; HttpOnly"

// numbers is a text of n bytes in which no two places look alike.
func numbers(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.String()[:n]
}

// kept is an upstream whose connections nginx keeps.
func kept(name, addr string) string {
	return `upstream ` + name + ` { server ` + addr + `; keepalive 128; keepalive_requests 100000000; keepalive_timeout 300s; } `
}

// writePeer writes the configuration of an nginx that is compared; upstreams and more are added to what each has.
func writePeer(dir, listen, backend, upstreams, more string) {
	writeConf(dir, "peer", kept("legacy", backend)+upstreams+`
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
  server { listen `+listen+` backlog=8192; `+more+` location / { proxy_pass http://legacy; } }`)
}
