package mysql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"time"

	"banyan/legacyadapter/changelog"
	"banyan/proxy/event"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
)

// sendAnnotations asks the server for the text of statements before their rows.
const sendAnnotations = 0x02

// Stream implements [changelog.Source].
func (s *Source) Stream(ctx context.Context, from event.Position, emit func(*changelog.Txn) error) error {
	base, err := s.prepare(ctx, from)
	if err != nil {
		return err
	}
	host, port, err := s.address()
	if err != nil {
		return err
	}
	r := &reader{s: s, ctx: ctx, emit: emit, from: from, file: from.File(), layouts: map[uint64]*layout{}}
	syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: s.cfg.ServerID, Flavor: mysql.MariaDBFlavor, Host: host, Port: port, User: s.my.User, Password: s.my.Passwd,
		Localhost: "banyan", TLSConfig: s.my.TLS, TimestampStringLocation: time.UTC, DumpCommandFlag: sendAnnotations,
		HeartbeatPeriod: 2 * time.Second, ReadTimeout: 15 * time.Second, VerifyChecksum: true, DisableRetrySync: true,
		DiscardGTIDSet: true, FillZeroLogPos: true, EventCacheCount: 1, Logger: slog.New(slog.DiscardHandler),
		SynchronousEventHandler: r, RowsEventDecodeFunc: r.decode,
	})
	defer syncer.Close()
	stream, err := syncer.StartSync(mysql.Position{Name: fileName(base, from.File()), Pos: max(from.Offset(), 4)})
	if err != nil {
		return fmt.Errorf("read the binary log of %s: %w", s.my.Addr, err)
	}
	_, err = stream.GetEvent(ctx) // events go to r; this is how the end is told
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case r.err != nil:
		return r.err
	case err == nil:
		return errors.New("the binary log ended")
	}
	var refused *mysql.MyError
	if errors.As(err, &refused) && refused.Code == mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG && strings.Contains(refused.Message, "find") {
		return s.gone(from)
	}
	return fmt.Errorf("binary log of %s after %s: %s", s.my.Addr, r.at, clip(err.Error()))
}

// clip keeps the library's dumps of whole rows out of logs.
func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}

func (s *Source) gone(from event.Position) error {
	return changelog.Stop(fmt.Errorf("position %s (log file number %d): %w; set changelog.start_at_head and backfill, and let the server keep more: expire_logs_days, binlog_expire_logs_seconds",
		from, from.File(), changelog.ErrGone))
}

// prepare looks whether the log is there, and learns the character sets.
func (s *Source) prepare(ctx context.Context, from event.Position) (base string, err error) {
	c, err := s.connect(ctx)
	if err != nil {
		return "", err
	}
	defer c.close()
	name, err := c.one(ctx, "SELECT @@log_bin_basename")
	if err != nil {
		return "", fmt.Errorf("name of the binary log: %w", err)
	}
	if name[0] == "" {
		return "", changelog.Stopf("the server writes no binary log: start it with log_bin")
	}
	files, err := c.texts(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return "", fmt.Errorf("list the binary logs (GRANT BINLOG MONITOR ON *.* TO CURRENT_USER): %w", err)
	}
	base = path.Base(name[0])
	for _, f := range files {
		if f[0] == fileName(base, from.File()) {
			return base, s.charsets.load(ctx, c)
		}
	}
	return "", s.gone(from)
}

// reader turns events into transactions. The library calls it from one goroutine.
type reader struct {
	s       *Source
	ctx     context.Context
	emit    func(*changelog.Txn) error
	from    event.Position
	at      event.Position // last one emitted
	file    uint32
	layouts map[uint64]*layout
	err     error

	// of the transaction that is being read
	open       bool
	alone      bool // a statement that is its own transaction: DDL
	txn        *changelog.Txn
	size       int64
	annotated  bool
	annotation event.WriteID
	savepoints map[string]int
}

var _ replication.EventHandler = (*reader)(nil)

