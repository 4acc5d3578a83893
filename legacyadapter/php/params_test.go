package php

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"banyan/proxy/route"

	"github.com/google/go-cmp/cmp"
)

const (
	urlencoded = "application/x-www-form-urlencoded"
	mixed      = "multipart/form-data; boundary=b"
)

// accepted are the cases in which we knowingly see something else than PHP does. The list only shrinks.
var accepted = map[asked]string{}

// compare holds all that we see of a request to what PHP saw.
func (o *oracle) compare(t testing.TB, a asked) {
	t.Helper()
	want := o.ask(t, a)
	p := Params{}
	query := p.Query(o.old[0], []byte(a.query))
	form := p.Form(o.old[1], a.contentType, []byte(a.body))
	cookies := p.Cookies(o.old[2], []byte(a.cookie))
	o.old = [3]route.Values{cookies, query, form} // each has the memory of another kind's next time
	for _, part := range []struct {
		name string
		want map[string]string
		got  *vars
	}{
		{"query", want.Get, query.(*vars)},
		{"form", want.Post, form.(*vars)},
		{"cookies", want.Cookie, cookies.(*vars)},
	} {
		if d := cmp.Diff(part.want, flat(part.got)); d != "" {
			t.Errorf("%s of %.300q: PHP has -, we have +\n%s", part.name, a, d)
		}
		for i := range part.got.list {
			base := part.got.list[i].base
			w, there := part.want[base]
			if g, ok := part.got.Get(base); ok != there || g != w {
				t.Errorf("%s of %.300q: %q is %q, %v; PHP has %q, %v", part.name, a, base, g, ok, w, there)
			}
		}
		for name, w := range part.want {
			if g, ok := part.got.Get(name); !ok || g != w {
				t.Errorf("%s of %.300q: %q is %q, %v; PHP has %q", part.name, a, name, g, ok, w)
			}
		}
	}
	if a.contentType != "application/json" {
		return
	}
	got := map[string]string{}
	m := p.JSON([]byte(a.body)).(*members)
	for _, l := range m.list {
		name := unquoteJSON(m.text[l.name.from:l.name.to])
		if v, ok := m.Get(name); ok {
			got[name] = v
		}
	}
	if d := cmp.Diff(want.JSON, got); d != "" {
		t.Errorf("JSON of %.300q: PHP has -, we have +\n%s", a.body, d)
	}
}

