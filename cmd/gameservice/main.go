// Command gameservice is the example of a new service that grows beside a legacy game: it takes the writes that legacy has
// decided and makes its own events of them, and it answers reads from the read models that banyan keeps.
//
// It promises: POST /commands answers 2xx when a command's events are acknowledged by Kafka; reads have legacy's JSON and
// say in Banyan-Position how fresh they are; it writes no database; SIGTERM lets requests under way finish. It leaves
// everything else to banyan: what legacy did, applying events, comparing, and who may ask. It fails at start with what is
// missing, and later with 503, upon which banyan waits or asks legacy.
//
// It is meant to be copied. Packages: economy (rules, pure), book (state folded from the topic), command (one write to
// events), query (reads).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "gameservice:", err)
		os.Exit(1)
	}
}

// drain is how long requests under way may take after the end was asked for.
const drain = 20 * time.Second

func run(ctx context.Context, args []string, getenv func(string) string, stderr io.Writer) error {
	cfg, err := parse(args, getenv, stderr)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	s, err := open(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer s.close()
	l, err := net.Listen("tcp", cfg.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	log.Info("gameservice serves", "address", l.Addr(), "bug", cfg.bug)
	return serve(ctx, l, s.handler(), log)
}

// serve ends when ctx does, after the requests under way.
func serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }() // ends with Shutdown
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := srv.Shutdown(bound); err != nil {
		return fmt.Errorf("requests are still under way after %s: %w", drain, err)
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
