package diff

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeKeepsWhatOthersReplace(t *testing.T) {
	for text, want := range map[string]string{
		"\"a\xffb\"":           "a\xffb",
		`"\ud800"`:             "\xed\xa0\x80",
		`"\udc00\ud800"`:       "\xed\xb0\x80\xed\xa0\x80",
		`"\ud83d\ude00"`:       "😀",
		`"\ud83dx"`:            "\xed\xa0\xbdx",
		`"\/\b\f\n\r\t\"\\"`:   "/\b\f\n\r\t\"\\",
		`"\u0000\u00e9\u20AC"`: "\x00é€",
		`-0.10e+2`:             "-0.10e+2",
		" true\r\n":            "true",
	} {
		if got := decode(t, text); got.Text() != want {
			t.Errorf("%s: %q, want %q", text, got.Text(), want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, tt := range []struct {
		text, reason string
		offset       int
	}{
		{``, "text ends where a value is due", 0},
		{`  `, "text ends where a value is due", 2},
		{`{"a":1,}`, "a member's name is due", 7},
		{`[1,]`, "not a value", 3},
		{`[1 2]`, "a comma or the end is due", 3},
		{`[1`, "list or object does not end", 2},
		{`{"a" 1}`, "a colon is due", 5},
		{`{a:1}`, "a member's name is due", 1},
		{`"a`, "string does not end", 2},
		{`"a\`, "string does not end", 3},
		{"\"a\nb\"", "control character in a string", 2},
		{`"\x41"`, "unknown escape in a string", 2},
		{`"\u12g4"`, `\u needs four hexadecimal digits`, 2},
		{`01`, "more text after the value", 1},
		{`1.`, "number ends after its point", 2},
		{`1e+`, "number ends in its exponent", 3},
		{`+1`, "not a value", 0},
		{`nul`, "not a value", 0},
		{`NaN`, "not a value", 0},
		{`1 x`, "more text after the value", 2},
		{"\xef\xbb\xbf{}", "not a value", 0},
		{strings.Repeat("[", 129), "nested too deep", 128},
	} {
		_, err := Decode([]byte(tt.text))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Reason != tt.reason || syntax.Offset != tt.offset {
			t.Errorf("%q: %v, want %q at %d", tt.text, err, tt.reason, tt.offset)
		}
	}
}

func TestDecodeLimits(t *testing.T) {
	for _, tt := range []struct {
		text   string
		limits Limits
		ok     bool
	}{
		{`[[1]]`, Limits{Depth: 2}, true}, {`[[1]]`, Limits{Depth: 1}, false}, {`[[],[]]`, Limits{Depth: 2}, true},
		{`[1,2]`, Limits{Values: 3}, true}, {`[1,2]`, Limits{Values: 2}, false},
		{`[1,2]`, Limits{Bytes: 5}, true}, {`[1,2]`, Limits{Bytes: 4}, false},
	} {
		if _, err := DecodeLimited([]byte(tt.text), tt.limits); (err == nil) != tt.ok {
			t.Errorf("%s with %+v: %v", tt.text, tt.limits, err)
		}
	}
}

func TestRepeatedNamesKeepTheLastInTheFirstPlace(t *testing.T) {
	v := decode(t, `{"a":1,"b":2,"a":3,"c":4}`)
	if got := v.String(); got != `{"a":3,"b":2,"c":4}` || !v.Repeated() {
		t.Error(got, v.Repeated())
	}
}

func TestFromRow(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 5000, time.FixedZone("", 3600))
	v, err := FromRow([]Column{
		{"null", nil}, {"bool", true}, {"int", int64(-5)}, {"uint", uint8(200)}, {"float", 0.1}, {"float32", float32(0.1)},
		{"bytes", []byte("a\xff")}, {"nothing", []byte(nil)}, {"text", "x"}, {"at", at}, {"number", json.Number("1.50")}, {"json", NewList(NewNull())},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"null":null,"bool":true,"int":-5,"uint":200,"float":0.1,"float32":0.1,"bytes":"a\xff","nothing":null,"text":"x","at":"2026-03-01T11:00:00.000005Z","number":1.50,"json":[null]}`
	if got := v.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, err := FromMap(map[string]any{"a": 1, "z": struct{}{}}); err == nil || !strings.Contains(err.Error(), `column "z"`) {
		t.Errorf("a foreign type: %v", err)
	}
}

func TestRowsCompareAcrossDrivers(t *testing.T) {
	legacy, _ := FromRow([]Column{{"id", []byte("7")}, {"stock", []byte("12.50")}, {"at", []byte("2026-03-01 12:00:00")}, {"alive", int64(1)}})
	candidate, _ := FromMap(map[string]any{"id": 7, "stock": 12.504, "at": time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), "alive": true})
	rules := ruleSet(t, "\"\" loose php entity unit/{id}\nstock within 0.01\nat clock 1s")
	if r := Compare(legacy, candidate, rules, Options{}); !r.Equal() || len(r.Used) != 4 {
		t.Error(r.Text(100))
	}
}

// FuzzDecode holds Decode to encoding/json. The accepted differences:
//
//   - bytes that are no UTF-8, and halves of surrogate pairs, which
//     encoding/json replaces by U+FFFD, are kept;
//   - nesting beyond 128, where encoding/json takes 10,000.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"a":[1,-0.5e3,"\ud83d\ude00\u00e9",null,true,false,{}]}`, "\"\xff\"", `"\ud800"`, `{"a":1,"a":2}`, `[1,]`, ``, `1 1`, `"` + "\x7f" + `"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Decode(data)
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		var want any
		valid := json.Valid(data)
		if valid != (err == nil) {
			if err != nil && strings.Contains(err.Error(), "nested too deep") {
				return
			}
			t.Fatalf("%q: %v, encoding/json says %v", data, err, valid)
		}
		if err != nil {
			return
		}
		if err := d.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(replaced(want), replaced(general(v))); d != "" {
			t.Fatalf("%q (-encoding/json +ours):\n%s", data, d)
		}
		again, err := v.MarshalJSON()
		if err != nil || !json.Valid(again) {
			t.Fatalf("%q marshals to %q: %v", data, again, err)
		}
		_, _ = v.Short(20), v.String()
		back := decode(t, string(again))
		if n, m := v.Leaves(), back.Leaves(); n != m && utf8.Valid(again) && !strings.Contains(string(again), "\uFFFD") {
			t.Fatalf("%q: %d leaves, %d after a round trip", data, n, m)
		}
	})
}

func general(v Value) any {
	switch v.kind {
	case Null:
		return nil
	case Bool:
		return v.text == "true"
	case Number:
		return json.Number(v.text)
	case String:
		return v.text
	case List:
		out := make([]any, 0, len(v.items))
		for _, e := range v.items {
			out = append(out, general(e))
		}
		return out
	case Object:
		out := map[string]any{}
		for i, n := range v.names {
			out[n] = general(v.items[i])
		}
		return out
	}
	panic(fmt.Sprint("kind ", v.kind))
}

// replaced makes every run of replacement characters and foreign bytes one, so
// that half a surrogate (one rune to encoding/json, three bytes to us) agrees.
// Names that fall together are dropped.
func replaced(x any) any {
	text := func(s string) string {
		var b strings.Builder
		last := rune(0)
		for _, r := range s {
			if r != utf8.RuneError || last != utf8.RuneError {
				b.WriteRune(r)
			}
			last = r
		}
		return b.String()
	}
	switch x := x.(type) {
	case string:
		return text(x)
	case []any:
		for i := range x {
			x[i] = replaced(x[i])
		}
		return x
	case map[string]any:
		out := map[string]any{}
		for k, v := range x {
			if k = text(k); strings.ContainsRune(k, utf8.RuneError) {
				continue
			}
			out[k] = replaced(v)
		}
		return out
	}
	return x
}

func FuzzDecimal(f *testing.F) {
	f.Add("1.50", "15e-1")
	f.Add("-0", "0e9")
	f.Add("100", "1e2")
	f.Add("0.0010", "1e-3")
	f.Fuzz(func(t *testing.T, a, b string) {
		if !isNumber(a) || !isNumber(b) {
			return
		}
		x, okA := rational(a)
		y, okB := rational(b)
		if !okA || !okB {
			return
		}
		if got, want := compareDecimals(a, b), x.Cmp(y) == 0; got != want {
			t.Fatalf("%s and %s: %v, exactly %v", a, b, got, want)
		}
		if got := string(appendDecimal(nil, a)) == string(appendDecimal(nil, b)); got != (x.Cmp(y) == 0) {
			t.Fatalf("%s and %s: canonical %s and %s", a, b, appendDecimal(nil, a), appendDecimal(nil, b))
		}
	})
}
