// Package redact keeps secrets out of the journal, Kafka and captures.
//
// It promises: values of fields whose name is a declared or default secret are replaced by "***" in query, form,
// multipart and JSON, however the name is spelled (percent escapes, '+', case, and all that PHP makes the same name of); a
// session travels as a keyed hash; a body that says it is JSON or multipart and cannot be parsed is masked whole, and so
// is a part of one whose name cannot be told. It leaves headers to its callers: only a
// closed list of them is ever recorded, and neither Cookie nor Authorization is on it. It does not find secrets in
// fields with innocent names.
package redact

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Mask stands for a value.
const Mask = "***"

// Defaults are the names that are always secret, as patterns without case.
var Defaults = []string{"pass*", "*password*", "passwd", "pwd", "token", "*_token", "csrf*", "*secret*", "api_key", "apikey", "authorization", "nonce", "_wpnonce", "card*", "cvv", "cvc"}

// Redactor is safe for concurrent use.
type Redactor struct {
	secret map[string][]glob // "form", "query", "json": the defaults, and what was declared for the part
	hashes sync.Pool         // of *keyed
}

// New adds declared patterns ("form.pin", "json.*_key", "query.sig") to the defaults. key makes session hashes
// useless to whoever lacks it; it must be the same for all proxies of an installation.
func New(declared []string, key []byte) (*Redactor, error) {
	r := &Redactor{secret: map[string][]glob{}}
	for _, part := range []string{"form", "query", "json"} {
		for _, d := range Defaults {
			r.secret[part] = append(r.secret[part], parseGlob(d))
		}
	}
	for _, d := range declared {
		part, pattern, ok := strings.Cut(d, ".")
		if !ok || pattern == "" || r.secret[part] == nil {
			return nil, fmt.Errorf("redact: %q: want form., query. or json. and a name, '*' for any characters", d)
		}
		r.secret[part] = append(r.secret[part], parseGlob(strings.ToLower(pattern)))
	}
	key = bytes.Clone(key)
	r.hashes.New = func() any { return &keyed{hash: hmac.New(sha256.New, key)} }
	return r, nil
}

// keyed is a hash that has its key, which costs more than a session id, and the memory of one use.
type keyed struct {
	hash hash.Hash
	id   []byte
	sum  [sha256.Size]byte
}

// Session is the keyed hash of a session id, 32 hex digits; "" for none.
func (r *Redactor) Session(id string) string { return string(r.AppendSession(nil, []byte(id))) }

// AppendSession appends the keyed hash of a session id, 32 hex digits, or nothing for none.
func (r *Redactor) AppendSession(dst, id []byte) []byte {
	if len(id) == 0 {
		return dst
	}
	k := r.hashes.Get().(*keyed)
	k.hash.Reset()
	k.id = append(k.id[:0], id...)
	k.hash.Write(k.id)
	dst = hex.AppendEncode(dst, k.hash.Sum(k.sum[:0])[:16])
	r.hashes.Put(k)
	return dst
}

// Secret says whether a field's name is a secret's. part is "form", "query" or "json". The outermost name and each
// key of a[k][l] count.
func (r *Redactor) Secret(part, name string) bool { return secret(r.secret[part], name) }

func secret[S ~string | ~[]byte](patterns []glob, name S) bool {
	set := bytesOf(name)
	for i := range patterns {
		if patterns[i].bytes&^set == 0 {
			return matches(patterns, string(name))
		}
	}
	return false
}

func matches(patterns []glob, name string) bool {
	name = strings.ToLower(strings.TrimLeft(name, " "))
	word := func(w string) bool {
		w = variable.Replace(strings.TrimLeft(w, " "))
		return slices.ContainsFunc(patterns, func(g glob) bool { return g.match(w) })
	}
	for w := range strings.FieldsFuncSeq(name, func(c rune) bool { return c == '[' || c == ']' || c == 0 }) {
		if word(w) {
			return true
		}
	}
	name, _, _ = strings.Cut(name, "\x00")           // for PHP, it ends there
	return strings.Contains(name, "[") && word(name) // without its end, PHP takes a '[' for a '_'
}

// variable makes a variable's name of a field's, as PHP does.
var variable = strings.NewReplacer(".", "_", " ", "_", "[", "_")

// glob is a pattern with '*' for any characters, cut at the stars: path.Match would cost six times as much.
type glob struct {
	pieces []string
	bytes  byteSet // of all pieces: most names lack one, and need no closer look
}

// parseGlob makes a pattern of the names of variables.
func parseGlob(s string) glob {
	s = variable.Replace(s)
	return glob{strings.Split(s, "*"), bytesOf(strings.ReplaceAll(s, "*", ""))}
}

func (g glob) match(name string) bool {
	first, last := g.pieces[0], g.pieces[len(g.pieces)-1]
	if len(g.pieces) == 1 {
		return name == first
	}
	name, ok := strings.CutPrefix(name, first)
	if !ok {
		return false
	}
	for _, piece := range g.pieces[1 : len(g.pieces)-1] {
		_, rest, found := strings.Cut(name, piece)
		if !found {
			return false
		}
		name = rest
	}
	return strings.HasSuffix(name, last)
}

// byteSet has a bit for each byte of a variable's name, in lower case; several share one. What holds a piece has all of
// its bits.
type byteSet uint64

// bytesOf a name with other letters than ASCII's are all: some of those have an ASCII letter for their lower case.
func bytesOf[S ~string | ~[]byte](name S) (set byteSet) {
	for i := range len(name) {
		c := name[i]
		if c >= utf8.RuneSelf {
			return ^byteSet(0)
		}
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c == '.' || c == ' ' || c == '[':
			c = '_'
		}
		set |= 1 << (c & 63)
	}
	return set
}

