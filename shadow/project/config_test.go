package project

import (
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

func TestHandlerInShortAndLongForm(t *testing.T) {
	var c Config
	err := yaml.Unmarshal([]byte("on: { a@1: sql/a.sql, b@2: { sql: b.sql, fold: last } }\nhold_max: 100ms\ndocuments: { m: { key: 'x:{y}', sql: d.sql } }\n"), &c)
	if err != nil || c.On["a@1"].SQL != "sql/a.sql" || c.On["b@2"] != (Handler{SQL: "b.sql", Fold: "last"}) || c.HoldMax != 100*time.Millisecond ||
		c.Documents["m"].Key != "x:{y}" {
		t.Fatalf("%v %+v", err, c)
	}
	if err := yaml.Unmarshal([]byte("on: { a@1: [x] }"), &c); err == nil {
		t.Fatal("a list was taken for a handler")
	}
}

func TestConfigErrorsNameFieldValueAndBound(t *testing.T) {
	for want, f := range map[string]func(*Config){
		"generation: 0":             func(c *Config) { c.Generation = 0 },
		"batch: 60000: want 1":      func(c *Config) { c.Batch = 60000 },
		"dedup_window: 5: want 200": func(c *Config) { c.Batch, c.DedupWindow = 100, 5 },
		"hold_max: 1m0s":            func(c *Config) { c.HoldMax = time.Minute },
		"on: empty":                 func(c *Config) { c.On = nil },
		"on.unit.moved: want type@": func(c *Config) { c.On["unit.moved"] = Handler{SQL: "moved.sql"} },
		"on.unit.moved@9":           func(c *Config) { c.On["unit.moved@9"] = Handler{SQL: "moved.sql"} },
		"on.unit.moved@1: sql":      func(c *Config) { c.On["unit.moved@1"] = Handler{SQL: "none.sql"} },
		`scope: "all"`:              func(c *Config) { c.On["unit.moved@1"] = Handler{SQL: "moved.sql", Scope: "all"} },
		`fold: "first"`:             func(c *Config) { c.On["unit.moved@1"] = Handler{SQL: "moved.sql", Fold: "first"} },
		`documents.d.key: "x"`:      func(c *Config) { c.Documents = map[string]Document{"d": {Key: "x", SQL: "unit.sql"}} },
		"documents.d.types: \"no@1\"": func(c *Config) {
			c.Documents = map[string]Document{"d": {Key: "{x}", SQL: "unit.sql", Types: []string{"no@1"}}}
		},
		"contracts: missing": func(c *Config) { c.Contracts = nil },
		"migration: missing": func(c *Config) { c.Migration = "" },
	} {
		c := config(t)
		f(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %q in it", err, want)
		}
	}
	if err := config(t).Validate(); err != nil {
		t.Fatal(err)
	}
}
