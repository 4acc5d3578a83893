// Package redact keeps secrets out of the journal, Kafka and captures.
//
// It promises: values of fields whose name is a declared or default secret are replaced by "***" in query, form,
// multipart and JSON, however the name is spelled (percent escapes, case); a session travels as a keyed hash; a body
// that says it is JSON or multipart and cannot be parsed is masked whole. It leaves headers to its callers: only a
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
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"strings"
)

// Mask stands for a value.
const Mask = "***"

// Defaults are the names that are always secret, as patterns without case.
var Defaults = []string{"pass*", "*password*", "passwd", "pwd", "token", "*_token", "csrf*", "*secret*", "api_key", "apikey", "authorization", "nonce", "_wpnonce", "card*", "cvv", "cvc"}

// Redactor is safe for concurrent use.
type Redactor struct {
	key      []byte
	anywhere []glob            // for every part
	part     map[string][]glob // "form", "query", "json"
}

// New adds declared patterns ("form.pin", "json.*_key", "query.sig") to the defaults. key makes session hashes
// useless to whoever lacks it; it must be the same for all proxies of an installation.
func New(declared []string, key []byte) (*Redactor, error) {
	r := &Redactor{key: key, part: map[string][]glob{}}
	for _, d := range Defaults {
		r.anywhere = append(r.anywhere, parseGlob(d))
	}
	for _, d := range declared {
		part, pattern, ok := strings.Cut(d, ".")
		if !ok || pattern == "" || part != "form" && part != "query" && part != "json" {
			return nil, fmt.Errorf("redact: %q: want form., query. or json. and a name, '*' for any characters", d)
		}
		r.part[part] = append(r.part[part], parseGlob(strings.ToLower(pattern)))
	}
	return r, nil
}

// Session is the keyed hash of a session id, 32 hex digits; "" for none.
func (r *Redactor) Session(id string) string {
	if id == "" {
		return ""
	}
	h := hmac.New(sha256.New, r.key)
	h.Write([]byte(id))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Secret says whether a field's name is a secret's. part is "form", "query" or "json". The outermost name and each
// key of a[k][l] count.
func (r *Redactor) Secret(part, name string) bool {
	for w := range strings.FieldsFuncSeq(strings.ToLower(name), func(c rune) bool { return c == '[' || c == ']' }) {
		w = strings.TrimLeft(w, " ")
		if matches(r.anywhere, w) || matches(r.part[part], w) {
			return true
		}
	}
	return false
}

// glob is a pattern with '*' for any characters, cut at the stars: path.Match would cost six times as much.
type glob []string

func parseGlob(s string) glob { return strings.Split(s, "*") }

func (g glob) match(name string) bool {
	if len(g) == 1 {
		return name == g[0]
	}
	name, ok := strings.CutPrefix(name, g[0])
	if !ok {
		return false
	}
	for _, piece := range g[1 : len(g)-1] {
		_, rest, found := strings.Cut(name, piece)
		if !found {
			return false
		}
		name = rest
	}
	return strings.HasSuffix(name, g[len(g)-1])
}

func matches(patterns []glob, name string) bool {
	for _, p := range patterns {
		if p.match(name) {
			return true
		}
	}
	return false
}

// Target masks the query of a raw request target; everything else keeps its bytes.
func (r *Redactor) Target(raw []byte) string {
	p, query, ok := bytes.Cut(raw, []byte("?"))
	if !ok {
		return string(raw)
	}
	return string(p) + "?" + string(r.urlencoded("query", query))
}

// Body masks a body by its content type. The result may alias body where nothing was masked.
func (r *Redactor) Body(contentType string, body []byte) []byte {
	if len(body) == 0 {
		return body
	}
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind, _, _ = strings.Cut(contentType, ";")
		kind = strings.ToLower(strings.TrimSpace(kind))
	}
	switch {
	case kind == "application/x-www-form-urlencoded":
		return r.urlencoded("form", body)
	case kind == "multipart/form-data":
		return r.multipart(params["boundary"], body)
	case kind == "application/json" || strings.HasSuffix(kind, "+json") || body[0] == '{':
		return r.json(body)
	}
	return body
}

func (r *Redactor) urlencoded(part string, raw []byte) []byte {
	var out []byte // nil until something is masked
	for at := 0; at < len(raw); {
		end := bytes.IndexByte(raw[at:], '&')
		if end < 0 {
			end = len(raw)
		} else {
			end += at
		}
		name, _, hasValue := bytes.Cut(raw[at:end], []byte("="))
		if hasValue && r.Secret(part, unescape(name)) {
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

func unescape(b []byte) string {
	if bytes.IndexByte(b, '%') < 0 && bytes.IndexByte(b, '+') < 0 {
		return string(b)
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
		out = append(out, b[i])
	}
	return string(out)
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
		if r.Secret("form", p.FormName()) {
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
