package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"banyan/proxy/event"
	"banyan/proxy/journal"
)

// batch is what is sent and acknowledged together.
type batch struct {
	item     journal.Item // the last
	records  []*kgo.Record
	bytes    int
	last     journal.ShipSeq
	end      *journal.Item
	writes   int
	unknowns []shippedWrite // those that an ended process left without outcome
	oldest   time.Time      // completion of the oldest write

	mirrored, unknown, lost, cut uint64
}

// shippedWrite is what an adopted generation's unknown writes are listed by.
type shippedWrite struct {
	seq       event.Seq
	addresses []event.Address
	started   time.Time
}

// fresh empties a batch that has been shipped, for the next.
func (m *Mirror) fresh(b *batch) {
	clear(b.records)
	*b = batch{item: b.item, records: b.records[:0]}
	m.enc.batch.reset()
}

// noWait is a context that has ended: a cursor then yields only what is there.
var noWait = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// collect fills a batch: it waits for the first item until wait ends, and takes what else is there, up to the bounds.
// The error is io.EOF after the journal's end, with what came before it in the batch, or why ctx ended. Trouble with the
// disk is tried again until ctx ends.
func (m *Mirror) collect(ctx, wait context.Context, c *journal.Cursor, b *batch) error {
	for len(b.records) < batchRecords && b.bytes < batchBytes {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := c.Next(wait, &b.item)
		switch {
		case err == nil:
			m.add(c, b, &b.item)
			wait = noWait
		case errors.Is(err, io.EOF):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case wait.Err() != nil:
			return nil
		default:
			m.cfg.Log.Error("mirror: the journal cannot be read; trying again", "error", err)
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(time.Second):
			}
		}
	}
	return nil
}

// add encodes an item into the batch.
func (m *Mirror) add(c *journal.Cursor, b *batch, it *journal.Item) {
	from := len(b.records)
	switch it.Kind {
	case journal.ItemWrite:
		var w made
		b.records, w = m.enc.write(it, b.records)
		b.writes++
		if it.Recovered && (w.unknown || w.lost) {
			b.unknowns = append(b.unknowns, shippedWrite{seq: event.Seq(it.Seq), addresses: kept(w.addresses), started: it.Started})
		}
		if b.oldest.IsZero() {
			b.oldest = it.Completed
		}
		count := func(n *uint64, yes bool) {
			if yes {
				*n++
			}
		}
		count(&b.lost, w.lost)
		count(&b.mirrored, !w.lost)
		count(&b.unknown, w.unknown)
		count(&b.cut, w.cut)
		if w.cut {
			m.cfg.Log.Warn("mirror: a write is too large for a Kafka record and goes without its body", "epoch", uint64(it.Epoch), "seq", uint64(it.Seq))
		}
		if w.lost {
			m.cfg.Log.Error("mirror: a write cannot be read and is published as a gap", "epoch", uint64(it.Epoch), "seq", uint64(it.Seq))
		}
	case journal.ItemGap:
		b.records = append(b.records, m.enc.gap(it))
	case journal.ItemDamage:
		b.records = append(b.records, m.enc.loss(it, event.Seq(c.LastSeq()+1), fmt.Sprintf("%d bytes of the journal are damaged", it.Bytes)))
	case journal.ItemEnd:
		e := *it
		e.Intent, e.Outcome = nil, nil
		b.end = &e
	}
	for _, r := range b.records[from:] {
		b.bytes += len(r.Value)
	}
	b.last = max(b.last, it.Ship)
}

// ship has a batch acknowledged by Kafka, and then the journal.
func (m *Mirror) ship(ctx context.Context, c *journal.Cursor, b *batch) error {
	if len(b.records) > 0 {
		if err := m.send.send(ctx, b.records); err != nil {
			return err
		}
	}
	if b.last == 0 {
		return nil
	}
	if err := c.Ack(b.last); err != nil {
		// Kafka has it: a restart sends it once more, which consumers see by the identity.
		m.cfg.Log.Error("mirror: the journal cannot keep what was acknowledged; a restart will repeat it", "error", err)
	}
	if m.cfg.Hooks.Shipped != nil && b.writes > 0 {
		m.cfg.Hooks.Shipped(b.writes, m.cfg.Now().Sub(b.oldest))
	}
	return nil
}
