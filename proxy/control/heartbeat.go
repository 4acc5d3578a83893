package control

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/proxy/stage"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Lease is how long a proxy may obey without being able to say so. A flip that cannot reach a proxy waits that long.
const Lease = 3 * time.Second

// Heartbeat is what a proxy says about itself.
type Heartbeat struct {
	V       int                        `json:"v"`
	Replica event.Replica              `json:"replica"`
	Epoch   event.Epoch                `json:"epoch"`
	At      time.Time                  `json:"at"`               // read before it was sent: the lease counts from here
	Until   time.Time                  `json:"until"`            // end of the lease
	Obeys   map[event.Migration]uint64 `json:"obeys"`            // version of the state in force
	Bound   string                     `json:"listen"`           // for people
	Config  string                     `json:"config,omitempty"` // fingerprint of the file that it serves by
	Gone    bool                       `json:"gone,omitempty"`
}

// Beacon publishes a proxy's heartbeats.
type Beacon struct {
	cfg    kafka.Config
	log    *slog.Logger
	self   Heartbeat
	states func() map[event.Migration]stage.State
	cl     *kgo.Client
	now    func() time.Time
	wake   chan struct{}
	until  atomic.Int64 // end of the lease, Unix nanoseconds
	config atomic.Value // string: Heartbeat.Config
	cancel context.CancelFunc
	done   chan struct{}
	stop   sync.Once
}

// NewBeacon prepares heartbeats of one proxy; states is what it obeys now.
func NewBeacon(cfg kafka.Config, log *slog.Logger, self event.Replica, epoch event.Epoch, listen string, states func() map[event.Migration]stage.State) (*Beacon, error) {
	cl, err := cfg.Producer("banyan-heartbeat", kgo.ProducerLinger(0))
	if err != nil {
		return nil, err
	}
	return &Beacon{cfg: cfg, log: log, self: Heartbeat{V: 1, Replica: self, Epoch: epoch, Bound: listen}, states: states, cl: cl,
		now: time.Now, wake: make(chan struct{}, 1), done: make(chan struct{})}, nil
}

// Start begins; Stop ends and says goodbye, so that nobody waits for the lease.
func (b *Beacon) Start(ctx context.Context) {
	ctx, b.cancel = context.WithCancel(ctx)
	go b.run(ctx)
}

// Stop returns when the last heartbeat is out or has been given up, a moment later at most. A second call does nothing.
func (b *Beacon) Stop() {
	b.stop.Do(func() {
		b.cancel()
		select {
		case <-b.done:
		case <-time.After(farewell):
		}
		// A record that is on its way to a broker that went away is not given up with its context: whether it was written
		// is not known. Closing the client gives it up.
		b.cl.Close()
		<-b.done
	})
}

// farewell is how long the last heartbeat may take.
const farewell = time.Second

// Wake sends a heartbeat now: call it after a flip was obeyed.
func (b *Beacon) Wake() {
	select {
	case b.wake <- struct{}{}:
	default: // one is due anyway, and it will carry the newest versions
	}
}

// Declare tells everybody by which config this proxy serves from now on.
func (b *Beacon) Declare(fingerprint string) {
	b.config.Store(fingerprint)
	b.Wake()
}

// Leased says whether the lease still runs. Without it reads are answered by legacy.
func (b *Beacon) Leased() bool { return b.now().UnixNano() < b.until.Load() }

func (b *Beacon) run(ctx context.Context) {
	defer close(b.done)
	t := time.NewTicker(Lease / 3)
	defer t.Stop()
	well := true
	for {
		err := b.beat(ctx, false)
		if ctx.Err() != nil {
			bye, cancel := context.WithTimeout(context.Background(), farewell)
			_ = b.beat(bye, true) // best effort: the lease runs out by itself
			cancel()
			return
		}
		if (err == nil) != well {
			well = err == nil
			if well {
				b.log.Info("heartbeats arrive again")
			} else {
				b.log.Warn("heartbeats do not arrive: once the lease has run out reads go to legacy; writes are journaled on", "lease", Lease, "error", err)
			}
		}
		select {
		case <-t.C:
		case <-b.wake:
		case <-ctx.Done():
		}
	}
}

func (b *Beacon) beat(ctx context.Context, gone bool) error {
	h := b.self
	h.At, h.Gone, h.Obeys = b.now(), gone, map[event.Migration]uint64{}
	h.Until = h.At.Add(Lease)
	h.Config, _ = b.config.Load().(string)
	for m, s := range b.states() {
		h.Obeys[m] = s.Version
	}
	sctx, cancel := context.WithTimeout(ctx, Lease)
	defer cancel()
	err := b.cl.ProduceSync(sctx, kafka.Record(b.cfg.Topics().Replicas(), 0, event.KindHeartbeat, string(h.Replica), event.Encode(h))).FirstErr()
	if err == nil && !gone {
		b.until.Store(h.Until.UnixNano())
	}
	return err
}

// DecodeHeartbeat reads the JSON form.
func DecodeHeartbeat(b []byte) (*Heartbeat, error) {
	var h Heartbeat
	if err := json.Unmarshal(b, &h); err != nil {
		return nil, fmt.Errorf("heartbeat record: %w", err)
	}
	return &h, nil
}
