package ledger

import (
	"context"
	"encoding/json"
	"fmt"

	"banyan/proxy/capture"
	"banyan/proxy/event"

	"github.com/jackc/pgx/v5"
)

// Asked is what the proxies say of one route: asked = equal + sent + dropped.
type Asked struct {
	Asked     uint64                     `json:"asked"`
	ByteEqual uint64                     `json:"byte_equal"`
	Sent      uint64                     `json:"sent"`
	Dropped   map[string]uint64          `json:"dropped,omitempty"`
	Waited    uint64                     `json:"waited,omitempty"`
	ByLegacy  uint64                     `json:"by_legacy,omitempty"`
	Latency   map[capture.Side]Histogram `json:"latency,omitempty"`
}

// tallies keep the newest of (replica, epoch, route, fingerprint). A tally counts since its epoch what
// was served by one config, so what was counted when the rest of the fingerprint changed, a generation's number, is kept
// beside it, to be taken off.
func (c *commit) tallies(ctx context.Context) error {
	for _, t := range c.b.Tallies {
		body, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("of route %s: %w", t.Route, err)
		}
		if _, err := c.tx.Exec(ctx, `insert into tally
			select $1, $2, $3, $4, $5, $6, $7, (select body from tally where migration = $1 and route = $2 and replica = $3 and epoch = $4
				and fingerprint <> $5 and n < $6 and coalesce(body ->> 'config', '') = $9 order by n desc limit 1), $8
			on conflict (migration, route, replica, epoch, fingerprint) do update set n = excluded.n, body = excluded.body, at = excluded.at
			where tally.n < excluded.n`,
			t.Migration, clip(t.Route, 200), t.Replica, int64(t.Epoch), t.Fingerprint, int64(t.N), jsonText(body), t.At, t.Config); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) asked(ctx context.Context, tx pgx.Tx, m event.Migration, fingerprint string) (map[Comparison]*Asked, error) {
	rows, err := tx.Query(ctx, `select body, base from tally where migration = $1 and fingerprint = $2`, m, fingerprint)
	if err != nil {
		return nil, err
	}
	out := map[Comparison]*Asked{}
	var body, base []byte
	_, err = pgx.ForEachRow(rows, []any{&body, &base}, func() error {
		var now, before capture.Tally
		if err := json.Unmarshal(body, &now); err != nil {
			return err
		}
		if base != nil {
			if err := json.Unmarshal(base, &before); err != nil {
				return err
			}
		}
		a := out[Route(now.Route)]
		if a == nil {
			a = &Asked{Dropped: map[string]uint64{}, Latency: map[capture.Side]Histogram{}}
			out[Route(now.Route)] = a
		}
		a.add(&now, &before)
		return nil
	})
	return out, err
}

func (a *Asked) add(now, before *capture.Tally) {
	a.Asked += less(now.Asked, before.Asked)
	a.ByteEqual += less(now.Equal, before.Equal)
	a.Sent += less(now.Sent, before.Sent)
	a.Waited += less(now.Waited, before.Waited)
	a.ByLegacy += less(now.ByLegacy, before.ByLegacy)
	for why, n := range now.Dropped {
		a.Dropped[why] += less(n, before.Dropped[why])
	}
	for _, h := range now.Latency {
		var old []uint64
		for _, b := range before.Latency {
			if b.Served == h.Served {
				old = b.Buckets
			}
		}
		sum := a.Latency[h.Served]
		if sum.Buckets == nil {
			sum = Histogram{h.Bounds, make([]uint64, len(h.Buckets))}
		}
		if len(sum.Buckets) != len(h.Buckets) {
			continue // another build's bounds: cannot be added
		}
		for i, n := range h.Buckets {
			if i < len(old) {
				n = less(n, old[i])
			}
			sum.Buckets[i] += n
		}
		a.Latency[h.Served] = sum
	}
}

func less(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}
