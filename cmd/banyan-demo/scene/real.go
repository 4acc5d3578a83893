package scene

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"banyan/testdata/game"
	"banyan/testdata/lab"

	"github.com/jackc/pgx/v5"
)

// Real is php-fpm behind nginx, MariaDB, Kafka, PostgreSQL and Redis. say is told what takes time.
func Real(ctx context.Context, dir string, size Size, say func(string)) (_ *Set, err error) {
	s := &Set{Real: true, Env: map[string]string{}, Adapt: func(yaml string) (string, error) { return yaml, nil }}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	say("starting MariaDB, PostgreSQL, Kafka and Redis; Kafka's jars are fetched once, 43 MB")
	var (
		maria *lab.MariaDBServer
		pg    *lab.PostgresServer
		kafka *lab.KafkaServer
		redis *lab.RedisServer
	)
	err = together(
		func() error { return begin(ctx, s, &maria, lab.StartMariaDB) },
		func() error { return begin(ctx, s, &pg, lab.StartPostgres) },
		func() error { return begin(ctx, s, &kafka, lab.StartKafka) },
		func() error { return begin(ctx, s, &redis, lab.StartRedis) },
	)
	if err != nil {
		return nil, err
	}
	db := game.DB{Addr: maria.Addr, Socket: maria.Socket, User: maria.User, Password: maria.Password, Name: "game"}
	say(fmt.Sprintf("seeding the game: %d matches, %d players, %d units", size.Matches, size.Matches*size.Players, size.Matches*size.Units))
	if err := maria.Create(ctx, db.Name); err != nil {
		return nil, err
	}
	if err := game.Seed(ctx, db, game.Size{Matches: size.Matches, Players: size.Players, Provinces: size.Provinces, Units: size.Units}); err != nil {
		return nil, err
	}
	sessions := filepath.Join(dir, "sessions")
	if err := os.MkdirAll(sessions, 0o700); err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	fpm, err := lab.StartPHPFPM(ctx, lab.Options{}, lab.PHPFPMConfig{Root: game.Root(), Workers: 8, Env: db.Env(sessions, true)})
	if err != nil {
		return nil, err
	}
	s.onStop(fpm.Stop)
	nginx, err := lab.StartNginx(ctx, lab.Options{}, lab.NginxPHPConf(fpm.Socket, game.Root()))
	if err != nil {
		return nil, err
	}
	s.onStop(nginx.Stop)
	for _, name := range []string{"ledger", "readmodel"} {
		if err := createPostgres(ctx, pg.URL, name); err != nil {
			return nil, err
		}
	}
	s.Legacy = nginx.URL
	s.Cron = func(ctx context.Context) error { return game.Cron(ctx, db) }
	s.Env["KAFKA"], s.Env["REDIS_URL"] = strings.Join(kafka.Brokers, ","), "redis://"+redis.Addr+"/0"
	s.Env["LEGACY_DSN"] = maria.DSN(db.Name)
	s.Env["LEDGER_DSN"], s.Env["READ_DSN"] = database(pg.URL, "ledger"), database(pg.URL, "readmodel")
	s.Where = []string{
		"legacy     PHP game on php-fpm behind nginx   " + s.Legacy,
		"           its database, MariaDB              " + maria.Addr + "/" + db.Name,
		"Kafka      " + s.Env["KAFKA"] + "   PostgreSQL   " + strings.TrimPrefix(pg.URL, "postgres://postgres@") + "   Redis   " + redis.Addr,
	}
	return s, nil
}

// begin starts a server and remembers to stop it.
func begin[S interface{ Stop() error }](ctx context.Context, s *Set, to *S, start func(context.Context, lab.Options) (S, error)) error {
	server, err := start(ctx, lab.Options{})
	if err != nil {
		return err
	}
	*to = server
	s.onStop(server.Stop)
	return nil
}

func createPostgres(ctx context.Context, server, name string) error {
	c, err := pgx.Connect(ctx, server)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	defer c.Close(ctx)
	if _, err := c.Exec(ctx, "create database "+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// database is the URL of another database of the same server.
func database(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		return server // the server's own URL: it parses
	}
	u.Path = "/" + name
	return u.String()
}
