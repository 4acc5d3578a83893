package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"banyan/cmd/banyan-demo/operator"
	"banyan/cmd/banyan-demo/scene"
	"banyan/cmd/banyan-demo/system"
	"banyan/proxy/admin"
	"banyan/proxy/event"
	"banyan/proxy/stage"
)

// migrations of the game, in the order in which they are flipped.
var migrations = []event.Migration{"units", "economy"}

// planted is the configuration with a mapping that tells a unit's health before the fight instead of after it.
func planted(text string) (string, error) {
	return scene.Replace(text, "data: { unit: row.id, player: row.player_id, hp: row.hp,", "data: { unit: row.id, player: row.player_id, hp: before.hp,", 1)
}

var offAct = act{
	"players play; a proxy is put in front of legacy",
	"The first step of everybody: at stage off it passes everything through. Nobody may notice.",
	func(s *Story, ctx context.Context) error {
		if err := s.crowd.switchTo(ctx, strings.TrimPrefix(s.Set.Legacy, "http://")); err != nil {
			return err
		}
		if err := s.crowd.begin(ctx); err != nil {
			return err
		}
		if err := s.during(ctx, 4*time.Second, "everybody logs in, straight at legacy"); err != nil {
			return err
		}
		direct := s.crowd.shift.Window()
		config, err := s.Sys.Configure("config-1", planted)
		if err != nil {
			return err
		}
		if s.proxy, err = s.Sys.StartProxy(ctx, "proxy-a", config); err != nil {
			return err
		}
		s.Out.Command("banyan proxy -c " + config)
		if err := s.crowd.switchTo(ctx, s.proxy.Addr); err != nil {
			return err
		}
		s.crowd.shift.Window() // what was under way belongs to neither
		if err := s.during(ctx, 3*time.Second, "the same players, through the proxy"); err != nil {
			return err
		}
		through := s.crowd.shift.Window()
		d, t := direct.Side("legacy", polls), through.Side("legacy", polls)
		s.Out.Say("polls straight at legacy: p50 %s, p95 %s (n=%d); through the proxy: p50 %s, p95 %s (n=%d)", ms(d.P50), ms(d.P95), d.Count, ms(t.P50), ms(t.P95), t.Count)
		all := s.crowd.totals()
		s.Out.Check(all.Errors == 0 && all.Missed == 0 && through.Requests > 0, "players noticed nothing: %d requests, %d of them through the proxy, %d errors%s", all.Requests, through.Requests, all.Errors, examples(all.Examples))
		return nil
	},
}

var dualwriteAct = act{
	"dualwrite and backfill, while they play",
	"Writes are journaled before legacy sees them, shipped to Kafka, and joined with what legacy did to its database; events fill new\nread models. Matches have run for weeks, so what was there before is imported at a known position of the change log.",
	func(s *Story, ctx context.Context) error {
		if err := s.startShadow(ctx, "config-1"); err != nil {
			return err
		}
		if err := s.Sys.StartService(true); err != nil {
			return err
		}
		for _, m := range migrations {
			if err := s.flip(ctx, m, stage.State{Stage: stage.DualWrite}, "writes first"); err != nil {
				return err
			}
		}
		if err := s.crowd.begin(ctx); err != nil { // the proxy learns whose session it is at login
			return err
		}
		if err := s.backfill(ctx); err != nil {
			return err
		}
		if err := s.Sys.ServiceReady(ctx); err != nil {
			return err
		}
		if err := s.during(ctx, 2*time.Second, "they play on"); err != nil {
			return err
		}
		return s.account(ctx)
	},
}

// startShadow starts the consumers and speaks to them from now on.
func (s *Story) startShadow(ctx context.Context, config string) error {
	file := s.Sys.Path(config)
	p, err := s.Sys.StartShadow(ctx, file)
	if err != nil {
		return err
	}
	s.Out.Command("banyan shadow -c " + file)
	s.ops = s.operator(p)
	return nil
}

// operator is who speaks to a part.
func (s *Story) operator(p *system.Part) *operator.Operator {
	return &operator.Operator{Banyan: filepath.Join(s.Sys.Bin(), "banyan"), Admin: p.Admin, Token: s.Sys.Token()}
}

