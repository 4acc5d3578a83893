package standin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"banyan/cmd/banyan-demo/standin"
	"banyan/cmd/internal/config"
	"banyan/legacyadapter/changelog"
	"banyan/legacyadapter/mysql"
	"banyan/legacyadapter/postgres"
	"banyan/proxy/event"
	"banyan/shadow/contract"
	"banyan/shadow/translate"
	"banyan/testdata/game"
	"banyan/testdata/lab"
)

// files are the game's banyan.yaml and the stand-in's.
func files(t *testing.T) (both [2]*config.File) {
	t.Helper()
	env := map[string]string{"PROXY_LISTEN": "127.0.0.1:1", "PROXY_ADMIN": "127.0.0.1:2", "PROXY_JOURNAL": "journal", "LEGACY_HTTP": "http://127.0.0.1:3",
		"GAMESERVICE_HTTP": "http://127.0.0.1:4", "KAFKA": "127.0.0.1:5", "KAFKA_PREFIX": "game", "LEDGER_DSN": "postgres://x/ledger",
		"READ_DSN": "postgres://x/read", "REDIS_URL": "redis://127.0.0.1:7"}
	name := filepath.Join(game.Dir(), "banyan.yaml")
	first, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	second, err := standin.BanyanYAML(first)
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range [][]byte{first, second} {
		env["LEGACY_DSN"] = []string{"root@tcp(127.0.0.1:6)/game", "postgres://x/game"}[i]
		if both[i], err = config.Parse(name, text, func(n string) (string, bool) { v, ok := env[n]; return v, ok }); err != nil {
			t.Fatal(err)
		}
	}
	return both
}

func TestAnotherFileIsNotGuessedAt(t *testing.T) {
	for _, text := range []string{"", "legacy_db: { mysql: x }", `legacy_db: { mysql: "${LEGACY_DSN}" }` + "\nSELECT CAST(a AS DOUBLE)"} {
		if out, err := standin.BanyanYAML([]byte(text)); err == nil {
			t.Errorf("%q becomes %q", text, out)
		}
	}
}

// sources read the logs of a pair of worlds: all tables.
func sources(t *testing.T, php *world, dsn string) (both [2]changelog.Source) {
	t.Helper()
	var names []string
	for _, table := range tables {
		names = append(names, table.name)
	}
	quiet := slog.New(slog.DiscardHandler)
	my, err := mysql.New(mysql.Config{DSN: lab.MariaDB(t).DSN(php.at.Name), Tables: names}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	pg, err := postgres.New(postgres.Config{URL: dsn, Slot: lab.Prefix(t), Tables: names}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = my.Close(); _ = pg.Close() })
	if err := pg.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return [2]changelog.Source{my, pg}
}

