package mirror

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"banyan/proxy/event"
	"banyan/proxy/journal"
	"banyan/proxy/kafka"
)

// maxValue is the largest record value: below the producer's batch and the broker's message.max.bytes (1 MiB each),
// with room for key and headers.
const maxValue = 1000 << 10

// encoder makes Kafka records of what the journal yields, one item at a time.
type encoder struct {
	replica    event.Replica
	topics     event.Topics
	partitions int32
	writes     string             // topic
	kind       []kgo.RecordHeader // of write records, shared by all

	// Used again for the next write: the write as read, whose strings are parts of the item, and its addresses.
	w         event.Write
	addresses []event.Address

	batch arena // of the records of writes
}

func newEncoder(r event.Replica, t event.Topics, partitions int32) *encoder {
	return &encoder{replica: r, topics: t, partitions: partitions, writes: t.Writes(), kind: kafka.Record("", 0, event.KindWrite, "", nil).Headers,
		batch: newArena()}
}

// made is what became of one item.
type made struct {
	addresses []event.Address // valid until the next item
	lost      bool            // unreadable: published as a gap
	unknown   bool
	cut       bool // without body
}

// write appends the records of a write, one for each (migration, key), or for each partition where the key is unknown.
// They are good until the batch is reset.
func (e *encoder) write(it *journal.Item, records []*kgo.Record) ([]*kgo.Record, made) {
	w := &e.w
	err := w.Intent.Read(it.Intent)
	if it.IntentLost || err != nil || len(w.Intent.Addresses) == 0 {
		reason := "the intent is damaged"
		if err != nil && !it.IntentLost {
			reason = "the intent cannot be decoded: " + err.Error()
		} else if !it.IntentLost {
			reason = "the intent has no migration"
		}
		return append(records, e.loss(it, event.Seq(it.Seq), reason)), made{lost: true}
	}
	result(&w.Result, it)
	w.V, w.Ship, w.ID = event.WriteVersion, uint64(it.Ship), event.WriteID{Replica: e.replica, Epoch: event.Epoch(it.Epoch), Seq: event.Seq(it.Seq)}
	e.addresses = addresses(e.addresses[:0], w.Intent.Addresses, w.Result.Keys)
	m := made{addresses: e.addresses, unknown: w.Result.Outcome == event.Unknown}
	for _, a := range m.addresses {
		w.Address = a
		form := e.batch.form(w)
		if len(form) > maxValue && len(w.Intent.Body) > 0 {
			w.Intent.Body, m.cut = nil, true
			form = e.batch.form(w)
		}
		r := kgo.Record{Topic: e.writes, Key: keep(&e.batch, a.Key), Value: form, Headers: e.kind}
		if a.Key != "" {
			r.Partition = event.Partition(a.Key, e.partitions)
			records = append(records, e.batch.record(r))
			continue
		}
		for r.Partition = range e.partitions {
			records = append(records, e.batch.record(r))
		}
	}
	return records, m
}

// result reads the outcome as recorded, or unknown where there is none.
func result(r *event.Result, it *journal.Item) {
	reason := "outcome cannot be decoded"
	switch {
	case it.Bare:
		reason = "no outcome: the journal had no room for it"
	case it.Recovered:
		reason = "no outcome: the proxy ended"
	case r.Read(it.Outcome) == nil:
		return
	}
	*r = event.Result{Outcome: event.Unknown, Reason: reason, End: it.Completed}
}

// kept are addresses that outlive the item of which they are parts.
func kept(as []event.Address) []event.Address {
	as = slices.Clone(as)
	for i, a := range as {
		as[i].Migration, as[i].Key = event.Migration(strings.Clone(string(a.Migration))), event.OrderingKey(strings.Clone(string(a.Key)))
	}
	return as
}

