package mysql

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"

	"banyan/legacyadapter/changelog"
)

// charsets converts text of the log, which is in the column's character set, to what a SELECT would give. For
// single-byte sets the server itself is asked what each byte means, so there is no table of ours to be wrong.
type charsets struct {
	mu        sync.Mutex // guards both; held while the server is asked, which only the stream waits for
	collation map[uint64]string
	single    map[string]*table256
}

// decode turns bytes of a column into text.
type decode func(b string) string

// load asks for the character set of every collation.
func (cs *charsets) load(ctx context.Context, c *conn) error {
	rows, err := c.texts(ctx, "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS WHERE ID IS NOT NULL "+
		"UNION SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY WHERE ID IS NOT NULL")
	if err != nil { // before 10.10 only the first knows ids
		rows, err = c.texts(ctx, "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS")
	}
	if err != nil {
		return fmt.Errorf("character sets: %w", err)
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.collation = map[uint64]string{}
	for _, r := range rows {
		if id, err := strconv.ParseUint(r[0], 10, 64); err == nil {
			cs.collation[id] = r[1]
		}
	}
	return nil
}

const binaryCollation = 63

func (cs *charsets) decoder(ctx context.Context, s *Source, collation uint64) (decode, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	name, ok := cs.collation[collation]
	if !ok {
		return nil, fmt.Errorf("collation %d is not known to the server", collation)
	}
	switch name {
	case "utf8", "utf8mb3", "utf8mb4", "ascii":
		return changelog.TextString, nil
	case "ucs2", "utf16":
		return func(b string) string { return wide(b, false) }, nil
	case "utf16le":
		return func(b string) string { return wide(b, true) }, nil
	case "utf32":
		return utf32, nil
	}
	if multiByte[name] {
		return undecodable, nil
	}
	t := cs.single[name]
	if t == nil {
		var err error
		if t, err = s.singleByte(ctx, name); err != nil {
			return nil, err
		}
		if cs.single == nil {
			cs.single = map[string]*table256{}
		}
		cs.single[name] = t
	}
	return t.decode, nil
}

// multiByte are character sets that are not decoded; Check names columns that use them.
var multiByte = map[string]bool{"big5": true, "sjis": true, "cp932": true, "euckr": true, "gb2312": true, "gbk": true,
	"ujis": true, "eucjpms": true, "gb18030": true}

func undecodable(b string) string {
	if isASCII(b) {
		return b
	}
	return changelog.Undecodable + changelog.Binary([]byte(b))
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// table256 is what each byte of a single-byte set means.
type table256 struct {
	text  [256]string
	ascii bool // the lower half is ASCII
}

func (t *table256) decode(b string) string {
	if t.ascii && isASCII(b) {
		return b
	}
	var s strings.Builder
	s.Grow(len(b) + 8)
	for i := 0; i < len(b); i++ {
		s.WriteString(t.text[b[i]])
	}
	return s.String()
}

// singleByte asks the server for all characters of a set.
func (s *Source) singleByte(ctx context.Context, name string) (*table256, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var q strings.Builder
	q.WriteString("SELECT ")
	for i := range 256 {
		if i > 0 {
			q.WriteByte(',')
		}
		fmt.Fprintf(&q, "HEX(CONVERT(_%s 0x%02X USING utf8mb4))", name, i)
	}
	row, err := c.one(ctx, q.String())
	if err != nil {
		return nil, fmt.Errorf("character set %s: %w", name, err)
	}
	t := table256{ascii: true}
	for i, h := range row {
		b, err := unhex(h)
		if err != nil {
			return nil, fmt.Errorf("character set %s: %w", name, err)
		}
		t.text[i] = b
		t.ascii = t.ascii && (i >= 0x80 || b == string(rune(i)))
	}
	return &t, nil
}

func unhex(h string) (string, error) {
	b := make([]byte, 0, 4)
	for i := 0; i+1 < len(h); i += 2 {
		n, err := strconv.ParseUint(h[i:i+2], 16, 8)
		if err != nil {
			return "", err
		}
		b = append(b, byte(n))
	}
	return string(b), nil
}

func wide(b string, little bool) string {
	if len(b)%2 != 0 {
		return changelog.Undecodable + changelog.Binary([]byte(b))
	}
	u := make([]uint16, len(b)/2)
	for i := range u {
		hi, lo := b[2*i], b[2*i+1]
		if little {
			hi, lo = lo, hi
		}
		u[i] = uint16(hi)<<8 | uint16(lo)
	}
	return string(utf16.Decode(u))
}

func utf32(b string) string {
	if len(b)%4 != 0 {
		return changelog.Undecodable + changelog.Binary([]byte(b))
	}
	r := make([]rune, len(b)/4)
	for i := range r {
		r[i] = rune(b[4*i])<<24 | rune(b[4*i+1])<<16 | rune(b[4*i+2])<<8 | rune(b[4*i+3])
	}
	return string(r)
}
