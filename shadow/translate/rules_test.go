package translate

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"banyan/proxy/event"
	"banyan/shadow/contract"

	"pgregory.net/rapid"
)

func gameConfig() Config {
	return Config{Migration: "units", Generation: 1,
		Routes: []Route{
			{Name: "move", Params: []string{"match", "unit", "to"}, Events: []Mapping{{Type: "unit.moved", Version: 2, Subject: "unit/{unit}",
				Sets: []string{"units.province_id", "units.moved_at"},
				Data: map[string]string{"unit": "int(unit)", "to": "effects.units.province_id", "at": "effects.units.moved_at"}}}},
			{Name: "march", Params: []string{"army"}, Events: []Mapping{{Type: "unit.moved", Version: 2, Sets: []string{"units.province_id"},
				Data: map[string]string{"unit": "effects.units.id", "to": "effects.units.province_id"}}}},
			{Name: "heal", Params: []string{"unit"}, Events: []Mapping{
				{Type: "unit.healed", Version: 1, Subject: "unit/{unit}", Sets: []string{"units.hp"}, When: "int(effects.units.hp) >= 50", Data: map[string]string{"hp": "effects.units.hp"}}}},
			{Name: "recruit", Params: []string{"match"}, Events: []Mapping{{Type: "unit.recruited", Version: 1, Inserts: []string{"units"}, Deletes: []string{"units"},
				Data: map[string]string{"unit": "effects.units.id", "by": "write.player"}}}},
		},
		Rows: map[string]Table{"units": {Subject: "unit/{id}", Import: &Fact{Type: "unit.imported", Version: 1},
			OnDelete: &Fact{Type: "unit.removed", Version: 1, Data: map[string]string{"unit": "row.id"}},
			OnUpdate: []Update{
				{Columns: []string{"hp"}, Fact: Fact{Type: "unit.damaged", Version: 1, Data: map[string]string{"hp": "row.hp"}}},
				{Columns: []string{"province_id", "moved_at"}, Fact: Fact{Type: "unit.relocated", Version: 1, Data: map[string]string{"to": "row.province_id"}}},
			}}},
	}
}

