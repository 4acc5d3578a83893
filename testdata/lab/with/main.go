// Command with starts the servers that tests share, once, runs a command that finds
// them in its environment, and ends them all:
//
//	go run ./testdata/lab/with -- go test ./...
//
// The exit status is the command's, 1 when a server did not start, 2 for wrong use. An
// interrupt or termination is passed on to the command; the servers end after it.
// When this program is killed, its watchdog ends the servers and the command. A server
// that is not installed is left out, unless BANYAN_REQUIRE=all. The command has no
// terminal.
//
//	go run ./testdata/lab/with -fetch
//
// fetches what the servers need beyond installed packages, and starts nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"banyan/testdata/lab"
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: with -- command [argument...]\n       with -fetch")
		os.Exit(2)
	}
	if args[0] == "-fetch" {
		jars, err := lab.KafkaJars(context.Background())
		if err != nil {
			fmt.Fprintln(os.Stderr, "with:", err)
			os.Exit(1)
		}
		fmt.Println("with: Kafka is in", jars)
		return
	}
	os.Exit(run(args, os.Stdout, os.Stderr))
}

// server is what all servers have in common here.
type server interface {
	Env() string
	Stop() error
}

// kind is one server to start, and the variable that names it.
type kind struct {
	name  string
	env   string
	start func(context.Context, lab.Options) (server, error)
}

func kinds() []kind {
	return []kind{
		{"MariaDB", lab.EnvMariaDB, as(lab.StartMariaDB)},
		{"PostgreSQL", lab.EnvPostgres, as(lab.StartPostgres)},
		{"Kafka", lab.EnvKafka, as(lab.StartKafka)},
		{"Redis", lab.EnvRedis, as(lab.StartRedis)},
	}
}

func as[S server](start func(context.Context, lab.Options) (S, error)) func(context.Context, lab.Options) (server, error) {
	return func(ctx context.Context, opts lab.Options) (server, error) { return start(ctx, opts) }
}

func run(args []string, stdout, stderr io.Writer) int {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	started := make(chan result, 1)
	go func() { started <- startAll(ctx, stdout) }() // ends when all have started or failed
	var r result
	select {
	case r = <-started:
	case sig := <-signals:
		cancel()
		stopAll(<-started, stdout)
		fmt.Fprintln(stderr, "with:", sig)
		return 1
	}
	defer stopAll(r, stdout)
	if r.err != nil {
		fmt.Fprintln(stderr, "with:", r.err)
		return 1
	}
	status, err := command(args, r.env, stdout, stderr, signals)
	if err != nil {
		fmt.Fprintln(stderr, "with:", err)
	}
	return status
}

// result is what startAll has reached, also when it failed.
type result struct {
	servers []server
	env     []string
	err     error
}

// startAll starts all servers at the same time.
func startAll(ctx context.Context, stdout io.Writer) result {
	var mu sync.Mutex // guards r and stdout
	var r result
	var group sync.WaitGroup
	for _, k := range kinds() {
		group.Go(func() {
			begin := time.Now()
			s, err := k.start(ctx, lab.Options{})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				fmt.Fprintf(stdout, "with: %s is up after %.1f s: %s\n", k.name, time.Since(begin).Seconds(), s.Env())
				r.servers = append(r.servers, s)
				r.env = append(r.env, k.env+"="+s.Env())
			case lab.IsMissing(err) && os.Getenv("BANYAN_REQUIRE") != "all":
				fmt.Fprintf(stdout, "with: going on without %s: %v\n", k.name, err)
			default:
				r.err = errors.Join(r.err, err)
			}
		})
	}
	group.Wait()
	return r
}

func stopAll(r result, stdout io.Writer) {
	begin := time.Now()
	var group sync.WaitGroup
	for _, s := range r.servers {
		group.Go(func() { _ = s.Stop() }) // fails only for a server of another program
	}
	group.Wait()
	fmt.Fprintf(stdout, "with: all servers ended in %.1f s\n", time.Since(begin).Seconds())
}

// command runs the command in a process group of its own, so that a signal reaches
// what it started as well, and gives its exit status.
func command(args, env []string, stdout, stderr io.Writer, signals <-chan os.Signal) (int, error) {
	fmt.Fprintln(stdout, "with: running", strings.Join(args, " "))
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("run %s: %w", args[0], err)
	}
	forget, err := lab.Watch(cmd.Process.Pid)
	if err != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		return 1, err
	}
	defer forget()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the command
	for {
		select {
		case sig := <-signals:
			_ = syscall.Kill(-cmd.Process.Pid, sig.(syscall.Signal))
		case err := <-ended:
			var exit *exec.ExitError
			if err == nil {
				return 0, nil
			}
			if errors.As(err, &exit) && exit.ExitCode() > 0 {
				return exit.ExitCode(), nil
			}
			return 1, fmt.Errorf("%s: %w", args[0], err)
		}
	}
}
