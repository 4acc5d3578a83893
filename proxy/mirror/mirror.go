package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"banyan/proxy/event"
	"banyan/proxy/journal"
)

// Limits of the one batch that is in memory.
const (
	batchRecords = 2048
	batchBytes   = 4 << 20
)

// Mirror ships one journal.
type Mirror struct {
	cfg  Config
	enc  *encoder
	send *sender

	cancel context.CancelFunc
	waker  waker
	wg     sync.WaitGroup
	done   chan struct{} // the end of the journal has been shipped
	start  sync.Once
	stop   sync.Once

	// Of the shipping goroutine alone.
	shipped journal.ShipSeq // acknowledged by Kafka, of this process's generation
	old     []unsettled
	touched map[int32]bool
	pulse   pulse     // when every partition is due for a mark
	alone   bool      // no older process of this replica runs
	elderAt time.Time // when to look again
	began   time.Time // when the last batch was sent
	carried int       // how many records it had
	marking atomic.Int64

	mirrored, unknown, lost, cut, acked, gaps atomic.Uint64
	sealed                                    atomic.Bool
}

// New checks the configuration. It does not connect.
func New(cfg Config) (*Mirror, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	m := &Mirror{cfg: cfg, enc: newEncoder(cfg.Replica, cfg.Kafka.Topics(), cfg.Kafka.Partitions),
		done: make(chan struct{}), touched: map[int32]bool{}, pulse: newPulse(cfg)}
	m.send = &sender{cfg: cfg}
	client, err := cfg.Kafka.Producer("banyan-proxy", kgo.WithHooks(m.send))
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	m.send.client = client
	return m, nil
}

// Start begins to ship. Kafka need not be there.
func (m *Mirror) Start(ctx context.Context) error {
	m.start.Do(func() {
		ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
		m.wg.Go(func() { m.run(ctx) })      // ends at Stop, or when the journal's end is shipped
		m.wg.Go(func() { m.accounts(ctx) }) // ends at Stop, or when the journal's end is shipped
	})
	return nil
}

// Drain waits until a sealed journal has been shipped to its end.
func (m *Mirror) Drain(ctx context.Context) error {
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		s := m.cfg.Journal.Status()
		return fmt.Errorf("drain mirror: %d records are not shipped; the next process of this replica ships them, or `banyan journal ship %s`: %w",
			s.Backlog, m.cfg.Journal.Dir(), context.Cause(ctx))
	}
}

// Stop ends shipping at once. What is not acknowledged stays in the journal.
func (m *Mirror) Stop() {
	m.start.Do(func() {}) // a Start after Stop does nothing
	m.stop.Do(func() {
		if m.cancel != nil {
			m.cancel()
		}
		m.send.client.Close() // fails what it still holds, so that nobody waits
		m.wg.Wait()
	})
}

// Wake has the mirror look again at whether anything is recorded: call it when Config.Records has become true. It does
// not wait for anything.
func (m *Mirror) Wake() { m.waker.wake() }

// Stalled is why Kafka does not acknowledge, nil while it does.
func (m *Mirror) Stalled() error { return m.send.cause() }

// Account is this epoch's, as far as it is known now.
func (m *Mirror) Account() event.Account {
	mirrored, lost := m.mirrored.Load(), m.lost.Load() // first: they must not exceed what is read later
	a := event.Account{Epoch: event.Epoch(m.cfg.Journal.Epoch()), Mirrored: mirrored, Lost: lost,
		Unknown: m.unknown.Load(), BodyCut: m.cut.Load(), Acked: m.acked.Load(), Gaps: m.gaps.Load(), Ended: m.sealed.Load()}
	var mark journal.Mark
	m.cfg.Journal.Mark(&mark)
	a.Clock, a.Accepted, a.Ship = mark.Clock, uint64(mark.Seq), uint64(mark.Ship)
	a.Pending = a.Accepted - min(a.Accepted, mirrored+lost)
	if m.cfg.Excluded != nil {
		a.Excluded = m.cfg.Excluded()
	}
	return a
}

func (m *Mirror) run(ctx context.Context) {
	if err := m.adopt(ctx, m.cfg.Journal.Adopted()); err != nil {
		return // ctx has ended
	}
	err := m.live(ctx)
	switch {
	case errors.Is(err, io.EOF):
		close(m.done)
	case ctx.Err() == nil:
		m.cfg.Log.Error("mirror: ended", "error", err)
	}
}

