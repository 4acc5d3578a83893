package readmodel

import (
	"context"
	"fmt"

	"banyan/proxy/event"
)

// Waiting are the parked keys of all partitions, for people: where each stands and how many events wait.
func (p *Postgres) Waiting(ctx context.Context) (map[event.OrderingKey]Parked, error) {
	rows, err := p.pool.Query(ctx, "select key, first_offset, waiting from banyan_parked")
	if err != nil {
		return nil, fmt.Errorf("read model %s: parked keys: %w", p.schema, err)
	}
	defer rows.Close()
	out := map[event.OrderingKey]Parked{}
	for rows.Next() {
		var k Parked
		var key string
		if err := rows.Scan(&key, &k.FirstOffset, &k.Waiting); err != nil {
			return nil, err
		}
		if k.Key, err = keyOf(key); err != nil {
			return nil, err
		}
		out[k.Key] = k
	}
	return out, rows.Err()
}