// Target masks the query of a raw request target; everything else keeps its bytes. The result may alias raw where
// nothing was masked.
func (r *Redactor) Target(raw []byte) []byte {
	i := bytes.IndexByte(raw, '?')
	if i < 0 {
		return raw
	}
	return r.urlencoded("query", raw, i+1)
}

// Body masks a body by its content type. The result may alias body where nothing was masked.
func (r *Redactor) Body(contentType string, body []byte) []byte {
	if len(body) == 0 {
		return body
	}
	kind := strings.ToLower(strings.TrimSpace(contentType))
	if i := strings.IndexAny(kind, ";, "); i >= 0 { // where PHP ends it
		kind = kind[:i]
	}
	switch {
	case kind == "application/x-www-form-urlencoded":
		return r.urlencoded("form", body, 0)
	case kind == "multipart/form-data":
		_, params, _ := mime.ParseMediaType(contentType) // of what is no media type nothing is known, and the body is masked
		return r.multipart(params["boundary"], body)
	case kind == "application/json" || strings.HasSuffix(kind, "+json") || body[0] == '{':
		return r.json(body)
	}
	return body
}

// urlencoded masks the pairs in raw[from:].
func (r *Redactor) urlencoded(part string, raw []byte, from int) []byte {
	patterns := r.secret[part]
	var out []byte // nil until something is masked
	for at := from; at < len(raw); {
		end := bytes.IndexByte(raw[at:], '&')
		if end < 0 {
			end = len(raw)
		} else {
			end += at
		}
		name, _, hasValue := bytes.Cut(raw[at:end], []byte("="))
		if hasValue && secret(patterns, unescape(name)) {
			if out == nil {
				out = append(make([]byte, 0, len(raw)+8), raw[:at]...)
			}
			out = append(append(append(out, name...), '='), Mask...)
		} else if out != nil {
			out = append(out, raw[at:end]...)
		}
		if end < len(raw) && out != nil {
			out = append(out, '&')
		}
		at = end + 1
	}
	if out == nil {
		return raw
	}
	return out
}

// unescape gives b itself where nothing is escaped.
func unescape(b []byte) []byte {
	if bytes.IndexByte(b, '%') < 0 && bytes.IndexByte(b, '+') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '%' && i+2 < len(b) {
			if c, err := hex.DecodeString(string(b[i+1 : i+3])); err == nil {
				out = append(out, c[0])
				i += 2
				continue
			}
		}
		c := b[i]
		if c == '+' {
			c = ' '
		}
		out = append(out, c)
	}
	return out
}

// json replaces the values of secret members at any depth; the rest keeps its bytes.
func (r *Redactor) json(body []byte) []byte {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var out []byte
	kept := int64(0) // body[:kept] stands in out
	type level struct{ object, name bool }
	var stack []level
	for {
		t, err := d.Token()
		if err == io.EOF && len(stack) == 0 {
			break
		}
		if err != nil {
			return []byte(Mask)
		}
		top := len(stack) - 1
		if delim, ok := t.(json.Delim); ok {
			if delim == '{' || delim == '[' {
				stack = append(stack, level{object: delim == '{', name: true})
			} else if stack = stack[:top]; len(stack) > 0 {
				stack[len(stack)-1].name = true
			}
			if len(stack) > maxDepth {
				return []byte(Mask)
			}
			continue
		}
		if top < 0 || !stack[top].object {
			continue
		}
		if !stack[top].name {
			stack[top].name = true
			continue
		}
		name, _ := t.(string)
		if !r.Secret("json", name) {
			stack[top].name = false
			continue
		}
		from := d.InputOffset() // behind the name
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return []byte(Mask)
		}
		colon := from + int64(bytes.IndexByte(body[from:], ':')) + 1
		out = append(append(out, body[kept:colon]...), `"`+Mask+`"`...)
		kept = d.InputOffset()
	}
	if out == nil {
		return body
	}
	return append(out, body[kept:]...)
}

const maxDepth = 512

func (r *Redactor) multipart(boundary string, body []byte) []byte {
	if boundary == "" {
		return []byte(Mask)
	}
	in := multipart.NewReader(bytes.NewReader(body), boundary)
	var b bytes.Buffer
	out := multipart.NewWriter(&b)
	if err := out.SetBoundary(boundary); err != nil {
		return []byte(Mask)
	}
	masked := false
	for {
		p, err := in.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return []byte(Mask)
		}
		w, err := out.CreatePart(textproto.MIMEHeader(p.Header))
		if err != nil {
			return []byte(Mask)
		}
		if r.secretPart(p.Header.Get("Content-Disposition")) {
			masked = true
			_, err = io.WriteString(w, Mask)
		} else {
			_, err = io.Copy(w, p)
		}
		if err != nil {
			return []byte(Mask)
		}
	}
	if !masked {
		return body
	}
	_ = out.Close() // writes to memory
	return b.Bytes()
}

// secretPart says whether a part of a form is a secret's. PHP takes single quotes as well, and what follows the second
// one for nothing; and it finds a name in what is no header to others, so such a part counts.
func (r *Redactor) secretPart(disposition string) bool {
	_, params, err := mime.ParseMediaType(disposition)
	if err != nil || r.Secret("form", params["name"]) {
		return true
	}
	words := strings.FieldsFunc(params["name"], func(c rune) bool { return c == '\'' || c == '"' || c == '\\' })
	return slices.ContainsFunc(words, func(w string) bool { return r.Secret("form", w) })
}
