package mysql

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"banyan/legacyadapter/changelog"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
)

// layout is how the rows of one table map are turned into values.
type layout struct {
	schema, table string
	name          string // as configured; "" if nobody asked for it
	types         []byte
	meta          []uint16
	columns       []column
}

// column turns what the replication library gives into a value. What it gives is in the doc of its RowsEvent.
type column struct {
	name  string
	value func(v any) (any, error)
}

// same says whether the layout fits a table map: table ids start again when the server does.
func (l *layout) same(t *replication.TableMapEvent) bool {
	if l.schema != string(t.Schema) || l.table != string(t.Table) || len(l.meta) != len(t.ColumnMeta) || string(l.types) != string(t.ColumnType) {
		return false
	}
	for i, m := range t.ColumnMeta {
		if l.meta[i] != m {
			return false
		}
	}
	return true
}

func (s *Source) layout(ctx context.Context, t *replication.TableMapEvent) (*layout, error) {
	l := &layout{schema: string(t.Schema), table: string(t.Table), types: append([]byte(nil), t.ColumnType...),
		meta: append([]uint16(nil), t.ColumnMeta...)}
	l.name = s.tables[l.schema+"."+l.table]
	if l.name == "" {
		return l, nil
	}
	names := t.ColumnNameString()
	if uint64(len(names)) != t.ColumnCount {
		return nil, changelog.Stopf("the log does not name the columns of %s.%s: SET GLOBAL binlog_row_metadata = 'FULL'; "+
			"what was written before cannot be read: then set changelog.start_at_head and backfill", l.schema, l.table)
	}
	unsigned, collations, sets := t.UnsignedMap(), t.CollationMap(), t.EnumSetCollationMap()
	enumLabels, setLabels := t.EnumStrValueMap(), t.SetStrValueMap()
	l.columns = make([]column, len(names))
	for i, name := range names {
		c := &l.columns[i]
		c.name = strings.Clone(name)
		var err error
		switch {
		case t.IsEnumColumn(i):
			c.value, err = s.labelled(ctx, sets[i], enumLabels[i], enumValue)
		case t.IsSetColumn(i):
			c.value, err = s.labelled(ctx, sets[i], setLabels[i], setValue)
		default:
			c.value, err = s.plain(ctx, t.ColumnType[i], t.ColumnMeta[i], unsigned[i], collations[i])
		}
		if err != nil {
			return nil, fmt.Errorf("column %s.%s.%s: %w", l.schema, l.table, c.name, err)
		}
	}
	return l, nil
}

func (s *Source) plain(ctx context.Context, tp byte, meta uint16, unsigned bool, collation uint64) (func(any) (any, error), error) {
	switch tp {
	case mysql.MYSQL_TYPE_TINY:
		return integer(unsigned, 1<<8-1), nil
	case mysql.MYSQL_TYPE_SHORT:
		return integer(unsigned, 1<<16-1), nil
	case mysql.MYSQL_TYPE_INT24:
		return integer(unsigned, 1<<24-1), nil
	case mysql.MYSQL_TYPE_LONG:
		return integer(unsigned, 1<<32-1), nil
	case mysql.MYSQL_TYPE_LONGLONG:
		return integer(unsigned, 1<<64-1), nil
	case mysql.MYSQL_TYPE_BIT:
		return integer(true, 1<<64-1), nil
	case mysql.MYSQL_TYPE_YEAR:
		return integer(false, 0), nil
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		return func(v any) (any, error) { return changelog.Decimal(text(v)), nil }, nil
	case mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_DOUBLE:
		return float, nil
	case mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_BLOB:
		if collation == binaryCollation {
			width := 0
			if tp == mysql.MYSQL_TYPE_STRING {
				width = fixedWidth(meta)
			}
			return func(v any) (any, error) { return binary(text(v), width), nil }, nil
		}
		d, err := s.charsets.decoder(ctx, s, collation)
		if err != nil {
			return nil, err
		}
		return func(v any) (any, error) { return d(text(v)), nil }, nil
	case mysql.MYSQL_TYPE_GEOMETRY:
		return func(v any) (any, error) { return binary(text(v), 0), nil }, nil
	}
	// Dates and times come as text in the form that we promise.
	return func(v any) (any, error) { return text(v), nil }, nil
}

// fixedWidth is the length of BINARY(n), which the log stores without the zeros at its end.
func fixedWidth(meta uint16) int {
	if meta < 256 {
		return int(meta)
	}
	b0, b1 := meta>>8, meta&0xFF
	return int(b1 | ((b0&0x30)^0x30)<<4)
}

func binary(s string, width int) string {
	b := []byte(s)
	for len(b) < width {
		b = append(b, 0)
	}
	return base64.StdEncoding.EncodeToString(b)
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return fmt.Sprint(v)
}

func integer(unsigned bool, mask uint64) func(any) (any, error) {
	return func(v any) (any, error) {
		n, err := number(v)
		if err != nil {
			return nil, err
		}
		if unsigned {
			return changelog.Uint(uint64(n) & mask), nil
		}
		return changelog.Int(n), nil
	}
}

func number(v any) (int64, error) {
	switch v := v.(type) {
	case int8:
		return int64(v), nil
	case int16:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case int64:
		return v, nil
	case int:
		return int64(v), nil
	}
	return 0, fmt.Errorf("a %T where a number was expected", v)
}

func float(v any) (any, error) {
	switch v := v.(type) {
	case float32:
		return changelog.Float(float64(v), 32), nil
	case float64:
		return changelog.Float(v, 64), nil
	}
	return nil, fmt.Errorf("a %T where a float was expected", v)
}

// labelled turns the numbers of ENUM and SET into labels.
func (s *Source) labelled(ctx context.Context, collation uint64, raw []string, value func(labels []string, n uint64) (any, error)) (func(any) (any, error), error) {
	labels := make([]string, len(raw))
	for i, r := range raw {
		labels[i] = strings.Clone(r)
	}
	if collation != binaryCollation {
		d, err := s.charsets.decoder(ctx, s, collation)
		if err != nil {
			return nil, err
		}
		for i := range labels {
			labels[i] = strings.Clone(d(labels[i]))
		}
	}
	return func(v any) (any, error) {
		n, err := number(v)
		if err != nil {
			return nil, err
		}
		return value(labels, uint64(n))
	}, nil
}

// enumValue: number 0 is what the server stores for an invalid value, and shows as ”.
func enumValue(labels []string, n uint64) (any, error) {
	switch {
	case n == 0:
		return "", nil
	case n > uint64(len(labels)):
		return nil, fmt.Errorf("label %d of an enum with %d", n, len(labels))
	}
	return labels[n-1], nil
}

func setValue(labels []string, n uint64) (any, error) {
	var in []string
	for i, l := range labels {
		if n&(1<<i) != 0 {
			in = append(in, l)
		}
	}
	return strings.Join(in, ","), nil
}
