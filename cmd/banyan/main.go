// Command banyan is the proxy, its consumers and their command line in one binary: `banyan help` lists what it does.
//
// It promises exit status 0 when all is well, 1 when the answer is no, 2 for a usage or configuration that cannot be
// used, 3 when something that it depends on is missing, and 128 and the signal's number when a second signal cut it
// short. Everything else is package cli's.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"banyan/cmd/internal/awake"
	"banyan/cmd/internal/cli"
)

func main() {
	if len(os.Args) > 1 && slices.Contains([]string{"proxy", "shadow", "serve"}, os.Args[1]) {
		awake.Keep()
	}
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the process
		<-signals
		cancel() // the first one asks for a graceful end, a second one is obeyed at once
		os.Exit(128 + int((<-signals).(syscall.Signal)))
	}()
	os.Exit(cli.Report(os.Stderr, run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	return cli.Run(ctx, args, stdin, stdout, stderr)
}
