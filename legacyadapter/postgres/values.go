package postgres

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"banyan/legacyadapter/changelog"

	"github.com/jackc/pgx/v5/pgconn"
)

// The server's type numbers, which never change.
const (
	oidBool        = 16
	oidBytea       = 17
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidOID         = 26
	oidFloat4      = 700
	oidFloat8      = 701
	oidTimestamptz = 1184
	oidNumeric     = 1700
	firstUserType  = 16384
)

// convert turns the server's text of a value into ours.
type convert func(b []byte) any

func converter(oid uint32) convert {
	switch oid {
	case oidBool:
		return func(b []byte) any { return len(b) == 1 && b[0] == 't' }
	case oidInt2, oidInt4, oidInt8, oidOID, oidNumeric:
		return func(b []byte) any { return changelog.Decimal(string(b)) }
	case oidFloat4:
		return func(b []byte) any { return float(b, 32) }
	case oidFloat8:
		return func(b []byte) any { return float(b, 64) }
	case oidBytea:
		return bytea
	case oidTimestamptz:
		return func(b []byte) any { return strings.TrimSuffix(changelog.Text(b), "+00") }
	}
	return func(b []byte) any { return changelog.Text(b) }
}

func float(b []byte, bits int) any {
	f, err := strconv.ParseFloat(string(b), bits)
	if err != nil {
		return changelog.Text(b)
	}
	return changelog.Float(f, bits)
}

// bytea reads the hex form.
func bytea(b []byte) any {
	if len(b) < 2 || b[0] != '\\' || b[1] != 'x' {
		return changelog.Text(b)
	}
	raw := make([]byte, hex.DecodedLen(len(b)-2))
	if _, err := hex.Decode(raw, b[2:]); err != nil {
		return changelog.Text(b)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// types knows the base types of domains.
type types struct {
	mu   sync.Mutex // guards base; held while the server is asked, which only the stream waits for
	base map[uint32]uint32
}

// resolve gives the base type of a domain, and other types as they are.
func (t *types) resolve(ctx context.Context, s *Source, oid uint32) (uint32, error) {
	if oid < firstUserType {
		return oid, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.base[oid]; !ok {
		c, err := s.connect(ctx)
		if err != nil {
			return 0, err
		}
		defer closeConn(c)
		if err := t.loadLocked(ctx, c); err != nil {
			return 0, err
		}
	}
	for range 16 { // domains over domains
		b, ok := t.base[oid]
		if !ok || b == 0 {
			break
		}
		oid = b
	}
	return oid, nil
}

func (t *types) loadLocked(ctx context.Context, c *pgconn.PgConn) error {
	rows, err := texts(ctx, c, "SELECT oid, typbasetype FROM pg_type WHERE oid >= 16384")
	if err != nil {
		return fmt.Errorf("types: %w", err)
	}
	t.base = map[uint32]uint32{}
	for _, r := range rows {
		oid, err1 := strconv.ParseUint(r[0], 10, 32)
		base, err2 := strconv.ParseUint(r[1], 10, 32)
		if err1 == nil && err2 == nil {
			t.base[uint32(oid)] = uint32(base)
		}
	}
	return nil
}
