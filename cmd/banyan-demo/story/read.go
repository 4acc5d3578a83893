package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"banyan/cmd/banyan-demo/operator"
	"banyan/cmd/internal/play"
	"banyan/proxy/admin"
	"banyan/proxy/event"
	"banyan/proxy/stage"
)

// bug is what was planted, and how a finding has to name it.
type bug struct {
	what      string
	migration event.Migration
	place     string // of the comparison of rows
	cause     string
	mended    string // how
	found     string // the finding's id
}

func planting() []*bug {
	return []*bug{
		{what: "the mapping of game.unit.fought sends a unit's health before the fight, not after it", migration: "units", place: "/hp", cause: "translation",
			mended: "game.unit.fought tells the health after the fight"},
		{what: "the service credits a buyer of iron with what it paid", migration: "economy", place: "/iron", cause: "translation",
			mended: "a buyer of iron is credited with what it bought"},
	}
}

// shown looks for the finding that tells of the bug, with both values. One with the right cause is preferred.
func (s *Story) shown(ctx context.Context, b *bug) (found *admin.Finding, at *admin.Example, others string, err error) {
	all, err := s.ops.Findings(ctx, "open", "reopened")
	if err != nil {
		return nil, nil, "", err
	}
	for _, f := range all {
		if f.Migration != b.migration || !strings.HasSuffix(f.Place, " "+b.place) || found != nil && f.Cause != b.cause {
			continue
		}
		whole, err := s.ops.Finding(ctx, f.ID)
		if err != nil {
			return nil, nil, "", err
		}
		for i, e := range whole.Examples {
			if len(e.Legacy) > 0 && len(e.Candidate) > 0 {
				found, at = whole, &whole.Examples[i]
			}
		}
	}
	return found, at, brief(all), nil
}

var findingsAct = act{
	"two bugs are found",
	"Planted before the story began: a wrong expression in a mapping of units, and wrong arithmetic in the new service's own\ncommand logic.",
	func(s *Story, ctx context.Context) error {
		s.bugs = planting()
		s.crowd.trade(ctx)
		for _, b := range s.bugs {
			var f *admin.Finding
			var e *admin.Example
			err := s.eventually(ctx, 60*time.Second, "looking for: "+b.what, func(ctx context.Context) (ok bool, others string, err error) {
				f, e, others, err = s.shown(ctx, b)
				return f != nil && f.Cause == b.cause, fmt.Sprintf("%d iron trades; %s", s.crowd.traded(), others), err
			})
			if err != nil {
				return err
			}
			if f == nil {
				continue
			}
			b.found = f.ID
			s.Out.Say("planted: %s", b.what)
			s.Out.Command(operator.Line("findings", "show", f.ID))
			s.Out.Check(f.Cause == b.cause, "%s, cause %s: %s%s of %s: legacy has %s, the candidate %s\n%s\nseen %d times since %s; %d places differ now", f.ID, f.Cause, e.Entity, e.Path, e.Key,
				e.Legacy, e.Candidate, e.Why, f.Count, f.FirstSeen.Local().Format("15:04:05"), f.Differ)
		}
		return nil
	},
}

func brief(all []admin.Finding) string {
	var out []string
	for _, f := range all {
		out = append(out, fmt.Sprintf("%s %s, %s", f.Migration, f.Place, f.Cause))
	}
	if len(out) == 0 {
		return "no finding yet"
	}
	return strings.Join(out, "; ")
}

func live(percent float64) stage.State {
	return stage.State{Stage: stage.Live, Share: stage.Share{Percent: percent}}
}

var gateAct = act{
	"the gate refuses",
	"With an open finding nobody's reads move, whoever asks.",
	func(s *Story, ctx context.Context) error {
		r, err := s.command(ctx, operator.FlipArgs("units", live(10), "everybody is waiting")...)
		if err != nil {
			return err
		}
		s.Out.Say("%s", r.Stdout)
		s.Out.Check(r.Status == 1 && strings.Contains(r.Stdout, "open findings"), "exit status %d: %s", r.Status, r.Stderr)
		return nil
	},
}

