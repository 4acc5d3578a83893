package mysql

import (
	"context"
	"fmt"
	"strings"

	"banyan/legacyadapter/changelog"
)

// Describe implements [changelog.Source].
func (s *Source) Describe(ctx context.Context, tables []string) ([]changelog.Table, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var out []changelog.Table
	for _, name := range tables {
		t, err := s.describe(ctx, c, name)
		if err != nil {
			return nil, err
		}
		out = append(out, t.Table)
	}
	return out, nil
}

type described struct {
	changelog.Table
	engine   string
	charsets map[string]string // of its text columns
}

func (s *Source) describe(ctx context.Context, c *conn, name string) (described, error) {
	schema, table := s.qualify(name)
	is := "TABLE_SCHEMA = '" + quote(schema) + "' AND TABLE_NAME = '" + quote(table) + "'"
	d := described{Table: changelog.Table{Name: name}, charsets: map[string]string{}}
	engine, err := c.texts(ctx, "SELECT ENGINE FROM information_schema.TABLES WHERE "+is)
	if err != nil {
		return d, fmt.Errorf("describe table %s: %w", name, err)
	}
	if len(engine) == 0 {
		return d, fmt.Errorf("table %s: there is none, or no right to see it: GRANT SELECT ON %s.%s TO CURRENT_USER", name, ident(schema), ident(table))
	}
	d.engine = engine[0][0]
	columns, err := c.texts(ctx, "SELECT COLUMN_NAME, COLUMN_TYPE, CHARACTER_SET_NAME FROM information_schema.COLUMNS WHERE "+is+" ORDER BY ORDINAL_POSITION")
	if err != nil {
		return d, fmt.Errorf("describe table %s: %w", name, err)
	}
	for _, r := range columns {
		d.Columns = append(d.Columns, changelog.Column{Name: r[0], Type: r[1]})
		if r[2] != "" {
			d.charsets[r[0]] = r[2]
		}
	}
	keys, err := c.texts(ctx, "SELECT COLUMN_NAME FROM information_schema.STATISTICS WHERE INDEX_NAME = 'PRIMARY' AND "+is+" ORDER BY SEQ_IN_INDEX")
	if err != nil {
		return d, fmt.Errorf("describe table %s: %w", name, err)
	}
	for _, r := range keys {
		d.PrimaryKey = append(d.PrimaryKey, r[0])
	}
	return d, nil
}

// settings that the log needs, each with what it is for.
var settings = []struct{ name, want, why string }{
	{"binlog_format", "ROW", "rows are missing in the log otherwise"},
	{"binlog_row_image", "FULL", "rows in the log are incomplete otherwise"},
	{"binlog_row_metadata", "FULL", "the log does not name columns otherwise"},
	{"binlog_annotate_row_events", "1", "writes cannot be told from their SQL otherwise"},
}

// Check implements [changelog.Source].
func (s *Source) Check(ctx context.Context, tables []string) []changelog.Problem {
	c, err := s.connect(ctx)
	if err != nil {
		return []changelog.Problem{{What: err.Error(), Mend: "check the address, the account and that the server is up"}}
	}
	defer c.close()
	ps := s.checkServer(ctx, c)
	for _, t := range tables {
		ps = append(ps, s.checkTable(ctx, c, t)...)
	}
	return ps
}

func (s *Source) checkServer(ctx context.Context, c *conn) (ps []changelog.Problem) {
	add := func(what, mend string) { ps = append(ps, changelog.Problem{What: what, Mend: mend}) }
	v, err := c.one(ctx, "SELECT VERSION(), @@log_bin")
	if err != nil {
		add("cannot ask the server: "+err.Error(), "check that it is a MariaDB")
		return ps
	}
	if !strings.Contains(v[0], "MariaDB") {
		add("the server is "+v[0]+"; only MariaDB's change log is read, MySQL's is not built", "use a MariaDB replica as the source, if you have one")
		return ps
	}
	if v[1] != "1" {
		add("the binary log is off", "start the server with log_bin = binlog")
		return ps
	}
	for _, set := range settings {
		got, err := c.one(ctx, "SELECT @@GLOBAL."+set.name)
		if err != nil {
			add("setting "+set.name+": "+err.Error(), "use MariaDB 10.5 or later")
		} else if got[0] != set.want {
			add(fmt.Sprintf("%s is %s: %s", set.name, got[0], set.why), fmt.Sprintf("SET GLOBAL %s = '%s'; and the same in the server's file; then reconnect PHP", set.name, set.want))
		}
	}
	if _, err := c.texts(ctx, "SHOW BINARY LOGS"); err != nil {
		add("the account may not list the binary logs", "GRANT BINLOG MONITOR ON *.* TO "+s.account(ctx, c))
	}
	if grants, err := c.texts(ctx, "SHOW GRANTS"); err == nil && !mayRead(grants) {
		add("the account may not read the binary log", "GRANT REPLICATION SLAVE ON *.* TO "+s.account(ctx, c))
	}
	return ps
}

func mayRead(grants [][]string) bool {
	for _, g := range grants {
		if strings.Contains(g[0], " ON *.* ") && (strings.Contains(g[0], "REPLICATION SLAVE") || strings.Contains(g[0], "ALL PRIVILEGES")) {
			return true
		}
	}
	return false
}

func (s *Source) account(ctx context.Context, c *conn) string {
	u, err := c.one(ctx, "SELECT CURRENT_USER()")
	if err != nil {
		return "CURRENT_USER"
	}
	name, host, _ := strings.Cut(u[0], "@")
	return "'" + quote(name) + "'@'" + quote(host) + "'"
}

// unlike are types that the log holds in another form than a SELECT gives.
var unlike = map[string]bool{"uuid": true, "inet4": true, "inet6": true, "vector": true}

func (s *Source) checkTable(ctx context.Context, c *conn, name string) (ps []changelog.Problem) {
	add := func(what, mend string) { ps = append(ps, changelog.Problem{What: "table " + name + what, Mend: mend}) }
	d, err := s.describe(ctx, c, name)
	if err != nil {
		return []changelog.Problem{{What: err.Error(), Mend: "name an existing table in the config"}}
	}
	schema, table := s.qualify(name)
	full := ident(schema) + "." + ident(table)
	if _, err := c.texts(ctx, "SELECT 1 FROM "+full+" LIMIT 1"); err != nil {
		add(" cannot be read: "+err.Error(), "GRANT SELECT ON "+full+" TO "+s.account(ctx, c))
	}
	if len(d.PrimaryKey) == 0 {
		add(" has no primary key: its rows can be neither backfilled nor compared one by one", "ALTER TABLE "+full+" ADD PRIMARY KEY (…)")
	}
	if !strings.EqualFold(d.engine, "InnoDB") {
		add(" is "+d.engine+": a snapshot of it is not consistent, so backfill and comparison can see what is not committed together",
			"ALTER TABLE "+full+" ENGINE = InnoDB")
	}
	for _, col := range d.Columns {
		if unlike[baseType(col.Type)] {
			add(": column "+col.Name+" is "+col.Type+", which the log holds in another form than a query", "ALTER TABLE "+full+" MODIFY "+ident(col.Name)+" …, to CHAR or BINARY")
		}
		if multiByte[d.charsets[col.Name]] {
			add(": column "+col.Name+" has character set "+d.charsets[col.Name]+", which is not decoded from the log",
				"ALTER TABLE "+full+" CONVERT TO CHARACTER SET utf8mb4")
		}
	}
	return ps
}
