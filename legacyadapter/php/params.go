package php

import (
	"math"
	"strconv"
	"strings"
	"unsafe"

	"banyan/proxy/route"
)

// PHP's defaults. A legacy that was told other numbers sees more or fewer variables than we do.
const (
	maxVars    = 1000    // max_input_vars: of the query, of the body and of the cookies, each by itself
	maxNesting = 64      // max_input_nesting_level: a deeper name deletes its variable
	maxPost    = 8 << 20 // post_max_size: of a larger body PHP reads nothing
)

// Params reads query strings, forms, JSON bodies and cookies as PHP does: the last of two equal names wins, dots and
// spaces in names become '_', a[] and a[k] make arrays. An array's element is asked for as "a[0]" or "a[k][l]"; what is
// an array is not there as a scalar, also when a scalar of that name came before it. Names and values that need no
// decoding stand in the bytes that were read.
type Params struct{}

var _ route.Params = Params{}

// vars are variables in the order in which they came. Nothing is built of them before somebody asks: requests have few
// parameters, and a route asks for fewer.
type vars struct {
	list    []variable
	decode  func(string) string // of values
	cookies bool                // of two equal scalars the first wins
}

// variable is one registration: "a.b[k][]=v" has the base "a_b" and the rest "[k][]".
type variable struct{ name, base, rest, value string }

// Get implements route.Values.
func (v *vars) Get(name string) (string, bool) {
	if i := strings.IndexByte(name, '['); i >= 0 {
		return v.element(name[:i], name[i:])
	}
	if v.cookies {
		return v.first(name)
	}
	for i := len(v.list) - 1; i >= 0; i-- {
		if l := &v.list[i]; l.base == name { // the last one makes a scalar or an array of it, or deletes it
			return v.scalar(l)
		}
	}
	return "", false
}

func (v *vars) scalar(l *variable) (string, bool) {
	if l.rest != "" {
		return "", false
	}
	return v.decode(l.value), true
}

// first is the cookie of that name: a scalar never replaces what is there, an array always does.
func (v *vars) first(name string) (string, bool) {
	var held *variable
	for i := range v.list {
		l := &v.list[i]
		switch {
		case l.base != name:
		case l.rest != "":
			held = l
			if tooDeep(l.rest) {
				held = nil
			}
		case held == nil:
			held = l
		}
	}
	if held == nil {
		return "", false
	}
	return v.scalar(held)
}

// element is the scalar at base[k][l]. The array is built for the asking; routes ask for elements rarely.
func (v *vars) element(base, rest string) (string, bool) {
	var top *value
	for i := range v.list {
		if l := &v.list[i]; l.base == base {
			top = top.register(l, v.cookies)
		}
	}
	for rest != "" && top != nil {
		key, next, tail, ok := index(rest)
		if !ok || next || top.kids == nil {
			return "", false
		}
		top, rest = top.kids[key], tail
	}
	if top == nil || top.kids != nil {
		return "", false
	}
	return v.decode(top.text), true
}

// value is a scalar, or an array when kids is not nil. Keys need no type: PHP's integer keys are those strings that an
// integer prints as.
type value struct {
	text string
	kids map[string]*value
	next int64 // the index that [] gets
	ints bool  // there was an integer key: a negative one counts on, too
}

// register applies one registration to the variable that was there.
func (top *value) register(l *variable, keepScalar bool) *value {
	if l.rest == "" {
		if keepScalar && top != nil {
			return top
		}
		return &value{text: l.value}
	}
	if tooDeep(l.rest) {
		return nil
	}
	if top == nil {
		top = &value{}
	}
	at := top
	for rest := l.rest; ; {
		if at.kids == nil {
			at.kids = map[string]*value{}
		}
		key, next, tail, ok := index(rest)
		if next {
			key = strconv.FormatInt(at.next, 10)
			if at.kids[key] != nil { // only at the largest integer
				return top
			}
		}
		if !ok || !next && forged(key, l.name) {
			return top
		}
		if i, err := strconv.ParseInt(key, 10, 64); err == nil && (i >= at.next || !at.ints) && strconv.FormatInt(i, 10) == key {
			at.next, at.ints = i, true
			if i < math.MaxInt64 {
				at.next++
			}
		}
		last := tail == "" || tail[0] != '['
		if !last {
			_, _, _, ok = index(tail)
			last = !ok // "a[b][c": PHP stops at the last index that is closed
		}
		if last {
			at.kids[key] = &value{text: l.value}
			return top
		}
		if at.kids[key] == nil {
			at.kids[key] = &value{}
		}
		at, rest = at.kids[key], tail
	}
}

// index reads the index that rest starts with: "[k]", or "[]" and "[ ]" for the next one. ok is false without a ']'.
func index(rest string) (key string, next bool, tail string, ok bool) {
	from := 1
	if from < len(rest) && isSpace(rest[from]) {
		from++
	}
	if from < len(rest) && rest[from] == ']' {
		return "", true, rest[from+1:], true
	}
	end := strings.IndexByte(rest[from:], ']')
	if end < 0 {
		return "", false, "", false
	}
	return rest[1 : from+end], false, rest[from+end+1:], true
}