// adopt ships ended generations, one after the other. It returns an error only when ctx ends.
func (m *Mirror) adopt(ctx context.Context, gs []*journal.Generation) error {
	for _, g := range gs {
		if err := m.inherit(ctx, g); err != nil {
			if ctx.Err() != nil {
				return err
			}
			m.cfg.Log.Error("mirror: the journal of an earlier process cannot be shipped; its writes are missing until `banyan journal ship` succeeds",
				"dir", g.Dir(), "error", err)
		}
		if err := g.Close(); err != nil {
			m.cfg.Log.Warn("mirror: a shipped generation is left behind", "dir", g.Dir(), "error", err)
		}
		m.pulse.stir(time.Now())
	}
	return ctx.Err()
}

// inherit ships one ended generation to its end and publishes its last account.
func (m *Mirror) inherit(ctx context.Context, g *journal.Generation) error {
	if err := g.Recover(ctx); err != nil {
		return err
	}
	c := g.Cursor()
	var last journal.Item
	var mirrored, unknown, lost, cut uint64
	var b batch
	for {
		m.fresh(&b)
		err := m.collect(ctx, ctx, c, &b)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if e := m.ship(ctx, c, &b); e != nil {
			return e
		}
		for _, w := range b.unknowns {
			until := w.started.Add(m.cfg.MaxExecution)
			m.old = append(m.old, unsettled{event.InFlight{Seq: w.seq, Addresses: w.addresses, Start: w.started, Until: until, Epoch: event.Epoch(g.Epoch())}})
		}
		mirrored, unknown, lost, cut = mirrored+b.mirrored, unknown+b.unknown, lost+b.lost, cut+b.cut
		if b.end != nil {
			last = *b.end
		}
		if err != nil {
			break
		}
	}
	m.cfg.Log.Info("mirror: shipped the journal of an earlier process", "epoch", uint64(g.Epoch()), "writes", mirrored, "unknown", unknown, "lost", lost)
	if last.Kind != journal.ItemEnd {
		return nil // shipped and accounted for before
	}
	a := event.Account{Epoch: event.Epoch(g.Epoch()), Clock: m.cfg.Now(), Accepted: uint64(last.LastSeq), Lost: lost, Unknown: unknown, BodyCut: cut,
		Ship: uint64(last.Ship), Acked: uint64(last.Ship), Ended: true}
	a.Mirrored = a.Accepted - min(lost, a.Accepted) // some of them by the earlier process
	return m.send.send(ctx, []*kgo.Record{m.enc.account(a)})
}

// live ships this process's generation until its end.
func (m *Mirror) live(ctx context.Context) error {
	c := m.cfg.Journal.Cursor()
	var (
		look, last journal.Mark
		open       bool // not everything that the look covers is shipped
		held       bool // everything is, and its mark goes with the next batch
		b          batch
	)
	for {
		if err := m.elders(ctx); err != nil {
			return err
		}
		until := m.pulse.due
		if due := m.began.Add(m.cfg.Pace); held && due.Before(until) {
			until = due
		}
		due, cancel := m.waker.wait(ctx, until)
		wait := due
		if open { // there is more, as soon as it is on the disk
			wait = ctx
		}
		m.fresh(&b)
		err := m.collect(ctx, wait, c, &b)
		cancel()
		ended := errors.Is(err, io.EOF)
		if err != nil && !ended {
			return err
		}
		if held {
			look, last = last, look
		}
		if !open { // the look comes before the shipping of what it covers, so that it holds when it is published
			m.cfg.Journal.Mark(&look)
		}
		if !ended && len(b.records) > 0 {
			if err := m.rest(ctx); err != nil {
				return err
			}
			err = m.collect(ctx, noWait, c, &b)
			if ended = errors.Is(err, io.EOF); err != nil && !ended {
				return err
			}
		}
		if held && len(b.records) > 0 { // otherwise this look tells more
			m.mark(ctx, &last)
		}
		if err := m.shipLive(ctx, c, &b); err != nil {
			return err
		}
		if ended {
			return m.finish(ctx)
		}
		open = m.shipped < look.Ship
		held = !open && len(b.records) >= companions && m.cfg.Pace > 0
		if !open && !held {
			m.mark(ctx, &look)
		}
	}
}

// companions is how many records the last batch must have had to make the whole of Config.Pace worth its wait.
const companions = 32

