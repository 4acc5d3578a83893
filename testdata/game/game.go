// Package game sets up the legacy game of this directory for tests, the demo and
// benchmarks: it names the document root, hands the database's address to PHP, fills
// the database and runs the cron script.
//
// It promises nothing about the game itself; README.md does. Servers are left to
// banyan/testdata/lab, playing to banyan/cmd/internal/play. What it runs is the php
// command; its errors carry what PHP printed.
package game

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"
)

// Password is that of every seeded player.
const Password = "secret"

// Login is the name of the n-th player, from 1, of a match in a freshly seeded world.
func Login(match, n int) string { return fmt.Sprintf("p%d_%d", match, n) }

// Dir is the directory of the game's sources.
func Dir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// Root is the document root of its web server.
func Root() string { return filepath.Join(Dir(), "public") }

// DB is the address of the game's database.
type DB struct {
	Addr     string // host:port
	Socket   string // path of a unix socket; wins over Addr
	User     string
	Password string
	Name     string
}

// Env is the environment that PHP needs, for a web server or php-fpm. Sessions is the
// directory of the session files, annotate whether SQL carries the ids of the proxy's writes.
func (d DB) Env(sessions string, annotate bool) map[string]string {
	env := map[string]string{
		"GAME_DB_USER":  d.User,
		"GAME_DB_PASS":  d.Password,
		"GAME_DB_NAME":  d.Name,
		"GAME_SESSIONS": sessions,
		"GAME_ANNOTATE": "0",
	}
	if annotate {
		env["GAME_ANNOTATE"] = "1"
	}
	if host, port, err := net.SplitHostPort(d.Addr); err == nil {
		env["GAME_DB_HOST"], env["GAME_DB_PORT"] = host, port
	}
	if d.Socket != "" {
		env["GAME_DB_SOCKET"] = d.Socket
	}
	return env
}

// Size is how much there is of what. All but Matches are per match; zero takes the default.
type Size struct {
	Matches   int // 6
	Players   int // 40
	Provinces int // 60, at least one per player
	Units     int // 400
	Seed      int // 1; the same seed and Now make the same world
	Now       time.Time
}

// Seed makes the tables anew and fills them.
func Seed(ctx context.Context, db DB, size Size) error {
	args := []string{"--schema"}
	for _, option := range []struct {
		name  string
		value int
	}{{"matches", size.Matches}, {"players", size.Players}, {"provinces", size.Provinces}, {"units", size.Units}, {"seed", size.Seed}} {
		if option.value != 0 {
			args = append(args, "--"+option.name, strconv.Itoa(option.value))
		}
	}
	if !size.Now.IsZero() {
		args = append(args, "--now", strconv.FormatInt(size.Now.Unix(), 10))
	}
	return run(ctx, db, "seed.php", args...)
}

// Cron runs the cron script once.
func Cron(ctx context.Context, db DB) error { return run(ctx, db, "cron.php") }

func run(ctx context.Context, db DB, script string, args ...string) error {
	cmd := exec.CommandContext(ctx, "php", append([]string{filepath.Join(Dir(), script)}, args...)...)
	cmd.Env = os.Environ()
	env := db.Env("", true)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		cmd.Env = append(cmd.Env, name+"="+env[name])
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("php %s: %w: %s", script, err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}
