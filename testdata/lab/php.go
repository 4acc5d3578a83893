package lab

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// PHPFPMConfig is a pool of php-fpm workers.
type PHPFPMConfig struct {
	Root    string            // the directory of the scripts, by which NginxPHP finds them
	Workers int               // how many requests at a time; 0 means 4
	Env     map[string]string // seen by the scripts' getenv, besides this program's own environment
	Ini     map[string]string // php.ini settings
	// Extensions of the files that it takes for scripts; "" leaves php-fpm's default, ".php .phar".
	Extensions string
}

// PHPFPMServer is a php-fpm with one pool on a unix socket.
type PHPFPMServer struct {
	*Process
	Socket string
	Root   string
}

// PHPFPM is a server of the test's own.
func PHPFPM(t testing.TB, cfg PHPFPMConfig) *PHPFPMServer {
	t.Helper()
	return private(t, func(ctx context.Context, opts Options) (*PHPFPMServer, error) { return StartPHPFPM(ctx, opts, cfg) })
}

// StartPHPFPM starts a server; Stop ends it. Sessions are kept in its directory.
func StartPHPFPM(ctx context.Context, opts Options, cfg PHPFPMConfig) (*PHPFPMServer, error) {
	daemon, err := find("php-fpm", "php-fpm", "php-fpm[0-9]*")
	if err != nil {
		return nil, err
	}
	p, err := newProcess("php-fpm", opts)
	if err != nil {
		return nil, err
	}
	s := &PHPFPMServer{Process: p, Socket: filepath.Join(p.dir, "sock"), Root: cfg.Root}
	sessions := filepath.Join(p.dir, "sessions")
	if err := os.MkdirAll(sessions, 0o700); err != nil {
		return nil, fmt.Errorf("sessions of php-fpm: %w", err)
	}
	lines := []string{
		"[global]", "daemonize = no", "error_log = " + p.LogFile(), "log_limit = 8192",
		"[www]", "listen = " + s.Socket, "listen.mode = 0666", "pm = static",
		"pm.max_children = " + strconv.Itoa(defaultWorkers(cfg.Workers)),
		"clear_env = no", "catch_workers_output = yes", "decorate_workers_output = no",
		"php_value[session.save_path] = " + sessions,
	}
	args := []string{"--nodaemonize", "--fpm-config", filepath.Join(p.dir, "fpm.conf")}
	if os.Getuid() == 0 {
		lines = append(lines, "user = root", "group = root")
		args = append(args, "--allow-to-run-as-root")
	}
	if cfg.Extensions != "" {
		lines = append(lines, "security.limit_extensions = "+cfg.Extensions)
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Ini)) {
		lines = append(lines, "php_value["+name+"] = "+cfg.Ini[name])
	}
	if err := os.WriteFile(filepath.Join(p.dir, "fpm.conf"), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return nil, fmt.Errorf("settings of php-fpm: %w", err)
	}
	p.command = func() *exec.Cmd {
		_ = os.Remove(s.Socket) // a killed one leaves it, and it would look ready
		cmd := exec.Command(daemon, args...)
		cmd.Env = environ(cfg.Env)
		return cmd
	}
	p.ready = func(ctx context.Context) error { return dial(ctx, "unix", s.Socket) }
	return s, s.Start(ctx)
}

// PHPBuiltinServer is PHP's own web server, `php -S`.
type PHPBuiltinServer struct {
	*Process
	Addr string // host:port
	URL  string // without a slash at the end
}

// PHPServer is a server of the test's own: as many requests at a time as there
// are workers, and env on top of this program's environment. A router is the file
// of a script that is asked first.
func PHPServer(t testing.TB, root string, workers int, env map[string]string, router ...string) *PHPBuiltinServer {
	t.Helper()
	return private(t, func(ctx context.Context, opts Options) (*PHPBuiltinServer, error) {
		return StartPHPServer(ctx, opts, root, workers, env, router...)
	})
}

// StartPHPServer starts a server; Stop ends it. Sessions are kept in its directory.
func StartPHPServer(ctx context.Context, opts Options, root string, workers int, env map[string]string, router ...string) (*PHPBuiltinServer, error) {
	return startPHP(ctx, opts, root, func(php, root string, s *PHPBuiltinServer) *exec.Cmd {
		cmd := exec.Command(php, append([]string{"-d", "session.save_path=" + s.dir, "-S", s.Addr, "-t", root}, router...)...)
		cmd.Env = append(environ(env), "PHP_CLI_SERVER_WORKERS="+strconv.Itoa(defaultWorkers(workers)))
		return cmd
	})
}

// PHPScript is a script that serves by itself: `php script host:port`.
func PHPScript(t testing.TB, script string) *PHPBuiltinServer {
	t.Helper()
	return private(t, func(ctx context.Context, opts Options) (*PHPBuiltinServer, error) {
		return startPHP(ctx, opts, script, func(php, script string, s *PHPBuiltinServer) *exec.Cmd { return exec.Command(php, script, s.Addr) })
	})
}

// startPHP starts what command makes of the interpreter and the path, which it is given as an absolute one.
func startPHP(ctx context.Context, opts Options, path string, command func(php, path string, s *PHPBuiltinServer) *exec.Cmd) (*PHPBuiltinServer, error) {
	php, err := find("PHP", "php")
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("what php serves: %w", err)
	}
	return retried(ctx, func() (*PHPBuiltinServer, error) {
		p, err := newProcess("php", opts)
		if err != nil {
			return nil, err
		}
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		s := &PHPBuiltinServer{Process: p, Addr: loopback(port), URL: "http://" + loopback(port)}
		p.command = func() *exec.Cmd { return command(php, path, s) }
		p.ready = func(ctx context.Context) error { return dial(ctx, "tcp", s.Addr) }
		return s, nil
	})
}

func defaultWorkers(n int) int {
	if n == 0 {
		return 4
	}
	return n
}

// environ is this program's environment with more, in a stable order.
func environ(more map[string]string) []string {
	env := os.Environ()
	for _, name := range slices.Sorted(maps.Keys(more)) {
		env = append(env, name+"="+more[name])
	}
	return env
}

func dial(ctx context.Context, network, addr string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return err
	}
	return conn.Close()
}
