package standin

import (
	"bytes"
	"fmt"
)

// replacements turn the game's banyan.yaml into one for the stand-in: what names MariaDB,
// and state queries in its dialect. Each stands there as often as told.
var replacements = []struct {
	times    int
	old, new string
}{
	{1, `legacy_db: { mysql: "${LEGACY_DSN}"`, `legacy_db: { postgres: "${LEGACY_DSN}"`},
	{1, `IF(experience = '', 0, CAST(experience AS SIGNED))`, `CASE WHEN experience = '' THEN 0 ELSE experience::bigint END`},
	{1, `IF(arrives_at = 0, NULL, CAST(arrives_at AS CHAR))`, `to_char(arrives_at, 'YYYY-MM-DD HH24:MI:SS')`},
	{1, `IF(moved_at = 0, NULL, CAST(moved_at AS CHAR))`, `to_char(moved_at, 'YYYY-MM-DD HH24:MI:SS')`},
	{1, `SUBSTRING_INDEX(SUBSTRING_INDEX(SUBSTRING_INDEX(orders, '"stance";s:', -1), '"', 2), '"', -1)`, `split_part(split_part(orders, '"stance";s:', 2), '"', 2)`},
	{1, `CAST(expires_at AS CHAR)`, `to_char(expires_at, 'YYYY-MM-DD HH24:MI:SS')`},
	{8, ` AS DOUBLE)`, ` AS double precision)`},
}

// BanyanYAML makes the configuration of banyan before the stand-in out of the game's
// own, testdata/game/banyan.yaml. Routes, mappings and comparisons stay as they are; a
// part of the original that is not as expected is an error, so that the two never drift.
func BanyanYAML(original []byte) ([]byte, error) {
	out := original
	for _, r := range replacements {
		if n := bytes.Count(out, []byte(r.old)); n != r.times {
			return nil, fmt.Errorf("banyan.yaml for the stand-in: %q stands %d times in the game's file, want %d", r.old, n, r.times)
		}
		out = bytes.ReplaceAll(out, []byte(r.old), []byte(r.new))
	}
	return out, nil
}
