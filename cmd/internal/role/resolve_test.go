package role

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"banyan/cmd/internal/config"
)

// What `resolve` says decides where a request goes: the same spellings, by each front end.
func TestResolveDecidesRoutes(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "index.php"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	named := func(name string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, name) }))
		t.Cleanup(s.Close)
		return s.URL
	}
	legacy, service := named("legacy"), named("new")
	for resolve, want := range map[string]map[string]string{
		"nginx":                             {"/index.php": "new", "/": "new", "/index.php/x": "new", "/%2findex.php": "new", "/x": "legacy", "/a%2": "400", "/a%0a": "400"},
		"apache":                            {"/index.php": "new", "/": "new", "/index.php/x": "new", "/%2findex.php": "400", "/x": "legacy", "/a%2": "400", "/a%0a": "legacy"},
		"none":                              {"/index.php": "new", "/": "legacy", "/index.php/x": "legacy", "//index.php": "400", "/x": "legacy"},
		"php-server, root: \"" + root + `"`: {"/index.php": "new", "/": "new", "/index.php/x": "new", "/%2findex.php": "new", "/x": "new", "/x.css": "legacy"},
	} {
		src := fmt.Sprintf("version: 1\nproxy: { listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\" }\nupstreams: { legacy: { http: %q, resolve: %s }, new: { http: %q } }\nroutes: [{ match: { path: /index.php }, to: new }]\n", legacy, resolve, service)
		f, err := config.Parse("banyan.yaml", []byte(src), os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		p, err := StartProxy(t.Context(), f, Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for target, want := range want {
			req, err := http.NewRequest("GET", "http://"+p.Addr().String()+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Close = true
			req.URL.Opaque = "//" + p.Addr().String() + target // byte for byte
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			got := string(body)
			if resp.StatusCode != 200 {
				got = fmt.Sprint(resp.StatusCode)
			}
			if got != want {
				t.Errorf("%s: %s goes to %s, want %s", resolve, target, got, want)
			}
		}
		if err := p.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