var queries = []string{
	"a=1", "a=1&a=2", "a.b=1", "a b=1", "a+b=1", "a%20b=1", "a%2eb=1", "a[]=1&a[]=2", "a[k]=v", "a[k][l]=v", "a[1]=x&a[]=y", "a[01]=x&a[]=y",
	"a[b=1", "a[b.c=1", "a.b[c.d]=1", "=1", "a", "a=", "&&a=1&", "a=1=2", "a%3D=1", "a=%zz", "a=%", "a=%2", "%61=1", "a%00b=1", " a=1", "+a=1", "a[ b]=1",
	"[a]=1", "a]=1", "a[]]=1", "a[][]=1&a[][]=2", "a;b=1;c=2", "a=\xff", "a[b]c=1", "a[b]c[d]=1", "_a=1", "a-b=1", "a[k]=1&a=2",
	"a=1&a[]=2", "a=1&a[k]=2&a=3", "a[]=1&a=2&a[]=3", "a[k]=1&a[k][l]=2", "a[k][l]=1&a[k]=2", "a[b[c=1", "a[b][c=1", "a[][c=1", "a[b][c", "a[[b]=1", "a[[b]]=1",
	"a[ ]=1", "a[%09]=1&a[ ]=2", "a[ ", "a[", "a[[", "a[ ]b]=1", "a[-5]=1&a[]=2", "a[9223372036854775806]=1&a[]=2&a[]=3&a[]=4", "a[9223372036854775807]=1&a[]=2",
	"a[9223372036854775808]=1&a[]=2", "a[-0]=1&a[]=2", "a[0]=1&a[0]=2", "a[007]=1", "a[+1]=1&a[]=2", "a[1 ]=1&a[]=2", "a[%00]=1", "a[b%00]=1", "%00a=1", "a%00[b]=1",
	"__Host-a=1", "..Host-a=1", "_.Host-a=1", "a[__Host-b]=1", "_[Host-a=1", "__Host-[a=1", "_[Secure-a]=1", "_[_Host-a", "a[__Host-b][c]=1", "a[b][__Secure-c]=1", "__Host-a[__Host-b]=1", "__Host-a[__Secure-b]=1", " __Host-a=1", "__Secure-b=2", ".%5fSecure-b=2", "__Host[a]=1", "._Host-[a]=1", "1=a", "01=a", "-1=a&-1=b", ".=1", ". .=1", ".[a]=1",
	"a%5bk%5d=1", "a%5Bk=1", "a[k%5d=1", "this=1", "GLOBALS=1", "a=b&A=c", "a\tb=1", "\ta=1", "a=1&a%2=3", "a=1&a%=3", "a=%%41", "%%41=1", "a=%4%31", "?a=1", "a=1#b=2", "é=ü", "a=%c0%af",
	strings.Repeat("a=1&", 999) + "x=1&y=2", strings.Repeat("=1&", 999) + "x=1&y=2", strings.Repeat("&", 1500) + "x=1", strings.Repeat("a[]=1&", 999) + "x=1&y=2",
	"a" + strings.Repeat("[b]", 64) + "=1", "a" + strings.Repeat("[b]", 65) + "=1", "a=1&a" + strings.Repeat("[b]", 65) + "=1", "a" + strings.Repeat("[b]", 65) + "=1&a=2",
	"a" + strings.Repeat("[]", 64) + "=1", "a" + strings.Repeat("[]", 65) + "=1", "a" + strings.Repeat("[b]", 64) + "[c=1", "a" + strings.Repeat("[b]", 63) + "[c=1",
	"a[]" + strings.Repeat("[b]", 64) + "=1&a[]=2", strings.Repeat("a", 30000) + "=1",
}

func part(header, value string) string { return "--b\r\n" + header + "\r\n\r\n" + value + "\r\n" }

func field(disposition, value string) string {
	return part("Content-Disposition: form-data; "+disposition, value)
}

