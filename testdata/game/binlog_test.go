package game_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"banyan/testdata/game"
	"banyan/testdata/lab"
)

// transaction is what a transaction of this world's database left in the binlog.
type transaction struct {
	tables     []string
	statements []string // with their comments
}

var mapped = regexp.MustCompile(`table_id: \d+ \(([^.]+)\.([^)]+)\)`)

// binlog gives the transactions that something makes. The server is shared: those of
// other databases are left out.
func (w *world) binlog(do func()) []transaction {
	w.t.Helper()
	file, from := w.position()
	do()
	last, _ := w.position()
	if last != file {
		w.t.Fatalf("the binlog went on from %s to %s in between", file, last)
	}
	rows, err := w.db.QueryContext(w.t.Context(), fmt.Sprintf("SHOW BINLOG EVENTS IN '%s' FROM %d", file, from))
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var all []transaction
	var now transaction
	ours := false
	end := func() {
		if ours {
			all = append(all, now)
		}
		now, ours = transaction{}, false
	}
	for rows.Next() {
		var name, kind, info string
		var pos, server, next int64
		if err := rows.Scan(&name, &pos, &kind, &server, &next, &info); err != nil {
			w.t.Fatal(err)
		}
		switch kind {
		case "Gtid":
			end()
		case "Annotate_rows":
			now.statements = append(now.statements, info)
		case "Table_map":
			if m := mapped.FindStringSubmatch(info); m != nil && m[1] == w.at.Name {
				now.tables = append(now.tables, m[2])
				ours = true
			}
		}
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	end()
	return all
}

func (w *world) position() (file string, at int64) {
	w.t.Helper()
	var do, ignore string
	if err := w.db.QueryRowContext(w.t.Context(), "SHOW MASTER STATUS").Scan(&file, &at, &do, &ignore); err != nil {
		w.t.Fatal(err)
	}
	return file, at
}

func TestAutocommitBurst(t *testing.T) {
	w := newWorld(t)
	b := w.login(1)
	w.purse(1, 1000)
	w.exec(anHourAgo)
	w.exec("UPDATE resources SET gold_rate = 60 WHERE player_id = 1")
	var got []string
	for _, tx := range w.binlog(func() { b.json("build", `"province":1`) }) {
		got = append(got, strings.Join(tx.tables, "+"))
	}
	if want := "resources provinces action_log resources resources"; strings.Join(got, " ") != want {
		t.Errorf("building a level commits %v, want one by one %s", got, want)
	}
}

func TestAnnotation(t *testing.T) {
	for name, c := range map[string]struct {
		annotate bool
		field    string
		want     string // before each statement
	}{
		"an id":             {true, "r1.2-3_4", "/*banyan:id=r1.2-3_4*/ "},
		"switched off":      {false, "r1.2-3_4", ""},
		"no field":          {true, "", ""},
		"not an id":         {true, "x*/ DROP TABLE units; /*", ""},
		"a line break":      {true, "x\ty", ""},
		"as long as it may": {true, strings.Repeat("a", 100), "/*banyan:id=" + strings.Repeat("a", 100) + "*/ "},
		"too long":          {true, strings.Repeat("a", 101), ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := seeded(t)
			w.url = lab.PHPServer(t, game.Root(), 1, w.at.Env(t.TempDir(), c.annotate)).URL
			b := w.login(1)
			if c.field != "" {
				b.header = http.Header{"Banyan-Write": {c.field}}
			}
			all := w.binlog(func() { b.json("orders", `"unit":1,"stance":"flee","client_ref":"n"`) })
			if len(all) != 2 {
				t.Fatalf("%d transactions, want 2: %v", len(all), all)
			}
			for i, begin := range []string{"UPDATE units", "INSERT INTO action_log"} {
				if got := strings.Join(all[i].statements, " "); !strings.HasPrefix(got, c.want+begin) {
					t.Errorf("statement %q, want it to begin %q", got, c.want+begin)
				}
			}
		})
	}
}
