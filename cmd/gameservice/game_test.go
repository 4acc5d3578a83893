package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"banyan/cmd/gameservice/internal/query"
	"banyan/cmd/internal/config"
	"banyan/diff"
	"banyan/legacyadapter/changelog"
	"banyan/proxy/event"
	"banyan/proxy/expr"
	"banyan/testdata/game"
)

// sameReads compares every read of a player as banyan.yaml says.
func (p *player) sameReads(what string) {
	w := p.w
	w.t.Helper()
	reads := []struct {
		m            event.Migration
		route, query string
		of           string
	}{
		{"economy", "resources", "action=resources", ""}, // first: legacy ticks
		{"economy", "resources_of", "action=resources&player=2", "2"},
		{"economy", "trades", "action=trades", ""},
		{"units", "map", "action=map", ""},
		{"units", "units", "action=units", ""},
		{"units", "units_of", "action=units&player=2", "2"},
		{"units", "units_of", "action=units&player=9", "9"}, // of the other match
		{"units", "units_of", "action=units&player=4711", "4711"},
	}
	for _, r := range reads {
		legacy := p.legacyAnswer(r.query)
		route := w.route(r.m, r.route)
		target, err := expr.ParseTemplate(route.CandidatePath)
		w.must(err)
		path, ok := target.Expand(func(n string) (string, bool) {
			return map[string]string{"match": "1", "player": strconv.Itoa(p.id), "of": r.of}[n], true
		})
		if !ok {
			w.t.Fatal(route.CandidatePath)
		}
		candidate, position := w.candidateAnswer(path)
		rules, err := diff.Compile(route.Compare)
		w.must(err)
		rep, err := diff.CompareJSON(legacy, candidate, rules, diff.Options{})
		w.must(err)
		if !rep.Equal() || rep.Compared == 0 {
			w.t.Errorf("%s: %s of player %d:\n%s\nlegacy    %.300s\ncandidate %.300s", what, r.query, p.id, rep.Text(120), legacy, candidate)
		}
		if before, after, two := strings.Cut(position, "-"); !strings.Contains(string(candidate), `"error"`) && (!two || before == "0/0" || after == "0/0") {
			w.t.Errorf("%s: Banyan-Position %q", path, position)
		}
	}
}

func (w *world) route(m event.Migration, name string) config.Read {
	w.t.Helper()
	for _, r := range w.f.Migrations[m].Reads {
		if r.Name == name {
			return r
		}
	}
	w.t.Fatalf("no read %s in %s", name, m)
	return config.Read{}
}

// differences compares all state of both sides as banyan.yaml says: "player/2 /iron" and so on, sorted.
func (w *world) differences() []string {
	w.t.Helper()
	var all []string
	for _, m := range w.f.Names() {
		for _, s := range w.f.Migrations[m].State {
			all = append(all, w.stateDifferences(m, s)...)
		}
	}
	sort.Strings(all)
	return all
}

func (w *world) stateDifferences(m event.Migration, s config.State) (out []string) {
	w.t.Helper()
	snap, err := w.src.Snapshot(w.t.Context())
	w.must(err)
	defer snap.Close()
	rows, err := snap.Query(w.t.Context(), s.Legacy)
	w.must(err)
	defer rows.Close()
	name, err := expr.ParseTemplate(s.Entity)
	w.must(err)
	entity := func(v event.Values) string {
		text, _ := name.Expand(func(n string) (string, bool) { return fmt.Sprint(v[n]), true })
		return text
	}
	legacy := map[string]event.Values{}
	for rows.Next() {
		v := changelog.RowOf(rows.Columns(), append([]any(nil), rows.Values()...))
		legacy[entity(v)] = v
	}
	w.must(rows.Err())
	model, err := w.models[m].Snapshot(w.t.Context())
	w.must(err)
	defer model.Close(w.t.Context())
	theirs, err := model.Query(w.t.Context(), s.Candidate)
	w.must(err)
	if fmt.Sprint(theirs.Columns) != fmt.Sprint(rows.Columns()) {
		w.t.Fatalf("%s: columns %v and %v", s.Entity, rows.Columns(), theirs.Columns)
	}
	rules, err := diff.Compile(s.Compare)
	w.must(err)
	n := len(legacy)
	for v := range theirs.All() {
		e := entity(v)
		a, _ := json.Marshal(legacy[e])
		b, _ := json.Marshal(v)
		delete(legacy, e)
		rep, err := diff.CompareJSON(a, b, rules, diff.Options{})
		w.must(err)
		for _, d := range rep.Differences {
			out = append(out, fmt.Sprintf("%s %s", e, d.Path))
			w.t.Logf("%s %s:\nlegacy    %s\ncandidate %s", e, d.Path, a, b)
		}
	}
	w.must(theirs.Err())
	for e := range legacy {
		out = append(out, e+" missing")
	}
	if n == 0 {
		w.t.Errorf("%s: nothing to compare", s.Entity)
	}
	return out
}