var multiparts = []string{
	field(`name="unit.id"`, "42") + field(`name="f"; filename="x"`, "file") + "--b--\r\n",
	field(`name=a`, "1") + field(`name='b'`, "2") + field(`name = "c"`, "3") + field(`NAME="d"`, "4") + field(`name="e`, "5") + "--b--",
	field(`name="a"`, "no final boundary"), field(`name="a"`, "1") + "--b", "--b\nContent-Disposition: form-data; name=a\n\nline feeds\n--b--\n",
	field(`name="a[k][]"`, "1") + field(`name="a[k][]"`, "2") + field(`name="a[k"`, "3") + field(`name="a b"`, "4"),
	field(`name="a"; filename=""`, "no file") + field(`name="b"`, "1"), field(`filename="x"`, "anonymous") + field(`name="b"`, "1"), field(`name="f[]]"; filename="x"`, "bad name") + field(`name="b"`, "1"),
	part("Content-Type: text/plain", "no disposition") + field(`name="b"`, "1"), part("Content-Disposition: form-data", "garbled") + field(`name="b"`, "1"),
	part("Content-Disposition: form-data;\r\n name=\"folded\"", "1"), part("Content-Disposition: form-data;\r\nname=\"lost\"", "1"), part(" Content-Disposition: form-data; name=a", "1"),
	part("content-disposition:form-data; name=a", "1"), part("Content-Disposition : form-data; name=a", "1"), part("Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b", "1"),
	"preamble\r\n" + field(`name="a"`, "1") + "--b--\r\nepilogue\r\n" + field(`name="z"`, "behind the end"), "--b \r\n" + field(`name="a"`, "1"),
	field(`name="a"`, "1\r\n--bx") + field(`name="c"`, "2"), field(`name="a"`, "\r\n\r\r"), field(`name="a"`, ""), "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n--b\r\nContent-Disposition: form-data; name=c\r\n\r\n1\r\n--b--",
	field(`name="a\"b"`, "1") + field(`name="a\\b"`, "2") + field(`name='it\'s'`, "3") + field(`name="x;y"`, "4") + field(`name="x=y"`, "5"), field("name=\"a\x00b\"", "1\x002"),
	field(`name="a"`, strings.Repeat("x", 20000)) + field(`name="b"`, strings.Repeat("y\r\n", 4000)), field(`name="`+strings.Repeat("n", 6000)+`"`, "long") + field(`name="b"`, "1"),
	field(`name="f"; filename="x"`, strings.Repeat("z", 5120)+"--b\r\nContent-Disposition: form-data; name=inner\r\n\r\n1") + field(`name="b"`, "1"),
	field(`name="f]"; filename="x"`, strings.Repeat("z", 5120)+"--b\r\nContent-Disposition: form-data; name=inner\r\n\r\n1") + field(`name="b"`, "1"),
	strings.Repeat(field(`name="a[]"`, "1"), 1001), strings.Repeat(field(`name="f"; filename="x"`, "1"), 30) + field(`name="b"`, "1"), strings.Repeat(field(`name="f"; filename="x"`, "1"), 1020) + field(`name="b"`, "1"),
	strings.Repeat(field(`name="f"; filename="x"`, "1"), 1019) + field(`name="b"`, "1"), "", "--b", "--b--", "\r\n--b\r\n", field(`name=""`, "1"), field(`name`, "1"), field(`name="a" junk; name="b"`, "1"), field(`;;name="a"`, "1"),
	"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nabc\r\n--", "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nabc\r\n", "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nabc\r", "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--b",
	"--b\r\nContent-Disposition: form-data; name=a", "--b\r\nContent-Disposition: form-data; name=a\r\n", "--b\r\nContent-Disposition: form-data; name=a\r\nX: ",
}

var contentTypes = []string{
	urlencoded, "APPLICATION/X-WWW-FORM-URLENCODED", urlencoded + "; charset=utf-8", urlencoded + ";", urlencoded + ",x", urlencoded + " x", urlencoded + "\tx", "application/x-www-form", "text/plain", "", "application/json",
	" " + urlencoded, urlencoded + "x", "multipart/form-data", "multipart/mixed; boundary=b",
}

var boundaries = []string{
	"multipart/form-data; boundary=b", `multipart/form-data; boundary="b"`, `multipart/form-data; boundary="b`, "multipart/form-data; BOUNDARY=b", "multipart/form-data; boundary=b, x", "multipart/form-data; boundary=b; x=y",
	"multipart/form-data; boundary =b", "multipart/form-data; boundary= b", "multipart/form-data; x=boundary; boundary=b", "multipart/form-data boundary=b", "Multipart/Form-Data;boundary=b", "multipart/form-data; xboundaryx=b", "multipart/form-data; boundary=", "multipart/form-data; boundary",
}

var cookies = []string{
	"a=1; b.c=x%20y; a=2; novalue; =x; d = e", "a=1;a=2", "a=1, b=2", "a=1,b=2; c=3", "a=+%2b", "%61=1", "a[k]=1; a[k]=2; a=3", "a=1; a[k]=2", "a[]=1; a[]=2; a[0]=3", "  a=1;\tb=2;\x0bc=3", "a", "a;b", ";;a=1;;", "a=1; ", "a=\"q\"", "a==", "a =1", "a= 1 ; b=2",
	"__Host-a=1; ..Host-a=2", "a%3d=1", "a[b=1", "a.b=1; a_b=2", " =1", "a=%zz", "a" + strings.Repeat("[b]", 65) + "=1; a=2", "a=1; a" + strings.Repeat("[b]", 65) + "=1", "a=1; a" + strings.Repeat("[b]", 65) + "=1; a=3", strings.Repeat("a=1;", 999) + "x=1;y=2", "$Version=1; a=1",
}

