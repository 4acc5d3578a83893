package mysql

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"banyan/legacyadapter/changelog"

	driver "github.com/go-sql-driver/mysql"
)

// Config tells where legacy's MariaDB is and what to read there.
type Config struct {
	// DSN is the server that PHP writes to, as the Go driver writes it: user:password@tcp(host:3306)/database. The
	// database is the one whose tables are named bare.
	DSN string
	// ServerID names the reader among the server's replicas. Default: random, which is good unless your replicas' ids
	// are given out above 2147483648.
	ServerID uint32
	// Tables are read from the log, bare or as database.table; rows of others are counted only.
	Tables []string
	// MaxTransaction bounds the row data of one transaction in bytes of the log; a larger one stops the reader. It needs
	// about ten times that in memory. Default 64 MiB, 1 MiB to 1 GiB.
	MaxTransaction int64
}

const defaultMaxTransaction = 64 << 20

// Source reads a MariaDB: its binary log and its tables.
type Source struct {
	cfg      Config
	my       *driver.Config
	log      *slog.Logger
	tables   map[string]string // schema.table → name as configured
	charsets charsets

	mu    sync.Mutex // guards fence: one look at a time
	fence *conn      // holds the lock
}

var _ changelog.Source = (*Source)(nil)

// New checks the config; it does not connect.
func New(cfg Config, log *slog.Logger) (*Source, error) {
	my, err := driver.ParseDSN(cfg.DSN)
	if err != nil {
		return nil, errors.New("mysql: cannot read the address: want user:password@tcp(host:3306)/database")
	}
	if my.DBName == "" {
		return nil, errors.New("mysql: the address names no database: want user:password@tcp(host:3306)/database")
	}
	if cfg.MaxTransaction == 0 {
		cfg.MaxTransaction = defaultMaxTransaction
	}
	if cfg.MaxTransaction < 1<<20 || cfg.MaxTransaction > 1<<30 {
		return nil, fmt.Errorf("mysql: max_transaction: %d: want 1 MiB to 1 GiB", cfg.MaxTransaction)
	}
	if cfg.ServerID == 0 {
		cfg.ServerID = rand.Uint32() | 1<<31
	}
	s := &Source{cfg: cfg, my: my, log: log, tables: map[string]string{}}
	for _, t := range cfg.Tables {
		schema, table := s.qualify(t)
		if table == "" {
			return nil, fmt.Errorf("mysql: tables: %q: want table or database.table", t)
		}
		s.tables[schema+"."+table] = t
	}
	// What a row looks like must not depend on the account's or server's defaults.
	my.ParseTime, my.InterpolateParams, my.MultiStatements = false, false, true
	my.Logger = &driver.NopLogger{}
	if err := my.Apply(driver.Charset("utf8mb4", "")); err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	if my.Params == nil {
		my.Params = map[string]string{}
	}
	my.Params["time_zone"] = "'+00:00'"
	my.Params["sql_mode"] = "''"
	my.Params["tx_isolation"] = "'REPEATABLE-READ'"
	if my.Timeout == 0 {
		my.Timeout = 10 * time.Second
	}
	return s, nil
}

// qualify splits a configured name.
func (s *Source) qualify(name string) (schema, table string) {
	if schema, table, ok := strings.Cut(name, "."); ok {
		return schema, table
	}
	return s.my.DBName, name
}

// address is the host and port for the replication client, port 0 for a socket.
func (s *Source) address() (host string, port uint16, err error) {
	if s.my.Net == "unix" {
		return s.my.Addr, 0, nil
	}
	h, p, err := net.SplitHostPort(s.my.Addr)
	if err != nil {
		return "", 0, fmt.Errorf("address %s: %w", s.my.Addr, err)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("address %s: port: %w", s.my.Addr, err)
	}
	return h, uint16(n), nil
}
