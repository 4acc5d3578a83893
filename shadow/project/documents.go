package project

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"banyan/proxy/event"
	"banyan/proxy/expr"
	"banyan/shadow/readmodel"
)

// keyParser reads the names of an ordering key back: "match/{match}" and "match/7" give match=7.
type keyParser struct {
	names []string
	re    *regexp.Regexp
}

func newKeyParser(template string) (*keyParser, error) {
	t, err := expr.ParseTemplate(template)
	if err != nil {
		return nil, err
	}
	// Holes are marked with a rune that no key holds, so that the texts between them can be quoted.
	text, _ := t.Expand(func(string) (string, bool) { return "\x00", true })
	parts := strings.Split(text, "\x00")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	re, err := regexp.Compile(`^` + strings.Join(parts, `(.+?)`) + `$`)
	if err != nil {
		return nil, err
	}
	return &keyParser{t.Names(), re}, nil
}

func (p *keyParser) value(key event.OrderingKey, name string) (string, bool) {
	i := slices.Index(p.names, name)
	if i < 0 {
		return "", false
	}
	m := p.re.FindStringSubmatch(string(key))
	if m == nil {
		return "", false
	}
	return m[i+1], true
}

// touched collects the documents that a batch changes, each once.
type touched struct {
	m      *model
	seen   map[string]bool // document name and key
	params map[*document][][]string
	keys   map[*document][]string
}

func newTouched(m *model) *touched {
	return &touched{m: m, seen: map[string]bool{}, params: map[*document][][]string{}, keys: map[*document][]string{}}
}

// add notes the documents of one event. An error is about the event: its data lack what a key needs.
func (t *touched) add(it *item) error {
	for _, d := range t.m.documents {
		if !d.types[it.h.name] {
			continue
		}
		params := make([]string, len(d.names))
		for i, n := range d.names {
			v, ok := t.value(it, n)
			if !ok || v == "" {
				return fmt.Errorf("document %s: key %q: the event has no value for {%s}; want it in data or in the ordering key", d.name, d.key, n)
			}
			params[i] = v
		}
		key, _ := d.key.Expand(func(n string) (string, bool) { return params[slices.Index(d.names, n)], true })
		if id := d.name + "\x00" + key; !t.seen[id] {
			t.seen[id] = true
			t.params[d] = append(t.params[d], params)
			t.keys[d] = append(t.keys[d], key)
		}
	}
	return nil
}

func (t *touched) value(it *item, name string) (string, bool) {
	switch name {
	case "_subject":
		return string(it.ev.Subject), true
	case "_key":
		return string(it.key), true
	}
	if v, ok := t.m.orderBy.value(it.key, name); ok {
		return v, true
	}
	switch x := it.data[name].(type) {
	case string:
		return x, true
	case json.Number:
		return string(x), true
	case bool:
		return strconv.FormatBool(x), true
	}
	return "", false
}

// renderChunk is how many documents one statement renders.
const renderChunk = 1000

// render asks PostgreSQL for the documents as they are now.
// A document whose statement PostgreSQL refuses
// for its data is removed: its readers then ask the tables, which are right.
func (t *touched) render(ctx context.Context, pg *readmodel.Postgres, v readmodel.Version, log *slog.Logger) ([]readmodel.Document, error) {
	var docs []readmodel.Document
	for _, d := range t.m.documents {
		params, keys := t.params[d], t.keys[d]
		chunk := renderChunk
		for len(params) > 0 {
			n := min(len(params), chunk)
			got, err := pg.Render(ctx, d.sql, d.names, params[:n])
			if readmodel.IsData(err) {
				if n > 1 {
					chunk = 1 // find it
					continue
				}
				log.Error("a document cannot be rendered and is removed", "document", d.name, "key", keys[0], "err", err)
				got, err = make([]readmodel.Rendered, 1), nil
			}
			if err != nil {
				return nil, fmt.Errorf("document %s: %w", d.name, err)
			}
			for i := range got {
				docs = append(docs, readmodel.Document{Key: keys[i], Version: v, JSON: got[i].JSON})
			}
			params, keys = params[n:], keys[n:]
		}
	}
	return docs, nil
}
