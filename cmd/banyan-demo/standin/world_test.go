package standin_test

import (
	"cmp"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"banyan/cmd/banyan-demo/standin"
	"banyan/testdata/game"
	"banyan/testdata/lab"
)

// world is one implementation of the game with its database: match 1 has the players 1 to 6, match 2 those from 7.
type world struct {
	t        testing.TB
	name     string
	url      string
	db       *sql.DB
	postgres bool
	cron     func() error
	at       game.DB // of the original
}

var small = game.Size{Matches: 2, Players: 6, Provinces: 12, Units: 60}

// original is the PHP game behind nginx and php-fpm.
func original(t testing.TB, size game.Size) *world {
	t.Helper()
	w := originalDB(t, size)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: game.Root(), Workers: 4, Env: w.at.Env(t.TempDir(), true)})
	w.url = lab.NginxPHP(t, fpm, game.Root())
	return w
}

// originalDB is its database alone.
func originalDB(t testing.TB, size game.Size) *world {
	t.Helper()
	server := lab.MariaDB(t)
	name, dsn := server.Database(t)
	at := game.DB{Addr: server.Addr, Socket: server.Socket, User: server.User, Password: server.Password, Name: name}
	if err := game.Seed(t.Context(), at, size); err != nil {
		t.Fatal(err)
	}
	return &world{t: t, name: "original", db: open(t, "mysql", dsn), at: at, cron: func() error { return game.Cron(t.Context(), at) }}
}

// stand is the stand-in behind net/http.
func stand(t testing.TB, size game.Size) *world {
	t.Helper()
	w, _ := standAt(t, lab.Postgres(t).Database(t), size, false)
	return w
}

