package play_test

import (
	"bytes"
	"database/sql"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	_ "github.com/go-sql-driver/mysql"

	"banyan/cmd/internal/play"
	"banyan/legacyadapter/fastcgi"
	"banyan/testdata/game"
	"banyan/testdata/lab"
)

// world is a seeded database.
func world(t *testing.T) (game.DB, *sql.DB) {
	t.Helper()
	server := lab.MariaDB(t)
	name, dsn := server.Database(t)
	address := game.DB{Addr: server.Addr, Socket: server.Socket, User: server.User, Password: server.Password, Name: name}
	if err := game.Seed(t.Context(), address, game.Size{Matches: 2, Players: 10, Provinces: 20, Units: 100}); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return address, db
}

func TestPlaysOnPHPsOwnServer(t *testing.T) {
	address, db := world(t)
	php := lab.PHPServer(t, game.Root(), 4, address.Env(t.TempDir(), true))
	playThrough(t, php.URL, address, db)
}

func TestPlaysOnNginxAndPHPFPM(t *testing.T) {
	address, db := world(t)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: game.Root(), Workers: 4, Env: address.Env(t.TempDir(), true)})
	playThrough(t, lab.NginxPHP(t, fpm, game.Root()), address, db)
}

// No web server at all: banyan speaks to php-fpm, and serves the game's files.
func TestPlaysOnPHPFPMAlone(t *testing.T) {
	address, db := world(t)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: game.Root(), Workers: 5, Env: address.Env(t.TempDir(), true)})
	u, err := fastcgi.New(fastcgi.Config{Name: "legacy", Address: "unix:" + fpm.Socket, Root: game.Root()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	playThrough(t, "http://"+passThrough(t, u), address, db)
}

// endpoints that a play-through of two thousand requests is sure to touch.
var endpoints = []string{
	"page login", "form login", "page map", "page unit", "page province", "page market", "page diplomacy", "page messages", "page ranking",
	"api state", "api map", "api units", "api resources", "api trades", "api messages",
	"form move", "json move", "form attack", "json attack", "form recruit", "json recruit", "form orders", "json orders",
	"form build", "json build", "form offer", "json offer", "form accept", "json accept", "form give", "json give", "form send", "json send",
}

func playThrough(t *testing.T, url string, address game.DB, db *sql.DB) {
	t.Helper()
	const requests = 2000
	var mu sync.Mutex
	var writes []play.Write
	d, err := play.New(play.Config{BaseURL: url, Players: 12, Matches: 2, Seed: 1, Run: "t", Requests: requests, Wrote: func(w play.Write) {
		mu.Lock()
		defer mu.Unlock()
		writes = append(writes, w)
		if len(writes)%50 == 0 {
			if err := game.Cron(t.Context(), address); err != nil {
				t.Error(err)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context()); err != nil {
		t.Fatal(err)
	}

	all := d.Totals()
	var table strings.Builder
	if err := all.Print(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table.String())
	if all.Requests < requests {
		t.Errorf("%d requests, want %d", all.Requests, requests)
	}
	if all.Errors != 0 || all.Missed != 0 {
		t.Errorf("%d errors, %d own writes missed", all.Errors, all.Missed)
	}
	met := map[string]int{}
	for _, row := range all.Rows {
		met[row.Endpoint] += row.Count - row.Refused
	}
	for _, endpoint := range endpoints {
		if met[endpoint] == 0 {
			t.Errorf("%s was never answered without a refusal", endpoint)
		}
	}
	committed := loggedRefs(t, db)
	for _, w := range writes {
		if (w.Outcome == play.Done) != committed[w.Ref] {
			t.Errorf("%+v: committed is %t", w, committed[w.Ref])
		}
	}
}

// loggedRefs are the client_refs of the writes that the game says it did.
func loggedRefs(t *testing.T, db *sql.DB) map[string]bool {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT client_ref FROM action_log WHERE client_ref <> ''")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	refs := map[string]bool{}
	for rows.Next() {
		var ref string
		if err := rows.Scan(&ref); err != nil {
			t.Fatal(err)
		}
		if refs[ref] {
			t.Errorf("client_ref %s stands for two writes", ref)
		}
		refs[ref] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return refs
}

// tampering is a proxy that has a bug.
type tampering struct {
	mu    sync.Mutex // guards the bug's own state
	after func(*http.Request, *http.Response)
}

func (p *tampering) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.after(req, resp)
	}
	return resp, err
}

func playTampered(t *testing.T, url string, after func(*http.Request, *http.Response)) play.Totals {
	t.Helper()
	d, err := play.New(play.Config{BaseURL: url, Players: 4, Matches: 2, Seed: 2, Run: "x", Requests: 500, Transport: &tampering{after: after}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d.Totals()
}

func TestPlayersNoticeWhatAProxyDoesWrong(t *testing.T) {
	address, _ := world(t)
	php := lab.PHPServer(t, game.Root(), 4, address.Env(t.TempDir(), true))

	t.Run("stale reads", func(t *testing.T) {
		kept := map[string][]byte{}
		all := playTampered(t, php.URL, func(req *http.Request, resp *http.Response) {
			if req.URL.Query().Get("action") != "units" || req.Method != "GET" {
				return
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Error(err)
			}
			if old := kept[req.URL.RawQuery]; old != nil {
				kept[req.URL.RawQuery] = nil // every second read is an old one
				body = old
			} else {
				kept[req.URL.RawQuery] = body
			}
			resp.Body = io.NopCloser(bytes.NewReader(body))
		})
		if all.Missed == 0 || all.Errors != 0 {
			t.Errorf("%d missed, %d errors: %v", all.Missed, all.Errors, all.Examples)
		}
	})
	t.Run("somebody else's page", func(t *testing.T) {
		var other []byte
		all := playTampered(t, php.URL, func(req *http.Request, resp *http.Response) {
			if req.URL.Query().Get("page") != "ranking" {
				return
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Error(err)
			}
			if other == nil {
				other = body
			}
			resp.Body = io.NopCloser(bytes.NewReader(other))
		})
		if all.Errors == 0 {
			t.Error("no error")
		}
	})
	t.Run("an error of the proxy's own", func(t *testing.T) {
		n := 0
		all := playTampered(t, php.URL, func(_ *http.Request, resp *http.Response) {
			if n++; n%50 == 0 {
				resp.StatusCode = 502
			}
			resp.Header.Set("Banyan-Served-By", "candidate")
		})
		if all.Errors == 0 || all.Side("candidate", nil).Count != all.Requests || all.Side("legacy", nil).Count != 0 {
			t.Errorf("%d errors, sides %+v", all.Errors, all.Rows)
		}
		if !strings.Contains(strings.Join(all.Examples, " "), "502") {
			t.Errorf("no example names the 502: %v", all.Examples)
		}
	})
}