// decode skips the rows of tables that nobody asked for.
func (r *reader) decode(e *replication.RowsEvent, data []byte) error {
	pos, err := e.DecodeHeader(data)
	if err != nil {
		return err
	}
	l := r.layouts[e.TableID]
	if l == nil || !l.same(e.Table) {
		if l, err = r.s.layout(r.ctx, e.Table); err != nil {
			return r.failed(err)
		}
		r.layouts[e.TableID] = l
	}
	if l.name == "" {
		return nil
	}
	if r.size += int64(len(data)); r.size > r.s.cfg.MaxTransaction {
		return r.failed(changelog.Stopf("the transaction after %s holds more than %d bytes of rows: raise changelog.max_transaction (it needs ten times that in memory), "+
			"or set changelog.start_at_head to pass it and backfill", r.at, r.s.cfg.MaxTransaction))
	}
	return e.DecodeData(pos, data)
}

// failed remembers the first error as it was: the library wraps errors without Unwrap.
func (r *reader) failed(err error) error {
	if r.err == nil {
		r.err = err
	}
	return err
}

// HandleEvent implements replication.EventHandler.
func (r *reader) HandleEvent(e *replication.BinlogEvent) error {
	switch x := e.Event.(type) {
	case *replication.RotateEvent:
		n, err := fileNumber(string(x.NextLogName))
		if err != nil {
			return r.failed(err)
		}
		r.file = n
		return r.passed(uint32(x.Position))
	case *replication.MariadbGTIDEvent:
		r.begin()
		r.alone = x.IsStandalone()
	case *replication.MariadbAnnotateRowsEvent:
		r.annotation, r.annotated = changelog.Annotation(x.Query)
	case *replication.RowsEvent:
		if err := r.rows(x); err != nil {
			return r.failed(err)
		}
	case *replication.XIDEvent:
		return r.commit(e.Header.LogPos)
	case *replication.QueryEvent:
		return r.query(x, e.Header.LogPos)
	case *replication.MariadbGTIDListEvent, *replication.MariadbBinlogCheckPointEvent:
		return r.passed(e.Header.LogPos)
	default:
		if e.Header.EventType == xaPrepare {
			r.s.log.Error("change log: an XA transaction is not read; its rows are missing until they are swept", "after", r.at.String())
			return r.rollback(e.Header.LogPos)
		}
	}
	return nil
}

const xaPrepare = replication.EventType(38)

func (r *reader) begin() {
	r.open, r.alone, r.size = true, false, 0
	r.annotation, r.annotated = event.WriteID{}, false
	r.txn = &changelog.Txn{}
	clear(r.savepoints)
}

func (r *reader) rows(e *replication.RowsEvent) error {
	l := r.layouts[e.TableID]
	if l == nil || r.txn == nil {
		return fmt.Errorf("rows outside of a transaction after %s", r.at)
	}
	if l.name == "" {
		r.txn.Dropped++
	} else if err := r.images(l, e); err != nil {
		return fmt.Errorf("rows of %s after %s: %w", l.name, r.at, err)
	}
	if e.Flags&replication.RowsEventStmtEndFlag != 0 {
		r.annotation, r.annotated = event.WriteID{}, false
	}
	return nil
}

func (r *reader) images(l *layout, e *replication.RowsEvent) error {
	step, op := 1, event.Insert
	switch e.Type() {
	case replication.EnumRowsEventTypeUpdate:
		step, op = 2, event.Update
	case replication.EnumRowsEventTypeDelete:
		op = event.Delete
	}
	for i := 0; i+step <= len(e.Rows); i += step {
		c := event.RowChange{N: len(r.txn.Rows), Table: l.name, Op: op}
		var err error
		switch op {
		case event.Insert:
			c.After, err = l.image(e.Rows[i], e.SkippedColumns[i])
		case event.Delete:
			c.Before, err = l.image(e.Rows[i], e.SkippedColumns[i])
		default:
			if c.Before, err = l.image(e.Rows[i], e.SkippedColumns[i]); err == nil {
				c.After, err = l.image(e.Rows[i+1], e.SkippedColumns[i+1])
			}
		}
		if err != nil {
			return err
		}
		r.annotate()
		r.txn.Rows = append(r.txn.Rows, c)
	}
	return nil
}

