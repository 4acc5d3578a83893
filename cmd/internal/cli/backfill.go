package cli

import (
	"context"
	"fmt"
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
				if st, err = a.await(c.Context(), cl, st, 500*time.Millisecond); err != nil {
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

// await asks until it has ended, and shows how far it is where somebody looks.
func (a *app) await(ctx context.Context, cl *client, st admin.BackfillStatus, pause time.Duration) (admin.BackfillStatus, error) {
	shows := telemetry.IsTerminal(a.stderr)
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for st.State == admin.Running {
		if shows {
			fmt.Fprintf(a.stderr, "\r%s: %s %d rows ", st.Migration, st.Table, st.Rows)
		}
		select {
		case <-ctx.Done():
			return st, no("no longer waiting; the backfill goes on, and the same command waits again")
		case <-tick.C:
		}
		var got struct {
			Backfills []admin.BackfillStatus `json:"backfills"`
		}
		if _, err := cl.call(ctx, "GET", "/api/v1/backfill", nil, &got); err != nil {
			return st, err
		}
		known := false
		for _, b := range got.Backfills {
			if b.Migration == st.Migration {
				st, known = b, true
			}
		}
		if !known {
			return st, missing("the shadow role was started again in between; the same command goes on")
		}
	}
	if shows {
		fmt.Fprint(a.stderr, "\r\033[K")
	}
	return st, nil
}

func (a *app) showBackfill(st *admin.BackfillStatus) error {
	took := ""
	if !st.Ended.IsZero() && !st.Started.IsZero() {
		took = " in " + st.Ended.Sub(st.Started).Round(time.Millisecond).String()
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %s, %s%s\n", st.Migration, st.State, plural(int(st.Rows), "row", "rows"), took)
	return err
}
