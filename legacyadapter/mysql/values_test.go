package mysql_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"banyan/legacyadapter/changelog"
	"banyan/legacyadapter/mysql"
	"banyan/proxy/event"
	"banyan/testdata/lab"
)

func open(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn+"?multiStatements=true")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func run(t testing.TB, db *sql.DB, q string, args ...any) {
	t.Helper()
	if _, err := db.Exec(q, args...); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

func source(t testing.TB, dsn string, tables ...string) *mysql.Source {
	t.Helper()
	s, err := mysql.New(mysql.Config{DSN: dsn, Tables: tables}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

var errEnough = errors.New("enough")

// read streams until the position.
func read(t *testing.T, s changelog.Source, from, to event.Position) []*changelog.Txn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var all []*changelog.Txn
	err := s.Stream(ctx, from, func(x *changelog.Txn) error {
		if x.Position > to {
			return errEnough
		}
		all = append(all, x)
		if x.Position == to {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("stream from %s to %s: %v", from, to, err)
	}
	return all
}

func head(t *testing.T, s changelog.Source) event.Position {
	t.Helper()
	p, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// columns: type, SQL values.
var valueColumns = []struct {
	typ    string
	values []string
	want   []any // of the first values, where it is worth saying
}{
	{"TINYINT", []string{"-128", "127", "0", "NULL"}, []any{json.Number("-128"), json.Number("127")}},
	{"TINYINT(1)", []string{"1", "0", "NULL"}, []any{json.Number("1")}},
	{"TINYINT UNSIGNED", []string{"255", "128"}, []any{json.Number("255")}},
	{"SMALLINT", []string{"-32768", "32767"}, nil},
	{"SMALLINT UNSIGNED", []string{"65535"}, []any{json.Number("65535")}},
	{"MEDIUMINT", []string{"-8388608", "8388607"}, nil},
	{"MEDIUMINT UNSIGNED", []string{"16777215"}, []any{json.Number("16777215")}},
	{"INT", []string{"-2147483648", "2147483647"}, nil},
	{"INT UNSIGNED", []string{"4294967295"}, []any{json.Number("4294967295")}},
	{"INT(8) ZEROFILL", []string{"7"}, []any{json.Number("7")}},
	{"BIGINT", []string{"-9223372036854775808", "9223372036854775807"}, nil},
	{"BIGINT UNSIGNED", []string{"18446744073709551615", "9223372036854775808", "5"}, []any{json.Number("18446744073709551615")}},
	{"DECIMAL(12,4)", []string{"0", "-0.5", "12345678.9", "-99999999.9999"}, []any{json.Number("0.0000"), json.Number("-0.5000")}},
	{"DECIMAL(30,0)", []string{"123456789012345678901234567890", "-1"}, nil},
	{"DECIMAL(10,2) UNSIGNED ZEROFILL", []string{"1.5", "0"}, []any{json.Number("1.50")}},
	{"FLOAT", []string{"16777217", "0.1", "-1e-30", "3.4e38", "0", "1e21"}, []any{json.Number("16777216"), json.Number("0.1")}},
	{"DOUBLE", []string{"0.1", "1e300", "-2.5e-308", "1234567.891", "1e21", "1e-7"}, []any{json.Number("0.1")}},
	{"FLOAT(7,3)", []string{"1.2345"}, nil},
	{"BIT(1)", []string{"b'1'", "b'0'"}, []any{json.Number("1")}},
	{"BIT(10)", []string{"b'1000000001'", "0"}, []any{json.Number("513")}},
	{"BIT(64)", []string{"18446744073709551615"}, []any{json.Number("18446744073709551615")}},
	{"YEAR", []string{"2024", "0", "1901"}, []any{json.Number("2024"), json.Number("0")}},
	{"DATE", []string{"'2024-02-29'", "'0000-00-00'", "'2024-00-00'", "'9999-12-31'"}, []any{"2024-02-29", "0000-00-00"}},
	{"DATETIME", []string{"'2024-02-29 23:59:58'", "'0000-00-00 00:00:00'", "'2024-00-00 10:00:00'"}, []any{"2024-02-29 23:59:58", "0000-00-00 00:00:00"}},
	{"DATETIME(3)", []string{"'2024-02-29 23:59:58.120'", "'0000-00-00 00:00:00'", "'2024-01-01 00:00:00'"}, []any{"2024-02-29 23:59:58.120"}},
	{"DATETIME(6)", []string{"'2024-02-29 23:59:58.000001'", "'1000-01-01 00:00:00.5'"}, []any{"2024-02-29 23:59:58.000001"}},
	{"TIMESTAMP NULL", []string{"'2024-07-01 12:00:00'", "'0000-00-00 00:00:00'", "'1970-01-01 12:00:01'"}, []any{"2024-07-01 10:00:00"}},
	{"TIMESTAMP(6) NULL", []string{"'2024-07-01 12:00:00.123456'", "'0000-00-00 00:00:00'"}, []any{"2024-07-01 10:00:00.123456"}},
	{"TIMESTAMP(2) NULL", []string{"'2037-07-01 12:00:00.10'"}, nil},
	{"TIME", []string{"'12:34:56'", "'-00:00:01'", "'838:59:59'", "'-838:59:59'", "0"}, []any{"12:34:56", "-00:00:01"}},
	{"TIME(3)", []string{"'12:34:56.789'", "'-00:00:00.001'", "'-12:34:56.100'"}, []any{"12:34:56.789", "-00:00:00.001"}},
	{"TIME(6)", []string{"'-00:00:01.000001'", "'100:00:00.5'"}, nil},
	{"CHAR(5)", []string{"'ab '", "''", "'€'"}, []any{"ab"}},
	{"CHAR(200)", []string{"REPEAT('€',200)"}, nil},
	{"VARCHAR(10)", []string{"'ab '", "'日本🎉'", "'\\0x'"}, []any{"ab ", "日本🎉"}},
	{"VARCHAR(1000)", []string{"REPEAT('ä',1000)", "'x'"}, nil},
	{"VARCHAR(10) CHARACTER SET utf8mb3", []string{"'žluť'"}, []any{"žluť"}},
	{"VARCHAR(10) CHARACTER SET latin1", []string{"'Müller €'", "x'8081'"}, []any{"Müller €"}},
	{"VARCHAR(10) CHARACTER SET latin2", []string{"'Žluť'"}, []any{"Žluť"}},
	{"VARCHAR(10) CHARACTER SET cp1251", []string{"'Привет'"}, []any{"Привет"}},
	{"CHAR(10) CHARACTER SET koi8r", []string{"'Привет'"}, nil},
	{"VARCHAR(10) CHARACTER SET ascii", []string{"'abc'"}, nil},
	{"VARCHAR(10) CHARACTER SET ucs2", []string{"'aПр'"}, []any{"aПр"}},
	{"VARCHAR(10) CHARACTER SET utf16", []string{"'a🎉'"}, []any{"a🎉"}},
	{"CHAR(10) CHARACTER SET utf16le", []string{"'a🎉'"}, nil},
	{"VARCHAR(10) CHARACTER SET utf32", []string{"'a🎉'"}, nil},
	{"VARCHAR(10) CHARACTER SET swe7", []string{"'a[b'"}, nil},
	{"TINYTEXT", []string{"'x'"}, nil},
	{"TEXT CHARACTER SET latin1", []string{"'Müller'"}, []any{"Müller"}},
	{"LONGTEXT", []string{"REPEAT('日',5000)"}, nil},
	{"BINARY(4)", []string{"x'01000000'", "x'00'", "x'FF01'"}, []any{"AQAAAA==", "AAAAAA=="}},
	{"BINARY(255)", []string{"x'01'"}, nil},
	{"VARBINARY(10)", []string{"x'0100'", "''"}, []any{"AQA="}},
	{"BLOB", []string{"x'00ff00'", "''"}, []any{"AP8A"}},
	{"MEDIUMBLOB", []string{"REPEAT(x'80',70000)"}, nil},
	{"ENUM('a','b,c','öl')", []string{"'b,c'", "'öl'", "'nope'", "NULL"}, []any{"b,c", "öl", ""}},
	{"ENUM('é','x') CHARACTER SET latin1", []string{"'é'"}, []any{"é"}},
	{"SET('a','b','c','ü')", []string{"'a,c'", "''", "'a,b,c,ü'"}, []any{"a,c", "", "a,b,c,ü"}},
	{"JSON", []string{"'{\"a\": [1, 2.50], \"é\": null}'", "'3'"}, []any{`{"a": [1, 2.50], "é": null}`}},
	{"POINT", []string{"ST_GeomFromText('POINT(1 2)')"}, nil},
	{"INT AS (id * 2) STORED", []string{"DEFAULT"}, nil},
	{"INT INVISIBLE", []string{"7"}, []any{json.Number("7")}},
}

// A row from the log equals the same row from a SELECT, type by type.
func TestValues(t *testing.T) {
	_, dsn := lab.MariaDB(t).Database(t)
	db := open(t, dsn)
	db.SetMaxOpenConns(1)
	run(t, db, "SET sql_mode = 'NO_ZERO_IN_DATE,ALLOW_INVALID_DATES', time_zone = '+02:00'")
	run(t, db, "SET sql_mode = ''")
	var names []string
	for i, c := range valueColumns {
		name := fmt.Sprintf("v%d", i)
		names = append(names, name)
		run(t, db, "CREATE TABLE "+name+" (id INT PRIMARY KEY, c "+c.typ+", virt INT AS (id + 1) VIRTUAL)")
	}
	s := source(t, dsn, names...)
	from := head(t, s)
	for i, c := range valueColumns {
		for j, v := range c.values {
			run(t, db, fmt.Sprintf("INSERT INTO v%d (id, c) VALUES (%d, %s)", i, j, v))
		}
		run(t, db, fmt.Sprintf("UPDATE v%d SET id = id + 100", i))
	}
	to := head(t, s)
	fromLog := map[string]map[string]event.Values{}
	for _, txn := range read(t, s, from, to) {
		for _, r := range txn.Rows {
			if fromLog[r.Table] == nil {
				fromLog[r.Table] = map[string]event.Values{}
			}
			id := r.After["id"].(json.Number)
			if r.Op == event.Update {
				before := fromLog[r.Table][string(r.Before["id"].(json.Number))]
				if !reflect.DeepEqual(before, r.Before) {
					t.Errorf("%s: inserted %#v, before the update %#v", r.Table, before, r.Before)
				}
			}
			fromLog[r.Table][string(id)] = r.After
		}
	}
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	tables, err := s.Describe(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range valueColumns {
		rows, err := snap.Page(t.Context(), tables[i], nil, "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; rows.Next(); n++ {
			got := changelog.RowOf(rows.Columns(), rows.Values())
			logged := fromLog[names[i]][string(got["id"].(json.Number))]
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
