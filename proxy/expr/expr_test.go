package expr

import (
	"encoding/json"
	"strings"
	"testing"
)

var env = map[string]any{
	"status": 0, "params": map[string]string{}, "row": map[string]any{},
	"header": func(string) string { return "" },
}

func TestConditions(t *testing.T) {
	p, err := CompileBool(`status == 302 && header("Location") contains "msg=moved"`, env)
	if err != nil {
		t.Fatal(err)
	}
	for loc, want := range map[string]bool{"/i.php?msg=moved": true, "/i.php?err=late": false} {
		got, err := p.True(map[string]any{"status": 302, "header": func(string) string { return loc }})
		if err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", loc, got, err, want)
		}
	}
}

func TestCompileSaysWhatIsWrong(t *testing.T) {
	for src, want := range map[string]string{
		`statsu == 302`: "statsu",
		`status == `:    "unexpected token",
		`status`:        "bool",
		`now() == 1`:    "now", // the answer would depend on the machine
	} {
		if _, err := CompileBool(src, env); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), src) {
			t.Errorf("%s: %v; want an error with %q and the source", src, err, want)
		}
	}
}

func TestConversions(t *testing.T) {
	for src, want := range map[string]any{
		`int("42")`: int64(42), `int(row.n)`: int64(7), `int(3.0)`: int64(3), `float("1.5")`: 1.5, `text(row.n)`: "7", `int(params["unit"])`: int64(9),
		`int("1.5")`: nil, `int("")`: nil, `int(row.none)`: nil, `float("x")`: nil, `int("99999999999999999999")`: nil,
	} {
		p, err := Compile(src, env)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Eval(map[string]any{"row": map[string]any{"n": json.Number("7")}, "params": map[string]string{"unit": "9"}})
		if got != want || (want == nil) != (err != nil) {
			t.Errorf("%s = %v (%T), %v; want %v", src, got, got, err, want)
		}
	}
}

func TestTemplates(t *testing.T) {
	tpl, err := ParseTemplate("a{{{x}/{y.z}}}b")
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"x": "1", "y.z": "2"}
	get := func(n string) (string, bool) { v, ok := vars[n]; return v, ok }
	if got, ok := tpl.Expand(get); got != "a{1/2}b" || !ok {
		t.Fatal(got, ok)
	}
	vars["x"] = ""
	if got, ok := tpl.Expand(get); ok {
		t.Fatalf("an empty part gave the key %q", got)
	}
	for _, s := range []string{"{", "}", "{}", "{a b}", "a{b", "a}b"} {
		if _, err := ParseTemplate(s); err == nil || !strings.Contains(err.Error(), "column") {
			t.Errorf("ParseTemplate(%q): %v; want an error with a column", s, err)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("match/{match}")
	f.Add("{{}}{a}")
	f.Fuzz(func(t *testing.T, s string) {
		tpl, err := ParseTemplate(s)
		if err != nil {
			return
		}
		if again, err := ParseTemplate(tpl.String()); err != nil || len(again.names) != len(tpl.names) {
			t.Fatal(err)
		}
		tpl.Expand(func(string) (string, bool) { return "v", true })
	})
}

func FuzzCompile(f *testing.F) {
	f.Add(`int(params["a"]) + 1`)
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 200 {
			return
		}
		p, err := Compile(s, env)
		if err != nil {
			return
		}
		_, _ = p.Eval(map[string]any{"status": 1, "params": map[string]string{"a": "1"}, "row": map[string]any{}, "header": func(string) string { return "" }})
	})
}
