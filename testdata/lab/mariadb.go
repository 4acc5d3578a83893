package lab

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// MariaDBServer is a MariaDB whose binary log holds full row images, the names of
// columns and the text of statements.
type MariaDBServer struct {
	*Process
	Addr     string // host:port
	User     string // an account with all rights, replication included
	Password string
	Socket   string // path of the unix socket
}

// MariaDB is the shared server of the tests.
func MariaDB(t testing.TB) *MariaDBServer { t.Helper(); return sharedMariaDB.get(t) }

// NewMariaDB is a server of the test's own.
func NewMariaDB(t testing.TB) *MariaDBServer { t.Helper(); return private(t, StartMariaDB) }

var sharedMariaDB = shared[*MariaDBServer]{env: EnvMariaDB, open: openMariaDB, run: StartMariaDB}

// StartMariaDB starts a server; Stop ends it.
func StartMariaDB(ctx context.Context, opts Options) (*MariaDBServer, error) {
	daemon, err := find("MariaDB", "mariadbd", "mysqld")
	if err != nil {
		return nil, err
	}
	install, err := find("MariaDB", "mariadb-install-db", "mysql_install_db")
	if err != nil {
		return nil, err
	}
	return retried(ctx, func() (*MariaDBServer, error) { return newMariaDB(ctx, opts, daemon, install) })
}

func newMariaDB(ctx context.Context, opts Options, daemon, install string) (*MariaDBServer, error) {
	p, err := newProcess("mariadb", opts)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &MariaDBServer{Process: p, Addr: loopback(port), User: "banyan", Password: "banyan", Socket: filepath.Join(p.dir, "sock")}
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("who am I: %w", err)
	}
	data := filepath.Join(p.dir, "data")
	// A starting server deletes the temporary tables that it finds, other servers' too,
	// and gives up when they are gone before it: none shares the machine's directory.
	temporary := filepath.Join(p.dir, "tmp")
	if err := os.MkdirAll(temporary, 0o700); err != nil {
		return nil, fmt.Errorf("temporary directory: %w", err)
	}
	if _, err := os.Stat(data); os.IsNotExist(err) {
		if err := p.run(ctx, exec.CommandContext(ctx, install, "--no-defaults", "--datadir="+data, "--tmpdir="+temporary, "--user="+me.Username,
			"--auth-root-authentication-method=normal", "--skip-test-db")); err != nil {
			return nil, err
		}
	}
	// Kept out of the binary log, which belongs to the tests.
	account := filepath.Join(p.dir, "account.sql")
	if err := os.WriteFile(account, []byte("SET SESSION sql_log_bin = 0;\n"+
		"CREATE USER IF NOT EXISTS 'banyan'@'%' IDENTIFIED BY 'banyan';\n"+
		"GRANT ALL PRIVILEGES ON *.* TO 'banyan'@'%' WITH GRANT OPTION;\n"), 0o644); err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	p.command = func() *exec.Cmd {
		return exec.Command(daemon, "--no-defaults", "--datadir="+data, "--tmpdir="+temporary, "--user="+me.Username,
			"--bind-address=127.0.0.1", "--port="+strconv.Itoa(port), "--socket="+s.Socket, "--pid-file="+filepath.Join(p.dir, "pid"),
			"--init-file="+account, "--skip-name-resolve", "--max-connections=500",
			"--server-id="+strconv.Itoa(port), "--log-bin=binlog", "--binlog-format=ROW", "--binlog-row-image=FULL",
			"--binlog-row-metadata=FULL", "--binlog-annotate-row-events=ON",
			"--character-set-server=utf8mb4", "--collation-server=utf8mb4_unicode_ci",
			"--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=128M",
			"--performance-schema=OFF")
	}
	p.ready = func(ctx context.Context) error { return s.ping(ctx) }
	return s, nil
}

// ping asks on the socket: nobody else can answer there.
func (s *MariaDBServer) ping(ctx context.Context) error {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr = s.User, s.Password, "unix", s.Socket
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	return db.PingContext(ctx)
}

// DSN is the address of a database for the Go driver, without parameters.
func (s *MariaDBServer) DSN(database string) string {
	return s.User + ":" + s.Password + "@tcp(" + s.Addr + ")/" + database
}

// Database makes an empty database, which is dropped at the end of the test.
func (s *MariaDBServer) Database(t testing.TB) (name, dsn string) {
	t.Helper()
	name = Prefix(t)
	s.exec(t, "CREATE DATABASE "+name)
	t.Cleanup(func() {
		if s.controlled() && s.Pid() == 0 {
			return // ended by the test, and its data goes too
		}
		s.exec(t, "DROP DATABASE IF EXISTS "+name)
	})
	return name, s.DSN(name)
}

// Create makes an empty database, for those who have no test.
func (s *MariaDBServer) Create(ctx context.Context, name string) error {
	return s.execute(ctx, "CREATE DATABASE "+name)
}

func (s *MariaDBServer) exec(t testing.TB, statement string) {
	t.Helper()
	if err := s.execute(context.Background(), statement); err != nil {
		t.Error(err)
	}
}

func (s *MariaDBServer) execute(ctx context.Context, statement string) error {
	db, err := sql.Open("mysql", s.DSN(""))
	if err != nil {
		return fmt.Errorf("mariadb: %w", err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("mariadb: %s: %w", statement, err)
	}
	return nil
}

// Env is the value by which other processes find this server.
func (s *MariaDBServer) Env() string {
	u := url.URL{Scheme: "mysql", User: url.UserPassword(s.User, s.Password), Host: s.Addr, RawQuery: url.Values{"socket": {s.Socket}}.Encode()}
	return u.String()
}

func openMariaDB(value string) (*MariaDBServer, error) {
	u, err := url.Parse(value)
	if err != nil || u.User == nil {
		return nil, fmt.Errorf("%s: want mysql://user:password@host:port?socket=path", EnvMariaDB)
	}
	password, _ := u.User.Password()
	return &MariaDBServer{Process: &Process{}, Addr: u.Host, User: u.User.Username(), Password: password, Socket: u.Query().Get("socket")}, nil
}
