package control

import (
	"context"
	"errors"
	"fmt"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/proxy/stage"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrLost says that another flip of the migration came first; nothing changed by this one.
var ErrLost = errors.New("another flip came first")

// Flipper appends to the control log.
type Flipper struct {
	f  *Follower
	cl *kgo.Client
}

// NewFlipper uses the follower to read back what it appends.
func NewFlipper(cfg kafka.Config, f *Follower) (*Flipper, error) {
	cl, err := cfg.Producer("banyan-flip")
	if err != nil {
		return nil, err
	}
	return &Flipper{f, cl}, nil
}

// Close gives the connection back.
func (p *Flipper) Close() { p.cl.Close() }

// Flip appends the change and waits until it is read back, so that its fate is known. from must be the state that
// the decision was taken on. A context that ends leaves the fate open: the error names the record's id.
func (p *Flipper) Flip(ctx context.Context, flip stage.Flip) (stage.Entry, error) {
	flip.V, flip.Expect, flip.To.Version = stage.FlipVersion, flip.From.Version, flip.From.Version+1
	flip.ID = uuid.NewString()
	to, err := flip.Outcome(flip.From)
	if err != nil {
		return stage.Entry{}, err
	}
	flip.To = to
	if err := flip.Validate(); err != nil {
		return stage.Entry{}, err
	}
	r := kafka.Record(p.f.read.cfg.Topics().Control(), 0, event.KindControl, string(flip.Migration), event.Encode(flip))
	if err := p.cl.ProduceSync(ctx, r).FirstErr(); err != nil {
		return stage.Entry{}, fmt.Errorf("append flip %s to the control log: %w; `banyan stage history` tells whether it arrived", flip.ID, err)
	}
	for {
		next := p.f.Changed()
		if e, ok := p.f.find(flip.ID); ok {
			if e.Void != "" {
				return e, fmt.Errorf("%w: %s", ErrLost, e.Void)
			}
			return e, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return stage.Entry{}, fmt.Errorf("flip %s was appended but not read back: %w; `banyan stage history` tells what became of it", flip.ID, ctx.Err())
		}
	}
}
