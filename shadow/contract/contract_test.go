package contract

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"banyan/proxy/event"

	"pgregory.net/rapid"
)

const moved1 = `{"type":"object","required":["unit","to"],"additionalProperties":false,
	"properties":{"unit":{"type":"integer","minimum":1},"to":{"type":"integer"},"how":{"enum":["walk","ride"]}}}`

func files(kv ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = &fstest.MapFile{Data: []byte(kv[i+1])}
	}
	return m
}

func load(t testing.TB, kv ...string) *Registry {
	t.Helper()
	r, err := Load(files(kv...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestViolationNamesPathValueAndBound(t *testing.T) {
	r := load(t, "game.unit.moved/v1.json", moved1)
	for data, want := range map[string][]string{
		`{"unit":42,"to":9}`:             nil,
		`{"unit":0,"to":9}`:              {"/unit", "0", "at least 1", "game.unit.moved@1"},
		`{"unit":"x","to":9}`:            {"/unit", `"x"`, "want integer, got string"},
		`{"unit":1}`:                     {"/to", "missing", "required"},
		`{"unit":1,"to":2,"how":"swim"}`: {"/how", "swim", "walk"},
		`{"unit":1,"to":2,"why":3}`:      {"/why", "3", "does not name"},
		`{"unit":1,"to":1e999999999}`:    {"digits"},
		`{"unit":1,"to":2}{}`:            {"more than one value"},
		`{"unit":`:                       {"not JSON"},
		``:                               {"not JSON"},
	} {
		err := r.Validate(&event.Event{Type: "game.unit.moved", Version: 1, Data: json.RawMessage(data)})
		if (err == nil) != (want == nil) {
			t.Errorf("%s: %v", data, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v; want %q in it", data, err, w)
			}
		}
	}
}

func TestHugeExponentIsRefusedAtOnce(t *testing.T) {
	r := load(t, "n/v1.json", `{"type":"number","minimum":0}`)
	start := time.Now()
	if err := r.Validate(&event.Event{Type: "n", Version: 1, Data: json.RawMessage(`1e400000000`)}); err == nil {
		t.Fatal("taken")
	}
	if d := time.Since(start); d > time.Second {
		t.Fatalf("took %v", d)
	}
}

func TestUnknownNamesWhatIsKnown(t *testing.T) {
	r := load(t, "game.unit.moved/v1.json", moved1, "game.unit.moved/v2.json", moved1, "README.md", "x")
	var u *UnknownError
	err := r.Validate(&event.Event{Type: "game.unit.moved", Version: 3})
	if !errors.As(err, &u) || !strings.Contains(err.Error(), "1 2") {
		t.Error(err)
	}
	if err = r.Validate(&event.Event{Type: "game.unit.mved", Version: 1}); !errors.As(err, &u) || !strings.Contains(err.Error(), "game.unit.moved") {
		t.Error(err)
	}
}

func TestLoadTellsAllThatIsWrong(t *testing.T) {
	_, err := Load(files("a/v1.json", `{"type":"objekt"}`, "b/1.json", `{}`, "c/v1.json", `{`, "d/v1.json", `{"$ref":"https://example.com/x.json"}`,
		"e/v1.json", `{"$ref":"file:///etc/passwd"}`, "F/v1.json", `{}`))
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{"a@1", "b/1.json", "c/v1.json", "d@1", "e@1", "F/v1.json", "not in the directory of contracts"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %q in it", err, want)
		}
	}
}

func TestContractsMayShareDefinitions(t *testing.T) {
	r := load(t, "a/v1.json", `{"$ref":"/shared/v1.json"}`, "shared/v1.json", `{"type":"integer"}`)
	if err := r.Validate(&event.Event{Type: "a", Version: 1, Data: json.RawMessage(`"x"`)}); err == nil {
		t.Fatal("taken")
	}
}

func TestCompatibility(t *testing.T) {
	const open = `{"type":"object","required":["unit"],"properties":{"unit":{"type":"integer"}}}`
	for name, c := range map[string]struct{ v1, v2, back, forth string }{ // "" = proven, "?" = cannot tell
		"same":                   {moved1, moved1, "", ""},
		"another description":    {`{"type":"object"}`, `{"type":"object","description":"x"}`, "", ""},
		"a new required field":   {open, `{"type":"object","required":["unit","to"],"properties":{"unit":{"type":"integer"}}}`, "/to: required", ""},
		"wider type":             {`{"type":"integer"}`, `{"type":["number","null"]}`, "", "/: type"},
		"another type":           {`{"type":"integer"}`, `{"type":"string"}`, "type integer", "type string"},
		"a new enum value":       {`{"enum":["a"]}`, `{"enum":["a","b"]}`, "", `"b"`},
		"an enum where was none": {`{"type":"string"}`, `{"type":"string","enum":["a"]}`, "limited", ""},
		"a closed object":        {open, `{"type":"object","required":["unit"],"additionalProperties":false,"properties":{"unit":{"type":"integer"}}}`, "/*: no longer", ""},
		"a field dropped, closed": {moved1, `{"type":"object","required":["unit","to"],"additionalProperties":false,
			"properties":{"unit":{"type":"integer","minimum":1},"to":{"type":"integer"}}}`, "/how", ""},
		"a new field, open":    {open, `{"type":"object","required":["unit"],"properties":{"unit":{"type":"integer"},"to":{"type":"integer"}}}`, "?", ""},
		"a tighter bound":      {`{"type":"integer"}`, `{"type":"integer","minimum":1}`, "minimum", ""},
		"a pattern":            {`{"type":"string"}`, `{"type":"string","pattern":"a"}`, "?", ""},
		"a reference":          {`{"$ref":"#/$defs/a","$defs":{"a":{"type":"integer"}}}`, `{"$ref":"#/$defs/a","$defs":{"a":{"type":"string"}}}`, "?", "?"},
		"nested, a reference":  {`{"properties":{"x":{"$ref":"#/$defs/a"}},"$defs":{"a":{"type":"integer"}}}`, `{"properties":{"x":{"$ref":"#/$defs/a"}},"$defs":{"a":{"type":"string"}}}`, "?", "?"},
		"deep":                 {`{"properties":{"a":{"items":{"type":"integer"}}}}`, `{"properties":{"a":{"items":{"type":"string"}}}}`, "/a/*: type", "/a/*: type"},
		"contains dropped":     {`{"contains":{"const":1},"minContains":0}`, `{"contains":{"const":1}}`, "?", "?"},
		"integer is no number": {`{"type":"number"}`, `{"type":"integer"}`, "type number", ""},
	} {
		r := load(t, "x/v1.json", c.v1, "x/v2.json", c.v2)
		got := r.Successions()
		if len(got) != 1 {
			t.Fatal(name, got)
		}
		check := func(dir, want string, no, unsure []string) {
			switch all := strings.Join(no, "\n"); {
			case want == "" && len(no)+len(unsure) > 0, want == "?" && (len(no) > 0 || len(unsure) == 0), len(want) > 1 && !strings.Contains(all, want):
				t.Errorf("%s, %s: no %q, cannot tell %q; want %q", name, dir, no, unsure, want)
			}
		}
		check("backward", c.back, got[0].Backward, got[0].BackwardUndecided)
		check("forward", c.forth, got[0].Forward, got[0].ForwardUndecided)
	}
}

// A "yes" of the check is a proof: no drawn document of the one version is refused by the other.
func TestCompatibleIsSound(t *testing.T) {
	leaf := rapid.SampledFrom([]string{`{"type":"integer"}`, `{"type":"number","minimum":2}`, `{"type":"string","maxLength":1}`, `{"enum":[1,"a"]}`, `true`,
		`{"type":["integer","null"]}`, `{"const":1}`, `{"type":"integer","maximum":3}`, `{"type":"array","items":{"type":"integer"}}`})
	schema := rapid.Custom(func(t *rapid.T) string {
		s := `{"type":"object","properties":{"a":` + leaf.Draw(t, "a")
		if rapid.Bool().Draw(t, "has b") {
			s += `,"b":` + leaf.Draw(t, "b")
		}
		s += `}`
		if rapid.Bool().Draw(t, "closed") {
			s += `,"additionalProperties":` + rapid.SampledFrom([]string{"false", `{"type":"integer"}`}).Draw(t, "rest")
		}
		return s + rapid.SampledFrom([]string{`}`, `,"required":["a"]}`, `,"required":["a","b"]}`}).Draw(t, "required")
	})
	value := rapid.SampledFrom([]string{`1`, `2`, `5`, `1.5`, `"a"`, `"ab"`, `null`, `[1]`, `["x"]`, `[]`})
	rapid.Check(t, func(t *rapid.T) {
		v1, v2 := schema.Draw(t, "v1"), schema.Draw(t, "v2")
		r, err := Load(files("x/v1.json", v1, "x/v2.json", v2))
		if err != nil {
			t.Fatal(err)
		}
		rep, err := r.Compare("x", 1, 2)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			var fields []string
			for _, f := range []string{"a", "b", "c"} {
				if rapid.Bool().Draw(t, f) {
					fields = append(fields, `"`+f+`":`+value.Draw(t, f))
				}
			}
			e := &event.Event{Type: "x", Version: 1, Data: json.RawMessage("{" + strings.Join(fields, ",") + "}")}
			of := func(v int) bool { e.Version = v; return r.Validate(e) == nil }
			if of(1) && !of(2) && rep.BackwardOK() || of(2) && !of(1) && rep.ForwardOK() {
				t.Fatalf("%s\nv1 %s\nv2 %s\n%s", rep, v1, v2, e.Data)
			}
		}
	})
}

func FuzzValidate(f *testing.F) {
	f.Add([]byte(`{"unit":1,"to":2,"how":"walk"}`))
	f.Add([]byte(`{"unit":1e400,"to":[[]]}`))
	r := load(f, "m/v1.json", moved1)
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := r.Validate(&event.Event{Type: "m", Version: 1, Data: b}); err == nil && !json.Valid(b) {
			t.Fatalf("%q is not JSON and was taken", b)
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	r := load(b, "m/v1.json", moved1)
	e := &event.Event{Type: "m", Version: 1, Data: json.RawMessage(`{"unit":12345,"to":2,"how":"walk"}`)}
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Validate(e); err != nil {
			b.Fatal(err)
		}
	}
}
