package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"

	"banyan/cmd/internal/config"
	"banyan/legacyadapter/changelog"
	"banyan/legacyadapter/mysql"
	"banyan/proxy/event"
	"banyan/proxy/expr"
	"banyan/proxy/kafka"
	"banyan/shadow/dispatch"
	"banyan/shadow/project"
	"banyan/shadow/readmodel"
	"banyan/shadow/translate"
	"banyan/testdata/game"
	"banyan/testdata/lab"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// world is the game on PHP and MariaDB, and everything behind its change log: settled entries that the test makes of the
// real binary log, translation, dispatch, projections, and this service.
type world struct {
	t      *testing.T
	f      *config.File
	db     *sql.DB
	at     game.DB
	php    string
	src    *mysql.Source
	txns   chan *changelog.Txn
	read   event.Position // of the log, by the test
	kafka  kafka.Config
	cl     *kgo.Client
	keys   map[event.Migration]map[string]map[string]*expr.Program // of rows.<table>.key
	models map[event.Migration]*readmodel.Postgres
	proj   map[event.Migration]*project.Projector
	redis  string // URL
	url    string // of the service
	svc    *service
	cfg    settings
	log    *slog.Logger
	seq    int
}

const partitions = 2

var tables = []string{"players", "provinces", "resources", "trades", "units"}

func newWorld(t *testing.T, bug bool) *world {
	t.Helper()
	server := lab.MariaDB(t)
	name, dsn := server.Database(t)
	w := &world{t: t, at: game.DB{Addr: server.Addr, Socket: server.Socket, User: server.User, Password: server.Password, Name: name},
		txns: make(chan *changelog.Txn, 10000), models: map[event.Migration]*readmodel.Postgres{}, proj: map[event.Migration]*project.Projector{}}
	w.must(game.Seed(t.Context(), w.at, game.Size{Matches: 2, Players: 6, Provinces: 12, Units: 60}))
	var err error
	w.db, err = sql.Open("mysql", dsn)
	w.must(err)
	t.Cleanup(func() { _ = w.db.Close() })
	w.php = lab.PHPServer(t, game.Root(), 4, w.at.Env(t.TempDir(), true)).URL
	w.openKafka()
	w.redis = "redis://" + lab.Redis(t).Addr
	w.f = gameFile(t, map[string]string{"READ_DSN": lab.Postgres(t).Database(t), "REDIS_URL": w.redis, "KAFKA": w.kafka.Brokers[0]})
	w.openLog(dsn)
	w.openService(bug)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) openKafka() {
	w.t.Helper()
	f, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	w.must(err)
	w.t.Cleanup(f.Close)
	w.kafka = kafka.Config{Brokers: f.ListenAddrs(), Prefix: strings.ReplaceAll(lab.Prefix(w.t), "_", "-"), Partitions: partitions, Replication: 1}.WithDefaults()
	w.cl, err = w.kafka.Producer("test")
	w.must(err)
	w.t.Cleanup(w.cl.Close)
	topics := w.kafka.Topics()
	w.must(w.kafka.EnsureTopics(w.t.Context(), w.cl, append(w.kafka.Base(), kafka.Topic{Name: topics.Events("units", 1), Forever: true},
		kafka.Topic{Name: topics.Events("economy", 1), Forever: true})...))
}

