package lab

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PostgresServer is a PostgreSQL ready for logical replication.
type PostgresServer struct {
	*Process
	URL string // of the database "postgres", as a superuser
}

// Postgres is the shared server of the tests.
func Postgres(t testing.TB) *PostgresServer { t.Helper(); return sharedPostgres.get(t) }

// NewPostgres is a server of the test's own.
func NewPostgres(t testing.TB) *PostgresServer { t.Helper(); return private(t, StartPostgres) }

var sharedPostgres = shared[*PostgresServer]{env: EnvPostgres, open: openPostgres, run: StartPostgres}

// StartPostgres starts a server; Stop ends it.
func StartPostgres(ctx context.Context, opts Options) (*PostgresServer, error) {
	daemon, err := find("PostgreSQL", "/usr/lib/postgresql/*/bin/postgres", "postgres")
	if err != nil {
		return nil, err
	}
	initdb, err := find("PostgreSQL", filepath.Join(filepath.Dir(daemon), "initdb"))
	if err != nil {
		return nil, err
	}
	return retried(ctx, func() (*PostgresServer, error) { return newPostgres(ctx, opts, daemon, initdb) })
}

func newPostgres(ctx context.Context, opts Options, daemon, initdb string) (*PostgresServer, error) {
	p, err := newProcess("postgres", opts)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	who, err := notRoot()
	if err != nil {
		return nil, err
	}
	if who != nil {
		if err := os.Chown(p.dir, int(who.Uid), int(who.Gid)); err != nil {
			return nil, fmt.Errorf("directory of postgres: %w", err)
		}
	}
	as := func(cmd *exec.Cmd) *exec.Cmd {
		if who != nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
		}
		return cmd
	}
	data := filepath.Join(p.dir, "data")
	if _, err := os.Stat(data); os.IsNotExist(err) {
		if err := p.run(ctx, as(exec.CommandContext(ctx, initdb, "-D", data, "-U", "postgres", "-A", "trust",
			"--encoding=UTF8", "--locale=C", "--no-sync"))); err != nil {
			return nil, err
		}
	}
	p.stopSignal = syscall.SIGINT // the fast way: it does not wait for clients
	p.command = func() *exec.Cmd {
		args := []string{"-D", data, "-p", strconv.Itoa(port)}
		for _, setting := range []string{
			"listen_addresses=127.0.0.1", "unix_socket_directories=" + p.dir, "max_connections=200",
			"wal_level=logical", "max_replication_slots=50", "max_wal_senders=50",
			"fsync=off", "full_page_writes=off", "shared_buffers=128MB", "max_wal_size=2GB",
			"timezone=UTC", "log_timezone=UTC", "track_commit_timestamp=on", "jit=off", "logging_collector=off",
			"dynamic_shared_memory_type=mmap", // so that a killed server leaves nothing outside its directory
		} {
			args = append(args, "-c", setting)
		}
		return as(exec.Command(daemon, args...))
	}
	socket := fmt.Sprintf("host=%s port=%d user=postgres database=postgres", p.dir, port)
	p.ready = func(ctx context.Context) error { // on the socket: nobody else can answer there
		conn, err := pgx.Connect(ctx, socket)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}
	return &PostgresServer{Process: p, URL: "postgres://postgres@" + loopback(port) + "/postgres?sslmode=disable"}, nil
}

// notRoot is whom PostgreSQL runs as when we are root, which it refuses to be.
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
	return nil, fmt.Errorf("PostgreSQL refuses to run as root, and this machine has neither the user postgres nor nobody")
}

// Database makes an empty database and gives its URL. It is dropped at the end of
// the test with its connections and replication slots.
func (s *PostgresServer) Database(t testing.TB) string {
	t.Helper()
	name := Prefix(t)
	s.exec(t, "CREATE DATABASE "+name)
	t.Cleanup(func() {
		if s.controlled() && s.Pid() == 0 {
			return // ended by the test, and its data goes too
		}
		s.drop(t, name)
	})
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

func (s *PostgresServer) drop(t testing.TB, name string) {
	t.Helper()
	// A slot in use keeps its database; its user is gone a moment after it was told to go.
	s.exec(t, `DO $$
DECLARE slot record;
BEGIN
  FOR slot IN SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = '`+name+`' LOOP
    IF slot.active_pid IS NOT NULL THEN PERFORM pg_terminate_backend(slot.active_pid, 5000); END IF;
    PERFORM pg_drop_replication_slot(slot.slot_name);
  END LOOP;
END $$`)
	s.exec(t, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
}

func (s *PostgresServer) exec(t testing.TB, statement string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.URL)
	if err != nil {
		t.Errorf("postgres: %v", err)
		return
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Errorf("postgres: %s: %v", statement, err)
	}
}

// Env is the value by which other processes find this server.
func (s *PostgresServer) Env() string { return s.URL }

func openPostgres(value string) (*PostgresServer, error) {
	if _, err := pgx.ParseConfig(value); err != nil {
		return nil, fmt.Errorf("%s: %w", EnvPostgres, err)
	}
	return &PostgresServer{Process: &Process{}, URL: value}, nil
}
