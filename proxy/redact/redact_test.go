package redact

import (
	"encoding/json"
	"strings"
	"testing"
)

func redactor(t testing.TB) *Redactor {
	t.Helper()
	r, err := New([]string{"form.pin", "query.sig*", "json.inner"}, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const form = "application/x-www-form-urlencoded"

func TestBodies(t *testing.T) {
	r := redactor(t)
	mp := "--b\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\nhunter2\r\n--b\r\nContent-Disposition: form-data; name=\"unit\"\r\n\r\n42\r\n--b--\r\n"
	for _, c := range []struct{ contentType, in, want string }{
		{form, "unit=42&password=hunter2&to=9", "unit=42&password=***&to=9"},
		{form, "PassWord=a&pass%77ord=b&user[password]=c&token=d&pin=e", "PassWord=***&pass%77ord=***&user[password]=***&token=***&pin=***"},
		{form, "a=1&&b=2&", "a=1&&b=2&"},
		{form, "token=", "token=***"},
		{form, "token", "token"},
		{"application/json; charset=utf-8", `{"unit": 42, "token" : "x", "deep":[{"csrf_token":{"a":1},"k":2}] }`, `{"unit": 42, "token" :"***", "deep":[{"csrf_token":"***","k":2}] }`},
		{"application/json", `{"inner":1,"a":"token"}`, `{"inner":"***","a":"token"}`},
		{"text/plain", `{"token":"x"}`, `{"token":"***"}`},
		{"application/json", `{"token":"x`, "***"},
		{"application/json", `{"a":1}`, `{"a":1}`},
		{"multipart/form-data; boundary=b", mp, strings.Replace(mp, "hunter2", "***", 1)},
		{"multipart/form-data", mp, "***"},
		{"text/plain", "token=x", "token=x"},
	} {
		if got := string(r.Body(c.contentType, []byte(c.in))); got != c.want {
			t.Errorf("%s %q\n got %q\nwant %q", c.contentType, c.in, got, c.want)
		}
	}
}

func TestTarget(t *testing.T) {
	r := redactor(t)
	for in, want := range map[string]string{
		"/index.php?page=unit&token=x": "/index.php?page=unit&token=***", "/a": "/a", "/a?sigma=1&sign=2": "/a?sigma=***&sign=***", "/a?pin=1": "/a?pin=1", "/a?": "/a?",
	} {
		if got := r.Target([]byte(in)); got != want {
			t.Errorf("%s -> %s, want %s", in, got, want)
		}
	}
}

func TestSessionIsAKeyedHash(t *testing.T) {
	r := redactor(t)
	other, _ := New(nil, []byte("other"))
	a := r.Session("abc")
	if a == "" || len(a) != 32 || a != r.Session("abc") || a == r.Session("abd") || a == other.Session("abc") || r.Session("") != "" {
		t.Fatal(a)
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{{"a*", "abc", true}, {"a*", "ba", false}, {"*a", "ba", true}, {"*a", "ab", false}, {"*a*", "xay", true}, {"*a*", "x", false}, {"a", "a", true},
		{"a", "aa", false}, {"*", "", true}, {"a*b*c", "aXbYc", true}, {"a*b*c", "acb", false}, {"a*a", "a", false}} {
		if got := parseGlob(c.pattern).match(c.name); got != c.want {
			t.Errorf("%s on %s: %v", c.pattern, c.name, got)
		}
	}
}

func TestNewRefusesWhatCannotMatch(t *testing.T) {
	for _, d := range []string{"pin", "form.", "header.x"} {
		if _, err := New([]string{d}, nil); err == nil || !strings.Contains(err.Error(), d) {
			t.Errorf("%q: %v", d, err)
		}
	}
}

func FuzzBody(f *testing.F) {
	f.Add(form, []byte("token=SECRET"))
	f.Add("application/json", []byte(`{"token":"SECRET","a":[{"pass":"SECRET"}]}`))
	f.Add("multipart/form-data; boundary=b", []byte("--b\r\nContent-Disposition: form-data; name=\"pass\"\r\n\r\nSECRET\r\n--b--\r\n"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		r := redactor(t)
		out := r.Body(contentType, body)
		if json.Valid(body) && strings.HasPrefix(contentType, "application/json") && !json.Valid(out) {
			t.Fatalf("%q became %q", body, out)
		}
	})
}

func BenchmarkForm(b *testing.B) {
	r := redactor(b)
	body := []byte("match=7&unit=42&to=9&token=0123456789abcdef&client_ref=abc&note=" + strings.Repeat("x", 1900))
	b.ReportAllocs()
	for b.Loop() {
		r.Body(form, body)
	}
}
