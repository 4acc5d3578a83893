package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"banyan/legacyadapter/changelog"

	"github.com/jackc/pgx/v5/pgconn"
)

// Describe implements [changelog.Source].
func (s *Source) Describe(ctx context.Context, tables []string) ([]changelog.Table, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn(c)
	var out []changelog.Table
	for _, name := range tables {
		t, err := describe(ctx, c, name)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func describe(ctx context.Context, c *pgconn.PgConn, name string) (changelog.Table, error) {
	t := changelog.Table{Name: name}
	there, err := texts(ctx, c, "SELECT to_regclass($1)::oid", ident(name))
	if err != nil {
		return t, fmt.Errorf("describe table %s: %w", name, err)
	}
	oid := there[0][0]
	if oid == "" {
		return t, fmt.Errorf("table %s: there is none", name)
	}
	// The base type of a domain, because keys are compared as that.
	columns, err := texts(ctx, c, `SELECT a.attname, format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE a.atttypid END, NULL)
		FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum`, oid)
	if err != nil {
		return t, fmt.Errorf("describe table %s: %w", name, err)
	}
	for _, r := range columns {
		t.Columns = append(t.Columns, changelog.Column{Name: r[0], Type: r[1]})
	}
	keys, err := texts(ctx, c, `SELECT a.attname FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int[]) WITH ORDINALITY AS k(n, i)
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n WHERE i.indrelid = $1::oid AND i.indisprimary ORDER BY k.i`, oid)
	if err != nil {
		return t, fmt.Errorf("describe table %s: %w", name, err)
	}
	for _, r := range keys {
		t.PrimaryKey = append(t.PrimaryKey, r[0])
	}
	return t, nil
}

// Setup makes what is missing on the server: the publication, full replica identities, the slot. It needs the rights
// of the tables' owner, and wal_level = logical. The slot comes last: it cannot read what was written before the
// publication.
func (s *Source) Setup(ctx context.Context) error {
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(c)
	for _, p := range s.missing(ctx, c, s.cfg.Tables) {
		if p.sql == "" {
			return fmt.Errorf("setup: %s", p.Problem)
		}
		if _, err := texts(ctx, c, p.sql); err != nil {
			return fmt.Errorf("setup: %s: %w", p.sql, err)
		}
	}
	return nil
}

// Check implements [changelog.Source].
func (s *Source) Check(ctx context.Context, tables []string) []changelog.Problem {
	c, err := s.connect(ctx)
	if err != nil {
		return []changelog.Problem{{What: err.Error(), Mend: "check the address, the account and that the server is up"}}
	}
	defer closeConn(c)
	var ps []changelog.Problem
	for _, p := range s.missing(ctx, c, tables) {
		ps = append(ps, p.Problem)
	}
	for _, t := range tables {
		ps = append(ps, checkTable(ctx, c, t)...)
	}
	return ps
}

// lack is a problem that sql mends, if it is not empty.
type lack struct {
	changelog.Problem
	sql string
}

func lacking(what, sql string) lack {
	return lack{changelog.Problem{What: what, Mend: sql}, sql}
}

// missing lists what Setup makes, in the order in which it has to be made.
func (s *Source) missing(ctx context.Context, c *pgconn.PgConn, tables []string) (ps []lack) {
	failed := func(err error) []lack {
		return append(ps, lack{changelog.Problem{What: "cannot ask the server: " + err.Error(), Mend: "check the account's rights"}, ""})
	}
	v, err := texts(ctx, c, "SELECT current_setting('server_version_num'), current_setting('wal_level'), current_user, rolreplication OR rolsuper, pg_is_in_recovery() FROM pg_roles WHERE rolname = current_user")
	if err != nil {
		return failed(err)
	}
	if n, _ := strconv.Atoi(v[0][0]); n < 140000 {
		ps = append(ps, lack{changelog.Problem{What: "the server's version is " + v[0][0], Mend: "use PostgreSQL 14 or later"}, ""})
	}
	if v[0][4] == "t" {
		ps = append(ps, lack{changelog.Problem{What: "the server is a standby: its log is another's", Mend: "name the server that legacy writes to"}, ""})
	}
	if v[0][1] != "logical" {
		ps = append(ps, lack{changelog.Problem{What: "wal_level is " + v[0][1] + ": the log does not hold rows", Mend: "ALTER SYSTEM SET wal_level = 'logical'; then restart the server"}, ""})
	}
	if v[0][3] != "t" {
		ps = append(ps, lack{changelog.Problem{What: "the account may not read the log", Mend: "ALTER ROLE " + quoteIdent(v[0][2]) + " REPLICATION"}, ""})
	}
	for _, t := range tables {
		id, err := texts(ctx, c, "SELECT relreplident FROM pg_class WHERE oid = to_regclass($1)", ident(t))
		if err != nil {
			return failed(err)
		}
		if len(id) > 0 && id[0][0] != "f" {
			ps = append(ps, lacking("table "+t+": the log does not say what a row was before", "ALTER TABLE "+ident(t)+" REPLICA IDENTITY FULL"))
		}
	}
	more, err := s.missingPublication(ctx, c, tables)
	if err != nil {
		return failed(err)
	}
	ps = append(ps, more...)
	slot, err := texts(ctx, c, "SELECT plugin, database = current_database() FROM pg_replication_slots WHERE slot_name = $1", s.cfg.Slot)
	if err != nil {
		return failed(err)
	}
	switch {
	case len(slot) == 0:
		ps = append(ps, lacking("there is no slot "+s.cfg.Slot, "SELECT pg_create_logical_replication_slot('"+s.cfg.Slot+"', 'pgoutput')"))
	case slot[0][0] != "pgoutput" || slot[0][1] != "t":
		ps = append(ps, lack{changelog.Problem{What: "slot " + s.cfg.Slot + " belongs to another use (" + slot[0][0] + ")", Mend: "set another changelog.slot"}, ""})
	}
	return ps
}

func (s *Source) missingPublication(ctx context.Context, c *pgconn.PgConn, tables []string) (ps []lack, err error) {
	name := quoteIdent(s.cfg.Publication)
	pub, err := texts(ctx, c, "SELECT puballtables, pubinsert AND pubupdate AND pubdelete, pubviaroot FROM pg_publication WHERE pubname = $1", s.cfg.Publication)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, t := range tables {
		all = append(all, ident(t))
	}
	if len(pub) == 0 {
		return append(ps, lacking("there is no publication "+s.cfg.Publication, "CREATE PUBLICATION "+name+" FOR TABLE "+strings.Join(all, ", "))), nil
	}
	if pub[0][1] != "t" {
		ps = append(ps, lacking("publication "+s.cfg.Publication+" leaves changes out", "ALTER PUBLICATION "+name+" SET (publish = 'insert, update, delete, truncate')"))
	}
	if pub[0][0] == "t" {
		return ps, nil
	}
	in, err := texts(ctx, c, "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = $1", s.cfg.Publication)
	if err != nil {
		return nil, err
	}
	has := map[string]bool{}
	for _, r := range in {
		has[tableName(r[0], r[1])] = true
	}
	for _, t := range tables {
		if !has[t] {
			ps = append(ps, lacking("table "+t+" is not in publication "+s.cfg.Publication, "ALTER PUBLICATION "+name+" ADD TABLE "+ident(t)))
		}
	}
	return ps, nil
}

func checkTable(ctx context.Context, c *pgconn.PgConn, name string) (ps []changelog.Problem) {
	add := func(what, mend string) { ps = append(ps, changelog.Problem{What: "table " + name + what, Mend: mend}) }
	t, err := describe(ctx, c, name)
	if err != nil {
		return []changelog.Problem{{What: err.Error(), Mend: "name an existing table in the config"}}
	}
	may, err := texts(ctx, c, "SELECT has_table_privilege($1, 'SELECT'), current_user", ident(name))
	if err == nil && may[0][0] != "t" {
		add(" cannot be read", "GRANT SELECT ON "+ident(name)+" TO "+quoteIdent(may[0][1]))
	}
	if len(t.PrimaryKey) == 0 {
		add(" has no primary key: its rows can be neither backfilled nor compared one by one", "ALTER TABLE "+ident(name)+" ADD PRIMARY KEY (…)")
	}
	return ps
}
