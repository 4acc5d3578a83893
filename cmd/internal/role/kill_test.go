package role

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banyan/cmd/internal/config"
	"banyan/cmd/internal/play"
	"banyan/legacyadapter/changelog"
	"banyan/legacyadapter/mysql"
	"banyan/proxy/admin"
	"banyan/proxy/control"
	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/proxy/stage"
	"banyan/shadow/stream"
	"banyan/testdata/game"
	"banyan/testdata/lab"
)

// childEnv makes this test binary a proxy: the process that is killed.
const childEnv = "BANYAN_TEST_PROXY_ENV"

func TestMain(m *testing.M) {
	if env := os.Getenv(childEnv); env != "" {
		if err := proxyChild(env); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if env := os.Getenv(shadowEnv); env != "" {
		if err := shadowChild(env); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// shadowEnv makes this test binary a shadow role that retranslates units, from wherever the one before was killed.
const shadowEnv = "BANYAN_TEST_SHADOW_ENV"

func shadowChild(env string) error {
	vars := map[string]string{}
	if err := json.Unmarshal([]byte(env), &vars); err != nil {
		return err
	}
	f, err := config.LoadWith(gameConfig(), func(n string) (string, bool) { v, ok := vars[n]; return v, ok })
	if err != nil {
		return err
	}
	f.Settle.MaxClockError = 5 * time.Millisecond
	p, err := Start(context.Background(), f, Roles{Shadow: true}, Options{Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))}, nil)
	if err != nil {
		return err
	}
	for p.Shadow.Ledger() == nil {
		time.Sleep(10 * time.Millisecond) // as whoever asks for readiness does
	}
	if _, err := p.Ops.Retranslate(context.Background(), admin.RetranslateRequest{Migration: "units", Who: "test", Reason: "test"}); err != nil {
		return err
	}
	fmt.Println("up") // the parent waits for this line
	select {}
}

func proxyChild(env string) error {
	vars := map[string]string{}
	if err := json.Unmarshal([]byte(env), &vars); err != nil {
		return err
	}
	f, err := config.LoadWith(gameConfig(), func(n string) (string, bool) { v, ok := vars[n]; return v, ok })
	if err != nil {
		return err
	}
	f.Proxy.Replica = "a"
	p, err := StartProxy(context.Background(), f, Options{Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))})
	if err != nil {
		return err
	}
	fmt.Println("up") // the parent waits for this line
	return <-p.Failed()
}

// victim is a proxy in a process of its own.
type victim struct {
	cmd *exec.Cmd
}

func startVictim(t *testing.T, env map[string]string) *victim {
	t.Helper()
	return startChild(t, childEnv, env)
}

func startChild(t *testing.T, variable string, env map[string]string) *victim {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), variable+"="+string(event.Encode(env)))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() {
		t.Fatal("the child did not come up")
	}
	return &victim{cmd}
}

func (v *victim) kill() {
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait() // it was killed: that is what it says
}