func rules(t testing.TB, change ...func(*Config)) *Rules {
	t.Helper()
	c := gameConfig()
	for _, f := range change {
		f(&c)
	}
	r, err := Compile(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var t0 = time.Unix(1700000000, 0).UTC()

func num(n int) json.Number { return json.Number(fmt.Sprint(n)) }

func unit(id, province, hp int, at string) event.Values {
	return event.Values{"id": num(id), "match_id": num(7), "province_id": num(province), "hp": num(hp), "moved_at": at}
}

func w(seq int) event.WriteID { return event.WriteID{Replica: "a", Epoch: 1, Seq: event.Seq(seq)} }

// changed is one change of one row; cause "" is dark, otherwise the effect of that write.
func changed(pos int, write event.WriteID, before, after event.Values) event.SettledChange {
	return change(pos, write, event.RowChange{Table: "units", Op: event.Update, Before: before, After: after})
}

func change(pos int, write event.WriteID, rows ...event.RowChange) event.SettledChange {
	c := event.SettledChange{Position: event.Position(pos), Cause: event.Dark, Received: t0, Rows: rows}
	if !write.IsZero() {
		c.Cause, c.Write = event.Effect, write
	}
	for i := range rows {
		rows[i].N = i
	}
	return c
}

func write(seq int, route string, verdict event.Verdict, params map[string]string, effects ...event.Position) event.SettledWrite {
	return event.SettledWrite{Verdict: verdict, Effects: effects,
		Write: event.Write{ID: w(seq), Intent: event.Intent{Route: route, Params: params, Player: "p3", Trace: "00-a-b-01"}}}
}

func entry(changes []event.SettledChange, writes ...event.SettledWrite) *event.Entry {
	return &event.Entry{V: 1, Migration: "units", Key: "match/7", From: 1, To: 99, Changes: changes, Writes: writes}
}

// told is what the entry yields, one line per event: "position type subject data".
func told(t testing.TB, r *Rules, e *event.Entry) string {
	t.Helper()
	res, err := r.Translate(e)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, ev := range res.Events {
		fmt.Fprintf(&b, "%d.%d %s %s %s\n", ev.Position, ev.Sequence, ev.TypeVersion(), ev.Subject, ev.Data)
	}
	return b.String()
}

func want(t testing.TB, got string, lines ...string) {
	t.Helper()
	if w := strings.Join(lines, "\n") + "\n"; got != w && (len(lines) > 0 || got != "") {
		t.Errorf("got\n%swant\n%s", got, w)
	}
}

var none event.WriteID

func TestValuesComeFromLegacyNotFromTheRequest(t *testing.T) {
	e := entry([]event.SettledChange{changed(5, w(1), unit(42, 1, 50, "a"), unit(42, 8, 50, "b"))},
		write(1, "move", event.VerdictApplied, map[string]string{"unit": "42", "to": "9"}, 5)) // asked for 9, legacy moved to 8
	want(t, told(t, rules(t), e), `5.0 unit.moved@2 unit/42 {"at":"b","to":8,"unit":42}`)
}

func TestOneEventAtTheLastClaimedChange(t *testing.T) {
	e := entry([]event.SettledChange{
		changed(5, w(1), unit(42, 1, 50, "a"), unit(42, 9, 50, "a")),
		changed(6, none, unit(42, 9, 50, "a"), unit(42, 9, 40, "a")), // another column: stands where it stood
		changed(7, w(1), unit(42, 9, 40, "a"), unit(42, 9, 40, "b")),
	}, write(1, "move", event.VerdictApplied, map[string]string{"unit": "42"}, 5, 7))
	want(t, told(t, rules(t), e),
		`6.0 unit.damaged@1 unit/42 {"hp":40}`,
		`7.0 unit.moved@2 unit/42 {"at":"b","to":9,"unit":42}`)
}

func TestForeignChangeBetween(t *testing.T) {
	for name, between := range map[string]event.SettledChange{
		"dark":          changed(6, none, unit(42, 9, 50, "a"), unit(42, 3, 50, "a")),
		"another write": changed(6, w(2), unit(42, 9, 50, "a"), unit(42, 3, 50, "a")),
	} {
		e := entry([]event.SettledChange{
			changed(5, w(1), unit(42, 1, 50, "a"), unit(42, 9, 50, "a")),
			between,
			changed(7, w(1), unit(42, 3, 50, "a"), unit(42, 3, 50, "b")),
		}, write(1, "move", event.VerdictApplied, map[string]string{"unit": "42"}, 5, 7), write(2, "trade", event.VerdictApplied, nil, 6))
		t.Run(name, func(t *testing.T) {
			want(t, told(t, rules(t), e),
				`5.0 unit.relocated@1 unit/42 {"to":9}`,
				`6.0 unit.relocated@1 unit/42 {"to":3}`,
				`7.0 unit.relocated@1 unit/42 {"to":3}`)
		})
	}
}

func TestAnotherUnitBetweenIsNotForeign(t *testing.T) {
	e := entry([]event.SettledChange{
		changed(5, w(1), unit(42, 1, 50, "a"), unit(42, 9, 50, "a")),
		changed(6, none, unit(43, 1, 50, "a"), unit(43, 3, 50, "a")),
		changed(7, w(1), unit(42, 9, 50, "a"), unit(42, 9, 50, "b")),
	}, write(1, "move", event.VerdictApplied, map[string]string{"unit": "42"}, 5, 7))
	want(t, told(t, rules(t), e),
		`6.0 unit.relocated@1 unit/43 {"to":3}`,
		`7.0 unit.moved@2 unit/42 {"at":"b","to":9,"unit":42}`)
}

func TestOnlyAppliedAttributedWritesAreTold(t *testing.T) {
	params := map[string]string{"unit": "42"}
	c := changed(5, w(1), unit(42, 1, 50, "a"), unit(42, 9, 50, "a"))
	un := c
	un.Cause, un.Write, un.Candidates = event.Unattributed, none, []event.WriteID{w(1), w(2)}
	byRows := `5.0 unit.relocated@1 unit/42 {"to":9}`
	for name, e := range map[string]*event.Entry{
		"dark":         entry([]event.SettledChange{changed(5, none, unit(42, 1, 50, "a"), unit(42, 9, 50, "a"))}, write(1, "move", event.VerdictApplied, params)),
		"unattributed": entry([]event.SettledChange{un}, write(1, "move", event.VerdictApplied, params, 5)),
		"rejected":     entry([]event.SettledChange{c}, write(1, "move", event.VerdictRejected, params, 5)),
		"unresolved":   entry([]event.SettledChange{c}, write(1, "move", event.VerdictUnresolved, params, 5)),
		"no mapping":   entry([]event.SettledChange{c}, write(1, "trade", event.VerdictApplied, params, 5)),
		"elsewhere":    entry([]event.SettledChange{c}),
	} {
		t.Run(name, func(t *testing.T) { want(t, told(t, rules(t), e), byRows) })
	}
}

func TestLateWriteIsNotToldTwice(t *testing.T) {
	params := map[string]string{"unit": "42"}
	rest := []event.SettledChange{changed(7, w(1), unit(42, 9, 50, "a"), unit(42, 9, 50, "b"))}
	sw := write(1, "move", event.VerdictApplied, params, 5, 7) // 5 went out in an earlier entry
	want(t, told(t, rules(t), entry(rest, sw)), `7.0 unit.relocated@1 unit/42 {"to":9}`)
	late := write(1, "move", event.VerdictApplied, params, 7)
	late.Late = true
	want(t, told(t, rules(t), entry(rest, late)), `7.0 unit.relocated@1 unit/42 {"to":9}`)
	want(t, told(t, rules(t), entry(nil, sw)))
}

func TestRowsOfOthersThanTheSubjectGoByRows(t *testing.T) {
	e := entry([]event.SettledChange{change(5, w(1),
		event.RowChange{Table: "units", Op: event.Update, Before: unit(43, 1, 50, "a"), After: unit(43, 9, 50, "a")},
		event.RowChange{Table: "units", Op: event.Update, Before: unit(42, 1, 50, "a"), After: unit(42, 9, 50, "a")})},
		write(1, "move", event.VerdictApplied, map[string]string{"unit": "42"}, 5))
	want(t, told(t, rules(t), e),
		`5.0 unit.relocated@1 unit/43 {"to":9}`,
		`5.1 unit.moved@2 unit/42 {"at":"a","to":9,"unit":42}`)
}

func TestAWriteOfManyRowsWithoutSubject(t *testing.T) {
	e := entry([]event.SettledChange{change(5, w(1),
		event.RowChange{Table: "units", Op: event.Update, Before: unit(43, 1, 50, "a"), After: unit(43, 9, 50, "a")},
		event.RowChange{Table: "units", Op: event.Update, Before: unit(42, 1, 50, "a"), After: unit(42, 9, 50, "b")})},
		write(1, "march", event.VerdictApplied, nil, 5))
	want(t, told(t, rules(t), e),
		`5.0 unit.moved@2 unit/43 {"to":9,"unit":43}`,
		`5.1 unit.moved@2 unit/42 {"to":9,"unit":42}`,
		`5.2 unit.relocated@1 unit/42 {"to":9}`) // moved_at is not claimed by this route
}

func TestWhenFalseGoesByRows(t *testing.T) {
	for hp, line := range map[int]string{60: `5.0 unit.healed@1 unit/42 {"hp":60}`, 40: `5.0 unit.damaged@1 unit/42 {"hp":40}`} {
		e := entry([]event.SettledChange{changed(5, w(1), unit(42, 1, 10, "a"), unit(42, 1, hp, "a"))},
			write(1, "heal", event.VerdictApplied, map[string]string{"unit": "42"}, 5))
		want(t, told(t, rules(t), e), line)
	}
}

func TestInsertsImportsAndDeletes(t *testing.T) {
	ins := event.RowChange{Table: "units", Op: event.Insert, After: unit(42, 1, 10, "a")}
	del := event.RowChange{Table: "units", Op: event.Delete, Before: unit(42, 1, 10, "a")}
	imp := event.RowChange{Table: "units", Op: event.Import, After: unit(42, 1, 10, "a")}
	whole := `{"hp":10,"id":42,"match_id":7,"moved_at":"a","province_id":1}`
	recruited := write(1, "recruit", event.VerdictApplied, nil, 5)
	want(t, told(t, rules(t), entry([]event.SettledChange{change(5, w(1), ins)}, recruited)), `5.0 unit.recruited@1 unit/42 {"by":"p3","unit":42}`)
	want(t, told(t, rules(t), entry([]event.SettledChange{change(5, none, ins)})), `5.0 unit.imported@1 unit/42 `+whole)
	want(t, told(t, rules(t), entry([]event.SettledChange{change(5, none, del)})), `5.0 unit.removed@1 unit/42 {"unit":42}`)
	c := change(5, none, imp)
	c.Cause = event.Imported
	res, err := rules(t).Translate(entry([]event.SettledChange{c}))
	if err != nil || len(res.Events) != 1 || res.Events[0].Cause != "import:0/5.0" || res.Events[0].Type != "unit.imported" {
		t.Fatal(res, err)
	}
	r := rules(t, func(c *Config) {
		units := c.Rows["units"]
		units.OnDelete = nil
		c.Rows["units"] = units
		c.Routes = c.Routes[:3]
	})
	if res, err = r.Translate(entry([]event.SettledChange{change(5, none, del)})); err != nil || len(res.Events) != 0 || len(res.Unmapped) != 1 {
		t.Fatal(res, err)
	}
}

func TestARowThatBecomesAnotherEntity(t *testing.T) {
	e := entry([]event.SettledChange{changed(5, none, unit(42, 1, 10, "a"), unit(44, 1, 10, "a"))})
	want(t, told(t, rules(t), e), `5.0 unit.removed@1 unit/42 {"unit":42}`,
		`5.1 unit.imported@1 unit/44 {"hp":10,"id":44,"match_id":7,"moved_at":"a","province_id":1}`)
}

func TestErrorsSayWhatAndWhere(t *testing.T) {
	noHP := unit(42, 1, 10, "a")
	delete(noHP, "hp")
	bad := unit(42, 1, 10, "a")
	delete(bad, "id")
	for want, e := range map[string]*event.Entry{
		"row.hp":    entry([]event.SettledChange{changed(5, none, unit(42, 1, 9, "a"), noHP)}),
		"unit/{id}": entry([]event.SettledChange{changed(5, none, bad, bad)}),
		"int(": entry([]event.SettledChange{changed(5, w(1), unit(42, 1, 50, "a"), unit(42, 9, 50, "b"))}, func() event.SettledWrite {
			sw := write(1, "heal", event.VerdictApplied, map[string]string{"unit": "42"}, 5)
			return sw
		}()),
	} {
		if want == "int(" {
			e.Changes[0].Rows[0].After = event.Values{"id": num(42), "hp": "much", "province_id": num(1), "moved_at": "a"}
		}
		if _, err := rules(t).Translate(e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want an error with %q", err, want)
		}
	}
	e := entry([]event.SettledChange{changed(5, none, unit(42, 1, 9, "a"), unit(42, 1, 8, "a"))})
	e.Key = ""
	if _, err := rules(t).Translate(e); err == nil || !strings.Contains(err.Error(), "no ordering key") {
		t.Error(err)
	}
}

func TestContractsHoldEvents(t *testing.T) {
	reg, err := contract.Load(fstest.MapFS{"unit.damaged/v1.json": &fstest.MapFile{Data: []byte(`{"properties":{"hp":{"type":"integer","minimum":0}}}`)}})
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Migration: "units", Generation: 1, Rows: map[string]Table{"units": {Subject: "unit/{id}",
		OnUpdate: []Update{{Columns: []string{"hp"}, Fact: Fact{Type: "unit.damaged", Version: 1, Data: map[string]string{"hp": "row.hp"}}}}}}}
	r, err := Compile(c, reg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Translate(entry([]event.SettledChange{changed(5, none, unit(42, 1, 9, "a"), unit(42, 1, -1, "a"))}))
	if err == nil || !strings.Contains(err.Error(), "/hp = -1") || !strings.Contains(err.Error(), "unit/42") {
		t.Fatal(err)
	}
	c.Rows["units"].OnUpdate[0].Version = 3
	if _, err = Compile(c, reg); err == nil || !strings.Contains(err.Error(), "rows.units.on_update[0].type") {
		t.Fatal(err)
	}
}

func TestConfigErrorsNameFieldValueAndBound(t *testing.T) {
	for want, f := range map[string]func(*Config){
		"writes.move.events[0].sets: units.stock has no fallback":        func(c *Config) { c.Routes[0].Events[0].Sets = []string{"units.stock"} },
		"writes.move.events[0].sets: \"stock\": want table.column":       func(c *Config) { c.Routes[0].Events[0].Sets = []string{"stock"} },
		"writes.move.events[0]: claims nothing":                          func(c *Config) { c.Routes[0].Events[0].Sets = nil },
		"writes.move.events[0].subject: {id} is not a param":             func(c *Config) { c.Routes[0].Events[0].Subject = "unit/{id}" },
		"writes.move.events[0].version: 0":                               func(c *Config) { c.Routes[0].Events[0].Version = 0 },
		"writes.move.events[0].data.unit":                                func(c *Config) { c.Routes[0].Events[0].Data = map[string]string{"unit": "nope"} },
		"writes.move.events[0].data.g: \"effects.players.gold\"":         func(c *Config) { c.Routes[0].Events[0].Data = map[string]string{"g": "effects.players.gold"} },
		"writes.heal.events[0].when":                                     func(c *Config) { c.Routes[2].Events[0].When = "1 + 1" },
		"writes.recruit.events[0].deletes: units has no fallback":        func(c *Config) { u := c.Rows["units"]; u.OnDelete = nil; c.Rows["units"] = u },
		"rows.units.subject: missing":                                    func(c *Config) { u := c.Rows["units"]; u.Subject = ""; c.Rows["units"] = u },
		"rows.units.on_update[1].columns: \"hp\" stands in on_update[0]": func(c *Config) { c.Rows["units"].OnUpdate[1].Columns = []string{"hp"} },
		"generation: 0": func(c *Config) { c.Generation = 0 },
	} {
		c := gameConfig()
		f(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %q in it", err, want)
		}
	}
	if err := gameConfig().Validate(); err != nil {
		t.Fatal(err)
	}
}

// Whatever legacy did and however settle explained it: every change of a mapped column is told once, in order, and a
// model that follows the events ends with legacy's rows.
func TestEventsFollowLegacy(t *testing.T) {
	r := rules(t)
	rapid.Check(t, func(t *rapid.T) {
		state := map[int]event.Values{1: unit(1, 1, 50, "a"), 2: unit(2, 1, 50, "a")}
		var changes []event.SettledChange
		writes := map[int][]event.Position{}
		for i := range rapid.IntRange(1, 12).Draw(t, "n") {
			id := rapid.IntRange(1, 2).Draw(t, "unit")
			next := unit(id, rapid.IntRange(1, 3).Draw(t, "to"), rapid.IntRange(49, 51).Draw(t, "hp"), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "at"))
			by := none
			if seq := rapid.IntRange(0, 3).Draw(t, "write"); seq > 0 {
				by = w(seq)
				writes[seq] = append(writes[seq], event.Position(i+1))
			}
			changes = append(changes, changed(i+1, by, state[id], next))
			state[id] = next
		}
		e := entry(changes)
		for seq, ps := range writes {
			e.Writes = append(e.Writes, write(seq, rapid.SampledFrom([]string{"move", "march", "heal", "trade"}).Draw(t, "route"),
				rapid.SampledFrom([]event.Verdict{event.VerdictApplied, event.VerdictApplied, event.VerdictRejected}).Draw(t, "verdict"),
				map[string]string{"unit": fmt.Sprint(rapid.IntRange(1, 2).Draw(t, "subject"))}, ps...))
		}
		res, err := r.Translate(e)
		if err != nil {
			t.Fatal(err)
		}
		model := map[event.Entity]map[string]any{"unit/1": {"to": num(1), "hp": num(50)}, "unit/2": {"to": num(1), "hp": num(50)}}
		ids := map[string]bool{}
		last := event.Position(0)
		for _, ev := range res.Events {
			if ev.Position < last || ids[ev.ID] {
				t.Fatalf("event %s at %v after %v, told before: %v", ev.ID, ev.Position, last, ids[ev.ID])
			}
			last, ids[ev.ID] = ev.Position, true
			var d map[string]any
			dec := json.NewDecoder(strings.NewReader(string(ev.Data)))
			dec.UseNumber()
			if err := dec.Decode(&d); err != nil {
				t.Fatal(err)
			}
			for _, k := range []string{"to", "hp"} {
				if v, ok := d[k]; ok {
					model[ev.Subject][k] = v
				}
			}
		}
		for id, row := range state {
			m := model[event.Entity(fmt.Sprint("unit/", id))]
			if m["to"] != row["province_id"] || m["hp"] != row["hp"] {
				t.Fatalf("unit %d: the events say %v, legacy %v", id, m, row)
			}
		}
		again, err := r.Translate(e)
		if err != nil || len(again.Events) != len(res.Events) {
			t.Fatal(err)
		}
		for i := range again.Events {
			if again.Events[i].ID != res.Events[i].ID {
				t.Fatal("another id for the same cause")
			}
		}
	})
}

func BenchmarkTranslate(b *testing.B) {
	r := rules(b)
	raw := event.Encode(entry([]event.SettledChange{changed(5, w(1), unit(42, 1, 50, "a"), unit(42, 8, 50, "b"))},
		write(1, "move", event.VerdictApplied, map[string]string{"unit": "42", "to": "9", "match": "7"}, 5)))
	b.Run("entry", func(b *testing.B) {
		b.ReportAllocs()
		e, _ := event.DecodeEntry(raw)
		for b.Loop() {
			if _, err := r.Translate(e); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode and entry", func(b *testing.B) {
		for b.Loop() {
			e, err := event.DecodeEntry(raw)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := r.Translate(e); err != nil {
				b.Fatal(err)
			}
		}
	})
}
