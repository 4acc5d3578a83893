package changelog

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"banyan/proxy/event"
)

func column(name string) func(event.Values) (event.OrderingKey, bool) {
	return func(v event.Values) (event.OrderingKey, bool) {
		x, ok := v[name].(string)
		return event.OrderingKey(x), ok
	}
}

func id(s string) event.WriteID {
	w, err := event.ParseWriteID(s)
	if err != nil {
		panic(err)
	}
	return w
}

func TestSplit(t *testing.T) {
	tables, err := byTable([]Mapping{
		{Migration: "units", Table: "u", Key: column("m")},
		{Migration: "economy", Table: "u", Key: column("p")},
		{Migration: "economy", Table: "r", Key: column("p")},
	})
	if err != nil {
		t.Fatal(err)
	}
	txn := &Txn{Position: 7, Received: time.Unix(1, 5), Rows: []event.RowChange{
		{N: 0, Table: "u", Op: event.Insert, After: event.Values{"m": "m1", "p": "p1", "n": json.Number("1.50")}},
		{N: 1, Table: "r", Op: event.Update, Before: event.Values{"p": "p1"}, After: event.Values{"p": "p2"}},
		{N: 2, Table: "u", Op: event.Delete, Before: event.Values{"m": "m1"}},
		{N: 3, Table: "nobody", Op: event.Insert, After: event.Values{}},
	}, Annotations: []event.WriteID{id("a.1.1"), {}, id("a.1.2"), {}}}
	parts, dropped := newSplitter(tables, 1<<20).split(txn)
	if dropped != 1 {
		t.Errorf("%d dropped", dropped)
	}
	var got []string
	for _, b := range encode(txn, parts) {
		c, err := event.DecodeChange(b)
		if err != nil {
			t.Fatal(err)
		}
		s := fmt.Sprintf("%s %q %d/%d %s%v", c.Migration, c.Key, c.Part, c.Parts, c.Write, c.Other)
		for _, r := range c.Rows {
			s += fmt.Sprintf(" %d", r.N)
		}
		if !c.Received.Equal(txn.Received) || c.Position != 7 {
			t.Errorf("%+v", c)
		}
		got = append(got, s)
	}
	want := []string{
		`units "m1" 1/5 a.1.1[a.1.2] 0 2`,
		`economy "p1" 2/5 a.1.1[a.1.2] 0 1`,
		`economy "p2" 3/5 [a.1.1 a.1.2] 1`,
		`economy "" 4/5 a.1.2[a.1.1] 2`,
	}
	for i := range want {
		want[i] = strings.Replace(want[i], "/5", "/4", 1)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A transaction too large for one record is cut, and every row is in exactly one piece.
func TestSplitLarge(t *testing.T) {
	tables, _ := byTable([]Mapping{{Migration: "units", Table: "u", Key: column("m")}})
	txn := &Txn{Position: 7}
	for i := range 1000 {
		txn.Rows = append(txn.Rows, event.RowChange{N: i, Table: "u", Op: event.Insert,
			After: event.Values{"m": "m" + strconv.Itoa(i%2), "x": strings.Repeat("x", 500)}})
	}
	parts, _ := newSplitter(tables, 10_000).split(txn)
	firsts, rows := map[string]bool{}, 0
	for i, b := range encode(txn, parts) {
		c, err := event.DecodeChange(b)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 11_000 || c.Part != i+1 || c.Parts != len(parts) {
			t.Errorf("part %d/%d of %d bytes", c.Part, c.Parts, len(b))
		}
		rows += len(c.Rows)
		firsts[fmt.Sprint(c.Key, c.Rows[0].N)] = true
	}
	if rows != 1000 || len(firsts) != len(parts) {
		t.Errorf("%d rows in %d parts, %d identities", rows, len(parts), len(firsts))
	}
}

// The only annotation of a transaction is that of all its rows.
func TestAnnotationOfTransaction(t *testing.T) {
	tables, _ := byTable([]Mapping{{Migration: "units", Table: "u", Key: column("m")}})
	txn := &Txn{Rows: []event.RowChange{
		{N: 0, Table: "other", Op: event.Insert, After: event.Values{}},
		{N: 1, Table: "u", Op: event.Insert, After: event.Values{"m": "m1"}},
	}, Annotations: []event.WriteID{id("a.1.1"), {}}}
	parts, _ := newSplitter(tables, 1000).split(txn)
	c, err := event.DecodeChange(encode(txn, parts)[0])
	if err != nil || c.Write != id("a.1.1") || len(c.Other) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestAnnotation(t *testing.T) {
	for sql, want := range map[string]string{
		"/*banyan:id=a.1.2*/ UPDATE x":                               "a.1.2",
		" \n/*banyan:id=a-b.10.20*/UPDATE x":                         "a-b.10.20",
		"UPDATE x /*banyan:id=a.1.2*/":                               "a.1.2",
		"UPDATE x /*banyan:id=a.1.2*/ ;\n":                           "a.1.2",
		"UPDATE x SET m = '/*banyan:id=a.1.2*/'":                     "",
		"UPDATE x SET m = '/*banyan:id=a.1.2*/' WHERE 1":             "",
		"UPDATE x SET m = '/*banyan:id=a.1.2*/ ' /* other */":        "",
		"/* other */ UPDATE x /*banyan:id=a.1.2*/ WHERE 1":           "",
		"/*banyan:id=a.1.2*/ UPDATE x SET m='/*banyan:id=b.1.2*/'":   "a.1.2",
		"UPDATE x /*banyan:id=a.1.2":                                 "",
		"/*banyan:id=a.1.2":                                          "",
		"/*banyan:id=*/":                                             "",
		"/*banyan:id=a.01.2*/":                                       "",
		"/*banyan:id=" + strings.Repeat("a", 33) + ".1.2*/":          "",
		"/*banyan:id=" + strings.Repeat("a", 1000) + ".1.2*/ SELECT": "",
		"":                               "",
		"*/":                             "",
		"/*banyan:id=a.1.2*/":            "a.1.2",
		"UPDATE x # /*banyan:id=a.1.2*/": "a.1.2",
		"/*banyan:id=a.18446744073709551615.18446744073709551615*/ x": "a.18446744073709551615.18446744073709551615",
	} {
		got, ok := Annotation([]byte(sql))
		if got.String() != want || ok != (want != "") {
			t.Errorf("%q: %q, %v; want %q", sql, got, ok, want)
		}
	}
}

func FuzzAnnotation(f *testing.F) {
	for _, s := range []string{"/*banyan:id=a.1.2*/ x", "x /*banyan:id=a.1.2*/;", "x '/*banyan:id=a.1.2*/'", "/*banyan:id="} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		id, ok := Annotation(b)
		if ok == id.IsZero() {
			t.Fatalf("%v and %q", ok, id)
		}
		if ok && !bytes.Contains(b, []byte("/*banyan:id="+id.String()+"*/")) {
			t.Fatalf("%q is not in %q", id, b)
		}
		// Text between quotes is never taken.
		quoted := append(append([]byte("UPDATE x SET m = '"), b...), '\'')
		if id, ok := Annotation(quoted); ok {
			t.Fatalf("%q from inside a literal: %q", id, quoted)
		}
	})
}

func FuzzValues(f *testing.F) {
	for _, s := range []string{"0", "-0.5", "007.10", "-00", "1e5", "NaN", ".", "-", "é", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, v := range []any{Decimal(s), TextString(s), Text([]byte(s)), Binary([]byte(s))} {
			if x, ok := v.(string); ok && !utf8.ValidString(x) && v != Decimal(s) {
				t.Fatalf("%q is not text", x)
			}
			if n, ok := v.(json.Number); ok {
				if !json.Valid([]byte(n)) {
					t.Fatalf("%q is not a JSON number (of %q)", n, s)
				}
				a, err1 := strconv.ParseFloat(s, 64)
				b, err2 := strconv.ParseFloat(string(n), 64)
				if a != b || (err1 == nil) != (err2 == nil) {
					t.Fatalf("%q became %q", s, n)
				}
			}
		}
		if x := TextString(s); x != s {
			b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(x, Undecodable))
			if err != nil || string(b) != s {
				t.Fatalf("%q cannot be had back from %q", s, x)
			}
		}
		if x, err := strconv.ParseFloat(s, 64); err == nil {
			for _, bits := range []int{32, 64} {
				y := x
				if bits == 32 {
					y = float64(float32(x))
				}
				n, ok := Float(y, bits).(json.Number)
				if !ok {
					continue
				}
				back, err := strconv.ParseFloat(string(n), bits)
				if err != nil || back != y || !json.Valid([]byte(n)) {
					t.Fatalf("%v became %q", y, n)
				}
			}
		}
	})
}

func TestKeyText(t *testing.T) {
	key := []string{"a", "b"}
	seen := map[string]bool{}
	for _, v := range []event.Values{{"a": "1", "b": "2"}, {"a": "12", "b": ""}, {"a": "", "b": "12"}, {"a": json.Number("3"), "b": "2"}} {
		k := keyText(key, v)
		if seen[k] {
			t.Errorf("%v is not told from another", v)
		}
		seen[k] = true
	}
}

func TestProgressKeepsDigits(t *testing.T) {
	in := Progress{Rows: 3, Position: 9, After: []any{json.Number("18446744073709551615"), "x", true, nil}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out Progress
	if err := json.Unmarshal(b, &out); err != nil || fmt.Sprintf("%#v", in) != fmt.Sprintf("%#v", out) {
		t.Errorf("%#v, %v", out, err)
	}
}
