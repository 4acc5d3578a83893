package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"

	my "github.com/go-sql-driver/mysql"
)

// conn is one connection of the driver, without database/sql between: a snapshot and a lock belong to a connection, and
// rows are not copied on their way.
type conn struct {
	c interface {
		driver.Conn
		driver.QueryerContext
		driver.ConnPrepareContext
	}
}

func (s *Source) connect(ctx context.Context) (*conn, error) {
	connector, err := my.NewConnector(s.my)
	if err != nil {
		return nil, fmt.Errorf("mariadb at %s: %w", s.my.Addr, err)
	}
	c, err := connector.Connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("mariadb at %s: %w", s.my.Addr, err)
	}
	full, ok := c.(interface {
		driver.Conn
		driver.QueryerContext
		driver.ConnPrepareContext
	})
	if !ok {
		c.Close()
		return nil, errors.New("the mysql driver lacks what we use of it")
	}
	return &conn{full}, nil
}

func (c *conn) close() error { return c.c.Close() }

// texts runs statements without arguments and gives the rows of all their answers as text, NULL as "".
func (c *conn) texts(ctx context.Context, sql string) ([][]string, error) {
	rows, err := c.c.QueryContext(ctx, sql, nil)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all [][]string
	for {
		if all, err = appendTexts(all, rows); err != nil {
			return nil, err
		}
		more, ok := rows.(driver.RowsNextResultSet)
		if !ok || !more.HasNextResultSet() {
			return all, nil
		}
		if err := more.NextResultSet(); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
}

func appendTexts(all [][]string, rows driver.Rows) ([][]string, error) {
	n := len(rows.Columns())
	if n == 0 {
		return all, nil
	}
	dest := make([]driver.Value, n)
	for {
		err := rows.Next(dest)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		row := make([]string, n)
		for i, v := range dest {
			row[i] = asText(v)
		}
		all = append(all, row)
	}
}

func asText(v driver.Value) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []byte:
		return string(v)
	case int64:
		return strconv.FormatInt(v, 10)
	default:
		return fmt.Sprint(v)
	}
}

// one runs a statement whose answer is one row.
func (c *conn) one(ctx context.Context, sql string) ([]string, error) {
	rows, err := c.texts(ctx, sql)
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("%d rows, want 1", len(rows))
	}
	if err != nil {
		return nil, err
	}
	return rows[0], nil
}
