package role

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"banyan/cmd/internal/config"
	"banyan/cmd/internal/play"
	"banyan/proxy/control"
	"banyan/proxy/event"
	"banyan/proxy/stage"
	"banyan/shadow/readmodel"
	"banyan/testdata/game"
	"banyan/testdata/lab"

	_ "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
)

// world is the legacy game on real servers, with banyan in front and behind.
type world struct {
	t      *testing.T
	db     game.DB
	legacy *sql.DB
	f      *config.File
	proxy  *Proxy
	shadow *Shadow
	flip   *control.Flipper
	model  string // URL of the read model's database
	env    map[string]string
	fpm    *lab.PHPFPMServer
	lag    func() time.Duration // of the read models; nil: none
}

// withoutWebServer takes nginx away: banyan speaks to php-fpm itself.
func (w *world) withoutWebServer() {
	u := w.f.Upstreams["legacy"]
	u.HTTP, u.MaxConnections = nil, 0
	u.FastCGI = &config.FastCGI{Address: "unix:" + w.fpm.Socket, Root: game.Root(), MaxConnections: 6}
	w.f.Upstreams["legacy"] = u
}

func newWorld(t *testing.T, size game.Size) *world {
	t.Helper()
	w := &world{t: t}
	m, pg, k, r := lab.MariaDB(t), lab.Postgres(t), lab.Kafka(t), lab.Redis(t)
	name, dsn := m.Database(t)
	w.db = game.DB{Addr: m.Addr, User: m.User, Password: m.Password, Name: name}
	if err := game.Seed(t.Context(), w.db, size); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.legacy, err = sql.Open("mysql", dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.legacy.Close() })
	w.fpm = lab.PHPFPM(t, lab.PHPFPMConfig{Root: game.Root(), Workers: 8, Env: w.db.Env(t.TempDir(), true)})
	w.model = pg.Database(t)
	w.env = map[string]string{
		"PROXY_LISTEN": "127.0.0.1:0", "PROXY_ADMIN": "127.0.0.1:0", "PROXY_JOURNAL": t.TempDir(), "LEGACY_HTTP": lab.NginxPHP(t, w.fpm, game.Root()),
		"GAMESERVICE_HTTP": "http://" + unusedAddr(t), "KAFKA": k.Brokers[0], "KAFKA_PREFIX": lab.Prefix(t), "LEDGER_DSN": pg.Database(t),
		"LEGACY_DSN": dsn, "READ_DSN": w.model, "REDIS_URL": "redis://" + r.Addr + "/0",
	}
	w.f = load(t, w.env)
	return w
}

func unusedAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func gameConfig() string { return filepath.Join(game.Dir(), "banyan.yaml") }

func load(t *testing.T, env map[string]string) *config.File {
	t.Helper()
	f, err := config.LoadWith(gameConfig(), func(n string) (string, bool) { v, ok := env[n]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	f.Proxy.Replica = "a"
	f.Settle.MaxClockError = 5 * time.Millisecond
	return f
}

func quiet(t *testing.T) *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(testWriter{t}, nil))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(b))
	return len(b), nil
}

func (w *world) start() {
	w.t.Helper()
	var err error
	if w.proxy, err = StartProxy(w.t.Context(), w.f, Options{Log: quiet(w.t)}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := w.proxy.Stop(ctx); err != nil {
			w.t.Error(err)
		}
	})
	if w.shadow, err = StartShadow(w.t.Context(), w.f, Options{Log: quiet(w.t)}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.shadow.Stop)
	if w.flip, err = control.NewFlipper(w.f.Kafka, w.proxy.Follower); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.flip.Close)
}

func (w *world) to(m event.Migration, s stage.State) {
	w.t.Helper()
	select {
	case <-w.proxy.Follower.Ready():
	case <-time.After(30 * time.Second):
		w.t.Fatal("the control log was not read")
	}
	_, err := w.flip.Flip(w.t.Context(), stage.Flip{Migration: m, From: w.proxy.Follower.State(m), To: s, Who: "test", Reason: "test", At: time.Now()})
	if err != nil {
		w.t.Fatal(err)
	}
}

// play lets players play through the proxy with cron running, and wants nobody to notice anything.
func (w *world) play(c play.Config) *play.Driver {
	w.t.Helper()
	c.BaseURL = "http://" + w.proxy.Addr().String()
	d, err := play.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := game.Cron(ctx, w.db); err != nil && ctx.Err() == nil {
				w.t.Error(err)
				return
			}
		}
	}()
	err = d.Run(w.t.Context())
	cancel()
	<-done
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// caughtUp waits until every partition of the read model holds all that legacy has committed by now.
func (w *world) caughtUp(m event.Migration) {
	w.t.Helper()
	now := time.Now().Add(w.f.Settle.MaxClockError)
	for n := range w.f.Kafka.Partitions {
		if !w.proxy.Tracker.Passed(w.t.Context(), m, keyOf(n, w.f.Kafka.Partitions), now, 20*time.Second) {
			p, _ := w.proxy.Tracker.Progress(m, keyOf(n, w.f.Kafka.Partitions))
			w.t.Fatalf("partition %d of %s did not catch up: %+v\n%s", n, m, p, w.state(m))
		}
	}
}

// state is how far each part of the pipeline is, for a failed test.
func (w *world) state(m event.Migration) string { return w.stateOf(w.shadow, m) }

func (w *world) stateOf(shadow *Shadow, m event.Migration) string {
	s := fmt.Sprintf("change log %+v\nmirror %+v\n", shadow.Publisher.Stats(), w.proxy.Mirror.Account())
	model := shadow.Model(m)
	if model.Translator != nil {
		st := model.Translator.Stats()
		s += fmt.Sprintf("translate: entries %d, events %d, marks %d, parked %d\n", st.Entries.Load(), st.Events.Load(), st.Marks.Load(), st.Parked.Load())
	}
	if p := model.Projector(); p != nil {
		st := p.Stats()
		s += fmt.Sprintf("project: events %d, batches %d, parked %d, retries %d, bad marks %d\n", st.Events.Load(), st.Batches.Load(), st.Parked.Load(), st.Retries.Load(), st.BadMarks.Load())
	}
	return s
}

// keyOf is some key of the partition.
func keyOf(partition, of int32) event.OrderingKey {
	for i := 0; ; i++ {
		if k := event.OrderingKey(fmt.Sprintf("match/%d", i)); event.Partition(k, of) == partition {
			return k
		}
	}
}

// rows reads a query's rows as text.
func (w *world) legacyRows(query string) map[string]string {
	w.t.Helper()
	rows, err := w.legacy.QueryContext(w.t.Context(), query)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var id, v string
		if err := rows.Scan(&id, &v); err != nil {
			w.t.Fatal(err)
		}
		out[id] = v
	}
	return out
}

func (w *world) modelRows(m event.Migration, query string) map[string]string {
	w.t.Helper()
	return w.generationRows(m, 1, query)
}

func (w *world) generationRows(m event.Migration, generation int, query string) map[string]string {
	w.t.Helper()
	c, err := pgx.Connect(w.t.Context(), w.model)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(w.t.Context(), "set search_path = "+readmodel.Schema(m, generation)); err != nil {
		w.t.Fatal(err)
	}
	rows, err := c.Query(w.t.Context(), query)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var id, v string
		if err := rows.Scan(&id, &v); err != nil {
			w.t.Fatal(err)
		}
		out[id] = v
	}
	return out
}
