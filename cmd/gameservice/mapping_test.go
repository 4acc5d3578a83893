package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banyan/cmd/internal/config"
	"banyan/diff"
	"banyan/proxy/event"
	"banyan/proxy/expr"
	"banyan/proxy/kafka"
	"banyan/shadow/contract"
	"banyan/shadow/project"
	"banyan/shadow/translate"
	"banyan/testdata/game"
)

// gameFile is testdata/game/banyan.yaml with addresses that nobody listens at; more overrides them.
func gameFile(t testing.TB, more map[string]string) *config.File {
	t.Helper()
	env := map[string]string{"PROXY_LISTEN": "127.0.0.1:1", "PROXY_ADMIN": "127.0.0.1:2", "PROXY_JOURNAL": "journal", "LEGACY_HTTP": "http://127.0.0.1:3",
		"GAMESERVICE_HTTP": "http://127.0.0.1:4", "KAFKA": "127.0.0.1:5", "KAFKA_PREFIX": "game", "LEDGER_DSN": "postgres://x/ledger", "LEGACY_DSN": "root@tcp(127.0.0.1:6)/game",
		"READ_DSN": "postgres://x/read", "REDIS_URL": "redis://127.0.0.1:7"}
	maps.Copy(env, more)
	name := filepath.Join(game.Dir(), "banyan.yaml")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := config.Parse(name, b, func(n string) (string, bool) { v, ok := env[n]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func gameContracts(t testing.TB, f *config.File) *contract.Registry {
	t.Helper()
	r, err := contract.Load(os.DirFS(f.Path(f.Contracts)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func gameRules(t testing.TB, m event.Migration) *translate.Rules {
	t.Helper()
	f := gameFile(t, nil)
	r, err := translate.Compile(f.Migrations[m].Translate(m), gameContracts(t, f))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// gameProjection is what the role that projects makes of the file.
func gameProjection(t testing.TB, f *config.File, m event.Migration, k kafka.Config) project.Config {
	t.Helper()
	rm := f.Migrations[m].ReadModel
	return project.Config{Kafka: k, Migration: m, Generation: 1, OrderBy: f.Migrations[m].OrderBy, Files: os.DirFS(game.Dir()), Contracts: gameContracts(t, f),
		On: rm.On, Documents: rm.Documents, Batch: rm.Batch}
}

func TestTheGamesFileIsWhole(t *testing.T) {
	f := gameFile(t, nil)
	contracts := gameContracts(t, f)
	used := map[string]bool{}
	for name, m := range f.Migrations {
		if _, err := translate.Compile(m.Translate(name), contracts); err != nil {
			t.Error(name, err)
		}
		if err := gameProjection(t, f, name, f.Kafka).Validate(); err != nil {
			t.Error(name, err)
		}
		for typ := range m.ReadModel.On {
			used[strings.TrimSuffix(typ, "@1")] = true
		}
		for _, typ := range emitted(m) {
			if m.ReadModel.On[typ].SQL == "" {
				t.Errorf("%s: the projection has no statement for %s", name, typ)
			}
		}
		for _, s := range m.State {
			if _, err := expr.ParseTemplate(s.Entity); err != nil {
				t.Error(err)
			}
			if _, err := diff.Compile(s.Compare); err != nil {
				t.Errorf("%s: state %s: %v", name, s.Entity, err)
			}
		}
	}
	for _, typ := range contracts.Types() {
		if !used[typ] {
			t.Errorf("nobody reads %s", typ)
		}
	}
}

// emitted are the event types that a migration's mappings make.
func emitted(m config.Migration) []string {
	types := map[string]bool{}
	add := func(typ string, v int) { types[fmt.Sprintf("%s@%d", typ, v)] = true }
	for _, w := range m.Writes {
		for _, e := range w.Events {
			add(e.Type, e.Version)
		}
	}
	for _, r := range m.Rows {
		for _, f := range []*translate.Fact{r.Import, r.OnInsert, r.OnDelete} {
			if f != nil {
				add(f.Type, f.Version)
			}
		}
		for _, u := range r.OnUpdate {
			add(u.Type, u.Version)
		}
	}
	return slices.Sorted(maps.Keys(types))
}

// A request that belongs to two migrations is recorded under one name with one set of parameters.
func TestSharedRoutesAgree(t *testing.T) {
	f := gameFile(t, nil)
	shared := 0
	for _, u := range f.Migrations["units"].Writes {
		for _, e := range f.Migrations["economy"].Writes {
			if u.Name == e.Name {
				shared++
				if fmt.Sprint(u.Params, u.Match, u.Applied) != fmt.Sprint(e.Params, e.Match, e.Applied) {
					t.Errorf("%s is another route in each migration", u.Name)
				}
			}
		}
	}
	if shared != 2 {
		t.Errorf("%d shared routes, want recruit and recruit_json", shared)
	}
}

func num(n int) json.Number { return json.Number(fmt.Sprint(n)) }

const (
	atRest = "0000-00-00 00:00:00"
	hold   = `a:2:{s:6:"stance";s:4:"hold";s:5:"queue";a:0:{}}`
	flee   = `a:2:{s:6:"stance";s:4:"flee";s:5:"queue";a:0:{}}`
)

func unitRow(change ...any) event.Values {
	v := event.Values{"id": num(42), "match_id": num(1), "player_id": num(3), "province_id": num(7), "type": "spear", "name": "Spear of Köln", "hp": num(90), "strength": num(10),
		"experience": "", "is_moving": num(0), "target_id": num(0), "arrives_at": atRest, "moved_at": atRest, "orders": hold, "client_ref": ""}
	for i := 0; i < len(change); i += 2 {
		v[change[i].(string)] = change[i+1]
	}
	return v
}

func TestUnitsAreTold(t *testing.T) {
	w := event.WriteID{Replica: "a", Epoch: 1, Seq: 1}
	moved := []any{"is_moving", num(1), "target_id", num(9), "arrives_at", "2026-01-01 00:00:05", "moved_at", "2026-01-01 00:00:00", "client_ref", "r1"}
	for name, c := range map[string]struct {
		route  string // "" is dark
		params map[string]string
		row    event.RowChange
		want   string
	}{
		"move": {"move", map[string]string{"match": "1", "unit": "42", "to": "9"}, event.RowChange{Op: event.Update, Before: unitRow(), After: unitRow(moved...)},
			`game.unit.moved {"arrives_at":"2026-01-01 00:00:05","client_ref":"r1","moved_at":"2026-01-01 00:00:00","moving":true,"player":3,"province":7,"target":9,"unit":42}`},
		"arrival": {"", nil, event.RowChange{Op: event.Update, Before: unitRow(moved...), After: unitRow("province_id", num(9), "moved_at", "2026-01-01 00:00:00", "client_ref", "r1")},
			`game.unit.relocated {"arrives_at":null,"moved_at":"2026-01-01 00:00:00","moving":false,"player":3,"province":9,"target":0,"unit":42}`},
		"battle": {"attack", map[string]string{"unit": "42"}, event.RowChange{Op: event.Update, Before: unitRow(), After: unitRow("hp", num(0), "experience", "17", "client_ref", "r2")},
			`game.unit.fought {"experience":17,"hp":0,"player":3,"unit":42}; game.unit.tagged {"client_ref":"r2","player":3,"unit":42}`},
		"orders": {"orders_json", map[string]string{"unit": "42"}, event.RowChange{Op: event.Update, Before: unitRow(), After: unitRow("orders", flee, "client_ref", "r3")},
			`game.unit.ordered {"client_ref":"r3","player":3,"stance":"flee","unit":42}`},
		"orders past the proxy": {"", nil, event.RowChange{Op: event.Update, Before: unitRow(), After: unitRow("orders", flee)},
			`game.unit.ordered {"client_ref":"","player":3,"stance":"flee","unit":42}`},
		"orders that nobody can read": {"", nil, event.RowChange{Op: event.Update, Before: unitRow(), After: unitRow("orders", "")},
			`game.unit.ordered {"client_ref":"","player":3,"stance":null,"unit":42}`},
		"recruit": {"recruit", map[string]string{"province": "7"}, event.RowChange{Op: event.Insert, After: unitRow()},
			`game.unit.recruited {"arrives_at":null,"client_ref":"","experience":0,"hp":90,"id":42,"match":1,"moved_at":null,"moving":false,"name":"Spear of Köln","player":3,"province":7,"stance":"hold","strength":10,"target":0,"type":"spear"}`},
		"import": {"", nil, event.RowChange{Op: event.Import, After: unitRow("experience", "12")},
			`game.unit.imported {"arrives_at":null,"client_ref":"","experience":12,"hp":90,"id":42,"match":1,"moved_at":null,"moving":false,"name":"Spear of Köln","player":3,"province":7,"stance":"hold","strength":10,"target":0,"type":"spear"}`},
		"disband": {"disband", map[string]string{"unit": "42"}, event.RowChange{Op: event.Delete, Before: unitRow()}, `game.unit.disbanded {"player":3,"unit":42}`},
		"death":   {"", nil, event.RowChange{Op: event.Delete, Before: unitRow()}, `game.unit.removed {"player":3,"unit":42}`},
	} {
		t.Run(name, func(t *testing.T) {
			c.row.Table = "units"
			e := &event.Entry{V: 1, Migration: "units", Key: "match/1", From: 5, To: 5,
				Changes: []event.SettledChange{{Position: 5, Rows: []event.RowChange{c.row}, Cause: event.Dark, Received: time.Unix(1, 0)}}}
			if c.route != "" {
				e.Changes[0].Cause, e.Changes[0].Write = event.Effect, w
				e.Writes = []event.SettledWrite{{Verdict: event.VerdictApplied, Effects: []event.Position{5},
					Write: event.Write{ID: w, Intent: event.Intent{Route: c.route, Params: c.params}}}}
			}
			if got := told(t, "units", e); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func told(t testing.TB, m event.Migration, e *event.Entry) string {
	t.Helper()
	res, err := gameRules(t, m).Translate(e)
	if err != nil {
		t.Fatal(err)
	}
	var b []string
	for _, ev := range res.Events {
		b = append(b, ev.Type+" "+string(ev.Data))
	}
	for _, u := range res.Unmapped {
		t.Errorf("unmapped: %+v", u)
	}
	return strings.Join(b, "; ")
}

func purseRow(change ...any) event.Values {
	v := event.Values{"player_id": num(3), "match_id": num(1), "gold": json.Number("100.5"), "wood": num(50), "iron": num(20), "gold_rate": num(60), "wood_rate": num(0),
		"iron_rate": num(0), "storage": num(20000), "updated_at": num(1000)}
	for i := 0; i < len(change); i += 2 {
		v[change[i].(string)] = change[i+1]
	}
	return v
}

// A tick is told as a difference: an absolute value would mend what the service had got wrong.
func TestADarkTickIsADifference(t *testing.T) {
	e := &event.Entry{V: 1, Migration: "economy", Key: "match/1", From: 5, To: 5, Changes: []event.SettledChange{{Position: 5, Cause: event.Dark, Rows: []event.RowChange{
		{Table: "resources", Op: event.Update, Before: purseRow(), After: purseRow("gold", json.Number("101.5"), "updated_at", num(1060))}}}}}
	want := `game.resources.adjusted {"gold":1,"gold_rate":0,"iron":0,"iron_rate":0,"match":1,"player":3,"storage":0,"updated_at":1060,"wood":0,"wood_rate":0}`
	if got := told(t, "economy", e); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