// flip waits for the gates, flips, and is an error if it is refused.
func (s *Story) flip(ctx context.Context, m event.Migration, to stage.State, reason string) error {
	err := s.until(ctx, 30*time.Second, fmt.Sprintf("gates of %s to %s", m, to), func(ctx context.Context) (bool, string, error) {
		p, err := s.ops.Plan(ctx, m, to)
		if err != nil {
			return false, err.Error(), nil // the shadow may be starting
		}
		return p.Passed(), failing(p.Gates), nil
	})
	if err != nil {
		return errors.Join(err, s.others(ctx))
	}
	r, err := s.command(ctx, append(operator.FlipArgs(m, to, reason), "-o", "json")...)
	if err != nil {
		return err
	}
	var o admin.Outcome
	if err := json.Unmarshal([]byte(r.Stdout), &o); err != nil || o.Flipped == nil {
		return fmt.Errorf("flip of %s to %s: exit status %d: %s %s", m, to, r.Status, failing(o.Plan.Gates), r.Stderr)
	}
	if n := len(o.Plan.Gates); n > 0 {
		var some []string
		for _, g := range o.Plan.Gates {
			if n <= 3 || g.Name == "pairs" || g.Name == "mismatch upper bound" {
				some = append(some, g.Name+" "+g.Have)
			}
		}
		s.Out.Say("%d of %d gates pass: %s", n, n, strings.Join(some, ", "))
	}
	s.Out.Check(r.Status == 0 && len(o.Flipped.Late) == 0 && len(o.Flipped.Obeyed) > 0, "%s is at %s; all %d live proxies obeyed after %d ms", m, to, len(o.Flipped.Obeyed), o.Flipped.TookMS)
	return nil
}

// command shows a command and runs it.
func (s *Story) command(ctx context.Context, args ...string) (operator.Result, error) {
	s.Out.Command(strings.TrimSuffix(operator.Line(args...), " -o json"))
	return s.ops.Run(ctx, args...)
}

// failing lists the gates that do not pass.
func failing(gates []admin.Gate) string {
	var out []string
	for _, g := range gates {
		if g.Result != admin.Pass {
			out = append(out, fmt.Sprintf("%s %s: %s", g.Name, g.Result, g.Have))
		}
	}
	return strings.Join(out, "; ")
}

// backfill imports both migrations. One that failed is started again, a few times: it says that it goes on then.
func (s *Story) backfill(ctx context.Context) error {
	for _, m := range migrations {
		args := []string{"backfill", string(m), "--detach"} // its progress is shown here
		b, err := s.backfillOne(ctx, m, args)
		for try := 0; err == nil && b.State == admin.Failed && try < 3; try++ {
			s.Out.Say("it stopped: %s", b.Error)
			b, err = s.backfillOne(ctx, m, args)
		}
		if err != nil {
			return err
		}
		if b.State == admin.Failed {
			return fmt.Errorf("backfill of %s: %s", m, b.Error)
		}
		s.Out.Check(b.Rows > 0, "%s: %d rows imported in %s while %d players went on", m, b.Rows, b.Ended.Sub(b.Started).Round(10*time.Millisecond), s.crowd.players())
	}
	return nil
}

func (s *Story) backfillOne(ctx context.Context, m event.Migration, args []string) (last admin.BackfillStatus, err error) {
	r, err := s.command(ctx, args...)
	if err != nil {
		return last, err
	}
	if r.Status != 0 {
		return last, fmt.Errorf("backfill of %s: exit status %d: %s", m, r.Status, r.Stderr)
	}
	err = s.until(ctx, time.Minute, "backfill of "+string(m), func(ctx context.Context) (bool, string, error) {
		b, err := s.ops.Backfill(ctx, m)
		if err != nil || b == nil {
			return false, "", err
		}
		last = *b
		return b.State != admin.Running, fmt.Sprintf("%d rows, now %s", b.Rows, b.Table), nil
	})
	return last, err
}

// account checks that no write is missing between the proxy and Kafka.
func (s *Story) account(ctx context.Context) error {
	var a event.Account
	if err := s.operator(s.proxy).Status(ctx, "account", &a); err != nil {
		return err
	}
	s.Out.Check(a.Lost == 0 && a.Accepted == a.Mirrored+a.Pending && a.Accepted > 0, "no write is missing: %d accepted = %d in Kafka + %d on their way + %d lost", a.Accepted, a.Mirrored, a.Pending, a.Lost)
	return nil
}

var shadowAct = act{
	"shadow: reads are asked on both sides",
	"Players still get legacy's answers. The new service is asked the same, off their path, and answers and rows are compared at\nthe same position of the change log, so that lag is never a difference.",
	func(s *Story, ctx context.Context) error {
		for _, m := range migrations {
			if err := s.flip(ctx, m, stage.State{Stage: stage.Shadow}, "compare"); err != nil {
				return err
			}
		}
		return nil
	},
}

func polls(endpoint string) bool { return endpoint == "api map" || endpoint == "api units" }

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

func examples(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return "\n" + strings.Join(list[:min(3, len(list))], "\n")
}
