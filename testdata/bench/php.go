package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"banyan/testdata/lab"
)

// phpConns are the connections of the loader, and so of each front to php-fpm, which has as many children: with more,
// nginx and banyan would be compared in how they queue.
const phpConns = 8

const (
	both   = "banyan before nginx" // banyan is the outer part
	dialed = "nginx as shipped"    // without the lines that make it keep connections to php-fpm
)

// scripts is a php-fpm that is asked, and how.
type scripts struct {
	fpm    *lab.PHPFPMServer
	fronts []string // nginx, banyan, both, dialed
	loads  []scriptLoad
}

type scriptLoad struct {
	name string
	args []string // of the loader
}

// runPHP compares fronts of one php-fpm that runs a tiny script: nginx, banyan, and banyan before nginx.
func (b *bench) runPHP() error {
	for name, text := range map[string]string{
		"tiny.php": "<?php $b = '{\"unit\":' . (int)$_GET['unit'] . '}'; header('Content-Type: application/json'); header('Content-Length: ' . strlen($b)); echo $b;",
		"tiny":     `{"unit":7}`,
	} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	fpm, err := b.startPHP(b.dir, nil)
	if err != nil {
		return err
	}
	defer fpm.Stop()
	return b.compareFronts("a tiny script", &scripts{fpm, []string{"nginx", "banyan", both, dialed}, []scriptLoad{
		{"saturated", []string{"-dur", b.dur.String(), "-path", "/tiny.php?unit=7", "-want", filepath.Join(b.dir, "tiny")}},
	}})
}

// startPHP starts a pool beside the loader.
func (b *bench) startPHP(root string, env map[string]string) (*lab.PHPFPMServer, error) {
	fpm, err := lab.StartPHPFPM(context.Background(), lab.Options{}, lab.PHPFPMConfig{Root: root, Workers: phpConns, Env: env})
	if err != nil {
		return nil, err
	}
	return fpm, b.pin(fpm.Pid())
}