var jsons = []string{
	`{"a":1,"b":"x","c":true,"d":false,"e":null,"f":[1],"a":2.50}`, `{"a":1`, `{"a":1}x`, `[1]`, ``, `{"a":1,}`, `{"a":TRUE,"b":False,"c":nUll}`, `{"a":tru}`, `{"a":1e2,"b":1E+2,"c":1e-7,"d":0.0001,"e":0.00001,"f":123456789012345678}`,
	`{"a":9223372036854775807,"b":9223372036854775808,"c":-9223372036854775808,"d":-9223372036854775809,"e":1e999,"f":-1e999,"g":-0,"h":-0.0,"i":0.1,"j":100000000000000,"k":1e14,"l":1e15,"m":123456789.123456789,"n":0e5,"o":1.0}`,
	`{"a":01}`, `{"a":+1}`, `{"a":.5}`, `{"a":5.}`, `{"a":1e}`, `{"a":-}`, `{"a":"\u0041\n\t\/\"\\\b\f\r"}`, `{"a":"\ud83d\ude00"}`, `{"a":"\ud83d"}`, `{"a":"\ude00"}`, `{"a":"\ud83dx"}`, `{"a":"\u00"}`, `{"a":"\x"}`, `{"a":"\u0000b"}`, `{"\u0061":1,"a":2}`, `{"a":1,"\u0061":2}`, "{\"a\":\"\xff\"}", "{\"a\":\"\xc0\xaf\"}", "{\"a\":\"\xed\xa0\x80\"}", "{\"a\":\"\xf4\x90\x80\x80\"}", "{\"a\":\"\x01\"}", "{\"a\":\"\x7f\"}", "{\"\xff\":1}",
	`{"a":1,"a":[]}`, `{"a":[],"a":1}`, `{"a":1,"a":null}`, `{"":1}`, `{"0":1,"1":2}`, `{ "a" : { "b" : 1 } , "c" : [ ] }`, "\ufeff{\"a\":1}", "\x0b{\"a\":1}", " \t\r\n{\"a\":1} \t\r\n", "{\"a\":1}\x00", `{"a"}`, `{"a":}`, `{a:1}`, `{'a':1}`, `{"a":1 "b":2}`, `{,}`, `{"a":[1,]}`, `{"a":[,1]}`, `{"a":[1 2]}`, `{"a":{}}`, `{}`, `"a"`, `1`, `{"a":1]`, `{"a":[}`, `{"a":{"b":1}}`,
	`{"a":` + strings.Repeat("[", 511) + strings.Repeat("]", 511) + `,"b":1}`, `{"a":` + strings.Repeat("[", 512) + strings.Repeat("]", 512) + `,"b":1}`, `{"a":` + strings.Repeat(`{"x":`, 511) + "1" + strings.Repeat("}", 511) + `,"b":1}`, `{"a":"` + strings.Repeat("x", 70000) + `"}`,
}

// cases are all that a person thought of.
func cases() []asked {
	var all []asked
	for _, q := range queries {
		all = append(all, asked{query: q, contentType: urlencoded, body: q, cookie: q})
	}
	for _, m := range multiparts {
		all = append(all, asked{contentType: mixed, body: m})
	}
	for _, ct := range contentTypes {
		all = append(all, asked{contentType: ct, body: "a=1&b=2"})
	}
	for _, ct := range boundaries {
		all = append(all, asked{contentType: ct, body: field(`name="a"`, "1") + "--b--\r\n"}, asked{contentType: ct, body: strings.ReplaceAll(field(`name="a"`, "1"), "--b", "-- b")}, asked{contentType: ct, body: strings.ReplaceAll(field(`name="a"`, "1"), "--b", "--")})
	}
	for _, c := range cookies {
		all = append(all, asked{cookie: c})
	}
	for _, j := range jsons {
		all = append(all, asked{contentType: "application/json", body: j})
	}
	return append(all,
		asked{contentType: urlencoded, body: "a=1&b=" + strings.Repeat("x", maxPost-6)},
		asked{contentType: urlencoded, body: "a=1&b=" + strings.Repeat("x", maxPost-5)},
		asked{contentType: urlencoded, body: "a=1\x00&b\x00c=2&d"}, asked{contentType: urlencoded, body: "a=1\r\n"})
}