// openLog begins to read the binary log at its head.
func (w *world) openLog(dsn string) {
	w.t.Helper()
	var err error
	w.src, err = mysql.New(mysql.Config{DSN: dsn, Tables: tables}, slog.New(slog.DiscardHandler))
	w.must(err)
	w.read, err = w.src.Head(w.t.Context())
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends with the test
		defer close(done)
		err := w.src.Stream(ctx, w.read, func(x *changelog.Txn) error { w.txns <- x; return nil })
		if ctx.Err() == nil {
			w.t.Error("binary log:", err)
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
	w.keys = map[event.Migration]map[string]map[string]*expr.Program{}
	for name, m := range w.f.Migrations {
		w.keys[name] = map[string]map[string]*expr.Program{}
		for table, r := range m.Rows {
			w.keys[name][table] = map[string]*expr.Program{}
			for part, src := range r.Key {
				w.keys[name][table][part], err = expr.Compile(src, map[string]any{"row": map[string]any{}})
				w.must(err)
			}
		}
	}
}

func (w *world) openService(bug bool) {
	t := w.t
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	contracts := gameContracts(t, w.f)
	for _, name := range w.f.Names() {
		m := w.f.Migrations[name]
		ddl, err := os.ReadFile(w.f.Path(m.ReadModel.Schema))
		w.must(err)
		pg, err := readmodel.OpenPostgres(t.Context(), readmodel.PostgresConfig{URL: m.ReadModel.Postgres, Schema: readmodel.Schema(name, 1), DDL: string(ddl), Conns: 4})
		w.must(err)
		t.Cleanup(pg.Close)
		redis, err := readmodel.OpenRedis(readmodel.RedisConfig{URL: w.redis, Prefix: w.kafka.Prefix, Migration: name, Generation: 1})
		w.must(err)
		t.Cleanup(redis.Close)
		pc := gameProjection(t, w.f, name, w.kafka)
		pc.Log = log
		p, err := project.New(pc, pg, redis)
		w.must(err)
		w.must(p.Start(t.Context()))
		t.Cleanup(p.Stop)
		w.models[name], w.proj[name] = pg, p
	}
	w.cfg = settings{kafka: w.kafka, readDSN: w.f.Migrations["units"].ReadModel.Postgres, redis: w.redis, sql: filepath.Join(game.Dir(), "sql"), unitsGen: 1, economyGen: 1, bug: bug}
	w.log = log
	w.restart()
	t.Cleanup(func() { w.svc.close() })
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.svc.handler().ServeHTTP(rw, r) }))
	t.Cleanup(s.Close)
	w.url = s.URL
	for _, name := range w.f.Names() {
		rules, err := translate.Compile(w.f.Migrations[name].Translate(name), contracts)
		w.must(err)
		if w.f.Migrations[name].Dispatch == "" {
			tr := translate.New(rules, w.kafka, log)
			w.must(tr.Start(t.Context()))
			t.Cleanup(tr.Stop)
			continue
		}
		d, err := dispatch.New(dispatch.Config{Kafka: w.kafka, Migration: name, Generation: 1, URL: w.url + "/commands", Rules: rules, Log: log})
		w.must(err)
		w.must(d.Start(t.Context()))
		t.Cleanup(d.Stop)
	}
}

// restart makes a service that knows nothing of the one before it. Nothing must be under way.
func (w *world) restart() {
	w.t.Helper()
	if w.svc != nil {
		w.svc.close()
	}
	var err error
	w.svc, err = open(w.t.Context(), w.cfg, w.log)
	w.must(err)
}

// key is the ordering key of a row in a migration, "" if the migration does not map its table.
func (w *world) key(m event.Migration, table string, row event.Values) event.OrderingKey {
	w.t.Helper()
	parts, ok := w.keys[m][table]
	if !ok {
		return ""
	}
	k, err := expr.ParseTemplate(w.f.Migrations[m].OrderBy)
	w.must(err)
	text, ok := k.Expand(func(n string) (string, bool) {
		v, err := parts[n].Eval(map[string]any{"row": map[string]any(row)})
		return fmt.Sprint(v), err == nil
	})
	if !ok {
		w.t.Fatalf("no key for a row of %s", table)
	}
	return event.OrderingKey(text)
}

// settled publishes entries and a mark behind them, and waits until both read models have it all.
func (w *world) settled(position event.Position, entries ...*event.Entry) {
	w.t.Helper()
	topic := w.kafka.Topics().Settled()
	var rs []*kgo.Record
	for _, e := range entries {
		rs = append(rs, kafka.Record(topic, event.Partition(e.Key, partitions), event.KindEntry, string(e.Key), event.Encode(e)))
	}
	for n := range int32(partitions) {
		rs = append(rs, kafka.Record(topic, n, event.KindSettledMark, "", event.Encode(&event.SettledMark{V: 1, Position: position, Clock: time.Now()})))
	}
	w.must(w.cl.ProduceSync(w.t.Context(), rs...).FirstErr())
	// Progress is not announced in this process; it is asked for.
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(30 * time.Second)
	for {
		behind := ""
		for m, p := range w.proj {
			for n := range int32(partitions) {
				at, ok := p.Progress(n)
				if !ok || at.Position < position {
					behind = fmt.Sprintf("%s/%d at %s, want %s", m, n, at.Position, position)
				}
				if len(at.Parked)+len(at.Held) > 0 {
					w.t.Fatalf("%s: parked %v, held %v", m, at.Parked, at.Held)
				}
			}
		}
		if behind == "" {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			w.t.Fatal("too slow: ", behind)
		}
	}
}