var fixAct = act{
	"fixed",
	"Back to dualwrite first. A second proxy with the mended configuration takes over and the first one drains; shadow and service are started again\nwithout the bugs. What wrong events left in the read models is mended by making the events anew, from what was recorded since\nthe import: a second generation grows beside the first one, is compared with legacy row by row, and takes over if all are equal.",
	func(s *Story, ctx context.Context) error {
		for _, m := range migrations {
			if err := s.flip(ctx, m, stage.State{Stage: stage.DualWrite}, "while read models are mended, answers say nothing"); err != nil {
				return err
			}
		}
		config, err := s.Sys.Configure("config-2", nil)
		if err != nil {
			return err
		}
		b, err := s.Sys.StartProxy(ctx, "proxy-b", config)
		if err != nil {
			return err
		}
		s.Out.Command("banyan proxy -c " + config)
		if err := s.crowd.switchTo(ctx, b.Addr); err != nil {
			return err
		}
		drain := time.Now()
		if err := s.account(ctx); err != nil {
			return err
		}
		if err := s.Sys.StopProxy("proxy-a"); err != nil {
			return err
		}
		s.proxy = b
		s.Out.Check(true, "the first proxy drained and shipped everything in %s", time.Since(drain).Round(10*time.Millisecond))
		if err := s.Sys.StopShadow(); err != nil {
			return err
		}
		if err := s.Sys.StopService(); err != nil {
			return err
		}
		if err := s.Sys.StartService(false); err != nil {
			return err
		}
		if err := s.startShadow(ctx, "config-2"); err != nil {
			return err
		}
		if err := s.Sys.ServiceReady(ctx); err != nil {
			return err
		}
		s.mended = time.Now()
		for i, m := range migrations {
			if err := s.retranslate(ctx, m, s.bugs[i].mended); err != nil {
				return err
			}
		}
		for _, m := range migrations {
			if err := s.flip(ctx, m, stage.State{Stage: stage.Shadow}, "mended"); err != nil {
				return err
			}
		}
		if err := s.closed(ctx); err != nil {
			return err
		}
		return s.crowd.begin(ctx) // the new proxy learns whose session it is at login, and everybody looks at everything again
	},
}

// retranslate makes a new generation of a migration, and wants it equal to legacy and swapped.
func (s *Story) retranslate(ctx context.Context, m event.Migration, reason string) error {
	type ended struct {
		r   operator.Result
		err error
	}
	start, done := time.Now(), make(chan ended, 1)
	go func() { // ends with the command, which ends with ctx
		r, err := s.command(ctx, "retranslate", string(m), "--reason", reason, "-o", "json")
		done <- ended{r, err}
	}()
	var e ended
	err := s.until(ctx, 2*time.Minute, "new generation of "+string(m), func(ctx context.Context) (bool, string, error) {
		select {
		case e = <-done:
			return true, "", e.err
		default:
		}
		detail, err := s.ops.Retranslation(ctx, m)
		if err != nil {
			detail = err.Error() // the command says it better
		}
		return false, detail, nil
	})
	if err != nil {
		return err
	}
	var st admin.RetranslateStatus
	if err := json.Unmarshal([]byte(e.r.Stdout), &st); err != nil {
		return fmt.Errorf("retranslate %s: exit status %d: %s %s", m, e.r.Status, e.r.Stdout, e.r.Stderr)
	}
	if !s.Out.Check(e.r.Status == 0 && st.Swapped && st.Verified, "%s: generation %d is made anew in %s while %d players go on: %d rows compared with legacy, %d differ; swapped by one record%s", m, st.To,
		time.Since(start).Round(100*time.Millisecond), s.crowd.players(), st.Compared, st.Different, errorOf(&st)) {
		return fmt.Errorf("retranslate %s: %s", m, e.r.Stdout)
	}
	return nil
}

func errorOf(st *admin.RetranslateStatus) string {
	if st.Error == "" {
		return ""
	}
	return ": " + st.Error
}

// closed waits until the planted bugs' findings have closed by themselves.
func (s *Story) closed(ctx context.Context) error {
	start := time.Now()
	return s.eventually(ctx, 60*time.Second, "findings close by themselves", func(ctx context.Context) (bool, string, error) {
		var open, fixed []string
		for _, b := range s.bugs {
			if b.found == "" {
				continue
			}
			f, err := s.ops.Finding(ctx, b.found)
			if err != nil {
				return false, "", err
			}
			if f.State == "fixed" {
				fixed = append(fixed, f.ID)
			} else {
				open = append(open, fmt.Sprintf("%s is %s, %d places differ", f.ID, f.State, f.Differ))
			}
		}
		if len(open) > 0 {
			return false, strings.Join(open, "; "), nil
		}
		s.Out.Check(len(fixed) == len(s.bugs), "%s closed by themselves after %s: every place that differed was compared again and is equal", strings.Join(fixed, " and "), time.Since(start).Round(100*time.Millisecond))
		return true, "", nil
	})
}

