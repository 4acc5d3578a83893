// Package pgserver runs a real PostgreSQL on a machine that has none: binaries from Maven Central, fetched once.
//
// It promises a server on loopback with logical replication, ready when [Start] returns, gone after [Server.Stop]. Started
// by root, who must not run PostgreSQL, it runs as the user postgres or nobody, with binaries of its own copied to where
// that user may read them. Nothing is synced to disk: it is for demonstrations. It fails with what PostgreSQL printed.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"banyan/cmd/banyan-demo/child"

	"github.com/jackc/pgx/v5"
)

// Server is a running PostgreSQL.
type Server struct {
	child *child.Child
	addr  string
}

// Start makes a database cluster below dir, which must be passable for others, and starts a server on it.
func Start(ctx context.Context, binaries, dir string) (*Server, error) {
	who, err := notRoot()
	if err != nil {
		return nil, err
	}
	return start(ctx, binaries, dir, who)
}

func start(ctx context.Context, binaries, dir string, who *syscall.Credential) (*Server, error) {
	home := filepath.Join(dir, "postgres")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if who != nil {
		if err := os.Chown(home, int(who.Uid), int(who.Gid)); err != nil {
			return nil, fmt.Errorf("postgres: %w", err)
		}
		ours := filepath.Join(dir, "postgres-"+Version)
		if err := os.CopyFS(ours, os.DirFS(binaries)); err != nil {
			return nil, fmt.Errorf("postgres: copy of the binaries: %w", err)
		}
		binaries = ours
	}
	data := filepath.Join(home, "data")
	cmd := exec.CommandContext(ctx, filepath.Join(binaries, "bin", "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	cmd.Dir, cmd.SysProcAttr = home, &syscall.SysProcAttr{Credential: who, Setpgid: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	port, err := child.FreePort()
	if err != nil {
		return nil, err
	}
	args := []string{"-D", data, "-p", strconv.Itoa(port)}
	for _, setting := range []string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200",
		"wal_level=logical", "max_replication_slots=10", "max_wal_senders=10",
		"fsync=off", "full_page_writes=off", "shared_buffers=128MB", "max_wal_size=2GB",
		"timezone=UTC", "log_timezone=UTC", "jit=off", "dynamic_shared_memory_type=mmap",
	} {
		args = append(args, "-c", setting)
	}
	s := &Server{addr: child.Loopback(port)}
	s.child, err = child.Start(child.Spec{Name: "postgres", Path: filepath.Join(binaries, "bin", "postgres"), Args: args, Dir: home, Log: filepath.Join(dir, "postgres.log"), As: who})
	if err != nil {
		return nil, err
	}
	if err := s.ready(ctx, data); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// ready waits until the server that answers is ours.
func (s *Server) ready(ctx context.Context, data string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := s.ask(ctx, data)
		if err == nil {
			return nil
		}
		select {
		case <-s.child.Done():
			return s.child.Ended()
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", err)
		case <-time.After(20 * time.Millisecond): // it has no other signal
		}
	}
}

func (s *Server) ask(ctx context.Context, data string) error {
	c, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	var at string
	if err := c.QueryRow(ctx, "show data_directory").Scan(&at); err != nil {
		return err
	}
	if at != data {
		return fmt.Errorf("another server answers at %s", s.addr)
	}
	return nil
}

// URL is the address of a database, as the superuser.
func (s *Server) URL(database string) string {
	return "postgres://postgres@" + s.addr + "/" + database + "?sslmode=disable"
}

// Create makes a database and gives its URL.
func (s *Server) Create(ctx context.Context, database string) (string, error) {
	c, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return "", fmt.Errorf("postgres: %w", err)
	}
	defer c.Close(ctx)
	if _, err := c.Exec(ctx, "create database "+pgx.Identifier{database}.Sanitize()); err != nil {
		return "", fmt.Errorf("postgres: create database %s: %w", database, err)
	}
	return s.URL(database), nil
}

// Stop ends the server without waiting for its clients.
func (s *Server) Stop() error { return s.child.Stop(syscall.SIGINT, 10*time.Second) }

// notRoot is whom PostgreSQL runs as when we are root; nil if we are not.
func notRoot() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
		if uerr == nil && gerr == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and this machine has neither the user postgres nor nobody")
}