// backfill publishes every row as an import at the snapshot's position.
func (w *world) backfill() {
	w.t.Helper()
	s, err := w.src.Snapshot(w.t.Context())
	w.must(err)
	defer s.Close()
	described, err := w.src.Describe(w.t.Context(), tables)
	w.must(err)
	var entries []*event.Entry
	n := 0
	for _, table := range described {
		rows, err := s.Page(w.t.Context(), table, nil, "", 100000)
		w.must(err)
		for rows.Next() {
			row := changelog.RowOf(rows.Columns(), rows.Values())
			for _, m := range w.f.Names() {
				if k := w.key(m, table.Name, row); k != "" {
					n++
					entries = append(entries, &event.Entry{V: 1, Migration: m, Key: k, From: s.High(), To: s.High(), Changes: []event.SettledChange{
						{Position: s.High(), Cause: event.Imported, Received: time.Now(), Rows: []event.RowChange{{N: n, Table: table.Name, Op: event.Import, After: row}}}}})
				}
			}
		}
		w.must(rows.Err())
		w.must(rows.Close())
	}
	w.settled(s.High(), entries...)
}

// done is a write as the proxy would have recorded it.
type done struct {
	id      event.WriteID
	route   string
	params  map[string]string
	player  string
	applied bool
	sent    time.Time
}

// settle reads the log up to its head and publishes what it finds as the effects of the write, or as dark.
func (w *world) settle(d *done) {
	w.t.Helper()
	head, err := w.src.Head(w.t.Context())
	w.must(err)
	entries := map[event.Migration]map[event.OrderingKey]*event.Entry{}
	timeout := time.After(30 * time.Second)
	for w.read < head {
		select {
		case x := <-w.txns:
			w.read = x.Position
			w.sort(entries, x, d)
		case <-timeout:
			w.t.Fatalf("the log stands at %s, head is %s", w.read, head)
		}
	}
	var out []*event.Entry
	for _, m := range w.f.Names() {
		for _, k := range slices.Sorted(maps.Keys(entries[m])) {
			e := entries[m][k]
			e.From, e.To = e.Changes[0].Position, e.Changes[len(e.Changes)-1].Position
			w.attach(e, d)
			out = append(out, e)
		}
	}
	w.settled(w.read, out...)
}

func (w *world) sort(entries map[event.Migration]map[event.OrderingKey]*event.Entry, x *changelog.Txn, d *done) {
	for i, row := range x.Rows {
		for _, m := range w.f.Names() {
			k := w.key(m, row.Table, row.Image())
			if k == "" {
				continue
			}
			if entries[m] == nil {
				entries[m] = map[event.OrderingKey]*event.Entry{}
			}
			e := entries[m][k]
			if e == nil {
				e = &event.Entry{V: 1, Migration: m, Key: k}
				entries[m][k] = e
			}
			c := event.SettledChange{Position: x.Position, Cause: event.Dark, Received: x.Received, Rows: []event.RowChange{row}}
			if d != nil && x.Annotations != nil && x.Annotations[i] == d.id {
				c.Cause, c.Write, c.Annotated = event.Effect, d.id, true
			}
			e.Changes = append(e.Changes, c)
		}
	}
}

