package cli

import (
	"fmt"
	"strings"
	"time"

	"banyan/proxy/admin"
	"banyan/proxy/event"

	"github.com/spf13/cobra"
)

func (a *app) retranslate() *cobra.Command {
	var r remote
	var o output
	var q admin.RetranslateRequest
	c := &cobra.Command{
		Use:   "retranslate MIGRATION --reason TEXT",
		Short: "Make a migration's events and read model anew beside the live ones, compare them with legacy, and swap",
		Long: `Makes the next generation of a migration's events from what was recorded since its last import, after a mapping, a
statement or the service's command logic was mended, and a read model of it beside the one that is read. Both are fed.
When the new one has caught up, every row of it is compared with legacy. If all are equal, readers are moved to it by
one record of the control log; if not, nothing moves, and this says how many rows differ, with examples.

It runs in the shadow role; ending this command does not end it, and the same command goes on with it. The tables of the
generation before stay until the next build.

Exit status: 0 done, 1 the new generation is not equal to legacy or cannot be made from the record, 2 usage, 3 something
that is needed is missing.`,
		Example: `  banyan retranslate units --reason "game.unit.fought tells the health after the fight"
  banyan retranslate units --no-swap --reason "look first"
  banyan retranslate units --abandon --reason "another mapping is wrong, too"`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			q.Migration, q.Reason = event.Migration(args[0]), strings.TrimSpace(q.Reason)
			switch {
			case q.Reason == "":
				return usage("why? Give --reason \"…\": the audit keeps it")
			case q.Abandon && (q.NoSwap || q.Force):
				return usage("--abandon ends the build; neither --no-swap nor --force goes with it")
			case q.NoSwap && q.Force:
				return usage("--no-swap and --force say opposite things")
			}
			cl, err := r.client(c)
			if err != nil {
				return err
			}
			var st admin.RetranslateStatus
			conflict, err := cl.call(c.Context(), "POST", "/api/v1/retranslate", q, &st)
			if err != nil {
				return err
			}
			if conflict {
				return no("%s", dash(st.Error))
			}
			if st, err = await(c.Context(), a, cl, st, retranslateJob, 300*time.Millisecond); err != nil {
				return err
			}
			return a.retranslated(&st, &q, &o)
		},
	}
	r.flags(c)
	f := c.Flags()
	f.StringVar(&q.Reason, "reason", "", "why, for the audit (required)")
	f.StringVar(&q.Who, "who", whoami(), "who answers for it, for the audit")
	f.BoolVar(&q.NoSwap, "no-swap", false, "build and compare, and leave readers where they are")
	f.BoolVar(&q.Abandon, "abandon", false, "end the build that was begun")
	f.BoolVar(&q.Force, "force", false, "swap although rows differ, or were not compared; the audit marks it for ever")
	o.flag(c)
	return c
}

var retranslateJob = job[admin.RetranslateStatus]{path: "/api/v1/retranslate", list: "retranslations",
	is:      func(s, other *admin.RetranslateStatus) bool { return s.Migration == other.Migration },
	running: func(s *admin.RetranslateStatus) bool { return s.State == admin.Running },
	line:    func(s *admin.RetranslateStatus) string { return fmt.Sprintf("%s: %s", s.Migration, progressOf(s)) },
	left:    "the shadow role goes on",
}

func progressOf(st *admin.RetranslateStatus) string {
	switch st.Phase {
	case "building":
		return fmt.Sprintf("generation %d is being made, %d of %d partitions have caught up ", st.To, st.CaughtUp, st.Partitions)
	case "verifying":
		return fmt.Sprintf("generation %d is compared with legacy, %s, %d differ ", st.To, plural(int(st.Compared), "row", "rows"), st.Different)
	}
	return st.Phase + " "
}

// retranslated tells what became of it.
func (a *app) retranslated(st *admin.RetranslateStatus, q *admin.RetranslateRequest, o *output) error {
	if err := o.print(a.stdout, st, func() error { return a.showRetranslated(st) }); err != nil {
		return err
	}
	switch {
	case st.State == admin.Failed:
		return missing("%s. Once that is there, the same command goes on", dash(st.Error))
	case st.State == admin.Refused && o.json:
		return errNo
	case st.State == admin.Refused:
		return no("%s", dash(st.Error))
	case st.Late != "" && !q.NoSwap:
		return no("swapped, but %s. Readers follow when every proxy obeys; `banyan stage show %s` tells when they do", st.Late, st.Migration)
	}
	return nil
}

func (a *app) showRetranslated(st *admin.RetranslateStatus) error {
	if st.Compared > 0 || st.Comparisons > 0 {
		fmt.Fprintf(a.stdout, "%s, generation %d: %s compared with legacy, %d differ", st.Migration, st.To, plural(int(st.Compared), "row", "rows"), st.Different)
		if st.Unverified > 0 {
			fmt.Fprintf(a.stdout, ", %d could not be compared fairly", st.Unverified)
		}
		fmt.Fprintln(a.stdout)
	}
	for _, e := range st.Examples {
		fmt.Fprintf(a.stdout, "  %s%s of %s: legacy has %s, generation %d has %s", line(string(e.Entity)), line(e.Path), line(string(e.Key)), value(e.Legacy), st.To, value(e.Candidate))
		if e.Why != "" {
			fmt.Fprintf(a.stdout, "; %s", line(e.Why))
		}
		fmt.Fprintln(a.stdout)
	}
	for _, p := range st.Parked {
		fmt.Fprintf(a.stdout, "  %s is parked at %s: %s\n", line(string(p.Key)), p.Stage, line(p.Reason))
	}
	took := ""
	if !st.Ended.IsZero() && !st.Started.IsZero() {
		took = " after " + st.Ended.Sub(st.Started).Round(time.Millisecond).String()
	}
	var err error
	switch {
	case st.Swapped && st.Forced:
		_, err = fmt.Fprintf(a.stdout, "%s: swapped%s although it is not equal to legacy (forced): generation %d takes over from %d\n", st.Migration, took, st.To, st.From)
	case st.Swapped:
		_, err = fmt.Fprintf(a.stdout, "%s: swapped%s: generation %d takes over from %d\n", st.Migration, took, st.To, st.From)
	case st.Phase == "abandoned":
		_, err = fmt.Fprintf(a.stdout, "%s: generation %d is abandoned; readers have generation %d\n", st.Migration, st.To, st.From)
	case st.State == admin.Done:
		_, err = fmt.Fprintf(a.stdout, "%s: generation %d is made%s, and not swapped; readers have generation %d\n", st.Migration, st.To, took, st.From)
	}
	return err
}
