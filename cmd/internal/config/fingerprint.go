package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"sort"
)

// Fingerprint identifies what evidence is bound to: routes, rules, mappings, contracts, SQL and the build. Evidence of
// another fingerprint does not count.
func (f *File) Fingerprint(build string) string {
	h := sha256.New()
	_ = json.NewEncoder(h).Encode(struct { // of plain data: it always encodes
		Build      string
		Routes     []PlainRoute
		Migrations any
	}{build, f.Routes, f.evidenceParts()})
	for _, name := range f.files() {
		h.Write([]byte(name))
		if b, err := os.ReadFile(f.Path(name)); err == nil { // a file that is missing now was reported by check
			h.Write(b)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// evidenceParts leaves out addresses and gates: another password or a stricter gate makes no comparison wrong.
func (f *File) evidenceParts() map[string]any {
	out := map[string]any{}
	for name, m := range f.Migrations {
		var on, docs any
		if m.ReadModel != nil {
			on, docs = m.ReadModel.On, m.ReadModel.Documents
		}
		out[string(name)] = []any{m.OrderBy, m.Dispatch != "", m.Writes, m.Reads, m.Rows, m.State, on, docs}
	}
	return out
}

func (f *File) files() []string {
	var names []string
	for _, m := range f.Migrations {
		if rm := m.ReadModel; rm != nil {
			names = append(names, rm.Schema)
			for _, h := range rm.On {
				names = append(names, h.SQL)
			}
			for _, d := range rm.Documents {
				names = append(names, d.SQL)
			}
		}
	}
	if f.Contracts != "" {
		found, _ := filepath.Glob(filepath.Join(f.Path(f.Contracts), "*", "*"))
		for _, n := range found {
			if rel, err := filepath.Rel(f.dir, n); err == nil {
				names = append(names, rel)
			}
		}
	}
	sort.Strings(names)
	return names
}
