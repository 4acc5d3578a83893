package book

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"banyan/cmd/gameservice/internal/economy"
	"banyan/proxy/event"
	"banyan/shadow/readmodel"
)

// ReadModel loads matches from the tables that the projection keeps.
type ReadModel struct{ Postgres *readmodel.Postgres }

var _ Loader = ReadModel{}

// Load reads a match and where its partition stood, in one snapshot. A key that is parked stands still in the read model:
// then the topic alone is read.
func (r ReadModel) Load(ctx context.Context, key event.OrderingKey, partition int32) (Base, error) {
	match, err := MatchOf(key)
	if err != nil {
		return Base{}, err
	}
	s, err := r.Postgres.Snapshot(ctx)
	if err != nil {
		return Base{}, err
	}
	defer s.Close(ctx)
	b := Base{Match: economy.NewMatch(), From: -1}
	err = each(ctx, s, func(v event.Values) error {
		if b.From, err = integer(v["next_offset"]); err != nil {
			return err
		}
		return json.Unmarshal([]byte(v["ahead"].(string)), &b.Ahead)
	}, "select next_offset, array_to_json(ahead)::text as ahead from banyan_partition where partition = $1 and not exists (select from banyan_parked where partition = $1 and key = $2)",
		partition, string(key))
	if err != nil || b.From < 0 {
		return b, err
	}
	for _, q := range []struct {
		typ, sql string
	}{
		{"game.resources.imported", `select json_build_object('player', player_id, 'match', match_id, 'gold', gold, 'wood', wood, 'iron', iron, 'gold_rate', gold_rate,
			'wood_rate', wood_rate, 'iron_rate', iron_rate, 'storage', storage, 'updated_at', updated_at)::text as data from resources where match_id = $1`},
		{"game.trade.imported", `select json_build_object('trade', id, 'match', match_id, 'seller', seller_id, 'give_type', give_type, 'give_amount', give_amount,
			'want_type', want_type, 'want_amount', want_amount, 'status', status)::text as data from trades where match_id = $1`},
		{"game.province.imported", `select json_build_object('id', id, 'match', match_id, 'terrain', terrain, 'owner', owner_id, 'level', level)::text as data
			from provinces where match_id = $1`},
	} {
		err := each(ctx, s, func(v event.Values) error { return b.Match.Apply(q.typ, 1, []byte(v["data"].(string))) }, q.sql, match)
		if err != nil {
			return Base{}, err
		}
	}
	return b, nil
}

func each(ctx context.Context, s *readmodel.Snapshot, do func(event.Values) error, sql string, args ...any) error {
	rows, err := s.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	for v := range rows.All() {
		if err := do(v); err != nil {
			return err
		}
	}
	return rows.Err()
}

func integer(v any) (int64, error) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, fmt.Errorf("%v is not a number", v)
	}
	return n.Int64()
}

// MatchOf is 7 of match/7.
func MatchOf(key event.OrderingKey) (int64, error) {
	id, ok := strings.CutPrefix(string(key), "match/")
	n, err := strconv.ParseInt(id, 10, 64)
	if !ok || err != nil || n < 1 {
		return 0, fmt.Errorf("key %q: want match/<id>", key)
	}
	return n, nil
}
