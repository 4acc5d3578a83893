package standin

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Config says where the game lives.
type Config struct {
	// URL is a PostgreSQL database of the game's own, postgres://… Required.
	URL string
	// Annotate puts the proxy's write id into the database's log in front of each write.
	Annotate bool
	// Workers is how many scripts run at once, each with a connection; others wait. 0 means 8.
	Workers int
	// Log hears of database errors. Nil: slog.Default().
	Log *slog.Logger
}

// Game is the stand-in.
type Game struct {
	cfg      Config
	pool     *pgxpool.Pool
	sessions sessions
	clock    func() time.Time
}

// New connects. The tables are made by Setup.
func New(ctx context.Context, cfg Config) (*Game, error) {
	if cfg.Workers < 0 {
		return nil, fmt.Errorf("stand-in: Workers is %d, and must not be negative", cfg.Workers)
	}
	cfg.Workers = cmp.Or(cfg.Workers, 8)
	cfg.Log = cmp.Or(cfg.Log, slog.Default())
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("stand-in: URL: %w", err)
	}
	pc.MaxConns = int32(cfg.Workers)
	for name, value := range map[string]string{
		"timezone":                    "UTC",
		"extra_float_digits":          "0", // a REAL is printed with six digits, as MariaDB prints a FLOAT
		"standard_conforming_strings": "on",
		"client_encoding":             "UTF8",
		"datestyle":                   "ISO",
	} {
		pc.ConnConfig.RuntimeParams[name] = value
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("stand-in: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("stand-in: database: %w (is the server up, and does the database exist?)", err)
	}
	return &Game{cfg: cfg, pool: pool, sessions: sessions{open: map[string]*session{}}, clock: time.Now}, nil
}

// Close waits for the scripts under way and gives the connections back.
func (g *Game) Close() { g.pool.Close() }

//go:embed schema.sql
var schema string

// Setup makes the tables anew and fills them.
func (g *Game) Setup(ctx context.Context, size Size) error {
	size = size.withDefaults()
	if err := size.validate(); err != nil {
		return err
	}
	err := g.connected(ctx, "", func(d *db) {
		d.query(schema)
		d.query("BEGIN")
		seed(d, size)
		for _, table := range []string{"matches", "players", "provinces", "units"} {
			d.query("SELECT setval(pg_get_serial_sequence('" + table + "', 'id'), (SELECT MAX(id) FROM " + table + "))")
		}
		d.query("COMMIT")
	})
	if err != nil {
		return fmt.Errorf("stand-in: setup: %w", err)
	}
	return nil
}

// connected does something with a connection of its own, and gives the error at which it ended.
func (g *Game) connected(ctx context.Context, writeID string, do func(*db)) error {
	c, err := g.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release() // which closes a connection that is inside a transaction
	d := &db{ctx: ctx, conn: c.Conn().PgConn(), writeID: writeID}
	do(d)
	return d.err
}

// Handler serves the game's endpoints.
func (g *Game) Handler() http.Handler { return http.HandlerFunc(g.serve) }