func (w *world) exec(statement string) {
	w.t.Helper()
	_, err := w.db.ExecContext(w.t.Context(), statement)
	w.must(err)
}

// do does an action that legacy must accept.
func (p *player) do(action string, asJSON bool, params ...string) string {
	p.w.t.Helper()
	m := map[string]string{}
	for i := 0; i < len(params); i += 2 {
		m[params[i]] = params[i+1]
	}
	id, err := p.does(action, asJSON, m)
	if err != nil {
		p.w.t.Fatalf("%s %v: %v", action, m, err)
	}
	return id
}

func (w *world) one(query string) string {
	w.t.Helper()
	var s string
	w.must(w.db.QueryRowContext(w.t.Context(), query).Scan(&s))
	return s
}

func TestReadsOfTheSeededGame(t *testing.T) {
	w := newWorld(t, false)
	w.backfill()
	if d := w.differences(); len(d) > 0 {
		t.Errorf("after the import: %v", d)
	}
	p := w.login(1)
	w.settle(nil)
	p.sameReads("after the import")
	w.settle(nil)

	unit := w.one("SELECT id FROM units WHERE player_id = 1 AND hp > 0 ORDER BY id LIMIT 1")
	here := w.one("SELECT province_id FROM units WHERE id = " + unit)
	to := w.one("SELECT id FROM provinces WHERE match_id = 1 AND id <> " + here + " ORDER BY id LIMIT 1")
	p.do("move", false, "unit", unit, "to", to, "client_ref", "r1")
	p.sameReads("on the way")
	w.settle(nil)
	p.do("orders", true, "unit", w.one("SELECT id FROM units WHERE player_id = 1 AND is_moving = 0 ORDER BY id LIMIT 1"), "stance", "flee")
	w.exec("UPDATE resources SET gold = 5000, wood = 5000, iron = 5000 WHERE player_id = 1")
	w.settle(nil)
	p.do("recruit", true, "province", "1", "type", "knight")
	p.do("recruit", false, "province", "1", "type", "scout")
	p.do("disband", false, "unit", w.one("SELECT MAX(id) FROM units WHERE player_id = 1 AND is_moving = 0"))
	p.do("build", true, "province", "1")
	w.exec("UPDATE units SET arrives_at = '2020-01-01 00:00:00' WHERE is_moving = 1")
	w.must(game.Cron(t.Context(), w.at))
	w.exec("UPDATE units SET orders = '' WHERE id = (SELECT MIN(id) FROM (SELECT id FROM units WHERE player_id = 2) x)")
	w.settle(nil)
	p.sameReads("after cron")
	w.settle(nil)
	// A stance that legacy cannot read is null in its answer and the whole column in the query of the state comparison.
	w.exec("UPDATE units SET orders = 'a:2:{s:6:\"stance\";s:4:\"hold\";s:5:\"queue\";a:0:{}}' WHERE orders = ''")
	w.settle(nil)
	if d := w.differences(); len(d) > 0 {
		t.Errorf("after play: %v", d)
	}
}

// tablesOnly is a source without documents.
type tablesOnly struct{ query.Source }

