package php

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"strings"

	"banyan/proxy/route"
)

// maxVars is PHP's max_input_vars default: later variables do not exist for the script.
const maxVars = 1000

// Params reads query strings, forms, JSON bodies and cookies as PHP does: the last of two equal names wins, dots and
// spaces in names become '_', a[] and a[k] are nested (and found here under the name "a[0]", "a[k]").
type Params struct{}

var _ route.Params = Params{}

// vars holds names and values in order; a lookup takes the last. Requests have few parameters: a list is cheaper
// than a map.
type vars struct {
	names, values []string
}

// Get implements route.Values.
func (v *vars) Get(name string) (string, bool) {
	for i := len(v.names) - 1; i >= 0; i-- {
		if v.names[i] == name {
			return v.values[i], true
		}
	}
	return "", false
}

func (v *vars) add(name, value string) {
	if len(v.names) >= maxVars {
		return
	}
	if name, ok := v.mangle(name); ok {
		v.names, v.values = append(v.names, name), append(v.values, value)
	}
}

// mangle turns a name into PHP's variable name: leading spaces go, the name ends at a NUL, '.' and ' ' before the
// first '[' become '_', an unclosed '[' becomes '_' too, "a[]" gets the next free index.
func (v *vars) mangle(name string) (string, bool) {
	name = strings.TrimLeft(name, " ")
	if i := strings.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	if name == "" || name[0] == '[' && strings.IndexByte(name, ']') < 0 {
		return "", false
	}
	open := strings.IndexByte(name, '[')
	if open == 0 {
		return "", false
	}
	if open < 0 {
		return underscores(name), true
	}
	base, rest := underscores(name[:open]), name[open:]
	if strings.IndexByte(rest, ']') < 0 {
		return base + "_" + underscores(rest[1:]), true
	}
	var b strings.Builder
	b.WriteString(base)
	for len(rest) > 0 && rest[0] == '[' {
		end := strings.IndexByte(rest, ']')
		if end < 0 {
			break
		}
		k := rest[1:end]
		if k == "" {
			k = v.next(b.String())
		}
		b.WriteString("[" + k + "]")
		rest = rest[end+1:]
	}
	return b.String(), true
}

// next is the index that "prefix[]" gets.
func (v *vars) next(prefix string) string {
	n := 0
	for _, name := range v.names {
		if rest, ok := strings.CutPrefix(name, prefix+"["); ok {
			k, _, _ := strings.Cut(rest, "]")
			if i, ok := smallInt(k); ok && i >= n {
				n = i + 1
			}
		}
	}
	return itoa(n)
}

func smallInt(s string) (int, bool) {
	if s == "" || len(s) > 9 || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

var mangler = strings.NewReplacer(".", "_", " ", "_")

func underscores(s string) string {
	if strings.IndexByte(s, '.') < 0 && strings.IndexByte(s, ' ') < 0 {
		return s
	}
	return mangler.Replace(s)
}

// Query implements route.Params.
func (Params) Query(raw []byte) route.Values { return urlencoded(string(raw)) }

func urlencoded(s string) *vars {
	v := &vars{}
	for s != "" {
		var pair string
		pair, s, _ = strings.Cut(s, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		v.add(unescape(name), unescape(value))
	}
	return v
}

// unescape is PHP's urldecode: '+' is a space, a '%' without two digits stays.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			b = append(b, ' ')
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b = append(b, hex(s[i+1])<<4|hex(s[i+2]))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

func hex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// Form implements route.Params: $_POST of an urlencoded or multipart body; nothing for other content types.
func (Params) Form(contentType string, body []byte) route.Values {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind, _, _ = strings.Cut(contentType, ";")
		kind = strings.ToLower(strings.TrimSpace(kind))
	}
	switch kind {
	case "application/x-www-form-urlencoded":
		return urlencoded(string(body))
	case "multipart/form-data":
		return multipartForm(params["boundary"], body)
	}
	return &vars{}
}

func multipartForm(boundary string, body []byte) *vars {
	v := &vars{}
	if boundary == "" {
		return v
	}
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		p, err := r.NextRawPart()
		if err != nil {
			return v
		}
		if p.FormName() == "" || p.FileName() != "" {
			continue
		}
		b, err := io.ReadAll(p)
		if err != nil {
			return v
		}
		v.add(p.FormName(), string(b))
	}
}

// JSON implements route.Params: scalar members of a top-level object, as text; the last of two equal names wins.
// PHP does not parse JSON by itself: this is what json_decode(file_get_contents("php://input")) sees.
func (Params) JSON(body []byte) route.Values {
	v := &vars{}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return v
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return &vars{}
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return &vars{} // json_decode is all or nothing
		}
		key, _ := name.(string)
		if text, ok := scalar(value); ok && len(v.names) < maxVars {
			v.names, v.values = append(v.names, key), append(v.values, text)
		}
	}
	if _, err := d.Token(); err != nil {
		return &vars{}
	}
	if _, err := d.Token(); err != io.EOF {
		return &vars{}
	}
	return v
}

// scalar is PHP's string conversion of a JSON scalar; null is not set.
func scalar(v any) (string, bool) {
	switch x := v.(type) {
	case string:
		return x, true
	case json.Number:
		return string(x), true
	case bool:
		if x {
			return "1", true
		}
		return "", true
	}
	return "", false
}

// Cookies implements route.Params: $_COOKIE. Unlike parameters, the FIRST of two equal names wins in PHP.
func (Params) Cookies(header []byte) route.Values {
	v := &vars{}
	for pair := range strings.SplitSeq(string(header), ";") {
		name, value, ok := strings.Cut(pair, "=")
		name = strings.TrimLeft(name, " \t")
		if !ok || name == "" {
			continue
		}
		if mangled, ok := v.mangle(unescape(name)); ok {
			if _, taken := v.Get(mangled); !taken {
				v.names, v.values = append(v.names, mangled), append(v.values, unescape(strings.TrimRight(value, " \t\r\n")))
			}
		}
	}
	return v
}