// attach adds the write to an entry if it belongs to its migration.
func (w *world) attach(e *event.Entry, d *done) {
	if d == nil || !slices.ContainsFunc(w.f.Migrations[e.Migration].Writes, func(x config.Write) bool { return x.Name == d.route }) {
		return
	}
	sw := event.SettledWrite{Verdict: event.VerdictRejected, Write: event.Write{V: 1, ID: d.id, Address: event.Address{Migration: e.Migration, Key: e.Key},
		Intent: event.Intent{Route: d.route, Params: d.params, Player: d.player, At: d.sent}, Result: event.Result{Forwarded: d.sent, End: time.Now()}}}
	if d.applied {
		sw.Verdict = event.VerdictApplied
	}
	for _, c := range e.Changes {
		if c.Write == d.id {
			sw.Effects = append(sw.Effects, c.Position)
		}
	}
	e.Writes = append(e.Writes, sw)
}

// player is a logged in browser.
type player struct {
	w      *world
	id     int
	client *http.Client
	token  string
}

var token = regexp.MustCompile(`name="token" value="(\w+)"`)

// login opens a browser for the n-th player of match 1, whose id is n.
func (w *world) login(n int) *player {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	w.must(err)
	tr := &http.Transport{}
	w.t.Cleanup(tr.CloseIdleConnections)
	p := &player{w: w, id: n, client: &http.Client{Jar: jar, Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	_, _, page := p.send("GET", "index.php?page=login", "", "", "")
	p.token = token.FindStringSubmatch(page)[1]
	_, location, _ := p.send("POST", "index.php?page=login&action=login", "application/x-www-form-urlencoded",
		url.Values{"name": {game.Login(1, n)}, "password": {game.Password}, "token": {p.token}}.Encode(), "")
	if !strings.Contains(location, "msg=welcome") {
		w.t.Fatal("login: ", location)
	}
	return p
}

func (p *player) send(method, target, contentType, body, write string) (status int, location, text string) {
	p.w.t.Helper()
	req, err := http.NewRequestWithContext(p.w.t.Context(), method, p.w.php+"/"+target, strings.NewReader(body))
	p.w.must(err)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if write != "" {
		req.Header.Set("Banyan-Write", write)
	}
	resp, err := p.client.Do(req)
	p.w.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	p.w.must(err)
	return resp.StatusCode, resp.Header.Get("Location"), string(b)
}

// does an action, by form or as JSON, and settles it. It returns the id that the answer names.
func (p *player) does(action string, asJSON bool, params map[string]string) (id string, err error) {
	p.w.t.Helper()
	p.w.seq++
	d := &done{id: event.WriteID{Replica: "test", Epoch: 1, Seq: event.Seq(p.w.seq)}, route: action, params: map[string]string{"match": "1"}, player: strconv.Itoa(p.id), sent: time.Now()}
	maps.Copy(d.params, params)
	if asJSON {
		d.route += "_json"
		in := map[string]any{"action": action, "token": p.token}
		for k, v := range d.params {
			in[k] = v
		}
		body, _ := json.Marshal(in)
		_, _, text := p.send("POST", "api.php", "application/json", string(body), d.id.String())
		var out struct {
			OK    bool
			Error string
			ID    json.Number
		}
		p.w.must(json.Unmarshal([]byte(text), &out))
		if d.applied, id = out.OK, out.ID.String(); !out.OK {
			err = errors.New(out.Error)
		}
	} else {
		form := url.Values{"token": {p.token}}
		for k, v := range d.params {
			form.Set(k, v)
		}
		_, location, _ := p.send("POST", "index.php?page=x&action="+action, "application/x-www-form-urlencoded", form.Encode(), d.id.String())
		u, perr := url.Parse(location)
		p.w.must(perr)
		if d.applied, id = u.Query().Get("msg") != "", u.Query().Get("id"); !d.applied {
			err = errors.New("refused: " + u.Query().Get("err"))
		}
	}
	p.w.settle(d)
	return id, err
}

// legacyAnswer and candidateAnswer are the two answers to one read.
func (p *player) legacyAnswer(query string) []byte {
	p.w.t.Helper()
	_, _, text := p.send("GET", "api.php?match=1&"+query, "", "", "")
	return []byte(text)
}

func (w *world) candidateAnswer(path string) (body []byte, position string) {
	w.t.Helper()
	resp, err := http.Get(w.url + path)
	w.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	w.must(err)
	if resp.StatusCode != 200 {
		w.t.Fatalf("%s: %d %s", path, resp.StatusCode, bytes.TrimSpace(b))
	}
	return b, resp.Header.Get("Banyan-Position")
}
