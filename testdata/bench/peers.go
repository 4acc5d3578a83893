package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// protocol is what a peer speaks with its clients.
type protocol int

const (
	http1 protocol = iota
	h2Clear
	h2TLS
)

// peer is one of the proxies.
type peer struct {
	name string
	cmd  func(addr string, p protocol) []string
	most int // idle clients that it has room for; 0: it sets no bound

	module, target string // what it is built from, below peers; "" for what is installed or ours
}

func (p peer) holds(idle int) bool { return p.most == 0 || idle <= p.most }

// peers are the proxies of a scene, of these names; absent says why others that belong there are not.
func (b *bench) peers(names ...string) (all []peer, absent []string) {
	most := min(12000, (openFiles()-100)/2) // HAProxy wants two files for each client
	known := append([]peer{
		{name: "nginx", cmd: b.nginx},
		{name: "banyan", cmd: b.banyan},
		{name: "bare", cmd: b.itself("proxy")},
		{name: "net/http", cmd: b.itself("nethttp")},
		{name: "haproxy", most: most, cmd: func(a string, _ protocol) []string {
			return []string{"haproxy", "-db", "-f", b.write("haproxy.cfg", haproxyConf, "LISTEN", a, "LEGACY", b.backend, "MOST", fmt.Sprint(most))}
		}},
		{name: "other", cmd: func(a string, _ protocol) []string {
			return strings.Fields(strings.NewReplacer("LISTEN", a, "LEGACY", b.backend).Replace(b.extra))
		}},
	}, b.modules()...)
	for _, p := range known {
		if !slices.Contains(names, p.name) || p.name != "nginx" && b.wanted != "" && !slices.Contains(strings.Split(b.wanted, ","), p.name) {
			continue
		}
		var err error
		switch p.name {
		case "banyan":
			if !b.features {
				continue
			}
		case "haproxy":
			if _, err = exec.LookPath("haproxy"); err != nil {
				err = errors.New("not installed; Debian's package haproxy has it")
			}
		case "other":
			if b.extra == "" {
				continue
			}
		}
		if p.module != "" {
			err = b.build(p.module, p.target)
		}
		if err != nil {
			absent = append(absent, p.name+": "+err.Error())
			continue
		}
		all = append(all, p)
	}
	return all, absent
}

// modules are the peers that are built from the Go modules below peers/: each has a go.mod of its own, so that banyan's
// does without their libraries, and each is compiled with the versions that its authors chose.
func (b *bench) modules() []peer {
	const traefik = "github.com/traefik/traefik/v3/cmd/traefik"
	return []peer{
		{name: "caddy", module: "caddy", target: ".", cmd: b.caddy},
		{name: "traefik", module: "traefik", target: traefik, cmd: b.traefik("")},
		{name: "traefik-fast", module: "traefik", target: traefik, cmd: b.traefik("experimental: { fastProxy: {} }\n")},
		{name: "fasthttp", module: "fasthttp", target: ".", cmd: func(a string, _ protocol) []string {
			return []string{b.program("fasthttp"), "-listen", a, "-legacy", b.backend}
		}},
	}
}

func (b *bench) program(module string) string { return filepath.Join(b.dir, "peer-"+module) }

// build makes the program of a module, once; the error says why there is none.
func (b *bench) build(module, target string) (err error) {
	if b.programs == nil {
		b.programs = map[string]error{}
	}
	if err, done := b.programs[module]; done {
		return err
	}
	_, here, _, _ := runtime.Caller(0)
	fmt.Fprintf(os.Stderr, "building the peer %s (testdata/bench/peers/%s); the first time takes minutes\n", module, module)
	cmd := exec.Command("go", "build", "-C", filepath.Join(filepath.Dir(here), "peers", module), "-trimpath", "-o", b.program(module), target)
	var text bytes.Buffer
	cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly"), &text
	if err = cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(text.String()), "\n")
		err = fmt.Errorf("cannot be built: %w: %s", err, lines[len(lines)-1])
	}
	b.programs[module] = err
	return err
}

// begin starts a peer alone on its core and waits until it serves: Traefik listens before it has read its routes.
func (b *bench) begin(p peer, speaks protocol) (cmd *exec.Cmd, addr string, err error) {
	if addr, err = freeAddr(); err != nil {
		return nil, "", err
	}
	if cmd, err = start(b.front, addr, p.cmd(addr, speaks)...); err != nil {
		return nil, "", err
	}
	t := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Protocols.SetHTTP1(speaks == http1)
	t.Protocols.SetHTTP2(speaks == h2TLS)
	t.Protocols.SetUnencryptedHTTP2(speaks == h2Clear)
	defer t.CloseIdleConnections()
	url := "http://" + addr + "/1k"
	if speaks == h2TLS {
		url = "https://" + addr + "/1k"
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		resp, err := (&http.Client{Transport: t, Timeout: time.Second}).Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return cmd, addr, nil
			}
			err = errors.New(resp.Status)
		}
		if time.Now().After(deadline) {
			stop(cmd)
			return nil, "", fmt.Errorf("%s does not serve: %w", p.name, err)
		}
	}
}

// openFiles is the limit of open files, for this program and for all that it starts.
func openFiles() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 1024
	}
	return int(min(files.Cur, 1<<20))
}
