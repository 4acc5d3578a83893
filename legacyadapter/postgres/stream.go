package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"banyan/legacyadapter/changelog"
	"banyan/proxy/event"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// askEvery is how long an idle stream waits before it asks how far the server is.
const askEvery = 20 * time.Millisecond

// silence is after how long a server that does not answer counts as gone.
const silence = 15 * time.Second

// Stream implements [changelog.Source].
func (s *Source) Stream(ctx context.Context, from event.Position, emit func(*changelog.Txn) error) error {
	if err := s.resumable(ctx, from); err != nil {
		return err
	}
	cfg := s.pg.Copy()
	cfg.RuntimeParams["replication"] = "database"
	c, err := s.dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer closeConn(c)
	err = pglogrepl.StartReplication(ctx, c, s.cfg.Slot, pglogrepl.LSN(from), pglogrepl.StartReplicationOptions{
		Mode:       pglogrepl.LogicalReplication,
		PluginArgs: []string{"proto_version '1'", "publication_names '" + strings.ReplaceAll(s.cfg.Publication, "'", "''") + "'", "messages 'true'"},
	})
	if err != nil {
		return fmt.Errorf("start replication from slot %s: %w", s.cfg.Slot, err)
	}
	r := &reader{s: s, ctx: ctx, c: c, emit: emit, from: from, at: from, relations: map[uint32]*relation{}, warned: map[string]bool{}}
	err = r.run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// resumable sees that the slot still holds what follows the position: a slot starts where it is, without a word.
func (s *Source) resumable(ctx context.Context, from event.Position) error {
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(c)
	rows, err := texts(ctx, c, "SELECT confirmed_flush_lsn, coalesce(wal_status, '') FROM pg_replication_slots WHERE slot_name = $1", s.cfg.Slot)
	if err != nil {
		return fmt.Errorf("look at slot %s: %w", s.cfg.Slot, err)
	}
	if len(rows) == 0 {
		return changelog.Stop(fmt.Errorf("slot %s: %w: there is no such slot (`banyan check` prints how to make it); then set changelog.start_at_head and backfill", s.cfg.Slot, changelog.ErrGone))
	}
	at, err := event.ParsePosition(rows[0][0])
	if err != nil {
		return fmt.Errorf("slot %s: %w", s.cfg.Slot, err)
	}
	if at > from || rows[0][1] == "lost" {
		return changelog.Stop(fmt.Errorf("slot %s is at %s (%s), we stopped at %s: %w; set changelog.start_at_head and backfill, and raise max_slot_wal_keep_size",
			s.cfg.Slot, at, rows[0][1], from, changelog.ErrGone))
	}
	return nil
}

// reader turns messages into transactions. One goroutine.
type reader struct {
	s         *Source
	ctx       context.Context
	c         *pgconn.PgConn
	emit      func(*changelog.Txn) error
	from, at  event.Position
	relations map[uint32]*relation
	warned    map[string]bool
	heard     time.Time

	// of the transaction that is being read
	open       bool
	txn        *changelog.Txn
	size       int64
	annotation event.WriteID
}

func (r *reader) run() error {
	r.heard = time.Now()
	for {
		wait, cancel := context.WithTimeout(r.ctx, askEvery)
		m, err := r.c.ReceiveMessage(wait)
		cancel()
		switch {
		case err == nil:
			r.heard = time.Now()
		case r.ctx.Err() != nil:
			return context.Cause(r.ctx)
		case pgconn.Timeout(err) && time.Since(r.heard) < silence:
			if err := r.status(true); err != nil {
				return err
			}
			continue
		default:
			return fmt.Errorf("replication after %s: %w", r.at, err)
		}
		if err := r.message(m); err != nil {
			return err
		}
	}
}

// status tells the server what it may forget, and may ask it how far it is.
func (r *reader) status(ask bool) error {
	safe := pglogrepl.LSN(max(r.from, r.s.acknowledged()))
	if event.Position(safe) > r.at {
		safe = pglogrepl.LSN(r.at)
	}
	err := pglogrepl.SendStandbyStatusUpdate(r.ctx, r.c, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: safe, WALFlushPosition: safe, WALApplyPosition: safe, ReplyRequested: ask})
	if err != nil {
		return fmt.Errorf("status to the server: %w", err)
	}
	return nil
}

func (r *reader) message(m pgproto3.BackendMessage) error {
	switch m := m.(type) {
	case *pgproto3.ErrorResponse:
		return fmt.Errorf("replication after %s: %w", r.at, pgconn.ErrorResponseToPgError(m))
	case *pgproto3.CopyData:
		return r.data(m.Data)
	}
	return nil
}

// data guards against bytes that the decoding library does not expect.
func (r *reader) data(b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("replication after %s: a message that cannot be read: %v", r.at, p)
		}
	}()
	if len(b) == 0 {
		return errors.New("an empty message")
	}
	switch b[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(b[1:])
		if err != nil {
			return fmt.Errorf("keepalive: %w", err)
		}
		if k.ReplyRequested {
			if err := r.status(false); err != nil {
				return err
			}
		}
		return r.passed(event.Position(k.ServerWALEnd))
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(b[1:])
		if err != nil {
			return fmt.Errorf("replication after %s: %w", r.at, err)
		}
		l, err := pglogrepl.Parse(x.WALData)
		if err != nil {
			return fmt.Errorf("replication after %s: %w", r.at, err)
		}
		return r.logical(l, len(x.WALData))
	}
	return nil
}

// passed tells of a position between transactions: every commit up to it was sent before.
func (r *reader) passed(p event.Position) error {
	if r.open || p <= r.at {
		return nil
	}
	return r.send(&changelog.Txn{Position: p, Received: time.Now()})
}

func (r *reader) send(t *changelog.Txn) error {
	if t.Position <= r.from {
		return nil
	}
	r.at = t.Position
	return r.emit(t)
}

func (r *reader) logical(m pglogrepl.Message, size int) error {
	switch m := m.(type) {
	case *pglogrepl.BeginMessage:
		r.open, r.size, r.txn, r.annotation = true, 0, &changelog.Txn{}, event.WriteID{}
	case *pglogrepl.CommitMessage:
		t := r.txn
		r.open, r.txn = false, nil
		if t == nil {
			return fmt.Errorf("a commit without a begin after %s", r.at)
		}
		t.Position, t.Received = event.Position(m.TransactionEndLSN), time.Now()
		return r.send(t)
	case *pglogrepl.RelationMessage:
		return r.relation(m)
	case *pglogrepl.LogicalDecodingMessage:
		if m.Prefix == "banyan" && m.Transactional {
			id, err := event.ParseWriteID(string(m.Content))
			if err == nil {
				r.annotation = id
			}
		}
	case *pglogrepl.TruncateMessage:
		r.s.log.Error("change log: TRUNCATE changed rows without naming them: run a sweep", "after", r.at.String())
	case *pglogrepl.InsertMessage:
		return r.row(m.RelationID, event.Insert, nil, 0, m.Tuple, size)
	case *pglogrepl.UpdateMessage:
		return r.row(m.RelationID, event.Update, m.OldTuple, m.OldTupleType, m.NewTuple, size)
	case *pglogrepl.DeleteMessage:
		return r.row(m.RelationID, event.Delete, m.OldTuple, m.OldTupleType, nil, size)
	}
	return nil
}