func standAt(t testing.TB, dsn string, size game.Size, annotate bool) (*world, *standin.Game) {
	t.Helper()
	g, err := standin.New(t.Context(), standin.Config{URL: dsn, Annotate: annotate, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	if err := g.Setup(t.Context(), standin.Size(size)); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(g.Handler())
	t.Cleanup(server.Close)
	return &world{t: t, name: "stand-in", url: server.URL, db: open(t, "pgx", dsn+"&timezone=UTC"), postgres: true, cron: func() error { return g.Cron(t.Context()) }}, g
}

func open(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func (w *world) exec(statement string) {
	w.t.Helper()
	if _, err := w.db.ExecContext(w.t.Context(), statement); err != nil {
		w.t.Fatalf("%s: %s: %v", w.name, statement, err)
	}
}

// value is one value as text, "" for NULL or no row.
func (w *world) value(query string) string {
	w.t.Helper()
	var v sql.NullString
	if err := w.db.QueryRowContext(w.t.Context(), query).Scan(&v); err != nil && err != sql.ErrNoRows {
		w.t.Fatalf("%s: %s: %v", w.name, query, err)
	}
	return v.String
}

func (w *world) number(query string) float64 {
	w.t.Helper()
	var v float64
	if err := w.db.QueryRowContext(w.t.Context(), query).Scan(&v); err != nil {
		w.t.Fatalf("%s: %s: %v", w.name, query, err)
	}
	return v
}

// purse sets what a player has, with nothing being produced.
func (w *world) purse(player, stock int) {
	w.t.Helper()
	w.exec(fmt.Sprintf("UPDATE resources SET gold = %d, wood = %d, iron = %d, gold_rate = 0, wood_rate = 0, iron_rate = 0, updated_at = %d WHERE player_id = %d", stock, stock, stock, time.Now().Unix(), player))
}

// tables are the game's tables, with what orders their rows.
var tables = []struct{ name, order string }{
	{"matches", "id"}, {"players", "id"}, {"resources", "player_id"}, {"provinces", "id"}, {"units", "id"}, {"trades", "id"},
	{"diplomacy", "player_id, other_id"}, {"messages", "id"}, {"battles", "id"}, {"action_log", "player_id"},
}

// contents is all rows as text: times as unix seconds, floats with all their digits, "-" for the zero date.
func (w *world) contents() map[string][]map[string]string {
	w.t.Helper()
	all := map[string][]map[string]string{}
	for _, table := range tables {
		all[table.name] = w.rows("SELECT * FROM " + table.name + " ORDER BY " + table.order)
	}
	// The two collate differently.
	slices.SortStableFunc(all["action_log"], func(a, b map[string]string) int {
		return cmp.Or(strings.Compare(a["client_ref"], b["client_ref"]), strings.Compare(a["action"], b["action"]))
	})
	return all
}

func (w *world) rows(query string) (out []map[string]string) {
	w.t.Helper()
	// Prepared, because MariaDB prints a FLOAT with six digits where it is asked for text.
	prepared, err := w.db.PrepareContext(w.t.Context(), query)
	if err != nil {
		w.t.Fatal(err)
	}
	defer prepared.Close()
	rows, err := prepared.QueryContext(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.ColumnTypes()
	if err != nil {
		w.t.Fatal(err)
	}
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			w.t.Fatal(err)
		}
		r := map[string]string{}
		for i, c := range columns {
			r[c.Name()] = normal(values[i])
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return out
}

func normal(v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case time.Time:
		return fmt.Sprint(v.Unix())
	case []byte:
		return normal(string(v))
	case string:
		if v == "0000-00-00 00:00:00" {
			return "-"
		}
		if at, err := time.Parse(time.DateTime, v); err == nil {
			return fmt.Sprint(at.Unix())
		}
		return v
	case float32:
		return fmt.Sprint(float64(v))
	}
	return fmt.Sprint(v)
}

// browser is a player's, or nobody's.
type browser struct {
	w      *world
	client *http.Client
	token  string
	header http.Header // added to each request
}

type answer struct {
	status                      int
	location, contentType, body string
	cookies                     []string
}

func (w *world) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	transport := &http.Transport{}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &browser{w: w, client: &http.Client{Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

var tokenField = regexp.MustCompile(`name="token" value="(\w+)"`)

// login opens a browser for the n-th player of match 1, whose id is n.
func (w *world) login(n int) *browser {
	w.t.Helper()
	b := w.browser()
	b.learn(b.get("index.php?page=login"))
	a := b.post("index.php?page=login&action=login", url.Values{"name": {game.Login(1, n)}, "password": {game.Password}, "token": {b.token}}.Encode())
	if !strings.Contains(a.location, "msg=welcome") {
		w.t.Fatalf("%s: login: %+v", w.name, a)
	}
	return b
}

func (b *browser) learn(a answer) {
	b.w.t.Helper()
	found := tokenField.FindStringSubmatch(a.body)
	if found == nil {
		b.w.t.Fatalf("%s: no token: %+v", b.w.name, a)
	}
	b.token = found[1]
}

// try may be called from any goroutine.
func (b *browser) try(method, target, contentType, body string) (answer, error) {
	req, err := http.NewRequestWithContext(b.w.t.Context(), method, b.w.url+"/"+target, strings.NewReader(body))
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
	return answer{resp.StatusCode, resp.Header.Get("Location"), resp.Header.Get("Content-Type"), string(text), resp.Header["Set-Cookie"]}, err
}

func (b *browser) send(method, target, contentType, body string) answer {
	b.w.t.Helper()
	a, err := b.try(method, target, contentType, body)
	if err != nil {
		b.w.t.Fatal(err)
	}
	return a
}

func (b *browser) get(target string) answer { b.w.t.Helper(); return b.send("GET", target, "", "") }

func (b *browser) post(target, form string) answer {
	b.w.t.Helper()
	return b.send("POST", target, "application/x-www-form-urlencoded", form)
}

func (b *browser) tryForm(page, action, fields string) (answer, error) {
	return b.try("POST", "index.php?page="+page+"&action="+action, "application/x-www-form-urlencoded", "match=1&token="+b.token+"&"+fields)
}

func (b *browser) form(page, action, fields string) answer {
	b.w.t.Helper()
	a, err := b.tryForm(page, action, fields)
	if err != nil {
		b.w.t.Fatal(err)
	}
	return a
}

func done(a answer) bool { return strings.Contains(a.location, "msg=") }
