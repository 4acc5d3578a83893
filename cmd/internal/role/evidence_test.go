package role

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banyan/proxy/admin"
	"banyan/proxy/event"
	"banyan/proxy/stage"
	"banyan/shadow/ledger"
	"banyan/testdata/game"

	"github.com/jackc/pgx/v5"
)

// startService runs the example service as a process of its own.
func (w *world) startService(more ...string) {
	w.t.Helper()
	<-w.shadow.topics
	bin := filepath.Join(w.t.TempDir(), "gameservice")
	if out, err := exec.Command("go", "build", "-o", bin, "banyan/cmd/gameservice").CombinedOutput(); err != nil {
		w.t.Fatalf("build gameservice: %v\n%s", err, out)
	}
	addr := w.env["GAMESERVICE_HTTP"][len("http://"):]
	cmd := exec.Command(bin, append([]string{"-listen", addr, "-kafka", w.env["KAFKA"], "-kafka-prefix", w.env["KAFKA_PREFIX"], "-kafka-partitions", "6",
		"-read-model", w.env["READ_DSN"], "-sql", filepath.Join(game.Dir(), "sql"), "-redis", w.env["REDIS_URL"]}, more...)...)
	log := &lastLines{t: w.t}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

type lastLines struct{ t *testing.T }

func (l *lastLines) Write(b []byte) (int, error) {
	if testing.Verbose() {
		l.t.Logf("gameservice: %s", b)
	}
	return len(b), nil
}

// process starts the world as `banyan serve` does, admin listener and all.
func (w *world) process() *Process {
	w.t.Helper()
	p, err := Start(w.t.Context(), w.f, Roles{Proxy: true, Shadow: true}, Options{Log: quiet(w.t), delay: w.lag}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			w.t.Error(err)
		}
	})
	w.proxy, w.shadow = p.Proxy, p.Shadow
	return p
}

// flipTo asks as an operator does; forced, because a test's evidence is seconds old.
func (w *world) flipTo(p *Process, m event.Migration, to stage.State) admin.Flipped {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	plan, err := p.Ops.Plan(ctx, m, to)
	if err != nil {
		w.t.Fatal(err)
	}
	f, err := p.Ops.Flip(ctx, admin.Flip{Plan: plan, Who: "test", Reason: "test", Forced: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

// noFinding wants none but those named: "unit/42 /strength".
func (w *world) noFinding(p *Process, planted ...string) {
	w.t.Helper()
	findings, err := p.Ops.Findings(w.t.Context(), "units", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range findings {
		full, err := p.Ops.Finding(w.t.Context(), f.ID)
		if err != nil {
			w.t.Fatal(err)
		}
		bad := len(full.Examples) == 0
		for _, e := range full.Examples {
			known := slices.ContainsFunc(planted, func(x string) bool {
				entity, path, _ := strings.Cut(x, " ")
				return string(e.Entity) == entity && strings.HasSuffix(e.Path, path) // in a row, and in what an answer shows of it
			})
			if known {
				continue
			}
			bad = true
			w.t.Logf("  %s %s %s: legacy %s, candidate %s, %s to %s, writes %v, pair %s", e.Key, e.Entity, e.Path, e.Legacy, e.Candidate, e.Low, e.High, e.Writes, e.Pair)
		}
		if bad {
			w.t.Errorf("finding %s (%s) %s %s %s: %s", f.ID, f.State, f.Comparison, f.Cause, f.Place, f.Why)
		}
	}
}

// sums are of all comparisons of a migration.
type sums struct {
	judged, undecided int64 // pairs
	sweeps            map[ledger.Comparison]*ledger.Sweep
	text              string
}

func (s sums) share(before sums) float64 {
	u, j := s.undecided-before.undecided, s.judged-before.judged
	return float64(u) / float64(max(1, u+j))
}

func (w *world) sums() sums {
	w.t.Helper()
	e, err := w.shadow.Ledger().Evidence(w.t.Context(), "units")
	if err != nil {
		w.t.Fatal(err)
	}
	s := sums{sweeps: map[ledger.Comparison]*ledger.Sweep{}}
	for _, c := range e.Comparisons {
		if c.Comparison.IsRoute() {
			s.judged += c.Judged
			for _, n := range c.Undecided {
				s.undecided += n
			}
		} else if c.Sweep != nil {
			s.sweeps[c.Comparison] = c.Sweep
		}
		s.text += fmt.Sprintf("%s: judged %d, equal %d, tolerated %d, different %d, undecided %v, dropped %v", c.Comparison, c.Judged, c.Equal, c.Tolerated, c.Different, c.Undecided, c.Dropped)
		if c.Sweep != nil {
			s.text += fmt.Sprintf(", swept since %s: verified %d, unverified %d %v", c.Sweep.Started.Format(time.TimeOnly), c.Sweep.Verified, c.Sweep.Unverified, c.Sweep.Keys)
		}
		s.text += "\n"
	}
	for _, t := range w.proxy.Pairs.Tallies() {
		s.text += fmt.Sprintf("asked for %s: %d, byte-equal %d, sent %d, dropped %v, fell back %v\n", t.Route, t.Asked, t.Equal, t.Sent, t.Dropped, t.FellBack)
	}
	return s
}

// evidence waits until so many pairs were judged and every row was swept, by sweeps that began after an instant and
// verified every key.
func (w *world) evidence(pairs int64, since time.Time, within time.Duration) sums {
	w.t.Helper()
	deadline := time.Now().Add(within)
	for {
		s := w.sums()
		swept := 0
		for _, x := range s.sweeps {
			if x.Complete() && x.Started.After(since) {
				swept++
			}
		}
		if s.judged >= pairs && swept == 2 {
			w.t.Logf("%d pairs judged, %d undecided\n%s", s.judged, s.undecided, s.text)
			return s
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("after %s %d pairs judged (want %d), %d of 2 sweeps complete\n%s\n%s", within, s.judged, pairs, swept, s.text, w.state("units"))
		}
		time.Sleep(time.Second) // the ledger has no signal; this is the operator's own way to look
	}
}

// inModel changes the read model behind everybody's back.
func (w *world) inModel(sql string) {
	w.t.Helper()
	c, err := pgx.Connect(w.t.Context(), w.model)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close(context.Background())
	if tag, err := c.Exec(w.t.Context(), "update banyan_units_g1."+sql); err != nil || tag.RowsAffected() != 1 {
		w.t.Fatal(tag, err)
	}
}

// found waits for a finding about an entity and a path.
func (w *world) found(p *Process, entity event.Entity, path string, within time.Duration) {
	w.t.Helper()
	for deadline := time.Now().Add(within); ; {
		findings, err := p.Ops.Findings(w.t.Context(), "units", nil)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, f := range findings {
			full, err := p.Ops.Finding(w.t.Context(), f.ID)
			if err != nil {
				w.t.Fatal(err)
			}
			for _, e := range full.Examples {
				if e.Entity == entity && e.Path == path {
					return
				}
			}
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("a planted defect at %s %s was not found within %s\n%s", entity, path, within, w.sums().text)
		}
		time.Sleep(500 * time.Millisecond) // as in evidence
	}
}

func unitOf(id int) event.Entity { return event.Entity(fmt.Sprintf("unit/%d", id)) }
