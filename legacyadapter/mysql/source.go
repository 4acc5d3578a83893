package mysql

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"banyan/legacyadapter/changelog"
	"banyan/proxy/event"
)

// lockName is a lock of the server, released by it when our connection ends.
const lockName = "banyan.changelog."

// Lock implements [changelog.Source].
func (s *Source) Lock(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlockLocked()
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	got, err := c.one(ctx, "SELECT GET_LOCK('"+lockName+quote(s.my.DBName)+"', 0), IS_USED_LOCK('"+lockName+quote(s.my.DBName)+"')")
	if err == nil && got[0] != "1" {
		err = fmt.Errorf("another reader holds it (connection %s): one banyan reads an installation's change log", got[1])
	}
	if err != nil {
		c.close()
		return err
	}
	s.fence = c
	return nil
}

// Close gives the lock back.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlockLocked()
	return nil
}

func (s *Source) unlockLocked() {
	if s.fence != nil {
		s.fence.close()
		s.fence = nil
	}
}

// lookSQL is one round trip: a snapshot knows the position of the last commit that it shows, exactly.
const lookSQL = "START TRANSACTION WITH CONSISTENT SNAPSHOT; SHOW STATUS LIKE 'binlog_snapshot_%'; COMMIT"

// Fence implements [changelog.Source].
func (s *Source) Fence(ctx context.Context) (event.Fence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fence == nil {
		return event.Fence{}, errors.New("the lock was lost")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	sent := time.Now().UTC()
	p, err := look(ctx, s.fence, lookSQL)
	if err != nil {
		s.unlockLocked() // whoever waits for the lock may have it now
		return event.Fence{}, err
	}
	return event.Fence{Sent: sent, Position: p, Answered: time.Now().UTC()}, nil
}

// Head implements [changelog.Source].
func (s *Source) Head(ctx context.Context) (event.Position, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer c.close()
	return look(ctx, c, lookSQL)
}

func look(ctx context.Context, c *conn, sql string) (event.Position, error) {
	rows, err := c.texts(ctx, sql)
	if err != nil {
		return 0, err
	}
	var file, offset string
	for _, r := range rows {
		switch strings.ToLower(r[0]) {
		case "binlog_snapshot_file":
			file = r[1]
		case "binlog_snapshot_position":
			offset = r[1]
		}
	}
	if file == "" {
		return 0, changelog.Stopf("the server tells no position of a snapshot: it must be a MariaDB with its binary log on; start it with log_bin")
	}
	n, err := fileNumber(file)
	if err != nil {
		return 0, err
	}
	o, err := strconv.ParseUint(offset, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("position %s of %s: above 4 GiB is not read", offset, file)
	}
	return event.MakePosition(n, uint32(o)), nil
}

// fileNumber is the number of a log file, 12 of binlog.000012.
func fileNumber(name string) (uint32, error) {
	n, err := strconv.ParseUint(name[strings.LastIndexByte(name, '.')+1:], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("log file %q: want a name that ends in a number", name)
	}
	return uint32(n), nil
}

// fileName is the name of the log file with a number.
func fileName(base string, n uint32) string { return fmt.Sprintf("%s.%06d", base, n) }

func quote(s string) string { return strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) }

func ident(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }

// Acknowledge implements [changelog.Source]; a binary log is kept by the server's own rule.
func (s *Source) Acknowledge(event.Position) {}
