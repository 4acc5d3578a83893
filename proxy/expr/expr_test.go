package expr

import (
	"encoding/json"
	"reflect"
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

func TestOnly(t *testing.T) {
	env := map[string]any{"status": 0, "body": "", "header": func(string) string { return "" }, "json": map[string]any{}, "params": map[string]string{}}
	for src, want := range map[string]bool{
		"status < 400": true, "status == 200 || status in [302, 303]": true, "true": true, "not (status > 399)": true,
		"status < 400 && body == ``": false, `header("X") == ""`: false, `status == 302 && header("Location") contains "m"`: false, "json.ok == 1": false,
		`"ok" in json`: false, `params["a"] == "b"`: false, `let s = header("x"); s == ""`: false, `any([status], text(#) == params.a)`: false, `$env["body"] == ""`: false,
		`status < 400 ? true : body != ""`: false, `{"a": body}.a == ""`: false, `[body][0] == ""`: false, `body[1:2] == ""`: false, `(json.a ?? 1) == 1`: false, `len(filter(1..3, # == status && body == "")) == 0`: false,
	} {
		p, err := CompileBool(src, env)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Only("status"); got != want {
			t.Errorf("%s: %v, want %v", src, got, want)
		}
	}
}

// An evaluation leaves nothing to the next one, though they share memory, whichever program was evaluated and however it ended.
func TestEvaluationsAreApart(t *testing.T) {
	programs := map[string]any{"let a = status; let b = a + 1; b": 8, "map(1..3, # + status)": []any{8, 9, 10}, `int(params["none"])`: nil, "let c = params; c.unit": "9", "status": 7}
	compiled := map[string]*Program{}
	for src := range programs {
		var err error
		if compiled[src], err = Compile(src, env); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		for src, want := range programs {
			got, err := compiled[src].Eval(map[string]any{"status": 7, "params": map[string]string{"unit": "9"}})
			if (want == nil) != (err != nil) || !reflect.DeepEqual(got, want) {
				t.Fatalf("%s = %v, %v; want %v", src, got, err, want)
			}
		}
	}
}

func BenchmarkCondition(b *testing.B) {
	for _, src := range []string{"status < 400", `status == 302 && header("Location") contains "msg=moved"`} {
		b.Run(src, func(b *testing.B) {
			p, err := CompileBool(src, env)
			if err != nil {
				b.Fatal(err)
			}
			env := map[string]any{"status": 302, "header": func(string) string { return "/i.php?msg=moved" }}
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := p.True(env); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
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