// tooDeep says that PHP deletes the whole variable.
func tooDeep(rest string) bool {
	for level := 1; rest != "" && rest[0] == '['; level++ {
		if level > maxNesting {
			return true
		}
		_, _, tail, ok := index(rest)
		if !ok {
			break
		}
		rest = tail
	}
	return false
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// add registers a variable under PHP's name for it: leading spaces go, the name ends at a NUL, '.' and ' ' before the
// first '[' become '_', and so does that '[' and all behind it when no ']' follows.
func (v *vars) add(name, value string) {
	if isPlain(name) {
		v.list = append(v.list, variable{name, name, "", value})
		return
	}
	if i := strings.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	name = strings.TrimLeft(name, " ")
	base, rest := name, ""
	if i := strings.IndexByte(name, '['); i >= 0 {
		base, rest = name[:i], name[i:]
	}
	if base = underscores(base); base == "" {
		return
	}
	if rest != "" {
		if _, _, _, ok := index(rest); !ok {
			base, rest = base+underscores(rest), ""
		}
	}
	if forged(base, name) {
		return
	}
	v.list = append(v.list, variable{name, base, rest, value})
}

// isPlain says that a name needs none of this: most are letters and underscores.
func isPlain(name string) bool {
	for i := range len(name) {
		if c := name[i]; c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// forged: a name, or an index of one, that looks like a cookie which browsers guard, while the name as sent does
// not, is dropped.
func forged(mangled, name string) bool {
	for _, prefix := range []string{"__Host-", "__Secure-"} {
		if strings.HasPrefix(mangled, prefix) && !strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

var mangler = strings.NewReplacer(".", "_", " ", "_", "[", "_")

func underscores(s string) string {
	if strings.IndexByte(s, '.') < 0 && strings.IndexByte(s, ' ') < 0 && strings.IndexByte(s, '[') < 0 {
		return s
	}
	return mangler.Replace(s)
}

// newVars takes the memory of old, or has room for the variables of an ordinary request: one allocation.
func newVars(old route.Values, decode func(string) string) *vars {
	if v, ok := old.(*vars); ok && cap(v.list) <= keepVars {
		clear(v.list)
		*v = vars{list: v.list[:0], decode: decode}
		return v
	}
	v := &struct {
		vars
		room [4]variable
	}{}
	v.list, v.decode = v.room[:0], decode
	return &v.vars
}

// keepVars is how many variables' memory is used again at most: 4 KiB.
const keepVars = 64

// view is b as a string without a copy. It is good until b changes.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Query implements route.Params: $_GET.
func (Params) Query(old route.Values, raw []byte) route.Values {
	s, v := view(raw), newVars(old, unescape)
	for count := 0; s != "" && count < maxVars; {
		var pair string
		if pair, s, _ = strings.Cut(s, "&"); pair == "" {
			continue
		}
		count++
		name, value, _ := strings.Cut(pair, "=")
		if !isPlain(name) {
			name = unescape(name)
		}
		v.add(name, value)
	}
	return v
}

// post is $_POST of an urlencoded body. Unlike in a query, empty pairs count, and it is one more than max_input_vars.
func (v *vars) post(s string) {
	for count := 0; s != "" && count <= maxVars; count++ {
		var pair string
		pair, s, _ = strings.Cut(s, "&")
		name, value, _ := strings.Cut(pair, "=")
		v.add(unescape(name), value)
	}
}

// unescape is PHP's urldecode: '+' is a space, a '%' without two digits stays.
func unescape(s string) string {
	if strings.IndexByte(s, '+') >= 0 {
		s = strings.ReplaceAll(s, "+", " ")
	}
	return rawUnescape(s)
}

// rawUnescape is PHP's rawurldecode.
func rawUnescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			c = hex(s[i+1])<<4 | hex(s[i+2])
			i += 2
		}
		b = append(b, c)
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

// Form implements route.Params: $_POST of an urlencoded or multipart body; nothing for other content types. The type
// ends at the first ';', ',' or space and has no case.
func (Params) Form(old route.Values, contentType string, body []byte) route.Values {
	v := newVars(old, unescape)
	kind := contentType
	if i := strings.IndexAny(kind, ";, "); i >= 0 {
		kind = kind[:i]
	}
	switch {
	case len(body) > maxPost:
	case strings.EqualFold(kind, "application/x-www-form-urlencoded"):
		v.post(view(body))
	case strings.EqualFold(kind, "multipart/form-data"):
		v.decode = verbatim
		v.multipart(contentType, body)
	}
	return v
}

// Cookies implements route.Params: $_COOKIE. Unlike parameters, the first of two equal names wins; names are not
// decoded; '+' stays; a name alone is there with an empty value.
func (Params) Cookies(old route.Values, header []byte) route.Values {
	s, v := view(header), newVars(old, rawUnescape)
	v.cookies = true
	for count := 0; s != "" && count < maxVars; {
		var pair string
		pair, s, _ = strings.Cut(s, ";")
		for pair != "" && isSpace(pair[0]) {
			pair = pair[1:]
		}
		name, value, _ := strings.Cut(pair, "=")
		if name == "" {
			continue
		}
		count++
		v.add(name, value)
	}
	return v
}
