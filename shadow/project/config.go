package project

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sort"
	"strconv"
	"strings"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/expr"
	"banyan/proxy/kafka"
	"banyan/shadow/contract"
)

// Config is the projection of one migration's generation.
type Config struct {
	Kafka      kafka.Config    `yaml:"-"`
	Migration  event.Migration `yaml:"-"`
	Generation int             `yaml:"-"` // from 1
	// OrderBy is the migration's ordering key as a template, "match/{match}": its names may stand in document keys.
	OrderBy string `yaml:"-"`
	// Files are what SQL paths are relative to.
	Files     fs.FS              `yaml:"-"`
	Contracts *contract.Registry `yaml:"-"`
	Log       *slog.Logger       `yaml:"-"` // nil: no log

	// On says how an event type changes the tables: "game.unit.moved@2" to the file of its statement.
	On map[string]Handler `yaml:"on"`
	// Documents are what is kept in Redis, by name.
	Documents map[string]Document `yaml:"documents"`
	// Batch is the most records of one transaction. Default 5000, 1 to 50000.
	Batch int `yaml:"batch"`
	// DedupWindow is how many records back a repeated event id is recognised, per partition. The topic itself is the
	// memory: that many records are read back when a partition is opened. Default 20000, at least twice Batch, at most 1000000.
	DedupWindow int `yaml:"dedup_window"`
	// HoldMax is how long a hold may keep events back; longer, and the read model would be seen to lag. Default 500ms, 1ms
	// to 10s.
	HoldMax time.Duration `yaml:"hold_max"`
	// Delay keeps every record back until it is so old: a read model that lags on purpose, to see what that does to what
	// stands on it. Nil: none. A partition keeps at most 100,000 records back.
	Delay func() time.Duration `yaml:"-"`
	// Session is how long the partitions of a member that died rest. Default and bounds: those of the stream.
	Session time.Duration `yaml:"-"`
}

// Handler is the statement of one event type. In the config it may be written as the path alone.
type Handler struct {
	SQL string `yaml:"sql"` // path of a file
	// Scope is what the event may touch: "subject" (default), or "key": then it is ordered against all events of its
	// ordering key.
	Scope string `yaml:"scope"`
	// Fold "last" lets consecutive events of this type and subject collapse to the last one: for events that carry
	// values, not differences. Default "none".
	Fold string `yaml:"fold"`
}

// UnmarshalYAML takes the short form too.
func (h *Handler) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&h.SQL) == nil {
		return nil
	}
	type long Handler
	return unmarshal((*long)(h))
}

// Document is a JSON value in Redis that follows the tables.
type Document struct {
	// Key is a template over the names of the ordering key, the event's data fields, _subject and _key. A document must
	// belong to one ordering key, so that one partition alone writes it.
	Key string `yaml:"key"`
	// Types are the event types that change it. Empty: all of `on`.
	Types []string `yaml:"on"`
	SQL   string   `yaml:"sql"` // path of a file; see the package comment
}