// rest keeps batches apart while there is much to ship: a request to Kafka costs the same, here and there, for one
// record as for a hundred. The first write after a silence never waits.
func (m *Mirror) rest(ctx context.Context) error {
	d := time.Until(m.began.Add(m.cfg.Pace * time.Duration(min(m.carried, companions)) / companions))
	if d > 0 {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(d):
		}
	}
	return nil
}

// finish says to everybody that nothing more comes of this epoch.
func (m *Mirror) finish(ctx context.Context) error {
	if !m.sealed.Load() {
		return io.EOF // the journal was closed under us; the next process of this replica goes on
	}
	var mark journal.Mark
	m.cfg.Journal.Mark(&mark)
	records := m.enc.marks(&mark, m.old, saying{ended: true}, func(int32) bool { return m.alone })
	if err := m.send.send(ctx, append(records, m.enc.account(m.Account()))); err != nil {
		return err
	}
	return io.EOF
}

// elders ships what processes left that were alive at the start and have ended since, and finds out whether we are
// alone: a mark of this epoch covers all older ones.
func (m *Mirror) elders(ctx context.Context) error {
	now := time.Now()
	if m.alone || now.Before(m.elderAt) {
		return nil
	}
	m.elderAt = now.Add(time.Second)
	ended, alive, err := m.cfg.Journal.Elders()
	if err != nil {
		m.cfg.Log.Error("mirror: cannot see whether an earlier process still runs; no marks until then", "error", err)
		return nil
	}
	if err := m.adopt(ctx, ended); err != nil {
		return err
	}
	m.alone = len(alive) == 0
	return nil
}

func (m *Mirror) shipLive(ctx context.Context, c *journal.Cursor, b *batch) error {
	if len(b.records) > 0 { // a look at nothing new does not shorten the distance
		m.began, m.carried = time.Now(), len(b.records)
	}
	if err := m.ship(ctx, c, b); err != nil {
		return err
	}
	m.shipped = max(m.shipped, b.last)
	if b.end != nil {
		m.sealed.Store(true)
	}
	m.mirrored.Add(b.mirrored)
	m.unknown.Add(b.unknown)
	m.lost.Add(b.lost)
	m.cut.Add(b.cut)
	m.acked.Store(uint64(m.shipped))
	m.gaps.Store(uint64(m.cfg.Journal.Status().OpenGaps))
	for _, r := range b.records {
		if r.Topic == m.enc.writes {
			m.touched[r.Partition] = true
		}
	}
	return nil
}

// mark publishes a look at the journal, to all partitions if that is due, else to those that got records. Marks of
// the last time that are still on their way are waited for by leaving this one out: they must not pile up.
func (m *Mirror) mark(ctx context.Context, mark *journal.Mark) {
	now := time.Now()
	all := m.pulse.beat(now, len(mark.InFlight)+len(m.old)+len(m.touched) > 0)
	held := !m.alone || m.marking.Load() > 0
	if held && all {
		m.pulse.missed(now)
	}
	if held || !all && len(m.touched) == 0 {
		return
	}
	records := m.enc.marks(mark, m.old, saying{idle: m.pulse.rests}, func(p int32) bool { return all || m.touched[p] })
	clear(m.touched)
	m.old = pruned(m.old, mark.Clock)
	m.marking.Add(int64(len(records)))
	for _, r := range records {
		m.send.client.Produce(ctx, r, func(*kgo.Record, error) { m.marking.Add(-1) }) // the next one replaces a mark that failed
	}
}

func pruned(old []unsettled, now time.Time) []unsettled {
	var keep []unsettled
	for _, u := range old {
		if now.Before(u.Until) {
			keep = append(keep, u)
		}
	}
	return keep
}

// accounts publishes the account.
func (m *Mirror) accounts(ctx context.Context) {
	tick := time.NewTicker(m.cfg.AccountEvery)
	defer tick.Stop()
	var underway atomic.Bool
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.done:
			return
		case <-tick.C:
		}
		if m.sealed.Load() || !underway.CompareAndSwap(false, true) {
			continue // Kafka has not taken the last one; the next tells more
		}
		m.send.client.Produce(ctx, m.enc.account(m.Account()), func(*kgo.Record, error) { underway.Store(false) })
	}
}

var _ kgo.HookBrokerConnect = (*sender)(nil)
