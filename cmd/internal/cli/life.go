package cli

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"banyan/cmd/internal/footprint"
	"banyan/cmd/internal/handover"
)

// life is what happens to a serving process from outside, beside its end: SIGUSR2 asks for a successor, SIGHUP
// for the configuration to be read again.
type life struct {
	set     *handover.Set
	log     *slog.Logger
	signals chan os.Signal
	hangups chan os.Signal
}

// newLife takes over what a predecessor gave. Signals count from here on, so that none ends the process by default.
func newLife(log *slog.Logger) (*life, error) {
	set, err := handover.Inherit()
	if err != nil {
		return nil, usage("%w", err)
	}
	l := &life{set: set, log: log, signals: make(chan os.Signal, 1), hangups: make(chan os.Signal, 1)}
	signal.Notify(l.signals, syscall.SIGUSR2)
	signal.Notify(l.hangups, syscall.SIGHUP)
	return l, nil
}

func (l *life) end() {
	signal.Stop(l.signals)
	signal.Stop(l.hangups)
}

// startup is how long after the port is open what is behind it (Kafka, databases) still comes up, when all is well.
const startup = time.Second

// serving returns when the process shall end: ctx is done, failed has told, or a successor serves (succeeded).
// Meanwhile reload is called for each SIGHUP; it says in the log what became of it. rest is called at the end of a load;
// it may be nil.
func (l *life) serving(ctx context.Context, failed <-chan error, reload, rest func()) (succeeded bool, err error) {
	if err := l.set.Ready(); err != nil {
		l.log.Warn("somebody who waits for this process was not told that it serves", "error", err)
	}
	footprint.MakeRoom()
	started := time.NewTimer(startup)
	defer started.Stop()
	keeper, look := footprint.NewKeeper(rest), time.NewTimer(footprint.Every)
	defer look.Stop()
	for {
		select {
		case <-started.C:
			keeper.Trim()
		case <-look.C:
			look.Reset(keeper.Look())
		case err := <-failed:
			return false, err
		case <-ctx.Done():
			return false, nil
		case <-l.hangups:
			reload()
		case <-l.signals:
			l.log.Info("handing over: the new process is being started", "at_most", handover.Wait)
			pid, err := l.set.Successor(ctx)
			if pid == 0 {
				l.log.Error("not handed over", "error", err)
				continue
			}
			if err != nil {
				l.log.Warn("the service manager does not know of the new process", "error", err)
			}
			l.log.Info("handed over", "pid", pid)
			return true, nil
		}
	}
}
