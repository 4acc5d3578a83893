package postgres_test

import (
	"database/sql"
	"log/slog"
	"testing"

	"banyan/legacyadapter/changelog"
	"banyan/legacyadapter/changelog/sourcetest"
	"banyan/legacyadapter/postgres"
	"banyan/testdata/lab"

	_ "github.com/jackc/pgx/v5/stdlib"
)

func open(t testing.TB, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func run(t testing.TB, db *sql.DB, q string, args ...any) {
	t.Helper()
	if _, err := db.Exec(q, args...); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

func source(t testing.TB, url, slot string, tables ...string) *postgres.Source {
	t.Helper()
	s, err := postgres.New(postgres.Config{URL: url, Slot: slot, Tables: tables}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSource(t *testing.T) {
	server := lab.Postgres(t)
	sourcetest.Run(t, func(t testing.TB) *sourcetest.Server { return suiteServer(t, server) })
}

func suiteServer(t testing.TB, server *lab.PostgresServer) *sourcetest.Server {
	url, slot := server.Database(t), lab.Prefix(t)
	db := open(t, url)
	run(t, db, "CREATE TABLE counters (k INT PRIMARY KEY, v INT NOT NULL, note VARCHAR(100)); CREATE TABLE elsewhere (id INT PRIMARY KEY)")
	if err := source(t, url, slot, "counters").Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &sourcetest.Server{
		DB:     db,
		Source: func(t testing.TB) changelog.Source { return source(t, url, slot, "counters") },
		Annotated: func(t testing.TB, ids, statements []string) {
			tx, err := db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			for i, q := range statements {
				if ids[i] != "" {
					if _, err := tx.Exec("SELECT pg_logical_emit_message(true, 'banyan', $1)", ids[i]); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := tx.Exec(q); err != nil {
					t.Fatal(err)
				}
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
		},
		Kill: func(t testing.TB) {
			if _, err := db.Exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL", slot); err != nil {
				t.Error(err)
			}
		},
	}
}