// Every write that legacy committed, and every one that a player saw done, is in Kafka after 30 kills of the proxy under
// load, and what is there twice is there with one identity. Legacy's own change log is the witness.
func TestThirtyKillsLoseNoWrite(t *testing.T) {
	w := newWorld(t, game.Size{Matches: 2, Players: 4, Provinces: 8, Units: 24})
	w.env["PROXY_LISTEN"] = fmt.Sprintf("127.0.0.1:%d", lab.FreePort(t))
	if err := ensureTopics(t.Context(), w.f); err != nil {
		t.Fatal(err)
	}
	src, err := mysql.New(mysql.Config{DSN: w.env["LEGACY_DSN"], Tables: []string{"action_log"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	appendFlip(t, w.f.Kafka, "units", stage.DualWrite)
	v := startVictim(t, w.env)
	awaitObeyed(t, w.f.Kafka, "units", 1) // what comes before is at stage off, and not promised
	start, err := src.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	crew := newCrew(t, w, 6)
	const rounds = 30
	for range rounds {
		crew.awaitDone(15)
		v.kill()
		v = startVictim(t, w.env)
	}
	crew.awaitDone(15)
	crew.stop()
	v.kill()

	final := startVictim(t, w.env) // ships what the killed ones left
	defer final.kill()
	committed := committedRefs(t, src, start)
	inKafka := awaitWrites(t, w.f.Kafka, committed)
	missing, unknown, repeats := 0, 0, 0
	for ref := range committed {
		switch ws := inKafka[ref]; {
		case len(ws) == 0:
			missing++
		default:
			if ws[0].Result.Outcome == event.Unknown {
				unknown++
			}
			repeats += len(ws) - 1
			for _, x := range ws[1:] {
				if x.ID != ws[0].ID || x.Result.Outcome != ws[0].Result.Outcome {
					t.Errorf("%s is in Kafka as two writes: %v %s and %v %s", ref, ws[0].ID, ws[0].Result.Outcome, x.ID, x.Result.Outcome)
				}
			}
		}
	}
	for ref := range crew.done {
		if !committed[ref] {
			t.Errorf("%s was answered as done and is not in legacy's change log", ref)
		}
	}
	t.Logf("%d kills: %d writes committed, %d seen done by players, %d missing in Kafka, %d there as unknown, %d repeats", rounds, len(committed), len(crew.done), missing, unknown, repeats)
	if missing > 0 || len(committed) < rounds*10 {
		t.Errorf("%d of %d committed writes are not in Kafka", missing, len(committed))
	}
}

// crew gives orders to units as fast as it can, whatever happens to the proxy.
type crew struct {
	t      *testing.T
	cancel context.CancelFunc
	wg     sync.WaitGroup
	begun  atomic.Int64
	news   chan struct{}

	mu   sync.Mutex // guards done
	done map[string]bool
}

func newCrew(t *testing.T, w *world, n int) *crew {
	t.Helper()
	c := &crew{t: t, news: make(chan struct{}, 1), done: map[string]bool{}}
	ctx, cancel := context.WithCancel(t.Context())
	c.cancel = cancel
	for i := range n {
		match := 1 + i%2
		s, err := play.NewSession(w.env["LEGACY_HTTP"], "", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Login(t.Context(), game.Login(match, 1+i/2), game.Password); err != nil {
			t.Fatal(err)
		}
		units := w.legacyRows(fmt.Sprintf("SELECT id, '' FROM units WHERE player_id = %d LIMIT 1", s.Player))
		unit := ""
		for id := range units {
			unit = id
		}
		if err := s.Move("http://" + w.env["PROXY_LISTEN"]); err != nil {
			t.Fatal(err)
		}
		c.wg.Go(func() { c.order(ctx, s, match, unit, i) })
	}
	t.Cleanup(func() { cancel(); c.wg.Wait() })
	return c
}

func (c *crew) order(ctx context.Context, s *play.Session, match int, unit string, i int) {
	for n := 0; ctx.Err() == nil; n++ {
		ref := fmt.Sprintf("kill-%d-%d", i, n)
		c.begun.Add(1)
		form := url.Values{"match": {fmt.Sprint(match)}, "token": {s.Token}, "client_ref": {ref}, "unit": {unit}, "stance": {"hold"}}
		a, err := s.Send(ctx, "POST", "index.php?page=unit&action=orders", "application/x-www-form-urlencoded", form.Encode())
		if err != nil || !strings.Contains(a.Header.Get("Location"), "msg=ordered") {
			continue
		}
		c.mu.Lock()
		c.done[ref] = true
		c.mu.Unlock()
		select {
		case c.news <- struct{}{}:
		default:
		}
	}
}

func (c *crew) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.done)
}

// awaitDone returns when n more orders were answered as done.
func (c *crew) awaitDone(n int) {
	c.t.Helper()
	for want := c.count() + n; c.count() < want; {
		select {
		case <-c.news:
		case <-time.After(30 * time.Second):
			c.t.Fatal("no order was answered for 30 s")
		}
	}
}

// awaitObeyed returns when a live proxy says that it obeys the version.
func awaitObeyed(t *testing.T, cfg kafka.Config, m event.Migration, version uint64) {
	t.Helper()
	watch, err := control.WatchReplicas(t.Context(), cfg, slog.New(slog.DiscardHandler), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	for deadline := time.Now().Add(time.Minute); ; {
		live, err := watch.Await(t.Context(), m, version)
		if err != nil {
			t.Fatal(err)
		}
		if len(live) > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no proxy obeys")
		}
		time.Sleep(10 * time.Millisecond) // until the first heartbeat there is nothing to wait on
	}
}

func (c *crew) stop() {
	c.cancel()
	c.wg.Wait()
}

// appendFlip puts a migration to a stage before any proxy runs.
func appendFlip(t *testing.T, cfg kafka.Config, m event.Migration, s stage.Stage) {
	t.Helper()
	cl, err := cfg.Producer("test")
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	f := stage.Flip{V: stage.FlipVersion, ID: "test", Migration: m, From: stage.State{Stage: stage.Off}, To: stage.State{Version: 1, Stage: s}, Who: "test", Reason: "test"}
	if err := cl.ProduceSync(t.Context(), kafka.Record(cfg.Topics().Control(), 0, event.KindControl, string(m), event.Encode(f))).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// committedRefs reads the tokens of all committed actions from the binary log.
func committedRefs(t *testing.T, src *mysql.Source, from event.Position) map[string]bool {
	t.Helper()
	head, err := src.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	refs := map[string]bool{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = src.Stream(ctx, from, func(x *changelog.Txn) error {
		for _, r := range x.Rows {
			if ref, _ := r.After["client_ref"].(string); strings.HasPrefix(ref, "kill-") {
				refs[ref] = true
			}
		}
		if x.Position >= head {
			cancel()
		}
		return nil
	})
	if ctx.Err() == nil {
		t.Fatal(err)
	}
	return refs
}

// awaitWrites reads .writes until every ref is there or nothing new comes.
func awaitWrites(t *testing.T, cfg kafka.Config, refs map[string]bool) map[string][]*event.Write {
	t.Helper()
	var got map[string][]*event.Write
	for idle, last := 0, -1; idle < 40; idle++ {
		got = map[string][]*event.Write{}
		n := 0
		for p := range cfg.Partitions {
			for rec, err := range stream.ReadTo(t.Context(), cfg, cfg.Topics().Writes(), p, 0) {
				if err != nil {
					t.Fatal(err)
				}
				if rec.Kind != event.KindWrite {
					continue
				}
				x, err := event.DecodeWrite(rec.Value)
				if err != nil {
					t.Fatal(err)
				}
				form, _ := url.ParseQuery(string(x.Intent.Body))
				if ref := form.Get("client_ref"); ref != "" {
					got[ref] = append(got[ref], x)
					n++
				}
			}
		}
		all := true
		for ref := range refs {
			all = all && len(got[ref]) > 0
		}
		if all {
			return got
		}
		if n != last {
			idle, last = 0, n
		}
		time.Sleep(250 * time.Millisecond) // Kafka has no signal for "a killed proxy's successor has shipped"
	}
	return got
}
