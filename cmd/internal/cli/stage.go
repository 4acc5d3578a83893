package cli

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"banyan/cmd/internal/telemetry"
	"banyan/proxy/admin"
	"banyan/proxy/event"
	"banyan/proxy/stage"

	"github.com/spf13/cobra"
)

func (a *app) stage() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use:   "stage",
		Short: "Show and flip the stages of migrations",
		Long: `Shows where migrations stand, and moves them: off, dualwrite, shadow, live. Forward goes one step at a time and only
with evidence; back goes any number of steps, at once.`,
	}
	r.flags(c)
	c.AddCommand(a.stageShow(&r), a.stageFlip(&r), a.stageHistory(&r))
	return c
}

func (a *app) stageShow(r *remote) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "show [MIGRATION]",
		Short: "Show stages and shares, since when, and which proxies obey",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := r.client(c)
			if err != nil {
				return err
			}
			var got struct {
				Stages []admin.StageInfo `json:"stages"`
			}
			if _, err := cl.call(c.Context(), "GET", "/api/v1/stages", nil, &got); err != nil {
				return err
			}
			if len(args) == 1 {
				if got.Stages, err = only(got.Stages, args[0]); err != nil {
					return err
				}
			}
			return o.print(a.stdout, got, func() error { return a.showStages(got.Stages) })
		},
	}
	o.flag(c)
	return c
}

func only(all []admin.StageInfo, name string) ([]admin.StageInfo, error) {
	var names []string
	for _, s := range all {
		if string(s.Migration) == name {
			return []admin.StageInfo{s}, nil
		}
		names = append(names, string(s.Migration))
	}
	return nil, usage("there is no migration %q; there are %s", name, strings.Join(names, ", "))
}

func (a *app) showStages(all []admin.StageInfo) error {
	rows := [][]string{{"MIGRATION", "STAGE", "SINCE", "BY", "PROXIES", "REASON"}}
	for _, s := range all {
		obey := 0
		for _, p := range s.Proxies {
			if p.Version >= s.Version {
				obey++
			}
		}
		reason := s.Reason
		if s.Forced {
			reason += " (forced)"
		}
		rows = append(rows, []string{string(s.Migration), s.State.String() + generationsOf(s.State), when(s.Since), dash(s.Who), fmt.Sprintf("%d of %d obey", obey, len(s.Proxies)), dash(reason)})
	}
	return table(a.stdout, rows...)
}

// generationsOf tells of generations where there is more than the first.
func generationsOf(s stage.State) string {
	switch g := s.Current(); {
	case s.Building != 0:
		return fmt.Sprintf(" (generation %d, building %d)", g, s.Building)
	case s.Retiring != 0:
		return fmt.Sprintf(" (generation %d, retiring %d)", g, s.Retiring)
	case g > 1:
		return fmt.Sprintf(" (generation %d)", g)
	}
	return ""
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (a *app) stageHistory(r *remote) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "history MIGRATION",
		Short: "Show every flip of a migration, and every step of its generations: who, when, why",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := r.client(c)
			if err != nil {
				return err
			}
			var got struct {
				Entries []stage.Entry `json:"entries"`
			}
			if _, err := cl.call(c.Context(), "GET", "/api/v1/stages/"+url.PathEscape(args[0])+"/history", nil, &got); err != nil {
				return err
			}
			return o.print(a.stdout, got, func() error {
				rows := [][]string{{"VERSION", "AT", "FROM", "TO", "BY", "REASON"}}
				for _, e := range got.Entries {
					reason := e.Reason
					if e.Forced {
						if e.Step == "" {
							reason += " (forced: gates were not passed)"
						} else {
							reason += " (forced: it was not equal to legacy)"
						}
					}
					if e.Void != "" {
						reason += " (void: " + e.Void + ")"
					}
					rows = append(rows, []string{strconv.FormatUint(e.To.Version, 10), when(e.At), e.From.String(), e.Describe(), dash(e.Who), dash(reason)})
				}
				return table(a.stdout, rows...)
			})
		},
	}
	o.flag(c)
	return c
}

// flipFlags are those of `stage flip`.
type flipFlags struct {
	share            string
	include, exclude []string
	reason, who      string
	force, yes, dry  bool
	out              output
}

