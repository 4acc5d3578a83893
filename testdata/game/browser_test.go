package game_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"

	"banyan/testdata/game"
	"banyan/testdata/lab"
)

// world is a small seeded world behind PHP's own server with four workers: two matches
// of six players; ids of match 1 begin at 1.
type world struct {
	t   *testing.T
	db  *sql.DB
	at  game.DB
	url string
}

var small = game.Size{Matches: 2, Players: 6, Provinces: 12, Units: 60}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := seeded(t)
	w.url = lab.PHPServer(t, game.Root(), 4, w.at.Env(t.TempDir(), true)).URL
	return w
}

func seeded(t *testing.T) *world {
	t.Helper()
	server := lab.MariaDB(t)
	name, dsn := server.Database(t)
	w := &world{t: t, at: game.DB{Addr: server.Addr, Socket: server.Socket, User: server.User, Password: server.Password, Name: name}}
	if err := game.Seed(t.Context(), w.at, small); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w.db = db
	return w
}

func (w *world) exec(statement string, args ...any) {
	w.t.Helper()
	if _, err := w.db.ExecContext(w.t.Context(), statement, args...); err != nil {
		w.t.Fatalf("%s: %v", statement, err)
	}
}

// value is one value as text, "" for NULL or no row.
func (w *world) value(query string, args ...any) string {
	w.t.Helper()
	var v sql.NullString
	if err := w.db.QueryRowContext(w.t.Context(), query, args...).Scan(&v); err != nil && err != sql.ErrNoRows {
		w.t.Fatalf("%s: %v", query, err)
	}
	return v.String
}

func (w *world) number(query string, args ...any) float64 {
	w.t.Helper()
	var v float64
	if err := w.db.QueryRowContext(w.t.Context(), query, args...).Scan(&v); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
	return v
}

// eventually asks until the answer is right. Nothing tells when a script has ended whose
// client is gone, so it asks every few milliseconds.
func (w *world) eventually(query, want string) {
	w.t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(time.Minute)
	for {
		got := w.value(query)
		if got == want {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			w.t.Fatalf("%s: still %q, want %q", query, got, want)
		}
	}
}

// cron runs the cron script once.
func (w *world) cron() {
	w.t.Helper()
	if err := game.Cron(w.t.Context(), w.at); err != nil {
		w.t.Fatal(err)
	}
}

// purse sets what a player has, with nothing being produced.
func (w *world) purse(player, stock int) {
	w.t.Helper()
	w.exec("UPDATE resources SET gold = ?, wood = ?, iron = ?, gold_rate = 0, wood_rate = 0, iron_rate = 0, updated_at = ? WHERE player_id = ?", stock, stock, stock, time.Now().Unix(), player)
}

// browser is a logged in player.
type browser struct {
	t      *testing.T
	url    string
	client *http.Client
	id     int
	token  string
	header http.Header // added to each request
}

type answer struct {
	status   int
	location string
	body     string
}

var token = regexp.MustCompile(`name="token" value="(\w+)"`)

// login opens a new browser for the n-th player of match 1, whose id is n.
func (w *world) login(n int) *browser {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	transport := &http.Transport{}
	w.t.Cleanup(transport.CloseIdleConnections)
	b := &browser{t: w.t, url: w.url, id: n, client: &http.Client{Jar: jar, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	form := b.get("index.php?page=login")
	b.token = token.FindStringSubmatch(form.body)[1]
	a := b.post("index.php?page=login&action=login", url.Values{"name": {game.Login(1, n)}, "password": {game.Password}, "token": {b.token}}.Encode())
	if !strings.Contains(a.location, "msg=welcome") {
		w.t.Fatalf("login: %+v", a)
	}
	return b
}

// try does a request; it may be called from any goroutine.
func (b *browser) try(method, target, contentType, body string) (answer, error) {
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+"/"+target, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for k, v := range b.header {
		req.Header[k] = v
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header.Get("Location"), string(text)}, err
}

func (b *browser) send(method, target, contentType, body string) answer {
	b.t.Helper()
	a, err := b.try(method, target, contentType, body)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

func (b *browser) get(target string) answer { b.t.Helper(); return b.send("GET", target, "", "") }

func (b *browser) post(target, form string) answer {
	b.t.Helper()
	return b.send("POST", target, "application/x-www-form-urlencoded", form)
}

// tryForm does an action; fields is an encoded form without match and token.
func (b *browser) tryForm(page, action, fields string) (answer, error) {
	return b.try("POST", "index.php?page="+page+"&action="+action, "application/x-www-form-urlencoded", "match=1&token="+b.token+"&"+fields)
}

func (b *browser) form(page, action, fields string) answer {
	b.t.Helper()
	a, err := b.tryForm(page, action, fields)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// json does an action as the scripts do; fields is a JSON object without its braces.
func (b *browser) json(action, fields string) answer {
	b.t.Helper()
	if fields != "" {
		fields = "," + fields
	}
	return b.send("POST", "api.php", "application/json", fmt.Sprintf(`{"action":%q,"match":1,"token":%q%s}`, action, b.token, fields))
}

// api polls.
func (b *browser) api(action string) map[string]any {
	b.t.Helper()
	a := b.get("api.php?action=" + action + "&match=1")
	var out map[string]any
	if err := json.Unmarshal([]byte(a.body), &out); err != nil {
		b.t.Fatalf("%s: %v: %s", action, err, a.body)
	}
	return out
}

// together runs things at the same time and waits for all.
func together(things ...func()) {
	done := make(chan struct{})
	start := make(chan struct{})
	for _, thing := range things {
		go func() {
			<-start
			thing()
			done <- struct{}{}
		}()
	}
	close(start)
	for range things {
		<-done
	}
}
