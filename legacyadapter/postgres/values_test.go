package postgres_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"banyan/legacyadapter/changelog"
	"banyan/legacyadapter/changelog/sourcetest"
	"banyan/proxy/event"
	"banyan/testdata/lab"
)

var valueColumns = []struct {
	typ    string
	values []string
	want   []any // of the first values, where it is worth saying
}{
	{"smallint", []string{"-32768", "32767", "NULL"}, []any{json.Number("-32768")}},
	{"integer", []string{"-2147483648", "0"}, nil},
	{"bigint", []string{"9223372036854775807"}, []any{json.Number("9223372036854775807")}},
	{"oid", []string{"4294967295"}, []any{json.Number("4294967295")}},
	{"numeric", []string{"123456789012345678901234567890.1200", "-0.5", "'NaN'", "'Infinity'", "0"}, []any{json.Number("123456789012345678901234567890.1200"), json.Number("-0.5"), "NaN", "Infinity"}},
	{"numeric(10,2)", []string{"1.5"}, []any{json.Number("1.50")}},
	{"real", []string{"0.1", "16777217", "1e21", "'NaN'", "'-Infinity'", "-1e-30"}, []any{json.Number("0.1"), json.Number("16777216")}},
	{"double precision", []string{"0.1", "1e300", "1e-7", "123456789.125", "1e20"}, []any{json.Number("0.1")}},
	{"boolean", []string{"true", "false", "NULL"}, []any{true, false, nil}},
	{"bytea", []string{`'\x00ff00'`, "''"}, []any{"AP8A", ""}},
	{"text", []string{"'日本🎉'", "''", `E'a\tb"\\'`}, []any{"日本🎉"}},
	{"text", []string{"repeat('äx', 9000)"}, nil},
	{"varchar(10)", []string{"'x '"}, []any{"x "}},
	{"char(5)", []string{"'x'"}, nil},
	{`"char"`, []string{"'x'"}, nil},
	{"date", []string{"'2024-02-29'", "'infinity'", "'0044-03-15 BC'"}, []any{"2024-02-29"}},
	{"timestamp", []string{"'2024-07-01 12:00:00'", "'2024-07-01 12:00:00.123456'", "'2024-07-01 12:00:00.5'", "'infinity'"}, []any{"2024-07-01 12:00:00", "2024-07-01 12:00:00.123456"}},
	{"timestamptz", []string{"'2024-07-01 12:00:00+02'", "'1900-01-01 00:00:00.25+05:30'"}, []any{"2024-07-01 10:00:00", "1899-12-31 18:30:00.25"}},
	{"time", []string{"'12:34:56.7'"}, []any{"12:34:56.7"}},
	{"timetz", []string{"'12:34:56+02'"}, nil},
	{"interval", []string{"'1 day 02:03:04.5'", "'-1 month'"}, []any{"P1DT2H3M4.5S"}},
	{"uuid", []string{"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"}, []any{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}},
	{"json", []string{`'{"a": [1, 2.50]}'`}, []any{`{"a": [1, 2.50]}`}},
	{"jsonb", []string{`'{"b":1,"a":2.50}'`}, nil},
	{"bit(4)", []string{"B'0101'"}, []any{"0101"}},
	{"inet", []string{"'10.0.0.1/8'"}, nil},
	{"money", []string{"12.5"}, nil},
	{"point", []string{"'(1.5,2)'"}, nil},
	{"integer[]", []string{"'{1,NULL,3}'"}, []any{"{1,NULL,3}"}},
	{"mood", []string{"'so, so'"}, []any{"so, so"}},
	{"positive", []string{"5"}, []any{json.Number("5")}},
	{"nested", []string{"7", "NULL"}, []any{json.Number("7"), nil}},
	{"flag", []string{"true"}, []any{true}},
	{"pair", []string{"ROW(1,'x y')"}, nil},
	{"integer GENERATED ALWAYS AS IDENTITY", []string{"DEFAULT"}, nil},
	{"xml", []string{"'<a/>'"}, nil},
	{"int4range", []string{"'[1,5)'"}, nil},
}