func (c Config) withDefaults() Config {
	if c.Batch == 0 {
		c.Batch = 5000
	}
	if c.DedupWindow == 0 {
		c.DedupWindow = max(20000, 2*c.Batch)
	}
	if c.HoldMax == 0 {
		c.HoldMax = 500 * time.Millisecond
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate names the field, the value and the bound of everything that is wrong.
func (c Config) Validate() error {
	_, err := compile(c.withDefaults())
	return err
}

// model is a compiled config.
type model struct {
	handlers  map[string]*handler
	documents []*document
	orderBy   *keyParser
}

type handler struct {
	name string
	sql  string
	key  bool // scope
	fold bool
}

type document struct {
	name  string
	key   *expr.Template
	names []string // distinct, in order of the template
	types map[string]bool
	sql   string
}

func compile(c Config) (*model, error) {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if c.Migration == "" {
		bad("migration: missing")
	}
	if c.Generation < 1 {
		bad("generation: %d: want 1 or more", c.Generation)
	}
	if c.Batch < 1 || c.Batch > 50000 {
		bad("batch: %d: want 1 to 50000", c.Batch)
	}
	if c.DedupWindow < 2*c.Batch || c.DedupWindow > 1000000 {
		bad("dedup_window: %d: want %d (twice batch) to 1000000; documents of the last two batches are found in it", c.DedupWindow, 2*c.Batch)
	}
	if c.HoldMax < time.Millisecond || c.HoldMax > 10*time.Second {
		bad("hold_max: %s: want 1ms to 10s", c.HoldMax)
	}
	if c.Contracts == nil {
		bad("contracts: missing: events are held to their contracts before they reach a statement")
	}
	if len(c.On) == 0 {
		bad("on: empty: want at least one event type")
	}
	m := &model{handlers: map[string]*handler{}}
	for _, name := range sortedKeys(c.On) {
		if h, err := c.handler(name, c.On[name]); err != nil {
			bad("on.%s: %w", name, err)
		} else {
			m.handlers[name] = h
		}
	}
	orderBy, err := newKeyParser(c.OrderBy)
	if err != nil {
		bad("order_by: %w", err)
	}
	m.orderBy = orderBy
	for _, name := range sortedKeys(c.Documents) {
		if d, err := c.document(name, c.Documents[name]); err != nil {
			bad("documents.%s.%w", name, err)
		} else {
			m.documents = append(m.documents, d)
		}
	}
	return m, errors.Join(errs...)
}

func (c Config) handler(name string, h Handler) (*handler, error) {
	typ, v, ok := strings.Cut(name, "@")
	version, err := strconv.Atoi(v)
	if !ok || err != nil || version < 1 {
		return nil, errors.New("want type@version, e.g. game.unit.moved@2")
	}
	if c.Contracts != nil {
		if err := c.Contracts.Unknown(typ, version); err != nil {
			return nil, err
		}
	}
	if h.Scope != "" && h.Scope != "subject" && h.Scope != "key" {
		return nil, fmt.Errorf(`scope: %q: want "subject" or "key"`, h.Scope)
	}
	if h.Fold != "" && h.Fold != "none" && h.Fold != "last" {
		return nil, fmt.Errorf(`fold: %q: want "none" or "last"`, h.Fold)
	}
	sql, err := c.file(h.SQL)
	if err != nil {
		return nil, err
	}
	return &handler{name: name, sql: sql, key: h.Scope == "key", fold: h.Fold == "last"}, nil
}

func (c Config) document(name string, d Document) (*document, error) {
	t, err := expr.ParseTemplate(d.Key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	out := &document{name: name, key: t, types: map[string]bool{}}
	seen := map[string]bool{}
	for _, n := range t.Names() {
		if !seen[n] {
			seen[n] = true
			out.names = append(out.names, n)
		}
	}
	if len(out.names) == 0 {
		return nil, fmt.Errorf("key: %q: want at least one {name}", d.Key)
	}
	types := d.Types
	if len(types) == 0 {
		types = sortedKeys(c.On)
	}
	for _, typ := range types {
		if _, ok := c.On[typ]; !ok {
			return nil, fmt.Errorf("types: %q is not in `on`", typ)
		}
		out.types[typ] = true
	}
	out.sql, err = c.file(d.SQL)
	return out, err
}

// MaxStatement bounds one SQL file, in bytes.
const MaxStatement = 1 << 20

func (c Config) file(name string) (string, error) {
	if c.Files == nil || name == "" {
		return "", fmt.Errorf("sql: %q: want the path of a file", name)
	}
	b, err := fs.ReadFile(c.Files, name)
	if err != nil {
		return "", fmt.Errorf("sql: %w", err)
	}
	if len(b) > MaxStatement || strings.TrimSpace(string(b)) == "" {
		return "", fmt.Errorf("sql: %s: %d bytes; want one statement of at most %d", name, len(b), MaxStatement)
	}
	if !strings.Contains(string(b), "$1") {
		return "", fmt.Errorf("sql: %s: does not use $1, the events as a JSON array", name)
	}
	return string(b), nil
}

func sortedKeys[V any](m map[string]V) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	sort.Strings(ks)
	return ks
}