// compareFronts measures the fronts in turn, and prints what they cost.
func (b *bench) compareFronts(what string, s *scripts) error {
	got := map[string][]sample{}
	order := slices.Clone(s.fronts)
	for round := range b.rounds {
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, name := range order {
			if err := b.measureFront(name, s, got); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		fmt.Fprintf(os.Stderr, "%s, round %d of %d\n", what, round+1, b.rounds)
	}
	fmt.Printf("\n%s on php-fpm, %d connections, as many workers; in brackets: x nginx's\n", what, phpConns)
	columns := []struct {
		title string
		of    func(sample) float64
	}{
		{"CPU µs/request", func(s sample) float64 { return s.CPU }}, {"with php-fpm's", func(s sample) float64 { return s.Total }},
		{"p50 µs", func(s sample) float64 { return s.P50 }}, {"p99 µs", func(s sample) float64 { return s.P99 }}, {"answers/s", func(s sample) float64 { return s.Rate }},
	}
	fmt.Printf("%-10s %-20s", "load", "front")
	for _, c := range columns {
		fmt.Printf("%16s", c.title)
	}
	fmt.Println()
	for _, l := range s.loads {
		for _, name := range s.fronts {
			fmt.Printf("%-10s %-20s", l.name, name)
			for _, c := range columns {
				key := name + " " + l.name
				fmt.Printf("%9.0f (%.2f)", median(got[key], c.of), over(got[key], got["nginx "+l.name], c.of))
			}
			fmt.Println()
		}
	}
	return nil
}

func (b *bench) measureFront(name string, s *scripts, got map[string][]sample) error {
	addr, pids, end, err := b.startFront(name, s.fpm)
	defer end()
	if err != nil {
		return err
	}
	for i, l := range s.loads {
		if i > 0 {
			time.Sleep(2 * time.Second) // banyan gives memory back after a load: that is not this one's
		}
		result, err := load(b.self, b.back, append([]string{"load", "-addr", addr, "-pid", strings.Join(pids, ","), "-also", strings.Join(children(s.fpm.Pid()), ","), "-conns", strconv.Itoa(phpConns)}, l.args...)...)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		got[name+" "+l.name] = append(got[name+" "+l.name], result)
	}
	return nil
}

// startFront starts one of the fronts; end ends what was started.
func (b *bench) startFront(name string, fpm *lab.PHPFPMServer) (addr string, pids []string, end func(), err error) {
	var started []*exec.Cmd
	end = func() {
		for _, cmd := range started {
			stop(cmd)
		}
	}
	begin := func(args func(addr string) []string) error {
		if addr, err = freeAddr(); err != nil {
			return err
		}
		cmd, err := start(b.front, addr, args(addr)...)
		if err == nil {
			started, pids = append(started, cmd), append(pids, strconv.Itoa(cmd.Process.Pid))
		}
		return err
	}
	legacy := fmt.Sprintf("fastcgi: { address: %q, root: %q, max_connections: %d }", "unix:"+fpm.Socket, fpm.Root, phpConns)
	if name != "banyan" {
		err := begin(func(addr string) []string {
			writeFastCGI(b.dir, addr, fpm.Socket, fpm.Root, name != dialed)
			return []string{"nginx", "-p", b.dir, "-c", filepath.Join(b.dir, "front.conf")}
		})
		if err != nil || name != both {
			return addr, pids, end, err
		}
		legacy = fmt.Sprintf("http: %q", "http://"+addr)
	}
	err = begin(func(addr string) []string {
		admin, _ := freeAddr() // without it, the program does not start
		file := b.write("front.yaml", fmt.Sprintf("version: 1\nproxy: { listen: %q, admin: %q }\nupstreams: { legacy: { %s } }\n", addr, admin, legacy))
		return []string{b.binary, "proxy", "-c", file, "--log-level", "error"}
	})
	return addr, pids, end, err
}

// writeFastCGI is nginx as Debian's fastcgi-php.conf has it; kept adds that connections to php-fpm are kept.
func writeFastCGI(dir, addr, socket, root string, kept bool) {
	pool, keep := "", ""
	if kept {
		pool, keep = `keepalive `+strconv.Itoa(phpConns)+`; keepalive_requests 100000000; keepalive_timeout 300s;`, "fastcgi_keep_conn on;"
	}
	params := ""
	for _, p := range []string{"QUERY_STRING $query_string", "REQUEST_METHOD $request_method", "CONTENT_TYPE $content_type", "CONTENT_LENGTH $content_length",
		"SCRIPT_FILENAME $document_root$fastcgi_script_name", "SCRIPT_NAME $fastcgi_script_name", "PATH_INFO $path_info", "REQUEST_URI $request_uri",
		"DOCUMENT_URI $document_uri", "DOCUMENT_ROOT $document_root", "SERVER_PROTOCOL $server_protocol", "REQUEST_SCHEME $scheme", "HTTPS $https if_not_empty",
		"GATEWAY_INTERFACE CGI/1.1", "SERVER_SOFTWARE nginx/$nginx_version", "REMOTE_ADDR $remote_addr", "REMOTE_PORT $remote_port",
		"REMOTE_USER $remote_user", "SERVER_ADDR $server_addr", "SERVER_PORT $server_port", "SERVER_NAME $server_name", "REDIRECT_STATUS 200"} {
		params += "fastcgi_param " + p + "; "
	}
	writeConf(dir, "front", `upstream php { server unix:`+socket+`; `+pool+` }
  server {
    listen `+addr+` backlog=8192; root "`+root+`"; index index.php;
    location ~ [^/]\.php(/|$) {
      fastcgi_split_path_info ^(.+?\.php)(/.*)$;
      try_files $fastcgi_script_name =404;
      set $path_info $fastcgi_path_info;
      `+keep+`
      `+params+`
      fastcgi_pass php;
    }
  }`)
}
