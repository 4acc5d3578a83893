package query

import (
	"context"
	"encoding/json"
	"sync"

	"banyan/shadow/readmodel"
)

// members remembers which match a player belongs to, which never changes. When it is full it starts again.
type members struct {
	most int

	mu sync.Mutex // guards of
	of map[int64]int64
}

func newMembers(most int) *members { return &members{most: most, of: map[int64]int64{}} }

// match is the player's, 0 if the read model does not know the player.
func (m *members) match(ctx context.Context, pg *readmodel.Postgres, player int64) (int64, error) {
	m.mu.Lock()
	match := m.of[player]
	m.mu.Unlock()
	if match != 0 {
		return match, nil
	}
	row, err := lookup(ctx, pg, "select match_id from players where id = $1", player)
	if err != nil || row == nil {
		return 0, err
	}
	n, _ := row["match_id"].(json.Number)
	if match, err = n.Int64(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.of) >= m.most {
		clear(m.of)
	}
	m.of[player] = match
	return match, nil
}
