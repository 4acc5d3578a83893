package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"banyan/proxy/event"
)

// document is what a read shows, and the positions that it lies between: it holds everything up to before, and nothing
// beyond after.
type document struct {
	json          json.RawMessage
	before, after event.Position
	generation    int
}

// document asks Redis, and PostgreSQL when Redis has not got it, is behind or away. A document that is behind is better
// than none: it says so itself.
func (h *Handler) document(ctx context.Context, m Model, order event.OrderingKey, key, statement, name string, id int64) (document, error) {
	d, fresh, errRedis := h.fromRedis(ctx, m, order, key)
	d.generation = m.Generation
	if fresh {
		return d, nil
	}
	p, errPostgres := h.fromPostgres(ctx, m, order, statement, name, id)
	switch {
	case errPostgres == nil && p.json != nil:
		return p, nil
	case d.json != nil:
		return d, nil
	case errPostgres == nil:
		errPostgres = fmt.Errorf("%s: not in the read model", key)
	}
	return document{}, errors.Join(errRedis, errPostgres)
}

// fromRedis reads the partition's progress before and after the document: what is written in between lies between them.
func (h *Handler) fromRedis(ctx context.Context, m Model, order event.OrderingKey, key string) (d document, fresh bool, err error) {
	if m.Redis == nil {
		return document{}, false, nil
	}
	partition := event.Partition(order, h.cfg.Partitions)
	before, err := m.Redis.Progress(ctx, partition)
	if err != nil || before == nil {
		return document{}, false, err
	}
	if d.json, err = m.Redis.Get(ctx, key); err != nil || d.json == nil {
		return document{}, false, err
	}
	after, err := m.Redis.Progress(ctx, partition)
	if err != nil || after == nil {
		return document{}, false, err
	}
	d.before, d.after = before.Complete(order), max(after.Applied, after.Position)
	return d, h.cfg.Now().Sub(after.At) <= h.cfg.Stale, nil
}

// fromPostgres renders the document and reads the progress in one snapshot.
func (h *Handler) fromPostgres(ctx context.Context, m Model, order event.OrderingKey, statement, name string, id int64) (document, error) {
	partition := event.Partition(order, h.cfg.Partitions)
	s, err := m.Postgres.Snapshot(ctx)
	if err != nil {
		return document{}, err
	}
	defer s.Close(ctx)
	p, err := s.Progress(ctx, partition)
	if err != nil {
		return document{}, err
	}
	if p == nil {
		return document{}, fmt.Errorf("partition %d has no progress yet", partition)
	}
	rows, err := s.Query(ctx, h.sql[statement], fmt.Sprintf(`[{"%s":"%d"}]`, name, id))
	if err != nil {
		return document{}, err
	}
	d := document{before: p.Complete(order), after: max(p.Applied, p.Position), generation: m.Generation}
	for v := range rows.All() {
		if text, ok := v[rows.Columns[1]].(string); ok {
			d.json = json.RawMessage(text)
		}
	}
	return d, rows.Err()
}
