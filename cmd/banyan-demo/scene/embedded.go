package scene

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"banyan/cmd/banyan-demo/child"
	"banyan/cmd/banyan-demo/pgserver"
	"banyan/cmd/banyan-demo/standin"
	"banyan/legacyadapter/postgres"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kfake"
)

// Embedded needs nothing but Go: a Kafka in memory with files behind it, a small Redis, PostgreSQL's binaries fetched
// once, and the game's stand-in in Go on a database of that PostgreSQL. say is told what takes time.
func Embedded(ctx context.Context, dir string, size Size, say func(string)) (_ *Set, err error) {
	s := &Set{Env: map[string]string{}, Adapt: ForStandin}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	binaries, err := pgserver.Binaries(ctx, filepath.Join(cache, "banyan"), say)
	if err != nil {
		return nil, err
	}
	pg, err := pgserver.Start(ctx, binaries, dir)
	if err != nil {
		return nil, err
	}
	s.onStop(pg.Stop)
	for variable, name := range map[string]string{"LEGACY_DSN": "game", "LEDGER_DSN": "ledger", "READ_DSN": "readmodel"} {
		if s.Env[variable], err = pg.Create(ctx, name); err != nil {
			return nil, err
		}
	}
	if err := s.kafka(dir); err != nil {
		return nil, err
	}
	redis, err := miniredis.Run()
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	s.onStop(func() error { redis.Close(); return nil })
	s.Env["REDIS_URL"] = "redis://" + redis.Addr() + "/0"
	say(fmt.Sprintf("seeding the game: %d matches, %d players, %d units", size.Matches, size.Matches*size.Players, size.Matches*size.Units))
	if err := s.game(ctx, size); err != nil {
		return nil, err
	}
	s.Where = []string{
		"legacy     the game's stand-in in Go, at   " + s.Legacy,
		"           its database, PostgreSQL        " + strings.TrimPrefix(s.Env["LEGACY_DSN"], "postgres://postgres@"),
		"Kafka      " + s.Env["KAFKA"] + " (kfake)   PostgreSQL   the same server, databases ledger and readmodel   Redis   " + redis.Addr() + " (miniredis)",
	}
	return s, nil
}

// ForStandin makes the game's configuration one for the stand-in's database.
func ForStandin(yaml string) (string, error) {
	b, err := standin.BanyanYAML([]byte(yaml))
	// The log has a REAL's shortest notation. Compared as such, the change that gave a value is found by it.
	return realColumn.ReplaceAllString(string(b), "CAST($1::text AS double precision)"), err
}

var realColumn = regexp.MustCompile(`CAST\((\w+) AS double precision\)`)

func (s *Set) kafka(dir string) error {
	port, err := child.FreePort()
	if err != nil {
		return err
	}
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(filepath.Join(dir, "kafka")), kfake.GroupMinSessionTimeout(200*time.Millisecond))
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	s.onStop(func() error { k.Close(); return nil })
	s.Env["KAFKA"] = strings.Join(k.ListenAddrs(), ",")
	return nil
}

// prepare does what `banyan check` asks of whoever owns legacy's database: publication, replica identities, slot.
func (s *Set) prepare(ctx context.Context) error {
	source, err := postgres.New(postgres.Config{URL: s.Env["LEGACY_DSN"], Tables: []string{"players", "provinces", "resources", "trades", "units"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return errors.Join(source.Setup(ctx), source.Close())
}

// game seeds and serves the stand-in.
func (s *Set) game(ctx context.Context, size Size) error {
	g, err := standin.New(ctx, standin.Config{URL: s.Env["LEGACY_DSN"], Annotate: true})
	if err != nil {
		return err
	}
	s.onStop(func() error { g.Close(); return nil })
	if err := g.Setup(ctx, standin.Size{Matches: size.Matches, Players: size.Players, Provinces: size.Provinces, Units: size.Units}); err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	port, err := child.FreePort()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", child.Loopback(port))
	if err != nil {
		return fmt.Errorf("stand-in: %w", err)
	}
	srv := &http.Server{Handler: g.Handler(), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { // ends with Shutdown
		defer close(done)
		_ = srv.Serve(l)
	}()
	s.onStop(func() error {
		bound, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := srv.Shutdown(bound)
		if err != nil {
			err = errors.Join(err, srv.Close())
		}
		<-done
		return err
	})
	s.Legacy = "http://" + l.Addr().String()
	s.Cron = g.Cron
	return nil
}
