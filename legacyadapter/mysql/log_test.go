package mysql_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"banyan/legacyadapter/changelog"
	"banyan/legacyadapter/changelog/sourcetest"
	"banyan/legacyadapter/mysql"
	"banyan/proxy/event"
	"banyan/testdata/lab"
)

// What legacy code does to a log: tables without transactions, savepoints across both kinds, DDL between, statements
// that touch several tables, triggers, multi-row statements, and a statement that the log does not hold as rows.
func TestOddTransactions(t *testing.T) {
	_, dsn := lab.MariaDB(t).Database(t)
	db := open(t, dsn)
	db.SetMaxOpenConns(1)
	run(t, db, `CREATE TABLE a (id INT PRIMARY KEY, v INT); CREATE TABLE b (id INT PRIMARY KEY, v INT); CREATE TABLE old (id INT PRIMARY KEY) ENGINE=MyISAM;
		CREATE TRIGGER copy AFTER INSERT ON a FOR EACH ROW INSERT INTO b VALUES (NEW.id, NEW.v)`)
	var logged strings.Builder
	s, err := mysql.New(mysql.Config{DSN: dsn, Tables: []string{"a", "b", "old"}}, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	from := head(t, s)
	story := func(what, want string, statements ...string) {
		t.Helper()
		for _, q := range statements {
			run(t, db, q)
		}
		to := head(t, s)
		got := ""
		for _, x := range sourcetest.Read(t, s, from, to) {
			for i, r := range x.Rows {
				if r.N != i {
					t.Errorf("%s: row %d has number %d", what, i, r.N)
				}
				w := ""
				if x.Annotations != nil {
					w = x.Annotations[i].String()
				}
				got += fmt.Sprintf("%s %s %v%s,", r.Op, r.Table, r.Image()["id"], w)
			}
			got += ";"
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
		from = to
	}
	story("a trigger's rows belong to the statement", "insert a 1p.1.1,insert b 1p.1.1,;", "/*banyan:id=p.1.1*/ INSERT INTO a VALUES (1, 1)")
	story("a table without transactions", "insert old 1,;", "INSERT INTO old VALUES (1)")
	story("both kinds, taken back: what stays in one stays", "insert old 2,;", "BEGIN", "INSERT INTO a VALUES (2, 1)", "INSERT INTO old VALUES (2)", "ROLLBACK")
	story("savepoint across both kinds", "insert old 3,;insert a 3,insert b 3,insert a 5,insert b 5,;", "BEGIN", "INSERT INTO a VALUES (3, 1)", "SAVEPOINT x",
		"INSERT INTO a VALUES (4, 1)", "INSERT INTO old VALUES (3)", "ROLLBACK TO x", "INSERT INTO a VALUES (5, 1)", "COMMIT")
	story("DDL between", "insert a 6,insert b 6,;update a 6,;", "INSERT INTO a VALUES (6, 1)", "ALTER TABLE a ADD c VARCHAR(5) DEFAULT 'new', ADD d INT AFTER id", "UPDATE a SET v = 2 WHERE id = 6")
	story("several tables in a statement", "update a 6,update b 6,;", "UPDATE a JOIN b ON a.id = b.id SET a.v = 9, b.v = 9 WHERE a.id = 6")
	story("REPLACE", "update b 6,;", "REPLACE INTO b VALUES (6, 10)")
	story("an update that changes nothing", "", "UPDATE b SET v = v")
	if logged.Len() > 0 {
		t.Errorf("logged: %s", logged.String())
	}
	story("a statement without rows", "", "SET SESSION binlog_format = 'STATEMENT'", "UPDATE b SET v = 3", "SET SESSION binlog_format = 'ROW'")
	story("TRUNCATE", "", "TRUNCATE TABLE b")
	if n := strings.Count(logged.String(), "run a sweep"); n < 2 {
		t.Errorf("%d errors logged, want 2: %s", n, logged.String())
	}
}

// After DDL, rows before it have the columns of then.
func TestColumnsOfThen(t *testing.T) {
	_, dsn := lab.MariaDB(t).Database(t)
	db := open(t, dsn)
	run(t, db, "CREATE TABLE a (id INT PRIMARY KEY, v INT)")
	s := source(t, dsn, "a")
	from := head(t, s)
	run(t, db, "INSERT INTO a VALUES (1, 1); ALTER TABLE a CHANGE v w VARCHAR(5) CHARACTER SET latin1, ADD x INT UNSIGNED DEFAULT 4294967295; UPDATE a SET w = 'ö'")
	got := ""
	for _, x := range sourcetest.Read(t, s, from, head(t, s)) {
		got += fmt.Sprint(x.Rows[0].After)
	}
	if want := "map[id:1 v:1]map[id:1 w:ö x:4294967295]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A transaction above the limit stops the reader and says what to do; memory does not grow with it.
func TestLargeTransaction(t *testing.T) {
	_, dsn := lab.MariaDB(t).Database(t)
	db := open(t, dsn)
	run(t, db, "CREATE TABLE a (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(1000)); CREATE TABLE other LIKE a")
	s, err := mysql.New(mysql.Config{DSN: dsn, Tables: []string{"a"}, MaxTransaction: 1 << 20}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	from := head(t, s)
	run(t, db, "INSERT INTO other (v) SELECT REPEAT('x', 1000) FROM seq_1_to_3000") // not ours: it does not count
	sourcetest.Read(t, s, from, head(t, s))
	run(t, db, "INSERT INTO a (v) SELECT REPEAT('x', 1000) FROM seq_1_to_3000")
	err = s.Stream(t.Context(), from, func(*changelog.Txn) error { return nil })
	if !changelog.IsStop(err) || !strings.Contains(err.Error(), "max_transaction") {
		t.Errorf("got %v", err)
	}
}

func TestCheck(t *testing.T) {
	server := lab.NewMariaDB(t)
	name, dsn := server.Database(t)
	db := open(t, dsn)
	run(t, db, "CREATE TABLE good (id INT PRIMARY KEY); CREATE TABLE loose (n INT) ENGINE=MyISAM; CREATE TABLE odd (id UUID PRIMARY KEY, g VARCHAR(5) CHARACTER SET gbk)")
	s := source(t, dsn, "good")
	if ps := s.Check(t.Context(), []string{"good"}); len(ps) != 0 {
		t.Errorf("nothing is wrong, yet: %v", ps)
	}
	run(t, db, "SET GLOBAL binlog_row_metadata = 'MINIMAL'; SET GLOBAL binlog_row_image = 'MINIMAL'; SET GLOBAL binlog_format = 'MIXED'; SET GLOBAL binlog_annotate_row_events = 0")
	run(t, db, "CREATE USER poor IDENTIFIED BY 'x'; GRANT SELECT ON "+name+".good TO poor")
	all := fmt.Sprint(s.Check(t.Context(), []string{"good", "loose", "odd", "nowhere"}))
	poor := source(t, strings.Replace(dsn, "banyan:banyan@", "poor:x@", 1), "good")
	all += fmt.Sprint(poor.Check(t.Context(), []string{"good", "loose"}))
	for _, want := range []string{"SET GLOBAL binlog_row_metadata = 'FULL'", "SET GLOBAL binlog_row_image = 'FULL'", "SET GLOBAL binlog_format = 'ROW'",
		"SET GLOBAL binlog_annotate_row_events = '1'", "loose has no primary key", "ENGINE = InnoDB", "column id is uuid", "character set gbk",
		"table nowhere: there is none", "GRANT BINLOG MONITOR ON *.* TO 'poor'@'%'", "GRANT REPLICATION SLAVE ON *.* TO 'poor'@'%'"} {
		if !strings.Contains(all, want) {
			t.Errorf("the report lacks %q:\n%s", want, strings.ReplaceAll(all, "} {", "}\n{"))
		}
	}
	// And the log itself, when nobody asked.
	from := head(t, s)
	run(t, db, "INSERT INTO good VALUES (1)")
	if err := s.Stream(t.Context(), from, func(*changelog.Txn) error { return nil }); !changelog.IsStop(err) || !strings.Contains(err.Error(), "binlog_row_metadata") {
		t.Errorf("got %v", err)
	}
	if err := s.Stream(t.Context(), event.MakePosition(99, 4), nil); !changelog.IsStop(err) {
		t.Errorf("a log file that is not there: %v", err)
	}
}

// Keys of several columns, binary and latin1 ones too, page in the order of the index.
func TestPageKeys(t *testing.T) {
	_, dsn := lab.MariaDB(t).Database(t)
	db := open(t, dsn)
	run(t, db, "CREATE TABLE k (a VARBINARY(4), b VARCHAR(10) CHARACTER SET latin1, c BIGINT UNSIGNED, d DATETIME(3), PRIMARY KEY (a, b, c, d))")
	want := 0
	for _, a := range []string{"''", "x'00'", "x'FF'", "x'0080'"} {
		for _, b := range []string{"'a'", "'ö'", "''"} {
			for _, c := range []string{"0", "18446744073709551615"} {
				for _, d := range []string{"'2024-01-01 00:00:00.001'", "'0000-00-00'"} {
					run(t, db, fmt.Sprintf("SET sql_mode=''; INSERT INTO k VALUES (%s, %s, %s, %s)", a, b, c, d))
					want++
				}
			}
		}
	}
	run(t, db, "CREATE TABLE e (id ENUM('b', 'a') PRIMARY KEY)")
	s := source(t, dsn, "k", "e")
	tables, err := s.Describe(t.Context(), []string{"k", "e"})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	if _, err := snap.Page(t.Context(), tables[1], nil, "", 5); !changelog.IsStop(err) {
		t.Errorf("an enum as key: %v", err)
	}
	seen := map[string]bool{}
	for after := []any(nil); ; {
		rows, err := snap.Page(t.Context(), tables[0], after, "", 5)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; rows.Next(); n++ {
			after = append([]any(nil), rows.Values()...)
			if k := fmt.Sprint(after); seen[k] {
				t.Fatalf("twice: %s", k)
			} else {
				seen[k] = true
			}
		}
		if rows.Err() != nil {
			t.Fatal(rows.Err())
		}
		rows.Close()
		if n < 5 {
			break
		}
	}
	if len(seen) != want {
		t.Errorf("%d rows, want %d", len(seen), want)
	}
}
