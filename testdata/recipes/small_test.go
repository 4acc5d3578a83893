package recipes

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/testdata/lab"

	_ "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestSmallIsSmallAndRight(t *testing.T) {
	n := 0
	for line := range strings.Lines(read(t, "small.yaml")) {
		if text := strings.TrimSpace(line); text != "" && text[0] != '#' {
			n++
		}
	}
	if n > 20 {
		t.Errorf("small.yaml has %d lines, want at most 20", n)
	}
	file, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file, "check", "-c", "small.yaml")
	cmd.Env = append(os.Environ(), "LEDGER_DB=postgres://127.0.0.1:1/l", "READ_DB=postgres://127.0.0.1:1/r", "LEGACY_DB=u:p@tcp(127.0.0.1:1)/d")
	out, _ := cmd.CombinedOutput()
	if status := cmd.ProcessState.ExitCode(); status != 0 && status != 3 { // 3: the servers are not there
		t.Errorf("status %d\n%s", status, out)
	}
}

// book is the guest book on real servers, with banyan running small.yaml in front of it.
type book struct {
	t      *testing.T
	dir    string
	env    []string
	proxy  string // URL
	admin  string // URL
	db     *sql.DB
	read   string // URL of the read model's database
	kafka  *lab.KafkaServer
	prefix string
}

