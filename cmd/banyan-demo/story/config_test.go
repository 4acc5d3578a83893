package story

import (
	"os"
	"path/filepath"
	"testing"

	"banyan/cmd/banyan-demo/scene"
	"banyan/cmd/banyan-demo/system"
	"banyan/cmd/internal/config"
)

// The game's configuration is edited as text: what the demo runs must still be one, on either set, and the planted bug
// must be in it and nowhere else.
func TestConfigurationsLoad(t *testing.T) {
	for name, adapt := range map[string]func(string) (string, error){"real": func(s string) (string, error) { return s, nil }, "embedded": scene.ForStandin} {
		t.Run(name, func(t *testing.T) {
			s := system.Unbuilt(t.TempDir(), &scene.Set{Legacy: "http://127.0.0.1:1", Env: map[string]string{"KAFKA": "127.0.0.1:2", "REDIS_URL": "redis://127.0.0.1:3",
				"LEGACY_DSN": map[string]string{"real": "u:p@tcp(127.0.0.1:4)/game", "embedded": "postgres://127.0.0.1:4/game"}[name],
				"LEDGER_DSN": "postgres://127.0.0.1:5/ledger", "READ_DSN": "postgres://127.0.0.1:5/readmodel"}, Adapt: adapt})
			prints := map[string]string{}
			for n, edit := range map[string]func(string) (string, error){"with": planted, "without": nil} {
				file, err := s.Configure(n, edit)
				if err != nil {
					t.Fatal(err)
				}
				env, err := s.Env("proxy-a")
				if err != nil {
					t.Fatal(err)
				}
				f, err := config.LoadWith(file, func(v string) (string, bool) { x, ok := env[v]; return x, ok })
				if err != nil {
					t.Fatal(err)
				}
				prints[n] = f.Fingerprint("")
				if _, err := os.Stat(filepath.Join(filepath.Dir(file), "sql")); err != nil {
					t.Fatal(err)
				}
			}
			if prints["with"] == prints["without"] {
				t.Fatal("the bug is not in the configuration")
			}
		})
	}
}