// A row from the log equals the same row from a query, type by type.
func TestValues(t *testing.T) {
	url, slot := lab.Postgres(t).Database(t), lab.Prefix(t)
	db := open(t, url)
	db.SetMaxOpenConns(1)
	run(t, db, "SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'")
	run(t, db, `CREATE TYPE mood AS ENUM ('so, so', 'ok'); CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
		CREATE DOMAIN nested AS positive; CREATE DOMAIN flag AS boolean; CREATE TYPE pair AS (a int, b text)`)
	var names []string
	for i, c := range valueColumns {
		name := fmt.Sprintf("v%d", i)
		names = append(names, name)
		run(t, db, "CREATE TABLE "+name+" (id integer PRIMARY KEY, c "+c.typ+", twice integer GENERATED ALWAYS AS (id * 2) STORED)")
	}
	s := source(t, url, slot, names...)
	if err := s.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	from := sourcetest.Head(t, s)
	for i, c := range valueColumns {
		for j, v := range c.values {
			run(t, db, fmt.Sprintf("INSERT INTO v%d (id, c) VALUES (%d, %s)", i, j, v))
		}
		run(t, db, fmt.Sprintf("UPDATE v%d SET id = id + 100", i))
	}
	fromLog := map[string]event.Values{}
	for _, txn := range sourcetest.Read(t, s, from, sourcetest.Head(t, s)) {
		for _, r := range txn.Rows {
			if r.Op == event.Update {
				// A stored generated column is not in the log before PostgreSQL 18.
				if before := fromLog[r.Table+fmt.Sprint(r.Before["id"])]; !reflect.DeepEqual(before, r.Before) {
					t.Errorf("%s: inserted %v, before the update %v", r.Table, before, r.Before)
				}
			}
			fromLog[r.Table+fmt.Sprint(r.After["id"])] = r.After
		}
	}
	tables, err := s.Describe(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	for i, c := range valueColumns {
		rows, err := snap.Page(t.Context(), tables[i], nil, "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; rows.Next(); n++ {
			got := changelog.RowOf(rows.Columns(), rows.Values())
			logged := fromLog[names[i]+fmt.Sprint(got["id"])]
			if !reflect.DeepEqual(logged, got) {
				t.Errorf("%s %s:\n   log %.300s\nselect %.300s", c.typ, c.values[n], fmt.Sprintf("%#v", logged), fmt.Sprintf("%#v", got))
			}
			if n < len(c.want) && got["c"] != c.want[n] {
				t.Errorf("%s %s: %#v, want %#v", c.typ, c.values[n], got["c"], c.want[n])
			}
		}
		if rows.Err() != nil || n != len(c.values) {
			t.Errorf("%s: %d rows, %v", c.typ, n, rows.Err())
		}
		rows.Close()
	}
}

// A large column that does not change is not sent again; it is there all the same.
func TestUnchangedLargeColumn(t *testing.T) {
	url, slot := lab.Postgres(t).Database(t), lab.Prefix(t)
	db := open(t, url)
	run(t, db, "CREATE TABLE docs (id integer PRIMARY KEY, n integer, body text); ALTER TABLE docs ALTER body SET STORAGE EXTERNAL")
	s := source(t, url, slot, "docs")
	if err := s.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	from := sourcetest.Head(t, s)
	body := strings.Repeat("x", 20_000)
	run(t, db, "INSERT INTO docs VALUES (1, 1, $1)", body)
	run(t, db, "UPDATE docs SET n = 2")
	got := sourcetest.Read(t, s, from, sourcetest.Head(t, s))
	if len(got) != 2 || got[1].Rows[0].After["body"] != body || got[1].Rows[0].Before["body"] != body {
		t.Fatalf("%d transactions", len(got))
	}
}

func TestCheck(t *testing.T) {
	url, slot := lab.Postgres(t).Database(t), lab.Prefix(t)
	db := open(t, url)
	run(t, db, "CREATE TABLE units (id integer PRIMARY KEY, n integer); CREATE TABLE loose (n integer)")
	s := source(t, url, slot, "units", "loose")
	report := func() string {
		var b strings.Builder
		for _, p := range s.Check(t.Context(), []string{"units", "loose", "nowhere"}) {
			fmt.Fprintln(&b, p)
		}
		return b.String()
	}
	before := report()
	for _, want := range []string{`ALTER TABLE "public"."units" REPLICA IDENTITY FULL`, "CREATE PUBLICATION", "pg_create_logical_replication_slot",
		"loose has no primary key", "table nowhere: there is none"} {
		if !strings.Contains(before, want) {
			t.Errorf("the report lacks %q:\n%s", want, before)
		}
	}
	if err := s.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := report()
	if strings.Contains(after, "REPLICA") || strings.Contains(after, "there is no slot") || !strings.Contains(after, "loose has no primary key") {
		t.Errorf("after setup:\n%s", after)
	}
	run(t, db, "ALTER PUBLICATION banyan DROP TABLE units")
	if r := report(); !strings.Contains(r, `ADD TABLE "public"."units"`) {
		t.Errorf("a table taken out of the publication:\n%s", r)
	}
}
