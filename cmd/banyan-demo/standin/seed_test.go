package standin_test

import (
	"fmt"
	"testing"
	"time"

	"banyan/testdata/game"
)

// diffRows compares two worlds row by row.
func diffRows(t *testing.T, at string, want, got map[string][]map[string]string, equal func(column, a, b string) bool) {
	t.Helper()
	for _, table := range tables {
		a, b := want[table.name], got[table.name]
		if len(a) != len(b) {
			t.Errorf("%s: %s has %d rows in the original, %d in the stand-in", at, table.name, len(a), len(b))
			continue
		}
		for i := range a {
			if len(a[i]) != len(b[i]) {
				t.Fatalf("%s has the columns %v and %v", table.name, a[i], b[i])
			}
			if t.Failed() && i > 20 {
				break // enough to see what is wrong
			}
			for column, v := range a[i] {
				if other, ok := b[i][column]; !ok || !equal(column, v, other) {
					t.Errorf("%s: %s row %d (%s): %s is %q in the original, %q in the stand-in", at, table.name, i, a[i]["id"], column, v, other)
				}
			}
		}
	}
}

func TestSeedsAreEqualRowByRow(t *testing.T) {
	for _, size := range []game.Size{
		{Matches: 2, Players: 6, Provinces: 12, Units: 60},
		{Matches: 1, Players: 1, Provinces: 1, Units: 3, Seed: 7},
		{Matches: 3, Players: 20, Provinces: 35, Units: 300, Seed: 4711},
		{}, // the default
	} {
		size.Now = time.Unix(1_700_000_000, 0)
		t.Run(fmt.Sprint(size.Matches, size.Players, size.Seed), func(t *testing.T) {
			php, stand := originalDB(t, size), stand(t, size)
			diffRows(t, "seed", php.contents(), stand.contents(), func(_, a, b string) bool { return a == b })
		})
	}
}
