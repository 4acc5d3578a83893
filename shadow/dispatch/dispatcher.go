package dispatch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"banyan/shadow/parked"
	"banyan/shadow/stream"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Dispatcher is a member of the consumer group that delivers one migration's writes. Any number may run.
type Dispatcher struct {
	cfg   Config
	http  *http.Client
	stats Stats

	mu      sync.Mutex // guards the rest
	out     *kgo.Client
	group   *stream.Consumer
	stopped bool
}

// Stats counts since the start.
type Stats struct {
	Delivered atomic.Int64 // commands answered with 2xx, repeats included
	Retries   atomic.Int64 // deliveries tried again
	ByRows    atomic.Int64 // applied writes that were not delivered: their changes are told by rows
	Events    atomic.Int64 // published by rows
	Unmapped  atomic.Int64 // row changes for which no mapping is declared
	Parked    atomic.Int64 // keys
	Waiting   atomic.Int64 // entries of parked keys, left alone
	CaughtUp  atomic.Int64 // of them, taken up again after a release
	BadMarks  atomic.Int64 // marks that cannot be read, left out
}

// New checks the config. It does not connect.
func New(cfg Config) (*Dispatcher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("dispatch of %s: %w", cfg.Migration, err)
	}
	cfg = cfg.withDefaults()
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.MaxIdleConnsPerHost = cfg.Keys * 4
	return &Dispatcher{cfg: cfg, http: &http.Client{Transport: tr, Timeout: cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// Group is the name of the consumer group.
func (d *Dispatcher) Group() string {
	return d.cfg.Kafka.Prefix + ".dispatch." + string(d.cfg.Migration) + ".g" + strconv.Itoa(d.cfg.Generation)
}

// Start joins the group; the work goes on in the background until Stop or the end of ctx. A second call does nothing.
func (d *Dispatcher) Start(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.group != nil {
		return nil
	}
	if d.stopped {
		return errors.New("dispatch: stopped")
	}
	out, err := d.cfg.Kafka.Producer("banyan-dispatch", d.cfg.Options...)
	if err != nil {
		return err
	}
	group, err := stream.New(stream.Config{Kafka: d.cfg.Kafka, Group: d.Group(), Topics: []string{d.cfg.Kafka.Topics().Settled(), d.cfg.Kafka.Topics().Parked()}, Log: d.cfg.Log,
		Begin: map[string][]int64{d.cfg.Kafka.Topics().Settled(): d.cfg.Begin}, Options: d.cfg.Options}, d.open)
	d.out, d.group = out, group
	if err == nil {
		err = group.Start(ctx)
	}
	if err != nil {
		out.Close()
		d.out, d.group = nil, nil
		return err
	}
	return nil
}

// Stop returns when the partitions are given up. A second call waits for nothing.
func (d *Dispatcher) Stop() {
	d.mu.Lock()
	group, out := d.group, d.out
	d.group, d.stopped = nil, true
	d.mu.Unlock()
	if group != nil {
		group.Stop()
		out.Close()
		d.http.CloseIdleConnections()
	}
}

// Stats are live counters.
func (d *Dispatcher) Stats() *Stats { return &d.stats }

// open makes the worker of a partition: it learns which keys are parked, and how long the event topic is.
func (d *Dispatcher) open(ctx context.Context, n int32) (stream.Worker, map[string]int64, error) {
	d.mu.Lock()
	out, group := d.out, d.group
	d.mu.Unlock()
	if group == nil {
		return nil, nil, errors.New("dispatch: stopped")
	}
	keys, next, err := parked.Read(ctx, d.cfg.Kafka, parked.Owner{Stage: stageName, Migration: d.cfg.Migration, Generation: d.cfg.Generation}, n)
	if err != nil {
		return nil, nil, err
	}
	topic := d.topic()
	ends, err := kadm.NewClient(out).ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, nil, fmt.Errorf("end of %s: %w", topic, err)
	}
	end, ok := ends.Lookup(topic, n)
	if !ok || end.Err != nil {
		return nil, nil, fmt.Errorf("end of %s/%d: %w; a banyan role makes topics at its start", topic, n, errors.Join(end.Err, missing(ok)))
	}
	w := &worker{d: d, n: n, out: out, group: group, parked: keys, candidates: newRecent(4096)}
	w.readTo.Store(end.Offset)
	return w, map[string]int64{d.cfg.Kafka.Topics().Parked(): next}, nil
}

func missing(there bool) error {
	if there {
		return nil
	}
	return errors.New("no such partition")
}

func (d *Dispatcher) topic() string {
	return d.cfg.Kafka.Topics().Events(d.cfg.Migration, d.cfg.Generation)
}

func (d *Dispatcher) produce(ctx context.Context, out *kgo.Client, rs ...*kgo.Record) error {
	if err := out.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		return fmt.Errorf("publish to %s/%d: %w", rs[0].Topic, rs[0].Partition, err)
	}
	return nil
}
