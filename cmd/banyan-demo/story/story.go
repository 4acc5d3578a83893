// Package story is what the demo shows: a list of acts, each of which does something to a running system and checks what
// it claims.
//
// It promises that nothing is claimed that was not seen in this run: a check that does not hold is printed and makes the
// story fail; what the system cannot do has no act. Numbers come with their n. It leaves servers to scene, processes to
// system, and printing to report.
package story

import (
	"context"
	"errors"
	"fmt"
	"time"

	"banyan/cmd/banyan-demo/operator"
	"banyan/cmd/banyan-demo/report"
	"banyan/cmd/banyan-demo/scene"
	"banyan/cmd/banyan-demo/system"
)

// Config is what a story is played with.
type Config struct {
	Out  *report.Printer
	Set  *scene.Set
	Sys  *system.System
	Size scene.Size
	Rate float64 // things that all players together do per second
	// Windows is in how many windows both sides are measured side by side, Window how long one is.
	Windows int
	Window  time.Duration
	Stays   bool // the system stays up after the story: tell how to try it
}

// Story is one telling.
type Story struct {
	Config
	crowd *crowd
	ops   *operator.Operator // of the shadow's admin listener
	proxy *system.Part
	bugs  []*bug
	// mended is when the last wrong event was made.
	mended time.Time
	stop   []func()
}

type act struct {
	title, why string
	do         func(*Story, context.Context) error
}

// acts are told in this order.
var acts = []act{offAct, dualwriteAct, shadowAct, findingsAct, gateAct, fixAct, evidenceAct, tenthAct, halfAct, rollbackAct}

// New prepares a story.
func New(c Config) *Story { return &Story{Config: c, crowd: newCrowd(c.Size, c.Rate)} }

// Tell plays all acts. The error is about what kept the story from going on; checks that did not hold are in the report.
func (s *Story) Tell(ctx context.Context) error {
	cron, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.cron(cron) }()
	s.stop = append(s.stop, func() {
		cancel()
		<-ended
	})
	told := acts
	if s.Stays {
		told = append(told[:len(told):len(told)], tryAct)
	}
	for _, a := range told {
		s.Out.Act(a.title, a.why)
		if err := a.do(s, ctx); err != nil {
			return errors.Join(err, s.Sys.Failed())
		}
		if err := s.Sys.Failed(); err != nil {
			return err
		}
	}
	return nil
}

// Close sends the players home and ends cron.
func (s *Story) Close() error {
	err := s.crowd.end()
	for _, stop := range s.stop {
		stop()
	}
	s.stop = nil
	return err
}

// cron runs the game's cron script every second, as its crontab would every minute.
func (s *Story) cron(ctx context.Context) error {
	for {
		if err := s.Set.Cron(ctx); err != nil && ctx.Err() == nil {
			s.Out.Check(false, "the game's cron script runs: %v", err)
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// during lets time pass while players play.
func (s *Story) during(ctx context.Context, d time.Duration, what string) error {
	end := time.Now().Add(d)
	return s.until(ctx, d+time.Second, what, func(context.Context) (bool, string, error) {
		return time.Now().After(end), fmt.Sprintf("%d requests so far", s.crowd.totals().Requests), nil
	})
}

// until asks again and again, and shows what it waits for. Running out of time is an error that says how far it came.
func (s *Story) until(ctx context.Context, patience time.Duration, what string, done func(context.Context) (ok bool, detail string, err error)) error {
	start := time.Now()
	s.Out.Patience()
	for {
		ok, detail, err := done(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if ok {
			return nil
		}
		if err := s.Sys.Failed(); err != nil {
			return err
		}
		if time.Since(start) > patience {
			return &tooSlow{what, patience, detail}
		}
		s.Out.Waiting("%s (%.0f s): %s", what, time.Since(start).Seconds(), detail)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond): // another process has no other signal
		}
	}
}

// tooSlow is the end of patience.
type tooSlow struct {
	what     string
	patience time.Duration
	detail   string
}

func (e *tooSlow) Error() string {
	return fmt.Sprintf("%s: not within %s: %s", e.what, e.patience, e.detail)
}

// eventually is until whose slowness is a check that does not hold, not an error.
func (s *Story) eventually(ctx context.Context, patience time.Duration, what string, done func(context.Context) (ok bool, detail string, err error)) error {
	err := s.until(ctx, patience, what, done)
	var slow *tooSlow
	if errors.As(err, &slow) {
		s.Out.Check(false, "%v", err)
		return nil
	}
	return err
}