func TestParametersAsPHPReadsThem(t *testing.T) {
	o := newOracle(t)
	for _, a := range cases() {
		if accepted[a] == "" {
			o.compare(t, a)
		}
	}
}

// Random requests of the pieces that matter, the same ones at each run.
func TestRandomParametersAsPHPReadsThem(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(1, 2))
	const n = 4000
	for i := range n {
		o.compare(t, randomCase(r))
		if t.Failed() {
			t.Fatalf("case %d of %d", i, n)
		}
	}
}

func randomCase(r *rand.Rand) asked {
	words := func(n int, from ...string) string {
		var b strings.Builder
		for range 1 + r.IntN(n) {
			b.WriteString(from[r.IntN(len(from))])
		}
		return b.String()
	}
	form := func() string {
		return words(16, "a", "b", "[", "]", "[k]", "[]", "=", "=1", "&", "&", "&a", ".", " ", "+", "%", "%5b", "%5d", "%00", "%2", "0", "-1", ";", "_", "\x00", "[ ]", "__Host-")
	}
	a := asked{query: form(), cookie: words(16, "a", "b", "[", "]", "[k]", "[]", "=", "=1", ";", "; ", "; a", ".", " ", "+", "%20", "%", ",", "_", "\t")}
	a.query = strings.ReplaceAll(a.query, "\x00", "") // cannot come
	switch r.IntN(3) {
	case 0:
		a.contentType, a.body = urlencoded, form()
	case 1:
		a.contentType = []string{mixed, boundaries[r.IntN(len(boundaries))]}[r.IntN(2)]
		a.body = words(12, "--b", "--b\r\n", "--b\n", "--b--\r\n", "\r\n", "\n", "\r", "Content-Disposition: form-data; ", `name="a"`, "name=b", `name="a[k]"`, `; filename="x"`, `; filename=""`, ":", ";", `"`, `'`, `\`, " ", "\x00", "value", "\r\n\r\nvalue\r\n",
			field(`name="a"`, "1"), field(`name="c[]"`, "2"), field(`name="f"; filename="f"`, "3"))
	default:
		a.contentType = "application/json"
		a.body = "{" + words(16, `"a":`, `"b":`, `"\u0061":`, "1", "-0", "0.50", "1e30", `"x"`, `"\ud83d\ude00"`, `"\ud83d"`, "true", "NULL", "{", "}", "[", "]", ",", ",", ":", " ", "\xff", `"`) + "}"
	}
	return a
}

// Run with -fuzz: whatever the fuzzer thinks of, PHP decides.
func FuzzParamsAgainstPHP(f *testing.F) {
	o := newOracle(f)
	for _, a := range cases() {
		if len(a.body) < 4096 && len(a.query) < 4096 {
			f.Add(a.query, a.cookie, a.contentType, a.body)
		}
	}
	f.Fuzz(func(t *testing.T, query, cookie, contentType, body string) {
		if strings.ContainsAny(query+cookie+contentType, "\x00\r\n") || len(query)+len(cookie)+len(body) > 1<<16 {
			t.Skip("cannot come this way")
		}
		a := asked{query, cookie, contentType, body}
		if accepted[a] == "" {
			o.compare(t, a)
		}
	})
}