func newBook(t *testing.T) *book {
	t.Helper()
	m, pg, k := lab.MariaDB(t), lab.Postgres(t), lab.Kafka(t)
	name, dsn := m.Database(t)
	b := &book{t: t, dir: t.TempDir(), read: pg.Database(t), kafka: k, prefix: lab.Prefix(t)}
	var err error
	if b.db, err = sql.Open("mysql", dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.db.Close() })
	b.exec(read(t, "small/legacy.sql"))
	b.exec("INSERT INTO notes (book, author, body) VALUES (1, 'before', 'it was there already')")
	root, err := filepath.Abs("small/public")
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(m.Addr)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Env: map[string]string{"NOTES_HOST": host, "NOTES_PORT": port, "NOTES_USER": m.User, "NOTES_PASS": m.Password, "NOTES_DB": name}})
	legacy := lab.NginxPHP(t, fpm, root)
	if err := os.CopyFS(filepath.Join(b.dir, "small"), os.DirFS("small")); err != nil {
		t.Fatal(err)
	}
	handler := filepath.Join(b.dir, "small", "note_written.sql") // with a defect, to be found
	if err := os.WriteFile(handler, []byte(strings.Replace(read(t, "small/note_written.sql"), "author, body from", "author, left(body, 60) from", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	listen, admin := fmt.Sprintf("127.0.0.1:%d", lab.FreePort(t)), fmt.Sprintf("127.0.0.1:%d", lab.FreePort(t))
	// The addresses of this test, in place of the file's and of the defaults.
	text := strings.NewReplacer("http://127.0.0.1:8081", legacy, "127.0.0.1:9092", k.Brokers[0], "replication: 1", "replication: 1, prefix: "+b.prefix,
		"\nupstreams:", fmt.Sprintf("\nproxy: { listen: %q, admin: %q }\nupstreams:", listen, admin)).Replace(read(t, "small.yaml"))
	if err := os.WriteFile(filepath.Join(b.dir, "small.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	b.env = []string{"LEDGER_DB=" + pg.Database(t), "READ_DB=" + b.read, "LEGACY_DB=" + dsn}
	b.proxy, b.admin = "http://"+listen, "http://"+admin
	return b
}

func (b *book) exec(query string) {
	b.t.Helper()
	if _, err := b.db.ExecContext(b.t.Context(), query); err != nil {
		b.t.Fatal(err)
	}
}

// banyan runs one command to its end.
func (b *book) banyan(args ...string) (string, error) {
	b.t.Helper()
	file, err := binary()
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, append(args, "-c", filepath.Join(b.dir, "small.yaml"))...)
	cmd.Env = append(os.Environ(), b.env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (b *book) must(args ...string) string {
	b.t.Helper()
	out, err := b.banyan(args...)
	if err != nil {
		b.t.Fatalf("banyan %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	b.t.Logf("$ banyan %s\n%s", strings.Join(args, " "), out)
	return out
}

// add writes a note through the proxy and gives its id.
func (b *book) add(number int, body string) int64 {
	b.t.Helper()
	client := &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := client.PostForm(b.proxy+"/notes.php", url.Values{"book": {strconv.Itoa(number)}, "author": {"Zoë"}, "body": {body}})
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Body.Close()
	_, id, ok := strings.Cut(r.Header.Get("Location"), "added=")
	n, err := strconv.ParseInt(id, 10, 64)
	if r.StatusCode != 303 || !ok || err != nil {
		b.t.Fatalf("%s, location %q", r.Status, r.Header.Get("Location"))
	}
	return n
}

// write finds the record of a write by what its body holds.
func (b *book) write(body string) *event.Write {
	b.t.Helper()
	topic := b.prefix + ".writes"
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		b.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		for _, r := range cl.PollFetches(ctx).Records() {
			var w event.Write
			if json.Unmarshal(r.Value, &w) == nil && w.V > 0 && bytes.Contains(w.Intent.Body, []byte(body)) {
				return &w
			}
		}
	}
	b.t.Fatalf("no write with %q in %s", body, topic)
	return nil
}

// flip goes one step forward, as soon as its gates pass.
func (b *book) flip(to string) {
	b.t.Helper()
	var out string
	wait(b.t, to, func() (done bool) {
		var err error
		if out, err = b.banyan("stage", "flip", "notes", to, "--yes", "--reason", "the next step"); err != nil {
			b.t.Logf("not yet:\n%s", out)
		}
		return err == nil
	})
	b.t.Log(out)
}

// sameRows waits until the read model's rows are legacy's.
func (b *book) sameRows() {
	b.t.Helper()
	const query = "SELECT id, book, author, body FROM notes ORDER BY id"
	c, err := pgx.Connect(b.t.Context(), b.read)
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close(context.Background())
	var legacy, model []string
	wait(b.t, "the read model equals legacy", func() bool {
		legacy, model = nil, nil
		rows, err := b.db.QueryContext(b.t.Context(), query)
		if err != nil {
			b.t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var id, book int64
			var author, body string
			if err := rows.Scan(&id, &book, &author, &body); err != nil {
				b.t.Fatal(err)
			}
			legacy = append(legacy, fmt.Sprint(id, book, author, body))
		}
		got, err := c.Query(b.t.Context(), strings.Replace(query, "notes", "banyan_notes_g1.notes", 1))
		if err != nil {
			return false // the table is not there yet
		}
		model, err = pgx.CollectRows(got, func(r pgx.CollectableRow) (string, error) {
			var id, book int64
			var author, body string
			err := r.Scan(&id, &book, &author, &body)
			return fmt.Sprint(id, book, author, body), err
		})
		return err == nil && slices.Equal(legacy, model)
	})
	b.t.Logf("%d rows equal", len(legacy))
}

// A new user's first hour: the guest book is proxied, recorded, imported and compared, by the file as it stands.
func TestSmallOnRealServers(t *testing.T) {
	b := newBook(t)
	b.must("check")
	banyan := start(t, b.env, "serve", "-c", filepath.Join(b.dir, "small.yaml"))
	t.Cleanup(func() {
		if t.Failed() {
			banyan.stop(t)
			t.Logf("banyan:\n%s", &banyan.stderr)
		}
	})
	b.add(7, "before anything is recorded")

	b.flip("dualwrite")
	id := b.add(7, "recorded word")
	w := b.write("recorded+word")
	if w.Result.Outcome != event.Applied || w.Key != "book/7" || w.Intent.Params["book"] != "7" || w.Result.Status != 303 {
		t.Errorf("%+v", w)
	}
	if r, err := http.PostForm(b.proxy+"/notes.php", url.Values{"book": {"7"}, "author": {"refused word"}}); err != nil || r.StatusCode != 200 {
		t.Fatal(r, err)
	}
	if w := b.write("refused+word"); w.Result.Outcome != event.Rejected {
		t.Errorf("200 with an error page: %+v", w)
	}

	b.must("backfill", "notes")
	b.exec(fmt.Sprintf("UPDATE notes SET body = CONCAT(body, ', by an admin') WHERE id = %d", id))
	b.sameRows()
	b.flip("shadow") // from here on, both sides are compared
	b.must("stage", "show")
	if out := b.must("findings", "list"); !strings.HasPrefix(out, "no findings") {
		t.Error("a finding where both sides are equal")
	}

	b.add(7, strings.Repeat("a long story. ", 10)) // longer than our handler keeps
	var list struct{ Findings []struct{ ID string } }
	wait(t, "the finding", func() bool {
		out, err := b.banyan("findings", "list", "-o", "json")
		return err == nil && json.Unmarshal([]byte(out), &list) == nil && len(list.Findings) > 0
	})
	out := b.must("findings", "show", list.Findings[0].ID)
	for _, want := range []string{"/body", "a long story. a long story.", "projection", "what applies note.written@1"} {
		if !strings.Contains(out, want) {
			t.Errorf("the finding does not say %q: the event was right, and the statement that applies it cuts the body", want)
		}
	}
	b.told()
	b.must("stage", "flip", "notes", "off", "--yes", "--reason", "end of the first hour")
}

// told scrapes the metrics: whoever watches this hour sees writes, flushes, events, lag, comparisons and the finding.
func (b *book) told() {
	b.t.Helper()
	token, err := os.ReadFile(filepath.Join(b.dir, "journal", "admin", "viewer.token"))
	if err != nil {
		b.t.Fatal(err)
	}
	var text []byte
	wait(b.t, "all metrics have values", func() bool {
		req, _ := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.admin+"/metrics", nil)
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			b.t.Fatal(err)
		}
		defer r.Body.Close()
		if text, err = io.ReadAll(r.Body); err != nil || r.StatusCode != 200 {
			b.t.Fatal(r.Status, err)
		}
		for _, want := range []string{
			`banyan_journal_fsync_duration_seconds_count [1-9]`,
			`banyan_journal_writable 1`,
			`banyan_pairs_queue_size 0`,
			`banyan_route_requests_total{banyan_route_kind="write"} [1-9]`,
			`banyan_events_published_total{banyan_migration="notes",banyan_schema_version="1",cloudevents_event_type="note.written"} [1-9]`,
			`banyan_events_rejected_total{banyan_migration="notes",banyan_reason="project"} 0`,
			`banyan_projection_staleness_seconds{banyan_migration="notes",messaging_destination_partition_id="0"} [0-9.]+`,
			`banyan_compare_results_total{banyan_comparison="state/note",banyan_migration="notes",banyan_outcome="different",banyan_surface="table"} [1-9]`,
			`banyan_kafka_consumer_lag{messaging_consumer_group_name="` + b.prefix + `.translate.notes.g1",.*} [0-9]+`,
			`banyan_findings_open{.*} 1`,
			`banyan_cutover_gate_state{banyan_gate="open findings",banyan_migration="notes",banyan_stage="live"} 0`,
			`banyan_cutover_gate_state{banyan_gate="account balanced",banyan_migration="notes",banyan_stage="live"} 1`,
			`banyan_migration_stage{banyan_migration="notes"} 2`,
		} {
			if !regexp.MustCompile("(?m)^" + want).Match(text) {
				b.t.Logf("not there yet: %s", want)
				return false
			}
		}
		return true
	})
}
