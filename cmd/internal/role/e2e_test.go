package role

import (
	"testing"

	"banyan/cmd/internal/play"
	"banyan/proxy/stage"
	"banyan/testdata/game"

	"github.com/google/go-cmp/cmp"
)

// Legacy's rows, read back through journal, Kafka, change log, settle, translate and projection, with players and cron
// writing all the while.
func TestReadModelEqualsLegacyAfterDualWriteAndBackfill(t *testing.T) {
	w := newWorld(t, game.Size{Matches: 2, Players: 8, Provinces: 16, Units: 60})
	w.start()
	w.to("units", stage.State{Stage: stage.DualWrite})
	done := make(chan error, 1)
	go func() { done <- w.shadow.Backfill(t.Context(), "units", false, nil) }()
	d := w.play(play.Config{Players: 16, Matches: 2, Requests: 1200, Seed: 1})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := d.Totals(); got.Errors != 0 || got.Missed != 0 {
		t.Fatalf("players noticed: %+v", got)
	}
	w.caughtUp("units")
	want := w.legacyRows("SELECT id, concat_ws('|', match_id, player_id, province_id, type, hp, is_moving, client_ref) FROM units")
	got := w.modelRows("units", "SELECT id::text, concat_ws('|', match_id, player_id, province_id, type, hp, is_moving::int, client_ref) FROM units")
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("read model differs from legacy (- legacy, + read model):\n%s", d)
	}
	if len(want) == 0 {
		t.Fatal("nothing was compared")
	}
}