func FuzzParams(f *testing.F) {
	for _, a := range cases() {
		f.Add(a.query, a.cookie, a.contentType, []byte(a.body), "a[k]")
	}
	f.Fuzz(func(t *testing.T, query, cookie, contentType string, body []byte, name string) {
		p, was := Params{}, string(body)
		used := p.Form(nil, urlencoded, []byte("a=1&b[k]=2&c[][x]=3&d.=4&e=5&a=6"))
		for _, read := range []func(old route.Values) route.Values{
			func(old route.Values) route.Values { return p.Query(old, []byte(query)) },
			func(old route.Values) route.Values { return p.Cookies(old, []byte(cookie)) },
			func(old route.Values) route.Values { return p.Form(old, contentType, body) },
		} {
			fresh := read(nil)
			used = read(used)
			want, there := fresh.Get(name)
			if got, ok := used.Get(name); got != want || ok != there {
				t.Errorf("%q is %q, %v; in used memory %q, %v", name, want, there, got, ok)
			}
			if d := cmp.Diff(flat(fresh.(*vars)), flat(used.(*vars))); d != "" {
				t.Errorf("used memory has +\n%s", d)
			}
		}
		_, _ = p.JSON(body).Get(name)
		if string(body) != was {
			t.Error("the body was changed")
		}
	})
}

// Memory that many variables took is not kept.
func TestUsedMemoryIsBounded(t *testing.T) {
	p := Params{}
	few := p.Query(nil, []byte("a=1&b=2"))
	if p.Cookies(few, []byte("a=1")) != few {
		t.Error("the memory of two variables is not used again")
	}
	many := p.Query(few, []byte(strings.Repeat("a=1&", maxVars)))
	if v := p.Query(many, []byte("a=1")); v == many || cap(v.(*vars).list) > keepVars {
		t.Errorf("room for %d variables is kept", cap(v.(*vars).list))
	}
	v := p.Query(p.Query(nil, []byte("a=1&b=2&c=3")), nil).(*vars)
	for _, l := range v.list[:cap(v.list)] {
		if l != (variable{}) {
			t.Errorf("%+v is held on to", l)
		}
	}
}

func TestParametersStandInTheRequest(t *testing.T) {
	p := Params{}
	query, form, cookie := []byte("page=map&action=act7&match=7&to[x]=1"), []byte("unit=42&order=9"), []byte("PHPSESSID=0001m7r5t8u0w4x6y2z1a3b; lang=en")
	var q, f, c route.Values
	if n := testing.AllocsPerRun(100, func() {
		q, f, c = p.Query(q, query), p.Form(f, urlencoded, form), p.Cookies(c, cookie)
		for _, v := range []route.Values{q, f, c} {
			for _, name := range []string{"match", "unit", "PHPSESSID", "to", "none"} {
				_, _ = v.Get(name)
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParams(b *testing.B) {
	p := Params{}
	query, form, cookie := []byte("page=map&action=act7&match=7"), []byte("unit=42&order="+strings.Repeat("a", 2048)), []byte("PHPSESSID=0001m7r5t8u0w4x6y2z1a3b; lang=en; seen=1")
	for _, c := range []struct {
		name, ask string
		read      func(old route.Values) route.Values
	}{
		{"query", "match", func(old route.Values) route.Values { return p.Query(old, query) }},
		{"form", "unit", func(old route.Values) route.Values { return p.Form(old, urlencoded, form) }},
		{"cookies", "PHPSESSID", func(old route.Values) route.Values { return p.Cookies(old, cookie) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			var v route.Values
			b.ReportAllocs()
			for b.Loop() {
				v = c.read(v)
				if _, ok := v.Get(c.ask); !ok {
					b.Fatal(c.ask)
				}
			}
		})
	}
}

func ExampleParams() {
	form := Params{}.Form(nil, "application/x-www-form-urlencoded", []byte("unit.id=7&unit.id=42&to[x]=3&to[y]=4&key=1&key[]=2"))
	for _, name := range []string{"unit_id", "to[y]", "to", "key"} {
		value, there := form.Get(name)
		fmt.Println(name, value, there)
	}
	// Output:
	// unit_id 42 true
	// to[y] 4 true
	// to  false
	// key  false
}