// annotate notes the annotation of the row that is about to be appended.
func (r *reader) annotate() {
	t := r.txn
	if r.annotated && t.Annotations == nil {
		t.Annotations = make([]event.WriteID, len(t.Rows), len(t.Rows)+1)
	}
	if t.Annotations != nil {
		t.Annotations = append(t.Annotations, r.annotation)
	}
}

func (l *layout) image(row []any, skipped []int) (event.Values, error) {
	if len(row) != len(l.columns) {
		return nil, fmt.Errorf("%d values for %d columns", len(row), len(l.columns))
	}
	v := make(event.Values, len(row))
	for i, x := range row {
		c := &l.columns[i]
		if x == nil {
			v[c.name] = nil
			continue
		}
		y, err := c.value(x)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.name, err)
		}
		v[c.name] = y
	}
	for _, i := range skipped { // binlog_row_image is not FULL, or the column is computed when it is read
		delete(v, l.columns[i].name)
	}
	return v, nil
}

func (r *reader) commit(offset uint32) error {
	if r.txn == nil {
		r.txn = &changelog.Txn{}
	}
	t := r.txn
	r.open, r.txn = false, nil
	t.Position, t.Received = event.MakePosition(r.file, offset), time.Now()
	if t.Position <= r.from {
		return nil
	}
	r.at = t.Position
	if err := r.emit(t); err != nil {
		return r.failed(err)
	}
	return nil
}

// passed tells of a position between transactions.
func (r *reader) passed(offset uint32) error {
	if r.open {
		return nil
	}
	return r.commit(offset)
}

func (r *reader) rollback(offset uint32) error {
	r.txn = nil
	return r.commit(offset)
}

func (r *reader) query(q *replication.QueryEvent, offset uint32) error {
	sql := bytes.TrimSpace(q.Query)
	word, rest := firstWord(sql)
	switch word {
	case "BEGIN":
		if !r.open {
			r.begin()
		}
		return nil
	case "COMMIT":
		return r.commit(offset)
	case "ROLLBACK":
		if name, ok := rollbackTo(rest); ok {
			r.undoTo(name)
			return nil
		}
		return r.rollback(offset)
	case "SAVEPOINT":
		if r.txn != nil {
			if r.savepoints == nil {
				r.savepoints = map[string]int{}
			}
			r.savepoints[strings.Trim(rest, "` ")] = len(r.txn.Rows)
		}
		return nil
	case "INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "TRUNCATE":
		r.s.log.Error("change log: a statement changed rows without naming them (binlog_format is not ROW for it, or TRUNCATE): run a sweep",
			"statement", word, "database", string(q.Schema), "after", r.at.String())
	}
	if r.alone || !r.open {
		clear(r.layouts)
		return r.rollback(offset)
	}
	return nil
}

// undoTo forgets rows that a ROLLBACK TO took back: it stands in the log when a table without transactions took part.
func (r *reader) undoTo(name string) {
	if r.txn == nil {
		return
	}
	if n, ok := r.savepoints[name]; ok && n <= len(r.txn.Rows) {
		r.txn.Rows = r.txn.Rows[:n]
		if r.txn.Annotations != nil {
			r.txn.Annotations = r.txn.Annotations[:min(n, len(r.txn.Annotations))]
		}
	}
}

func firstWord(sql []byte) (word, rest string) {
	i := bytes.IndexAny(sql, " \t\r\n")
	if i < 0 {
		i = len(sql)
	}
	if i > 16 {
		return "", ""
	}
	return strings.ToUpper(string(sql[:i])), string(bytes.TrimSpace(sql[i:min(len(sql), i+200)]))
}

// rollbackTo reads the name in "TO `name`" and "TO SAVEPOINT `name`".
func rollbackTo(rest string) (string, bool) {
	f := strings.Fields(rest)
	if len(f) < 2 || !strings.EqualFold(f[0], "TO") {
		return "", false
	}
	return strings.Trim(f[len(f)-1], "`"), true
}
