package generation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/compare"
	"banyan/shadow/ledger"
)

// VerifyConfig says what is compared.
type VerifyConfig struct {
	Kafka      kafka.Config
	Generation int
	Index      compare.IndexConfig // with its migration
	// States are all state comparisons of the migration, with readers of this generation. Ledger, pace and fingerprint are
	// set here.
	States []compare.StateConfig
	// Told is called after each step with what is known so far; nil: nobody asks.
	Told func(Result)
	Log  *slog.Logger // nil: no log
}

// Result is what a verification found, complete or so far.
type Result struct {
	Comparisons int              `json:"comparisons"` // of rows, done
	Compared    int64            `json:"compared"`    // rows, on either side
	Different   int64            `json:"different"`
	Unverified  int64            `json:"unverified"` // that could not be compared fairly
	Keys        []string         `json:"keys,omitempty"`
	Examples    []ledger.Example `json:"examples,omitempty"`
	Parked      []event.Parked   `json:"parked,omitempty"`
	Complete    bool             `json:"complete"` // every comparison was swept to its end
	At          time.Time        `json:"at"`
}

// Equal says that every row was compared and none differs.
func (r *Result) Equal() bool {
	return r.Complete && r.Comparisons > 0 && r.Different == 0 && r.Unverified == 0 && len(r.Parked) == 0
}

// Why says why it is not equal; "" if it is.
func (r *Result) Why() string {
	switch {
	case len(r.Parked) > 0:
		p := &r.Parked[0]
		return fmt.Sprintf("%d parked keys; %s at %s: %s", len(r.Parked), p.Key, p.Stage, p.Reason)
	case !r.Complete:
		return "not every row was compared"
	case r.Comparisons == 0:
		return "the migration declares no comparison of rows, so nothing shows that it equals legacy"
	case r.Different > 0:
		return fmt.Sprintf("%d of %d rows differ from legacy", r.Different, r.Compared)
	case r.Unverified > 0:
		return fmt.Sprintf("%d of %d rows could not be compared fairly", r.Unverified, r.Compared+r.Unverified)
	}
	return ""
}

// Bounds of a verification.
const (
	maxExamples  = 10
	perPlace     = 3  // of them, of one place
	verifyTries  = 8  // looks at a row that stays busy, before its partition is held
	verifyAlone  = 20 // where it cannot be held, before it counts as not compared
	verifyPause  = 20 * time.Millisecond
	verifyOutage = 2 * time.Minute // that nothing but errors may come
)

// Verify compares every row of a generation with legacy. It returns what it found; the error is about what kept it from
// looking.
func Verify(ctx context.Context, cfg VerifyConfig) (*Result, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	parked, err := Parked(ctx, cfg.Kafka, cfg.Index.Migration, cfg.Generation)
	if err != nil {
		return nil, err
	}
	x, err := openIndexes(ctx, cfg.Kafka, cfg.Index, cfg.Generation)
	if err != nil {
		return nil, err
	}
	defer x.close()
	book := &notebook{places: map[string]int{}}
	for _, sc := range cfg.States {
		if err := verifyOne(ctx, &cfg, sc, x, book); err != nil {
			return nil, fmt.Errorf("comparison of %s: %w", sc.Name, err)
		}
	}
	r := book.result()
	r.Complete = true
	// A key may have been parked meanwhile; then nothing more of it was compared.
	if r.Parked, err = Parked(ctx, cfg.Kafka, cfg.Index.Migration, cfg.Generation); len(r.Parked) < len(parked) {
		r.Parked = parked
	}
	return r, err
}

// verifyOne sweeps one comparison to its end.
func verifyOne(ctx context.Context, cfg *VerifyConfig, sc compare.StateConfig, x *indexes, book *notebook) error {
	sc.Ledger, sc.Fingerprint, sc.Log = book, fmt.Sprintf("verify/g%d", cfg.Generation), cfg.Log
	sc.RowsPerSecond, sc.Every, sc.Pause, sc.MaxAttempts, sc.Reverify = 0, 1000*time.Hour, verifyPause, verifyTries, 1000*time.Hour
	if sc.Holder == nil {
		sc.MaxAttempts = verifyAlone
	}
	s, err := compare.NewState(sc, func(n int32) *compare.Index { return x.list[n] })
	if err != nil {
		return err
	}
	name, well := ledger.State(sc.Name), time.Now()
	for !book.done(name) {
		more, err := s.Step(ctx)
		err = errors.Join(err, x.failed())
		pause := verifyPause
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && time.Since(well) > verifyOutage:
			return err
		case err != nil:
			cfg.Log.Warn("verification waits", "comparison", name, "err", err)
			pause = time.Second
		default:
			well = time.Now()
			if more {
				pause = 0
			}
		}
		if cfg.Told != nil {
			cfg.Told(*book.result())
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
	return nil
}

// notebook takes what a comparison would enter in the ledger, and keeps it to itself.
type notebook struct {
	mu     sync.Mutex // guards the rest
	sum    Result
	places map[string]int
	sweeps map[ledger.Comparison]ledger.Sweep
}

var _ compare.Ledger = (*notebook)(nil)

// Commit implements compare.Ledger.
func (n *notebook) Commit(_ context.Context, b *ledger.Batch) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range b.Counts {
		switch c.Counter {
		case ledger.Judged:
			n.sum.Compared += c.N
		case ledger.Different:
			n.sum.Different += c.N
		}
	}
	for i := range b.Found {
		place := string(b.Found[i].Comparison) + b.Found[i].Place
		if n.places[place]++; n.places[place] <= perPlace && len(n.sum.Examples) < maxExamples {
			n.sum.Examples = append(n.sum.Examples, b.Found[i].Example)
		}
	}
	for _, s := range b.Sweeps {
		if n.sweeps == nil {
			n.sweeps = map[ledger.Comparison]ledger.Sweep{}
		}
		n.sweeps[s.Comparison] = s
	}
	return nil
}

// Checkpoint implements compare.Ledger.
func (*notebook) Checkpoint(context.Context, string) ([]byte, int64, error) { return nil, 0, nil }

// OpenKeys implements compare.Ledger: findings are none of ours.
func (*notebook) OpenKeys(context.Context, event.Migration, ledger.Comparison, int, ...event.OrderingKey) ([]ledger.OpenKey, error) {
	return nil, nil
}

// Sweep implements compare.Ledger: each verification begins with the first row.
func (*notebook) Sweep(context.Context, event.Migration, ledger.Comparison, string) (*ledger.Sweep, error) {
	return nil, nil
}

func (n *notebook) done(c ledger.Comparison) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sweeps[c].Done
}

func (n *notebook) result() *Result {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.sum
	r.Examples = append([]ledger.Example(nil), r.Examples...)
	r.At = time.Now().UTC()
	for _, s := range n.sweeps {
		r.Unverified += s.Unverified
		r.Keys = append(r.Keys, s.Keys...)
		if s.Done {
			r.Comparisons++
		}
	}
	r.Keys = r.Keys[:min(len(r.Keys), maxExamples)]
	return &r
}
