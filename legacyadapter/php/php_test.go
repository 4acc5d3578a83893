package php

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"banyan/testdata/lab"

	"github.com/google/go-cmp/cmp"
)

// oracle asks the real interpreter: parse_str is what fills $_GET and $_POST.
const oracle = `
ini_set('display_errors', '0');
function flat($a, $p = '') { $o = [];
  foreach ($a as $k => $v) { $n = $p === '' ? (string)$k : $p . '[' . $k . ']';
    if (is_array($v)) { $o += flat($v, $n); } else { $o[$n] = base64_encode($v); } }
  return $o; }
while (($l = fgets(STDIN)) !== false) { parse_str(base64_decode(trim($l)), $out); echo json_encode((object)flat($out), JSON_INVALID_UTF8_SUBSTITUTE), "\n"; }`

func askPHP(t *testing.T, queries []string) []map[string]string {
	t.Helper()
	bin := lab.Program(t, "php", "php8*")
	var in bytes.Buffer
	for _, q := range queries {
		fmt.Fprintln(&in, base64.StdEncoding.EncodeToString([]byte(q)))
	}
	cmd := exec.Command(bin, "-d", "max_input_vars=1000", "-r", oracle)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]string
	for line := range strings.Lines(string(out)) {
		var m map[string]string
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err, line)
		}
		for k, v := range m {
			b, _ := base64.StdEncoding.DecodeString(v)
			m[k] = string(b)
		}
		all = append(all, m)
	}
	return all
}

func last(v *vars) map[string]string {
	m := map[string]string{}
	for i, n := range v.names {
		m[n] = v.values[i]
	}
	return m
}

func TestQueryAsPHPReadsIt(t *testing.T) {
	many := strings.Repeat("a=1&", 999)
	queries := []string{
		"a=1", "a=1&a=2", "a.b=1", "a b=1", "a+b=1", "a%20b=1", "a%2eb=1", "a[]=1&a[]=2", "a[k]=v", "a[k][l]=v", "a[1]=x&a[]=y", "a[01]=x&a[]=y",
		"a[b=1", "a[b.c=1", "a.b[c.d]=1", "=1", "a", "a=", "&&a=1&", "a=1=2", "a%3D=1", "a=%zz", "a=%", "a=%2", "%61=1", "a%00b=1", " a=1", "+a=1", "a[ b]=1",
		"[a]=1", "a]=1", "a[]]=1", "a[][]=1&a[][]=2", "a;b=1;c=2", "a=\xff", "a[b]c=1", "a[b]c[d]=1", "_a=1", "a-b=1", "a[k]=1&a=2",
		many + "x=1&y=2",
	}
	for i, want := range askPHP(t, queries) {
		got := last(urlencoded(queries[i]))
		if strings.HasPrefix(queries[i], "a[k]=1&a=2") {
			delete(got, "a[k]") // PHP's scalar replaces the array; a route that names both is not sensible
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%.60q: php has -, we have +\n%s", queries[i], d)
		}
	}
}

func TestJSON(t *testing.T) {
	v := Params{}.JSON([]byte(`{"a":1,"b":"x","c":true,"d":false,"e":null,"f":[1],"a":2.50}`))
	for name, want := range map[string]string{"a": "2.50", "b": "x", "c": "1", "d": ""} {
		if got, ok := v.Get(name); !ok || got != want {
			t.Errorf("%s = %q, %v; want %q", name, got, ok, want)
		}
	}
	for _, bad := range []string{`{"a":1`, `{"a":1}x`, `[1]`, ``, `{"a":1,}`} {
		if got, ok := (Params{}).JSON([]byte(bad)).Get("a"); ok {
			t.Errorf("%s: a = %q; json_decode gives nothing", bad, got)
		}
	}
}

func TestCookies(t *testing.T) {
	v := Params{}.Cookies([]byte("a=1; b.c=x%20y; a=2; novalue; =x; d = e"))
	for name, want := range map[string]string{"a": "1", "b_c": "x y"} {
		if got, _ := v.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestMultipart(t *testing.T) {
	body := "--b\r\nContent-Disposition: form-data; name=\"unit.id\"\r\n\r\n42\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\nfile\r\n--b--\r\n"
	v := Params{}.Form("multipart/form-data; boundary=b", []byte(body))
	if got, _ := v.Get("unit_id"); got != "42" {
		t.Fatal(got)
	}
	if _, ok := v.Get("f"); ok {
		t.Fatal("a file is not in $_POST")
	}
	if _, ok := (Params{}).Form("application/json", []byte("a=1")).Get("a"); ok {
		t.Fatal("PHP fills $_POST for two content types only")
	}
}

func TestCanonical(t *testing.T) {
	for target, want := range map[string]string{
		"/": "/index.php", "/a/": "/a/index.php", "/a": "/a", "/a/b.php?x=/../y": "/a/b.php", "//a//b": "/a/b", "/a/./b": "/a/b", "/a/../b": "/b",
		"/a%2fb": "/a/b", "/%61": "/a", "/x.php/extra/y": "/x.php", "/a%20b": "/a b", "http://h/a.php?q": "/a.php", "http://h?q": "/index.php",
		"/a/..": "/index.php", "/a/.": "/a/index.php", "/.php/x": "/.php/x", "/%2e%2e%2fa": "", "/..": "", "/%": "", "/%4": "", "/a%00": "", "": "", "a": "",
	} {
		got, _, err := Nginx{}.Canonical([]byte(target))
		if got != want || (want == "") != (err != nil) {
			t.Errorf("%q -> %q, %v; want %q", target, got, err, want)
		}
	}
	if _, q, _ := (Nginx{}).Canonical([]byte("/a?b=c?d")); string(q) != "b=c?d" {
		t.Errorf("query %q", q)
	}
}

func FuzzParams(f *testing.F) {
	f.Add([]byte("a[b]=c&a.d=%zz"), "multipart/form-data; boundary=x")
	f.Add([]byte(`{"a":[{}]}`), "application/json")
	f.Fuzz(func(t *testing.T, b []byte, contentType string) {
		p := Params{}
		p.Query(b).Get("a")
		p.Form(contentType, b).Get("a")
		p.JSON(b).Get("a")
		p.Cookies(b).Get("a")
		if path, _, err := (Nginx{}).Canonical(b); err == nil && !strings.HasPrefix(path, "/") {
			t.Fatalf("%q -> %q", b, path)
		}
	})
}
