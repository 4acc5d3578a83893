// Command banyan-demo shows a live game being strangled, on this machine, in a few minutes: players play while a proxy is
// put in front, writes are recorded, read models grow, planted bugs are found and fixed, reads move to the new side, faster,
// and back.
//
// ONCE=1 ends after the story, with status 0 only if every check of it held; otherwise it stays up until Ctrl-C. REAL=1 runs
// php-fpm behind nginx, MariaDB, Kafka, PostgreSQL and Redis. Nothing is left behind either way, unless KEEP=1 asks for the
// directory with logs and configurations.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"banyan/cmd/banyan-demo/report"
	"banyan/cmd/banyan-demo/scene"
	"banyan/cmd/banyan-demo/story"
	"banyan/cmd/banyan-demo/system"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fi, err := os.Stdout.Stat()
	terminal := err == nil && fi.Mode()&os.ModeCharDevice != 0
	if err := run(ctx, os.Getenv, os.Stdout, terminal); err != nil {
		fmt.Fprintln(os.Stderr, "banyan-demo:", err)
		os.Exit(1)
	}
}

// size of the game: matches enough that a tenth of them is some.
var size = scene.Size{Matches: 30, Players: 8, Provinces: 12, Units: 60}

func run(ctx context.Context, getenv func(string) string, stdout io.Writer, terminal bool) (err error) {
	once, real := getenv("ONCE") != "", getenv("REAL") != ""
	out := report.New(stdout, terminal)
	dir, err := os.MkdirTemp("", "banyan-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if getenv("KEEP") != "" {
			out.Say("kept: %s", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := os.Chmod(dir, 0o711); err != nil { // PostgreSQL may run as another user
		return err
	}
	say := func(line string) { out.Say("%s", line) }
	say("building banyan and gameservice")
	set, err := stageSet(ctx, real, dir, say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, set.Stop()) }()
	sys, err := system.New(ctx, dir, set)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Stop()) }()
	for _, line := range set.Where {
		say(line)
	}
	say("logs and configurations are in " + dir + " while this runs")
	c := story.Config{Out: out, Set: set, Sys: sys, Size: size, Rate: 60, Windows: 5, Window: 3 * time.Second, Stays: !once}
	if real {
		c.Windows, c.Window = 9, 4*time.Second
	}
	s := story.New(c)
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.Tell(ctx); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted; everything is ended and removed")
		}
		return err
	}
	if err := verdict(out); err != nil || once {
		return err
	}
	say("it stays up: Ctrl-C ends it")
	<-ctx.Done()
	return nil
}

func stageSet(ctx context.Context, real bool, dir string, say func(string)) (*scene.Set, error) {
	if real {
		return scene.Real(ctx, dir, size, say)
	}
	return scene.Embedded(ctx, dir, size, say)
}

func verdict(out *report.Printer) error {
	checks, failed, took := out.Result()
	if len(failed) == 0 {
		out.Say("\nall %d checks held, in %s", checks, took.Round(time.Second))
		return nil
	}
	out.Say("\n%d of %d checks did not hold, in %s:", len(failed), checks, took.Round(time.Second))
	for _, f := range failed {
		out.Say("- %s", f)
	}
	return fmt.Errorf("%d of %d checks did not hold", len(failed), checks)
}
