package diff

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"
)

func TestPattern(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		yes, no []string
	}{
		{"", []string{""}, []string{"/a"}},
		{"/units", []string{"/units"}, []string{"", "/units/1", "/x/units"}},
		{"stock", []string{"/stock"}, []string{"/units/stock"}},
		{"/units/*/stock", []string{"/units/3/stock", "/units/id=42/stock"}, []string{"/units/stock", "/units/3/x/stock"}},
		{"/**/updated_at", []string{"/updated_at", "/a/updated_at", "/a/0/updated_at", "/updated_at/updated_at"}, []string{"", "/updated_at/x"}},
		{"/**", []string{"", "/a", "/a/b"}, nil},
		{"/a/**/b/*", []string{"/a/b/c", "/a/b/b/c", "/a/x/y/b/c"}, []string{"/a/b", "/b/c"}},
		{"/units/id=42", []string{"/units/id=42"}, []string{"/units/42"}},
		{"/a~1b/~0/~2", []string{"/a~1b/~0/*"}, []string{"/a~1b/~0/x"}},
		{"/", []string{"/"}, []string{"", "/a"}},
	} {
		p, err := ParsePattern(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		set, err := Compile([]Rule{{At: tt.pattern, Counter: true}})
		if err != nil {
			t.Fatal(err)
		}
		check := func(path string, want bool) {
			n := set.start()
			for _, s := range Path(path).Steps() {
				n = n.step(s)
			}
			if p.Match(Path(path)) != want || n.ruled != want {
				t.Errorf("%q matches %q: %v, compiled %v, want %v", tt.pattern, path, p.Match(Path(path)), n.ruled, want)
			}
		}
		for _, path := range tt.yes {
			check(path, true)
		}
		for _, path := range tt.no {
			check(path, false)
		}
	}
	for _, bad := range []string{"a/b", "/a~", "/a~3", "/x*", "/***", "/a" + strings.Repeat("/a", maxSteps)} {
		if _, err := ParsePattern(bad); err == nil {
			t.Errorf("%q is a pattern", bad)
		}
	}
}

func TestRuleValidate(t *testing.T) {
	for _, tt := range []struct {
		rule  Rule
		field string // of the only error, or "" for none
	}{
		{Rule{At: "/a", Clock: 2 * time.Second}, ""},
		{Rule{At: "/a", UnorderedBy: Words{"id"}, Entity: "unit/{id}", Loose: Words{"php"}}, ""},
		{Rule{At: "/a"}, "at"},
		{Rule{At: "a/b", Opaque: true}, "at"},
		{Rule{At: "/a", Ignore: true}, "why"},
		{Rule{At: "/a", Ignore: true, Why: "x", Loose: Words{"php"}}, "ignore"},
		{Rule{At: "/a", Opaque: true, Counter: true}, "counter"},
		{Rule{At: "/a", Within: "0"}, "within"},
		{Rule{At: "/a", Within: "-1"}, "within"},
		{Rule{At: "/a", Within: "x"}, "within"},
		{Rule{At: "/a", Within: "101%"}, "within"},
		{Rule{At: "/a", Within: "1e9999999"}, "within"},
		{Rule{At: "/a", Clock: -1}, "clock"},
		{Rule{At: "/a", Clock: 15 * time.Minute}, "clock"},
		{Rule{At: "/a", UnorderedBy: Words{""}}, "unordered_by"},
		{Rule{At: "/a", Loose: Words{"perl"}}, "loose"},
		{Rule{At: "/a", Entity: "unit"}, "entity"},
		{Rule{At: "/a", Entity: "unit/{id"}, "entity"},
		{Rule{At: "/a", Entity: "unit/id}"}, "entity"},
	} {
		err := tt.rule.Validate()
		var field *FieldError
		errors.As(err, &field)
		switch {
		case tt.field == "" && err != nil, tt.field != "" && (field == nil || field.Field != tt.field):
			t.Errorf("%s: %v, want an error of %q", tt.rule, err, tt.field)
		}
	}
	err := Rule{At: "/a", Clock: time.Hour}.Validate()
	if want := `clock: "1h0m0s": must be more than 0 and less than 15m, the smallest step between time zones: more would hide a wrong one`; err.Error() != want {
		t.Error(err)
	}
	_, err = Compile([]Rule{{At: "/a", Opaque: true}, {At: "x/", Opaque: true}, {At: "/b", Within: "x"}})
	if err == nil || !strings.Contains(err.Error(), "rules[1]: at:") || !strings.Contains(err.Error(), "rules[2]: within:") {
		t.Errorf("all errors at once: %v", err)
	}
}