// The two logs tell the same: the same transactions with the same rows and write ids, and the mappings make the same events of them.
func TestTheLogsTellTheSame(t *testing.T) {
	size := small
	size.Now = time.Now()
	php, dsn := original(t, size), lab.Postgres(t).Database(t)
	stand, _ := standAt(t, dsn, size, true)
	x := &twins{t: t, both: [2]*world{php, stand}, browsers: map[int][2]*browser{}}
	logs := sources(t, php, dsn)
	x.sql("UPDATE resources SET gold_rate = 0, wood_rate = 0, iron_rate = 0")
	x.as(1)
	var from [2]event.Position
	for i, log := range logs {
		var err error
		if from[i], err = log.Head(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i, d := range deeds {
		if d.code == "attacked" {
			continue
		}
		x.sql(known...)
		x.sql(d.before...)
		x.sql("UPDATE resources SET updated_at = updated_at - 3600") // so that each tick changes something
		for _, b := range x.as(1) {
			b.header = http.Header{"Banyan-Write": {fmt.Sprintf("demo.1.%d", i+1)}}
			b.form(d.page, d.action, fmt.Sprintf("%s&client_ref=d%d", d.fields, i))
		}
	}
	for i, id := range []string{"no id", "'; DROP TABLE units; --", strings.Repeat("a", 101)} {
		for _, b := range x.as(1) {
			b.header = http.Header{"Banyan-Write": {id}}
			b.form("unit", "orders", "unit=7&stance="+[]string{"hold", "flee"}[i%2])
		}
	}
	x.sql("UPDATE units SET is_moving = 1, target_id = 9, arrives_at = '2020-01-01 00:00:00' WHERE id = 13", "DELETE FROM units WHERE province_id = 9")
	x.runCron("cron")
	x.sql("UPDATE matches SET name = 'the end' WHERE id = 1")

	files := files(t)
	a, b := told(t, logs[0], from[0], files[0]), told(t, logs[1], from[1], files[1])
	if len(a) < 300 {
		t.Errorf("only %d transactions", len(a))
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Fatalf("transaction %d:\noriginal: %s\nstand-in: %s", i, a[i], b[i])
		}
	}
	if len(a) != len(b) {
		t.Errorf("%d transactions in the original, %d in the stand-in", len(a), len(b))
	}
}

var (
	recent = regexp.MustCompile(`[12]\d{3}-\d\d-\d\d \d\d:\d\d:\d\d|1[6-9]\d{8}`)
	zero   = regexp.MustCompile(`"0000-00-00 00:00:00"`)
	errEnd = errors.New("the end")
)

// told is what a log tells, a line for each transaction with rows: rows, who wrote them, and the events that the mappings make of them.
func told(t *testing.T, log changelog.Source, from event.Position, f *config.File) (out []string) {
	t.Helper()
	contracts, err := contract.Load(os.DirFS(f.Path(f.Contracts)))
	if err != nil {
		t.Fatal(err)
	}
	rules := map[event.Migration]*translate.Rules{}
	for _, m := range []event.Migration{"units", "economy"} {
		if rules[m], err = translate.Compile(f.Migrations[m].Translate(m), contracts); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = log.Stream(ctx, from, func(tx *changelog.Txn) error {
		if len(tx.Rows) == 0 {
			return nil
		}
		var lines []string // rows of one statement come in no order
		for i, r := range tx.Rows {
			line := fmt.Sprintf("%s %s %s > %s", r.Table, r.Op, image(r.Before), image(r.After))
			if tx.Annotations != nil {
				line += " by " + tx.Annotations[i].String()
			}
			for _, m := range []event.Migration{"units", "economy"} {
				line += events(t, rules[m], f.Migrations[m].Rows, m, r)
			}
			lines = append(lines, recent.ReplaceAllString(zero.ReplaceAllString(line, "null"), "TIME"))
		}
		slices.Sort(lines)
		out = append(out, strings.Join(lines, "\n"))
		if r := tx.Rows[0]; r.Table == "matches" && fmt.Sprint(r.After["name"]) == "the end" {
			return errEnd
		}
		return nil
	})
	if !errors.Is(err, errEnd) {
		t.Fatal(err)
	}
	return out
}

// image is a row as JSON; a number is the nearest of 32 bits, as a FLOAT column holds it.
func image(v event.Values) string {
	out := map[string]any{}
	for name, value := range v {
		if n, ok := value.(json.Number); ok {
			if f, err := n.Float64(); err == nil && strings.Contains(string(n), ".") {
				value = strconv.FormatFloat(f, 'g', -1, 32)
			} else {
				value = string(n)
			}
		}
		out[name] = value
	}
	text, _ := json.Marshal(out)
	return string(text)
}

func events(t *testing.T, rules *translate.Rules, mapped map[string]translate.Table, m event.Migration, r event.RowChange) (out string) {
	t.Helper()
	if _, ok := mapped[r.Table]; !ok {
		return ""
	}
	res, err := rules.Translate(&event.Entry{V: 1, Migration: m, Key: "match/1", From: 5, To: 5,
		Changes: []event.SettledChange{{Position: 5, Rows: []event.RowChange{r}, Cause: event.Dark, Received: time.Unix(1, 0)}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range res.Events {
		out += " " + e.Type + " " + string(e.Data)
	}
	return out
}

// Legacy's state, as banyan compares it, is the same from both databases.
func TestStateQueriesTellTheSame(t *testing.T) {
	size := small
	size.Now = time.Unix(1_700_000_000, 0)
	php, dsn := originalDB(t, size), lab.Postgres(t).Database(t)
	stand, _ := standAt(t, dsn, size, false)
	x := &twins{t: t, both: [2]*world{php, stand}}
	x.sql(known...)
	x.sql("UPDATE units SET arrives_at = '2026-01-02 03:04:05', moved_at = '2026-01-02 03:04:04', is_moving = 1 WHERE id = 4", "UPDATE resources SET gold = 12345.67 WHERE player_id = 2",
		`UPDATE units SET orders = 'a:1:{s:6:"stance";s:4:"flee";}' WHERE id = 13`) // of orders without a stance each query makes something else
	files := files(t)
	logs := sources(t, php, dsn)
	n := 0
	for _, m := range []event.Migration{"units", "economy"} {
		for i, s := range files[0].Migrations[m].State {
			a, b := state(t, logs[0], s.Legacy), state(t, logs[1], files[1].Migrations[m].State[i].Legacy)
			for key, row := range a {
				n++
				if b[key] != row {
					t.Errorf("%s %s:\noriginal: %s\nstand-in: %s", m, s.Entity, row, b[key])
				}
			}
			if len(a) != len(b) {
				t.Errorf("%s %s: %d rows in the original, %d in the stand-in", m, s.Entity, len(a), len(b))
			}
		}
	}
	if n < 150 {
		t.Errorf("only %d rows compared", n)
	}
}

// state is the answer to a state query by its first column, the id.
func state(t *testing.T, source changelog.Source, query string) map[string]string {
	t.Helper()
	snapshot, err := source.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Close()
	rows, err := snapshot.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		out[fmt.Sprint(rows.Values()[0])] = image(changelog.RowOf(rows.Columns(), rows.Values()))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}