var evidenceAct = act{
	"evidence",
	"The mended configuration has a fingerprint of its own, so evidence began anew with it.",
	func(s *Story, ctx context.Context) error {
		if err := s.settleFindings(ctx); err != nil {
			return err
		}
		err := s.eventually(ctx, 60*time.Second, "gates of units to live", func(ctx context.Context) (bool, string, error) {
			p, err := s.ops.Plan(ctx, "units", live(10))
			if err != nil {
				return false, err.Error(), nil
			}
			return p.Passed(), failing(p.Gates), nil
		})
		if err != nil {
			return err
		}
		r, err := s.command(ctx, "stage", "flip", "units", "live", "--share", "10", "--dry-run")
		if err != nil {
			return err
		}
		s.Out.Say("%s", r.Stdout)
		if err := s.others(ctx); err != nil {
			return err
		}
		if !s.Out.Check(r.Status == 0, "exit status %d: every gate passes", r.Status) {
			return errors.New("without evidence the story cannot go on")
		}
		return nil
	},
}

// settleFindings gives findings of answers time to close. An answer that is now equal to the byte is counted by the proxy
// alone, so some close late: what was not seen once since the fix is accepted for an hour, by its number.
func (s *Story) settleFindings(ctx context.Context) error {
	var left []admin.Finding
	err := s.until(ctx, 20*time.Second, "findings of answers close", func(ctx context.Context) (bool, string, error) {
		all, err := s.ops.Findings(ctx, "open", "reopened")
		if err != nil {
			return false, "", err
		}
		left = slices.DeleteFunc(all, func(f admin.Finding) bool { return f.Migration != "units" })
		return len(left) == 0, brief(left), nil
	})
	var slow *tooSlow
	if !errors.As(err, &slow) {
		return err
	}
	for _, f := range left {
		if f.LastSeen.After(s.mended) {
			continue
		}
		r, err := s.command(ctx, "findings", "accept", f.ID, "--reason", "mended; not seen since, and its rows are equal", "--owner", "demo", "--expires", "1h")
		if err != nil {
			return err
		}
		if now, err := s.ops.Finding(ctx, f.ID); r.Status != 0 && err == nil && now.State == "fixed" {
			s.Out.Say("%s has just closed by itself", f.ID)
			continue
		}
		s.Out.Check(r.Status == 0, "%s (%s, %s): last seen %s before the fix; it waits for the same answers to be compared again", f.ID, f.Comparison, f.Place, s.mended.Sub(f.LastSeen).Round(time.Second))
	}
	return nil
}

// others lists what is open.
func (s *Story) others(ctx context.Context) error {
	all, err := s.ops.Findings(ctx, "open", "reopened")
	if err != nil {
		return err
	}
	for _, f := range all {
		s.Out.Say("open: %s of %s, %s %s, cause %s, seen %d times, %d places differ: %s", f.ID, f.Migration, f.Comparison, f.Place, f.Cause, f.Count, f.Differ, f.Why)
	}
	return nil
}

// chosen are the matches whose reads move.
func (s *Story) chosen(st stage.State) []string {
	var out []string
	for m := range s.Size.Matches {
		if key := event.OrderingKey(fmt.Sprintf("match/%d", m+1)); st.Share.Chosen(key) {
			out = append(out, string(key))
		}
	}
	return out
}

var tenthAct = act{
	"10 % of matches live",
	"Reads of some matches move to the new service; writes stay with legacy. A player reads its own writes: the proxy waits for the\nread model, briefly, or legacy answers.",
	func(s *Story, ctx context.Context) error {
		if err := s.flip(ctx, "units", live(10), "the evidence is good"); err != nil {
			return err
		}
		s.crowd.shift.Window()
		s.crowd.meter.begin(live(10).Share)
		if err := s.during(ctx, 5*time.Second, "they play"); err != nil {
			return err
		}
		w := s.crowd.meter.begin(live(10).Share)
		s.Out.Say("matches of the share: %s, of %d", strings.Join(s.chosen(live(10)), " "), s.Size.Matches)
		s.Out.Check(len(w.candidate) > 0 && len(w.legacy) > 0, "%d of %d polls of these matches answered by the candidate, and none of %d of the others", len(w.candidate), len(w.chosen), len(w.legacy))
		s.unnoticed(s.crowd.shift.Window())
		return nil
	},
}