// addresses appends those of the intent and those that only the answer told, each once, one of them primary. A key that
// the answer told replaces "not known" of its migration.
func addresses(out, intent, told []event.Address) []event.Address {
	add := func(a event.Address) {
		for i, o := range out {
			if o.Migration == a.Migration && (o.Key == a.Key || o.Key == "") {
				out[i].Key = a.Key
				out[i].Primary = o.Primary || a.Primary
				return
			}
		}
		out = append(out, a)
	}
	for _, a := range intent {
		if a.Key != "" || !slices.ContainsFunc(out, func(o event.Address) bool { return o.Migration == a.Migration }) {
			add(a)
		}
	}
	for _, a := range told {
		if a.Key != "" {
			add(a)
		}
	}
	primary := false
	for i := range out {
		out[i].Primary = out[i].Primary && !primary
		primary = primary || out[i].Primary
	}
	if !primary {
		out[0].Primary = true
	}
	return out
}

// gap makes the record of a gap mark.
func (e *encoder) gap(it *journal.Item) *kgo.Record {
	g := &it.Gap
	return e.gapRecord(event.Gap{Epoch: event.Epoch(it.Epoch), Migration: event.Migration(g.Migration), From: event.Seq(g.From),
		Ship: uint64(it.Ship), At: g.At, Count: g.Count, AtLeast: g.AtLeast, Closed: g.Closed, Reason: "the journal took nothing"})
}

// loss makes a gap of any migration: at least one write that was recorded cannot be read.
func (e *encoder) loss(it *journal.Item, from event.Seq, reason string) *kgo.Record {
	at := it.Started
	if at.IsZero() {
		at = time.Now()
	}
	return e.gapRecord(event.Gap{Epoch: event.Epoch(it.Epoch), From: from, Ship: uint64(it.Ship), At: at, Count: 1, AtLeast: true, Closed: true, Reason: reason})
}

func (e *encoder) gapRecord(g event.Gap) *kgo.Record {
	g.V, g.Replica = event.AccountVersion, e.replica
	key := string(e.replica) + "." + strconv.FormatUint(uint64(g.Epoch), 10) + ".gap." + string(g.Migration) + "." + strconv.FormatUint(uint64(g.From), 10)
	return kafka.Record(e.topics.Account(), 0, event.KindGap, key, event.Encode(&g))
}

func (e *encoder) account(a event.Account) *kgo.Record {
	a.V, a.Replica = event.AccountVersion, e.replica
	key := string(e.replica) + "." + strconv.FormatUint(uint64(a.Epoch), 10)
	return kafka.Record(e.topics.Account(), 0, event.KindAccount, key, event.Encode(&a))
}

// unsettled is an unknown write of a process that ended.
type unsettled struct {
	event.InFlight
}

// saying is what a mark tells besides the writes.
type saying struct{ ended, idle bool }

// marks makes the record of a mark for each partition that is wanted.
func (e *encoder) marks(m *journal.Mark, old []unsettled, say saying, want func(p int32) bool) []*kgo.Record {
	lists := make(map[int32][]event.InFlight)
	var everywhere []event.InFlight
	list := func(f event.InFlight) {
		if len(f.Addresses) == 0 || slices.ContainsFunc(f.Addresses, func(a event.Address) bool { return a.Key == "" }) {
			everywhere = append(everywhere, f)
			return
		}
		var done []int32
		for _, a := range f.Addresses {
			if p := event.Partition(a.Key, e.partitions); !slices.Contains(done, p) {
				done = append(done, p)
				lists[p] = append(lists[p], f)
			}
		}
	}
	for _, u := range old {
		if m.Clock.Before(u.Until) {
			list(u.InFlight)
		}
	}
	for _, f := range m.InFlight {
		as, _ := f.Key.([]event.Address)
		list(event.InFlight{Seq: event.Seq(f.Seq), Addresses: as, Start: f.Start})
	}
	var out []*kgo.Record
	for p := range e.partitions {
		if !want(p) {
			continue
		}
		mark := event.ReplicaMark{V: event.MarkVersion, Replica: e.replica, Epoch: event.Epoch(m.Epoch), Seq: event.Seq(m.Seq), Clock: m.Clock,
			InFlight: slices.Concat(everywhere, lists[p]), Ended: say.ended, Idle: say.idle}
		out = append(out, kafka.Record(e.topics.Writes(), p, event.KindReplicaMark, "", event.Encode(&mark)))
	}
	return out
}
