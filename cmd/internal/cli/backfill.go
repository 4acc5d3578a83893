package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"banyan/cmd/internal/telemetry"
	"banyan/proxy/admin"
	"banyan/proxy/event"

	"github.com/spf13/cobra"
)

func (a *app) backfill() *cobra.Command {
	var r remote
	var o output
	var restart, detach bool
	c := &cobra.Command{
		Use:   "backfill MIGRATION",
		Short: "Import legacy's rows into a migration's events",
		Long: `Imports the rows that legacy has, in chunks at known positions of its change log, while live traffic goes on. A
backfill that was interrupted goes on where it stopped. It runs in the shadow role; ending this command does not end it.`,
		Example: "  banyan backfill units",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := r.client(c)
			if err != nil {
				return err
			}
			req := admin.BackfillRequest{Migration: event.Migration(args[0]), Restart: restart}
			var st admin.BackfillStatus
			if _, err := cl.call(c.Context(), "POST", "/api/v1/backfill", req, &st); err != nil {
				return err
			}
			if !detach {
				if st, err = await(c.Context(), a, cl, st, backfillJob, 500*time.Millisecond); err != nil {
					return err
				}
			}
			if err := o.print(a.stdout, st, func() error { return a.showBackfill(&st) }); err != nil {
				return err
			}
			if st.State == admin.Failed {
				return no("the backfill failed: %s. Once that is mended, the same command goes on where it stopped", dash(st.Error))
			}
			return nil
		},
	}
	r.flags(c)
	f := c.Flags()
	f.BoolVar(&restart, "restart", false, "from the first row, not from where it stopped")
	f.BoolVar(&detach, "detach", false, "do not wait for its end")
	o.flag(c)
	return c
}

// job is what the shadow role does while a command waits for it.
type job[S any] struct {
	path, list string // of the API, and the member of its answer that lists the jobs
	is         func(s, other *S) bool
	running    func(*S) bool
	line       func(*S) string // how far it is
	left       string          // said when nobody waits any more
}

// await asks until the job has ended, and shows how far it is where somebody looks.
func await[S any](ctx context.Context, a *app, cl *client, st S, j job[S], pause time.Duration) (S, error) {
	shows := telemetry.IsTerminal(a.stderr)
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for j.running(&st) {
		if shows {
			fmt.Fprintf(a.stderr, "\r\033[K%s", j.line(&st))
		}
		select {
		case <-ctx.Done():
			return st, no("no longer waiting; %s, and the same command waits again", j.left)
		case <-tick.C:
		}
		var got map[string][]S
		if _, err := cl.call(ctx, "GET", j.path, nil, &got); err != nil {
			return st, err
		}
		i := slices.IndexFunc(got[j.list], func(s S) bool { return j.is(&s, &st) })
		if i < 0 {
			return st, missing("the shadow role was started again in between; the same command goes on")
		}
		st = got[j.list][i]
	}
	if shows {
		fmt.Fprint(a.stderr, "\r\033[K")
	}
	return st, nil
}

var backfillJob = job[admin.BackfillStatus]{path: "/api/v1/backfill", list: "backfills",
	is:      func(s, other *admin.BackfillStatus) bool { return s.Migration == other.Migration },
	running: func(s *admin.BackfillStatus) bool { return s.State == admin.Running },
	line: func(s *admin.BackfillStatus) string {
		return fmt.Sprintf("%s: %s %d rows ", s.Migration, s.Table, s.Rows)
	},
	left: "the backfill goes on",
}

func (a *app) showBackfill(st *admin.BackfillStatus) error {
	took := ""
	if !st.Ended.IsZero() && !st.Started.IsZero() {
		took = " in " + st.Ended.Sub(st.Started).Round(time.Millisecond).String()
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %s, %s%s\n", st.Migration, st.State, plural(int(st.Rows), "row", "rows"), took)
	return err
}
