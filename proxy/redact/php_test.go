package redact_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"banyan/legacyadapter/php"
	"banyan/proxy/redact"
)

// TestWhatPHPReadsIsMasked: what PHP would find under a secret name is masked, however the name was spelled. Package php
// is held to PHP itself.
func TestWhatPHPReadsIsMasked(t *testing.T) {
	r, err := redact.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{"token", "my_token", "api_key", "x[token]", "token[k]", "token[0]", "x[api_key]"}
	random := rand.New(rand.NewPCG(3, 4))
	name := func(pieces ...string) string {
		var b strings.Builder
		for range 1 + random.IntN(5) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		return b.String()
	}
	found := 0
	check := func(contentType, body string) {
		t.Helper()
		masked := r.Body(contentType, []byte(body))
		read, safe := php.Params{}.Form(nil, contentType, []byte(body)), php.Params{}.Form(nil, contentType, masked)
		for _, s := range secrets {
			if _, ok := read.Get(s); ok {
				found++
				if v, there := safe.Get(s); there && v != redact.Mask {
					t.Fatalf("%s of %s %q is %q in %q", s, contentType, body, v, masked)
				}
			}
		}
	}
	for range 20000 {
		var pairs []string
		for i := range 1 + random.IntN(3) {
			n := name("token", "tok%65n", "TOKEN", "my", "api", "key", "x", "_", ".", "+", "%20", "[", "]", "[k]", "[]", "%5b", "%00", "\x00", "%")
			pairs = append(pairs, fmt.Sprintf("%s=secret%d", strings.ToLower(n), i))
		}
		kind := []string{"", "; charset=utf-8", ", x", " x"}[random.IntN(4)]
		check("application/x-www-form-urlencoded"+kind, strings.Join(pairs, "&"))
	}
	forms := found
	for range 20000 {
		n := name("token", "my", "api", "key", "x", "_", ".", " ", "[", "]", "[k]", "[]", "\x00", `\`, "'", "%20")
		quoted := []string{"name=" + n, `name="` + n + `"`, "name='" + n + "'", `name="` + n, "name='" + n, "name= " + n, `name="` + n + `"; name="x"`, `name="x"; name="` + n + `"`, `filename=""; name="` + n + `"`}[random.IntN(9)]
		kind := []string{"form-data; ", "form-data;", "attachment; ", "", "form-data; filename*=x; "}[random.IntN(5)]
		check("multipart/form-data; boundary=b", "--b\r\nContent-Disposition: "+kind+quoted+"\r\n\r\nsecret\r\n--b--\r\n")
	}
	if forms < 2000 || found-forms < 250 {
		t.Errorf("%d secrets in forms and %d in multipart: too few to tell", forms, found-forms)
	}
}