func (a *app) stageFlip(r *remote) *cobra.Command {
	var f flipFlags
	c := &cobra.Command{
		Use:   "flip MIGRATION STAGE --reason TEXT",
		Short: "Change a migration's stage or share",
		Long: `Changes a migration's stage, or its share at stage live. It shows the evidence first, refuses a flip forward while a
gate does not pass (exit status 1), and returns when every live proxy obeys. Back always goes, and asks no gate.

--share, --include and --exclude say the whole new share: what is left out is gone. A key is excluded before it is
included before its share is looked at.`,
		Example: `  banyan stage flip units shadow --reason "backfilled"
  banyan stage flip units live --share 10 --include match/7 --reason "first ten percent"
  banyan stage flip units shadow --reason "p99 went up"`,
		Args:      cobra.ExactArgs(2),
		ValidArgs: []string{"off", "dualwrite", "shadow", "live"},
		RunE: func(c *cobra.Command, args []string) error {
			req, err := f.request(args[1])
			if err != nil {
				return err
			}
			cl, err := r.client(c)
			if err != nil {
				return err
			}
			return a.flip(c.Context(), cl, args[0], req, &f)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.share, "share", "", "percentage of ordering keys whose reads the candidate answers (stage live)")
	fl.StringSliceVar(&f.include, "include", nil, "ordering key that the candidate answers whatever the share, such as match/7; may be repeated")
	fl.StringSliceVar(&f.exclude, "exclude", nil, "ordering key that stays with legacy; may be repeated")
	fl.StringVar(&f.reason, "reason", "", "why, for the audit (required)")
	fl.StringVar(&f.who, "who", whoami(), "who answers for it, for the audit")
	fl.BoolVar(&f.force, "force", false, "flip although gates do not pass; the audit marks it for ever")
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	fl.BoolVar(&f.dry, "dry-run", false, "show the evidence and change nothing; exit status 1 if the flip would be refused")
	f.out.flag(c)
	return c
}

func whoami() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// request reads the flags.
func (f *flipFlags) request(to string) (admin.FlipRequest, error) {
	req := admin.FlipRequest{Reason: strings.TrimSpace(f.reason), Who: f.who, Force: f.force}
	s, err := stage.Parse(to)
	if err != nil {
		return req, usage("%w", err)
	}
	req.Stage = s
	if f.share != "" {
		p, err := strconv.ParseFloat(strings.TrimSuffix(f.share, "%"), 64)
		if err != nil {
			return req, usage("--share %q: want a percentage, such as 10", f.share)
		}
		req.Share.Percent = p
	}
	for _, k := range f.include {
		req.Share.Include = append(req.Share.Include, event.OrderingKey(k))
	}
	for _, k := range f.exclude {
		req.Share.Exclude = append(req.Share.Exclude, event.OrderingKey(k))
	}
	if err := req.Share.Validate(); err != nil {
		return req, usage("--%w", err)
	}
	switch given := f.share != "" || len(f.include) > 0 || len(f.exclude) > 0; {
	case s == stage.Live && f.share == "" && len(f.include) == 0:
		return req, usage("how much? Stage live needs --share PERCENT (100 is everybody) or --include KEY")
	case s != stage.Live && given:
		return req, usage("a share belongs to stage live; stage %s has none", s)
	case req.Reason == "" && !f.dry:
		return req, usage("why? Give --reason \"…\": the audit keeps it")
	}
	return req, nil
}

// flip shows the plan, asks where somebody can answer, and does it on condition that nothing changed in between.
func (a *app) flip(ctx context.Context, cl *client, migration string, req admin.FlipRequest, f *flipFlags) error {
	path := "/api/v1/stages/" + url.PathEscape(migration) + "/flip"
	ask := req
	ask.DryRun = true
	var plan admin.Outcome
	if _, err := cl.call(ctx, "POST", path, ask, &plan); err != nil {
		return err
	}
	if f.dry || !plan.Passed && !req.Force {
		return a.planned(migration, plan, f)
	}
	if !f.out.json {
		if err := a.showPlan(migration, plan); err != nil {
			return err
		}
	}
	if !f.yes && !f.out.json && telemetry.IsTerminal(a.stdin) && !a.confirmed() {
		return no("not flipped")
	}
	req.Expect = &plan.Plan.From.Version
	var done admin.Outcome
	conflict, err := cl.call(ctx, "POST", path, req, &done)
	if err != nil {
		return err
	}
	if f.out.json {
		if err := f.out.print(a.stdout, done, nil); err != nil || !conflict && done.Flipped != nil && len(done.Flipped.Late) == 0 {
			return err
		}
		return errNo
	}
	return a.flipped(migration, conflict, done)
}

// planned ends a dry run, or a flip that is refused.
func (a *app) planned(migration string, plan admin.Outcome, f *flipFlags) error {
	if !plan.Passed {
		plan.Refused = "gates do not pass"
	}
	err := f.out.print(a.stdout, plan, func() error { return a.showPlan(migration, plan) })
	switch {
	case err != nil || plan.Passed:
		return err
	case f.out.json:
		return errNo
	}
	return no("not flipped: %s. Mend that, or --force it: the audit marks it for ever", failing(plan.Plan.Gates))
}

func failing(gs []admin.Gate) string {
	var names []string
	for _, g := range gs {
		if g.Result != admin.Pass {
			names = append(names, g.Name)
		}
	}
	switch len(names) {
	case 0:
		return "there is no evidence at all"
	case 1:
		return "the gate " + names[0] + " does not pass"
	}
	return "the gates " + strings.Join(names, ", ") + " do not pass"
}

// showPlan prints the move and the table of gates, each that does not pass with its reason.
func (a *app) showPlan(migration string, o admin.Outcome) error {
	fmt.Fprintf(a.stdout, "%s: %s -> %s\n", migration, o.Plan.From, o.Plan.To)
	if !o.Plan.Forward {
		fmt.Fprintln(a.stdout, "  back: no gate is asked")
		return nil
	}
	if len(o.Plan.Gates) == 0 {
		_, err := fmt.Fprintln(a.stdout, "  no gate could be asked")
		return err
	}
	rows := [][]string{{"  RESULT", "GATE", "HAVE", "WANT"}}
	words := map[string]string{admin.Pass: "  pass", admin.Fail: "  FAIL", admin.Inconclusive: "  NO DATA"}
	for _, g := range o.Plan.Gates {
		rows = append(rows, []string{words[g.Result], g.Name, dash(g.Have), dash(g.Want)})
	}
	if err := table(a.stdout, rows...); err != nil {
		return err
	}
	for _, g := range o.Plan.Gates {
		if g.Result != admin.Pass && g.Why != "" {
			fmt.Fprintf(a.stdout, "  %s: %s\n", g.Name, g.Why)
		}
	}
	return nil
}

func (a *app) confirmed() bool {
	fmt.Fprint(a.stdout, "Flip? [y/N] ")
	var answer string
	_, _ = fmt.Fscanln(a.stdin, &answer) // nothing is no
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes")
}

// flipped tells what became of it.
func (a *app) flipped(migration string, conflict bool, o admin.Outcome) error {
	if conflict {
		return no("not flipped: %s. `banyan stage show %s` tells where it is; look at the evidence again", dash(o.Refused), migration)
	}
	d := o.Flipped
	if d == nil {
		return missing("the admin API does not say whether it flipped; `banyan stage history %s` does", migration)
	}
	took := time.Duration(d.TookMS) * time.Millisecond
	if len(d.Late) > 0 {
		late := make([]string, len(d.Late))
		for i, r := range d.Late {
			late[i] = string(r)
		}
		return no("flipped, but after %s not every proxy has said that it obeys: %s. Look at their logs; `banyan stage show %s` tells when they do",
			took, strings.Join(late, ", "), migration)
	}
	proxies := "the live proxy obeys"
	if n := len(d.Obeyed); n != 1 {
		proxies = fmt.Sprintf("all %d live proxies obey", n)
	}
	if len(d.Obeyed) == 0 {
		proxies = "no proxy is live"
	}
	_, err := fmt.Fprintf(a.stdout, "flipped: %s after %s\n", proxies, took)
	return err
}
