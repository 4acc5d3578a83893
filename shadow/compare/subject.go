package compare

import (
	"crypto/sha256"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"

	"banyan/diff"
)

// subjectOf is what was asked, beside the key: the parameters in one order.
func subjectOf(params map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(params)) {
		parts = append(parts, url.QueryEscape(k)+"="+url.QueryEscape(params[k]))
	}
	return strings.Join(parts, "&")
}

// digest of a subject: 128 bits.
func digest(parts ...string) []byte {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return sum[:16]
}

// rawValue is a value's JSON; nothing for one that is missing.
func rawValue(v diff.Value) json.RawMessage {
	if v.Kind() == diff.Missing {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}