// unnoticed checks that no player was harmed.
func (s *Story) unnoticed(w play.Totals) {
	s.Out.Check(w.Errors == 0 && w.Missed == 0, "%d requests, %d writes: %d errors, %d reads that missed the player's own write%s", w.Requests, w.Done, w.Errors, w.Missed, examples(w.Examples))
}

var halfAct = act{
	"half of the matches live",
	"Both sides are measured by the players, in the same windows: polls of the matches whose reads moved, against polls of the others.",
	func(s *Story, ctx context.Context) error {
		if err := s.flip(ctx, "units", live(50), "no complaints"); err != nil {
			return err
		}
		s.crowd.shift.Window()
		s.crowd.meter.begin(live(50).Share)
		s.Out.Say("            legacy                                  candidate                               p95    legacy had to answer,")
		s.Out.Say("window        n      p50       p95       p99         n      p50       p95       p99      ratio  and p95 with those")
		var ratios []float64
		for n := range s.Windows {
			if err := s.during(ctx, s.Window, fmt.Sprintf("window %d of %d", n+1, s.Windows)); err != nil {
				return err
			}
			w := s.crowd.meter.begin(live(50).Share)
			if len(w.candidate) == 0 || len(w.legacy) == 0 {
				s.Out.Check(false, "both sides answered in window %d: legacy %d, candidate %d", n+1, len(w.legacy), len(w.candidate))
				return nil
			}
			ratio := float64(w.candidate.quantile(0.95)) / float64(w.legacy.quantile(0.95))
			ratios = append(ratios, ratio)
			s.Out.Say("%2d of %-4s %s    %s   %5.2f     %4.1f %%  %9s", n+1, s.Window, columns(w.legacy), columns(w.candidate), ratio,
				100*float64(len(w.chosen)-len(w.candidate))/float64(len(w.chosen)), ms(w.chosen.quantile(0.95)))
			s.quiet(s.crowd.shift.Window())
		}
		slices.Sort(ratios)
		median := ratios[len(ratios)/2]
		if s.Set.Real {
			s.Out.Check(median <= 0.65, "the candidate's p95 is %.2f of legacy's (median of %d windows), its waits for own writes included", median, len(ratios))
		} else {
			s.Out.Say("the candidate's p95 is %.2f of legacy's (median of %d windows); legacy is a stand-in in Go here, REAL=1 measures PHP", median, len(ratios))
		}
		s.unnoticed(s.crowd.totals())
		return nil
	},
}

func columns(s sample) string {
	return fmt.Sprintf("%5d %8s %9s %9s", len(s), ms(s.quantile(0.50)), ms(s.quantile(0.95)), ms(s.quantile(0.99)))
}

// quiet checks a window without a line when it held.
func (s *Story) quiet(w play.Totals) {
	if w.Errors > 0 || w.Missed > 0 {
		s.unnoticed(w)
	}
}

var rollbackAct = act{
	"rolled back",
	"Back is one command, needs no gates, and loses nothing: writes never left legacy.",
	func(s *Story, ctx context.Context) error {
		if err := s.flip(ctx, "units", stage.State{Stage: stage.Shadow}, "the end of the demonstration"); err != nil {
			return err
		}
		s.crowd.shift.Window() // what was under way
		if err := s.during(ctx, 2*time.Second, "they play"); err != nil {
			return err
		}
		w := s.crowd.shift.Window()
		s.Out.Check(w.Side("candidate", nil).Count <= 1, "%d of %d answers came from the candidate", w.Side("candidate", nil).Count, w.Requests)
		s.unnoticed(s.crowd.totals())
		return s.account(ctx)
	},
}

var tryAct = act{
	"now try",
	"Everything is still there. What was typed above works in another terminal, after the first line of these.",
	func(s *Story, _ context.Context) error {
		file, err := s.Sys.EnvFile()
		if err != nil {
			return err
		}
		s.Out.Command(". " + file)
		for _, line := range []string{
			"banyan stage show", "banyan stage history units", "banyan findings list --all", "banyan status",
			"banyan stage flip units live --share 50 --reason 'faster'", "banyan stage flip units off --reason 'enough'",
			"curl -i http://" + s.proxy.Addr + "/",
		} {
			s.Out.Command(line)
		}
		s.Out.Say("every seeded player can log in at http://%s, as p1_1 with the password secret", s.proxy.Addr)
		return nil
	},
}
