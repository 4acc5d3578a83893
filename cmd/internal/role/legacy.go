package role

import (
	"errors"
	"log/slog"
	"sort"

	"banyan/cmd/internal/config"
	"banyan/legacyadapter/changelog"
	"banyan/legacyadapter/mysql"
	"banyan/legacyadapter/postgres"
	"banyan/proxy/event"
	"banyan/proxy/expr"
)

// source is legacy's database.
func source(f *config.File, log *slog.Logger) (changelog.Source, error) {
	tables := legacyTables(f)
	switch db := f.LegacyDB; {
	case db.MySQL != "":
		return mysql.New(mysql.Config{DSN: db.MySQL, ServerID: db.Changelog.ServerID, Tables: tables}, log)
	case db.Postgres != "":
		return postgres.New(postgres.Config{URL: db.Postgres, Slot: db.Changelog.Slot, Publication: db.Changelog.Publication, Tables: tables}, log)
	}
	return nil, errors.New("legacy_db: none given: want mysql or postgres")
}

// legacyTables are all tables that some migration maps.
func legacyTables(f *config.File) []string {
	set := map[string]bool{}
	for _, m := range f.Migrations {
		for t := range m.Rows {
			set[t] = true
		}
	}
	tables := make([]string, 0, len(set))
	for t := range set {
		tables = append(tables, t)
	}
	sort.Strings(tables)
	return tables
}

// mappings say which ordering key a row belongs to: the table's `key:` expressions fill the migration's order_by.
func mappings(f *config.File) ([]changelog.Mapping, error) {
	var out []changelog.Mapping
	for _, name := range f.Names() {
		m := f.Migrations[name]
		tpl, err := expr.ParseTemplate(m.OrderBy)
		if err != nil {
			return nil, err
		}
		tables := make([]string, 0, len(m.Rows))
		for t := range m.Rows {
			tables = append(tables, t)
		}
		sort.Strings(tables)
		for _, t := range tables {
			key, err := rowKey(tpl, m.Rows[t].Key)
			if err != nil {
				return nil, err
			}
			out = append(out, changelog.Mapping{Migration: name, Table: t, Key: key})
		}
	}
	return out, nil
}

// rowKey computes the ordering key of a row. A plain "row.column" is read without the expression engine: it is asked
// for every row of the log.
func rowKey(tpl *expr.Template, parts map[string]string) (func(event.Values) (event.OrderingKey, bool), error) {
	columns := map[string]string{}
	programs := map[string]*expr.Program{}
	for name, src := range parts {
		if column, ok := plainColumn(src); ok {
			columns[name] = column
			continue
		}
		p, err := expr.Compile("text("+src+")", map[string]any{"row": map[string]any{}})
		if err != nil {
			return nil, err
		}
		programs[name] = p
	}
	return func(row event.Values) (event.OrderingKey, bool) {
		k, ok := tpl.Expand(func(name string) (string, bool) {
			if c, ok := columns[name]; ok {
				return event.Text(row[c])
			}
			p, ok := programs[name]
			if !ok {
				return "", false
			}
			v, err := p.Eval(map[string]any{"row": map[string]any(row)})
			s, _ := v.(string)
			return s, err == nil
		})
		return event.OrderingKey(k), ok
	}, nil
}

func plainColumn(src string) (string, bool) {
	if len(src) < 5 || src[:4] != "row." {
		return "", false
	}
	for _, c := range src[4:] {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return "", false
		}
	}
	return src[4:], true
}