func (s tablesOnly) Model(ctx context.Context) (query.Model, func(), error) {
	m, release, err := s.Source.Model(ctx)
	m.Redis = nil
	return m, release, err
}

// PostgreSQL answers what Redis has not got or has too late; Redis answers without PostgreSQL.
func TestEitherStoreAnswers(t *testing.T) {
	w := newWorld(t, false)
	w.backfill()
	now := time.Now()
	ask := func(h http.Handler, path string) string {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		return fmt.Sprintf("%d %s %s", rec.Code, rec.Header().Get("Banyan-Position"), rec.Body)
	}
	side := func(redis bool, at time.Time) http.Handler {
		c := query.Config{Partitions: partitions, SQL: os.DirFS(filepath.Join(game.Dir(), "sql")), Now: func() time.Time { return at }, Stale: time.Minute,
			Log: slog.New(slog.DiscardHandler), Units: w.svc.sources[0], Economy: w.svc.sources[1]}
		if !redis {
			c.Units, c.Economy = tablesOnly{c.Units}, tablesOnly{c.Economy}
		}
		h, err := query.New(c)
		w.must(err)
		return h
	}
	both, tables, late := side(true, now), side(false, now), side(true, now.Add(time.Hour))
	paths := []string{"/matches/1/map?player=1", "/matches/1/players/2/units?player=1", "/players/1/resources?match=1", "/matches/1/trades?player=1"}
	for _, p := range paths {
		a, b := ask(both, p), ask(tables, p)
		for end := time.Now().Add(time.Minute); a != b && time.Now().Before(end); a, b = ask(both, p), ask(tables, p) {
			time.Sleep(20 * time.Millisecond) // marks alone reach PostgreSQL a few times a second, and nothing tells of them
		}
		if a != b || !strings.HasPrefix(a, "200 ") {
			t.Errorf("%s:\nRedis      %.200s\nPostgreSQL %.200s", p, a, b)
		}
		ask(late, p) // it knows the player now
	}
	for _, p := range w.proj {
		p.Stop()
	}
	w.must(w.models["units"].Drop(t.Context()))
	w.must(w.models["economy"].Drop(t.Context()))
	for _, p := range paths {
		if a := ask(both, p); !strings.HasPrefix(a, "200 ") {
			t.Errorf("%s without PostgreSQL: %.200s", p, a)
		}
		if a := ask(late, p); !strings.HasPrefix(a, "200 ") {
			t.Errorf("%s late and without PostgreSQL: %.200s", p, a)
		}
		if a := ask(tables, p); !strings.HasPrefix(a, "503 ") {
			t.Errorf("%s without any store: %.200s", p, a)
		}
	}
	for _, p := range []string{"/matches/x/map?player=1", "/matches/1/map", "/matches/1/map?player=-1", "/players/1/resources"} {
		if a := ask(both, p); !strings.HasPrefix(a, "400 ") {
			t.Errorf("%s: %.200s", p, a)
		}
	}
}

func TestReadsOfAStrangerAreRefusedAsLegacyDoes(t *testing.T) {
	w := newWorld(t, false)
	w.backfill()
	p := w.login(1)
	for query, path := range map[string]string{
		"action=map&match=2": "/matches/2/map?player=1", "action=trades&match=2": "/matches/2/trades?player=1",
		"action=resources&player=2": "/players/1/resources?match=1&of=2", "action=resources&match=2": "/players/1/resources?match=2",
	} {
		_, _, legacy := p.send("GET", "api.php?"+query, "", "", "")
		candidate, _ := w.candidateAnswer(path)
		if legacy != string(candidate) || !strings.Contains(legacy, `"ok":false`) {
			t.Errorf("%s: legacy %s, candidate %s", query, legacy, candidate)
		}
	}
}

