package redact

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
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
		{form, "+token=a&%20+token=b&user[+token]=c&a+b=d", "+token=***&%20+token=***&user[+token]=***&a+b=d"},
		{form, "my.token=a&my+token=b&my[token=c&api.key=d&api[key=e&user[api.key]=f&api-key=g", "my.token=***&my+token=***&my[token=***&api.key=***&api[key=***&user[api.key]=***&api-key=g"},
		{form, "token%00x=a&api[key%00]x=b&a%00token=c&a%00b=d", "token%00x=***&api[key%00]x=***&a%00token=***&a%00b=d"},
		{form + ", x", "token=a", "token=***"},
		{form, "a=1&&b=2&", "a=1&&b=2&"},
		{form, "token=", "token=***"},
		{form, "token", "token"},
		{"application/json; charset=utf-8", `{"unit": 42, "token" : "x", "deep":[{"csrf_token":{"a":1},"k":2}] }`, `{"unit": 42, "token" :"***", "deep":[{"csrf_token":"***","k":2}] }`},
		{"application/json", `{"inner":1,"a":"token"}`, `{"inner":"***","a":"token"}`},
		{"text/plain", `{"token":"x"}`, `{"token":"***"}`},
		{"application/json", `{"token":"x`, "***"},
		{"application/json", `{"a":1}`, `{"a":1}`},
		{"multipart/form-data; boundary=b", mp, strings.Replace(mp, "hunter2", "***", 1)},
		{"multipart/form-data; boundary=b", strings.Replace(mp, `"password"`, `'token'x`, 1), strings.Replace(strings.Replace(mp, `"password"`, `'token'x`, 1), "hunter2", "***", 1)},
		{"multipart/form-data; boundary=b", strings.Replace(mp, `form-data; name="password"`, "name=token", 1), strings.Replace(strings.Replace(mp, `form-data; name="password"`, "name=token", 1), "hunter2", "***", 1)},
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
		if got := string(r.Target([]byte(in))); got != want {
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

// What is looked at first never hides a secret: names of the letters of a few patterns, in any case and beyond ASCII, are
// what a look at each pattern says.
func TestSecretNames(t *testing.T) {
	r, patterns := redactor(t), redactor(t).secret["form"]
	pieces := []string{"pass", "word", "PASSWD", "to", "k", "en", "_", "token", "csrf", "SECRET", "api", "key", "nonce", "a", "q", "[", "]", " ", "\u212a", "ſ", "\xff", "%", "é", "9"}
	random, secrets := rand.New(rand.NewPCG(1, 2)), 0
	for range 20000 {
		var name string
		for range 1 + random.IntN(4) {
			name += pieces[random.IntN(len(pieces))]
		}
		want := matches(patterns, name)
		if got := r.Secret("form", name); got != want {
			t.Fatalf("%q: %v, want %v", name, got, want)
		}
		if want {
			secrets++
		}
	}
	if secrets < 1000 || !r.Secret("form", "to\u212aen") {
		t.Errorf("%d secrets: too few to tell", secrets)
	}
}

// What holds no secret costs no memory.
func TestNothingToMask(t *testing.T) {
	r, body, target, id := redactor(t), []byte("match=7&unit[x]=42&Order=9"), []byte("/index.php?page=map&action=act7&match=7"), []byte("0001m7r5t8u0w4x6y2z1a3b")
	if out := r.Body(form, body); &out[0] != &body[0] {
		t.Error("the body was copied")
	}
	if out := r.Target(target); &out[0] != &target[0] {
		t.Error("the target was copied")
	}
	dst := make([]byte, 0, 32)
	if got := string(r.AppendSession(dst, id)); got != r.Session(string(id)) || len(got) != 32 {
		t.Error(got)
	}
	if got := string(r.AppendSession([]byte("a"), nil)); got != "a" {
		t.Errorf("%q is the hash of no session", got)
	}
}

// The hashes stand in journals and captures, so they must not change: HMAC with SHA-256, its first 16 bytes.
func TestSessionHash(t *testing.T) {
	r := redactor(t)
	for range 3 {
		h := hmac.New(sha256.New, []byte("key"))
		h.Write([]byte("abc"))
		if got, want := r.Session("abc"), hex.EncodeToString(h.Sum(nil)[:16]); got != want {
			t.Fatalf("%s, want %s", got, want)
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

func BenchmarkTarget(b *testing.B) {
	r, target := redactor(b), []byte("/post?page=map&action=act7&match=7")
	b.ReportAllocs()
	for b.Loop() {
		r.Target(target)
	}
}

func BenchmarkSession(b *testing.B) {
	r, id, dst := redactor(b), []byte("0001m7r5t8u0w4x6y2z1a3b"), make([]byte, 0, 32)
	b.ReportAllocs()
	for b.Loop() {
		r.AppendSession(dst, id)
	}
}
