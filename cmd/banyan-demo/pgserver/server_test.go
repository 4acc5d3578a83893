package pgserver

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// As root the server runs as another user; the same test run by a user needs no other one.
func TestItStartsReplicatesAndEnds(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	binaries, err := Binaries(t.Context(), filepath.Join(cache, "banyan"), func(s string) { t.Log(s) })
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pgserver-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), binaries, dir)
	if err != nil {
		t.Fatal(err)
	}
	url, err := s.Create(t.Context(), "game")
	if err != nil {
		t.Fatal(err)
	}
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	var level string
	if err := c.QueryRow(t.Context(), "select current_setting('wal_level')").Scan(&level); err != nil || level != "logical" {
		t.Fatal(level, err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "postgres", "data")); err != nil || fi.Sys().(*syscall.Stat_t).Uid == 0 {
		t.Fatal("the cluster belongs to root, or is not there", err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal("a second end:", err)
	}
	if err := syscall.Kill(s.child.Pid(), 0); err == nil {
		t.Fatal("it is still there")
	}
}