// play is a scripted economy: every command, by form and as JSON, ticks by looking, a refusal, a change by an admin.
func play(w *world) {
	w.backfill()
	a, b, c := w.login(1), w.login(2), w.login(3)
	w.exec("UPDATE resources SET gold = 900, wood = 800.5, iron = 700.25, gold_rate = 360, storage = 20000, updated_at = updated_at - 100 WHERE player_id IN (1, 2, 3)")
	w.exec("UPDATE trades SET status = 2 WHERE match_id = 1")
	w.settle(nil)

	wood := a.do("offer", false, "give_type", "wood", "give_amount", "40", "want_type", "gold", "want_amount", "25.5")
	iron := a.do("offer", true, "give_type", "iron", "give_amount", "30", "want_type", "gold", "want_amount", "75")
	b.do("accept", false, "trade", wood)
	w.restart()
	c.legacyAnswer("action=resources") // a dark tick
	w.settle(nil)
	c.do("accept", true, "trade", iron) // here the planted defect shows
	if _, err := b.does("accept", true, map[string]string{"trade": iron}); err == nil {
		w.t.Fatal("a closed trade was accepted")
	}
	if _, err := c.does("give", false, map[string]string{"to": "1", "type": "iron", "amount": "99999"}); err == nil {
		w.t.Fatal("more was given than there is")
	}
	gone := b.do("offer", true, "give_type", "gold", "give_amount", "10", "want_type", "iron", "want_amount", "5")
	b.do("cancel", false, "trade", gone)
	a.do("give", true, "to", "2", "type", "wood", "amount", "12.5")
	a.do("build", false, "province", "1")
	a.do("recruit", true, "province", "1", "type", "spear")
	b.legacyAnswer("action=resources")
	w.exec("UPDATE resources SET gold = gold + 100 WHERE player_id = 2")
	old := c.do("offer", false, "give_type", "wood", "give_amount", "5", "want_type", "gold", "want_amount", "5")
	w.exec("UPDATE trades SET expires_at = '2020-01-01 00:00:00' WHERE id = " + old)
	w.must(game.Cron(w.t.Context(), w.at))
	w.settle(nil)
}

func TestTheServiceComesToLegacysState(t *testing.T) {
	w := newWorld(t, false)
	play(w)
	if d := w.differences(); len(d) != 0 {
		t.Errorf("differences: %v", d)
	}
	if n := w.svc.commands.Stats.Refused.Load() + w.svc.commands.Stats.Unknown.Load(); n != 0 {
		t.Errorf("%d commands refused or unknown", n)
	}
}

func TestThePlantedDefectIsSeenExactlyThere(t *testing.T) {
	w := newWorld(t, true)
	play(w)
	d := w.differences()
	if len(d) != 1 || d[0] != "player/3 /iron" {
		t.Errorf("differences: %v; want player/3 /iron, the buyer's", d)
	}
}

// The command itself: it starts with flags and environment, is ready, and ends when it is told to.
func TestRun(t *testing.T) {
	w := newWorld(t, false)
	env := map[string]string{"KAFKA": w.kafka.Brokers[0], "KAFKA_PREFIX": w.kafka.Prefix, "KAFKA_PARTITIONS": strconv.Itoa(partitions), "READ_DSN": w.cfg.readDSN,
		"REDIS_URL": w.redis, "GAMESERVICE_SQL": w.cfg.sql, "GAMESERVICE_BUG": "1"}
	ctx, cancel := context.WithCancel(t.Context())
	r, stderr := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-listen", "127.0.0.1:0"}, func(n string) string { return env[n] }, stderr)
		_ = stderr.Close()
		ended <- err
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	w.must(err)
	go func() { _, _ = io.Copy(io.Discard, r) }() // ends with run
	address := regexp.MustCompile(`address=(\S+) bug=true`).FindStringSubmatch(line)
	if address == nil {
		t.Fatal(line)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		resp, err := http.Get("http://" + address[1] + path)
		w.must(err)
		_ = resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestSettingsErrors(t *testing.T) {
	env := map[string]string{"KAFKA": "nowhere", "KAFKA_PARTITIONS": "x", "UNITS_GENERATION": "-1"}
	_, err := parse(nil, func(n string) string { return env[n] }, io.Discard)
	for _, want := range []string{`brokers: "nowhere"`, `KAFKA_PARTITIONS: "x"`, "read-model: none given", "generations: -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}
