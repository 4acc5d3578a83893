package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// phpConns are the connections of the loader, and so of each front to php-fpm, which has as many children: with more,
// nginx and banyan would be compared in how they queue.
const phpConns = 8

// runPHP compares fronts of one php-fpm that runs a tiny script: nginx, banyan, and banyan before nginx.
func runPHP(rounds int, dur time.Duration, cores, profile string) error {
	front, back, ok := strings.Cut(cores, ",")
	if !ok {
		return errors.New("-cores wants two, as 0,1")
	}
	dir, err := os.MkdirTemp("", "banyan-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	socket, err := writePHP(dir)
	if err != nil {
		return err
	}
	fpm, err := start(back, socket, phpFPM(dir)...)
	if err != nil {
		return err
	}
	defer stop(fpm)
	nginx := func(addr string) []string {
		writeFastCGI(dir, addr, socket)
		return []string{"nginx", "-p", dir, "-c", filepath.Join(dir, "front.conf")}
	}
	fronts := []string{"nginx", "banyan", "both"}
	got := map[string][]sample{}
	for round := range rounds {
		if round%2 == 1 {
			slices.Reverse(fronts)
		}
		for _, name := range fronts {
			s, err := measurePHP(name, self, dir, socket, front, back, dur, profile, nginx, fpm.Process.Pid)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			got[name] = append(got[name], s)
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, rounds)
	}
	reportPHP(got)
	return nil
}

func measurePHP(name, self, dir, socket, front, back string, dur time.Duration, profile string, nginx func(string) []string, fpm int) (s sample, err error) {
	addr, err := freeAddr()
	if err != nil {
		return s, err
	}
	var pids []string
	begin := func(addr string, args ...string) (func(), error) {
		cmd, err := start(front, addr, args...)
		if err != nil {
			return nil, err
		}
		pids = append(pids, strconv.Itoa(cmd.Process.Pid))
		return func() { stop(cmd) }, nil
	}
	legacy := []string{"-fpm", "unix:" + socket, "-root", dir}
	if name != "banyan" {
		at := addr
		if name == "both" {
			if at, err = freeAddr(); err != nil {
				return s, err
			}
			legacy = []string{"-legacy", "http://" + at}
		}
		end, err := begin(at, nginx(at)...)
		if err != nil {
			return s, err
		}
		defer end()
	}
	if name != "nginx" {
		if name == "banyan" {
			legacy = append(legacy, "-profile", profile)
		}
		end, err := begin(addr, append([]string{self, "proxy", "-listen", addr}, legacy...)...)
		if err != nil {
			return s, err
		}
		defer end()
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", fpm, fpm))
	if err != nil {
		return s, err
	}
	return load(self, back, "load", "-addr", addr, "-pid", strings.Join(pids, ","), "-also", strings.Join(strings.Fields(string(children)), ","),
		"-dur", dur.String(), "-conns", strconv.Itoa(phpConns), "-path", "/tiny.php?unit=7")
}

func reportPHP(got map[string][]sample) {
	mid := func(name string, f func(sample) float64) float64 {
		var v []float64
		for _, s := range got[name] {
			v = append(v, f(s))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	cpu, total := func(s sample) float64 { return s.CPU }, func(s sample) float64 { return s.Total }
	fmt.Printf("%-28s %16s %12s %20s %9s\n", "front of php-fpm", "CPU µs/request", "x nginx's", "with php-fpm's CPU", "p50 µs")
	for _, p := range []struct{ name, label string }{{"nginx", "nginx"}, {"banyan", "banyan"}, {"both", "banyan before nginx"}} {
		fmt.Printf("%-28s %16.1f %12.2f %20.1f %9.0f\n", p.label, mid(p.name, cpu), mid(p.name, cpu)/mid("nginx", cpu), mid(p.name, total),
			mid(p.name, func(s sample) float64 { return s.P50 }))
	}
}

// writePHP writes the script and the pool, and gives the pool's socket.
func writePHP(dir string) (socket string, err error) {
	socket = filepath.Join(dir, "fpm.sock")
	user := ""
	if os.Getuid() == 0 {
		user = "user = root\ngroup = root\n"
	}
	for name, text := range map[string]string{
		"tiny.php": "<?php $b = '{\"unit\":' . (int)$_GET['unit'] . '}'; header('Content-Type: application/json'); header('Content-Length: ' . strlen($b)); echo $b;",
		"fpm.conf": "[global]\ndaemonize = no\nerror_log = " + filepath.Join(dir, "fpm.log") + "\n[www]\nlisten = " + socket +
			"\nlisten.mode = 0666\npm = static\npm.max_children = " + strconv.Itoa(phpConns) + "\n" + user,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return socket, nil
}

func phpFPM(dir string) []string {
	daemon := "php-fpm"
	if _, err := exec.LookPath(daemon); err != nil {
		found, _ := filepath.Glob("/usr/sbin/php-fpm[0-9]*")
		if len(found) > 0 {
			daemon = found[len(found)-1]
		}
	}
	args := []string{daemon, "--nodaemonize", "--fpm-config", filepath.Join(dir, "fpm.conf")}
	if os.Getuid() == 0 {
		args = append(args, "--allow-to-run-as-root")
	}
	return args
}

// writeFastCGI is nginx as Debian's fastcgi-php.conf has it, with connections that are kept.
func writeFastCGI(dir, addr, socket string) {
	params := ""
	for _, p := range []string{"QUERY_STRING $query_string", "REQUEST_METHOD $request_method", "CONTENT_TYPE $content_type", "CONTENT_LENGTH $content_length",
		"SCRIPT_FILENAME $document_root$fastcgi_script_name", "SCRIPT_NAME $fastcgi_script_name", "PATH_INFO $path_info", "REQUEST_URI $request_uri",
		"DOCUMENT_URI $document_uri", "DOCUMENT_ROOT $document_root", "SERVER_PROTOCOL $server_protocol", "REQUEST_SCHEME $scheme", "HTTPS $https if_not_empty",
		"GATEWAY_INTERFACE CGI/1.1", "SERVER_SOFTWARE nginx/$nginx_version", "REMOTE_ADDR $remote_addr", "REMOTE_PORT $remote_port",
		"REMOTE_USER $remote_user", "SERVER_ADDR $server_addr", "SERVER_PORT $server_port", "SERVER_NAME $server_name", "REDIRECT_STATUS 200"} {
		params += "fastcgi_param " + p + "; "
	}
	writeConf(dir, "front", `upstream php { server unix:`+socket+`; keepalive `+strconv.Itoa(phpConns)+`; keepalive_requests 100000000; keepalive_timeout 300s; }
  server {
    listen `+addr+` backlog=8192; root DIR;
    location ~ [^/]\.php(/|$) {
      fastcgi_split_path_info ^(.+?\.php)(/.*)$;
      try_files $fastcgi_script_name =404;
      set $path_info $fastcgi_path_info;
      fastcgi_keep_conn on;
      `+params+`
      fastcgi_pass php;
    }
  }`)
}