func TestCompileBoundsItsPlaces(t *testing.T) {
	_, err := Compile([]Rule{{At: "/**/a" + strings.Repeat("/*", 20), Opaque: true}})
	if err == nil || !strings.Contains(err.Error(), "wildcards") {
		t.Error(err)
	}
	var many []Rule
	for i := range 500 { // as many as a large file has, all of the usual kinds
		name := strings.Repeat("x", i+1)
		many = append(many, Rule{At: "/units/*/" + name, Opaque: true}, Rule{At: "/page/" + name, Opaque: true})
	}
	many = append(many, Rule{At: "/**/updated_at", Clock: time.Second}, Rule{At: "/**", Loose: Words{"php"}})
	if _, err := Compile(many); err != nil {
		t.Error(err)
	}
	start := time.Now()
	_, _ = Compile([]Rule{{At: strings.Repeat("/**/*", maxSteps/2), Opaque: true}, {At: strings.Repeat("/**", maxSteps), Opaque: true}, {At: strings.Repeat("/**/a/*", maxSteps/3), Opaque: true}})
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("the worst patterns take %s", d)
	}
}

func TestRulesInTheConfigurationFile(t *testing.T) {
	text := `
- { at: /server_time, clock: 2s }
- { at: /units, unordered_by: id, entity: "unit/{id}" }
- { at: "/units/*/stock", within: 0.01, why: float column }
- { at: /orders, unordered_by: [match, id] }
- { at: stock, within: 1%, loose: php }
- { at: "/**/csrf", opaque: true }
- { at: /debug, ignore: true, why: "stack traces" }
`
	want := []Rule{
		{At: "/server_time", Clock: 2 * time.Second},
		{At: "/units", UnorderedBy: Words{"id"}, Entity: "unit/{id}"},
		{At: "/units/*/stock", Within: "0.01", Why: "float column"},
		{At: "/orders", UnorderedBy: Words{"match", "id"}},
		{At: "stock", Within: "1%", Loose: Words{"php"}},
		{At: "/**/csrf", Opaque: true},
		{At: "/debug", Ignore: true, Why: "stack traces"},
	}
	var got []Rule
	if err := yaml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := Compile(got); err != nil {
		t.Error(err)
	}
	var r Rule
	if err := json.Unmarshal([]byte(`{"at":"/a","unordered_by":"id, b","loose":["php"]}`), &r); err != nil || r.String() != "/a unordered_by id,b loose php" {
		t.Error(r, err)
	}
}

func TestRuleComesBackAsPrinted(t *testing.T) {
	word := rapid.OneOf(rapid.SampledFrom([]string{"/a", "/**/b", "", "/a b", `/"`, "/\xff", "x", "/~1~0~2", "ignore", "/é\n"}), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		r := Rule{At: word.Draw(t, "at"), Why: word.Draw(t, "why"), Entity: rapid.SampledFrom([]string{"", "unit/{id}", "{a b} \"{c}"}).Draw(t, "entity")}
		switch rapid.IntRange(0, 7).Draw(t, "kind") {
		case 0:
			r.Ignore = true
		case 1:
			r.Within = rapid.SampledFrom([]string{"0.01", "1%", "1e-3"}).Draw(t, "within")
		case 2:
			r.Clock = time.Duration(rapid.Int64Range(1, int64(maxClock)-1).Draw(t, "clock"))
		case 3:
			r.Unordered = true
		case 4:
			r.UnorderedBy = rapid.SampledFrom([]Words{{"id"}, {"a", "b c"}}).Draw(t, "keys")
		case 5:
			r.Opaque = true
		case 6:
			r.Counter = true
		}
		if rapid.Bool().Draw(t, "loose") {
			r.Loose = Words{"php", "none"}
		}
		if r.Validate() != nil {
			return
		}
		again, err := ParseRule(r.String())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r, again); d != "" {
			t.Fatalf("%s:\n%s", r, d)
		}
	})
}

func FuzzRule(f *testing.F) {
	for _, s := range []string{`/units unordered_by id entity "unit/{id}"`, `"" loose php`, `/a within 1%`, `/a ignore why "b c"`, `/a clock 2s counter`, `/a "`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRule(s)
		if err != nil {
			return
		}
		again, err := ParseRule(r.String())
		if err != nil {
			t.Fatalf("%q prints as %q: %v", s, r, err)
		}
		if d := cmp.Diff(r, again); d != "" {
			t.Fatalf("%q prints as %q:\n%s", s, r, d)
		}
	})
}

func FuzzPath(f *testing.F) {
	f.Add("a/b", "~", "*")
	f.Add("", "id=42", "**")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		steps := []string{a, b, c}
		p := NewPath(steps...)
		if got, err := ParsePath(string(p)); err != nil || got != p {
			t.Fatal(got, err)
		}
		if d := cmp.Diff(steps, p.Steps()); d != "" {
			t.Fatal(d)
		}
		pattern, err := ParsePattern(a)
		if err != nil {
			return
		}
		again, err := ParsePattern(pattern.String())
		if err != nil || again.String() != pattern.String() {
			t.Fatalf("%q prints as %q: %v", a, pattern, err)
		}
		set, err := Compile([]Rule{{At: a, Opaque: true}})
		if err != nil {
			return
		}
		n := set.start()
		for _, s := range Path(b).Steps() {
			n = n.step(s)
		}
		if pattern.Match(Path(b)) != n.ruled {
			t.Fatalf("%q on %q: %v, compiled %v", a, b, !n.ruled, n.ruled)
		}
	})
}
