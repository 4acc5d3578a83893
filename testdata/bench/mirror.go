package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/proxy/stage"
	"banyan/testdata/lab"
)

var mirrored = work{"post2k", "POST", "/post?page=map&action=act7&match=7", 2048, 0, "post"}

// mirrorWarm is how long all are asked before anything is measured: banyan's journal goes round in its files by then, and
// Kafka's virtual machine has compiled what it does.
const mirrorWarm = 20 * time.Second

// startKafka gives nil, and says so, where Kafka is not installed: banyan then runs with no broker.
func (b *bench) startKafka() (*lab.KafkaServer, error) {
	b.broker = "127.0.0.1:1"
	k, err := lab.StartKafka(context.Background(), lab.Options{})
	if lab.IsMissing(err) {
		fmt.Printf("absent: Kafka (%v): banyan runs without a broker, and the scene mirror is left out\n", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b.broker = k.Brokers[0]
	return k, b.pin(k.Pid())
}

// pin keeps a server and its children off the proxy's core.
func (b *bench) pin(pid int) error {
	one := func(id string) error {
		if out, err := exec.Command("taskset", "-a", "-p", "-c", b.back, id).CombinedOutput(); err != nil {
			return fmt.Errorf("pin %s: %w: %s", id, err, out)
		}
		return nil
	}
	if err := one(strconv.Itoa(pid)); err != nil {
		return err
	}
	for _, id := range children(pid) { // not listed before: those that come later inherit
		if err := one(id); err != nil {
			return err
		}
	}
	return nil
}

// children are the ids of a process's children.
func children(pid int) []string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	return strings.Fields(string(text))
}

// mirrorSide is one of those that are compared. They run all the time, and who is not asked rests: a round is short that
// way, and a machine that becomes slower for some seconds does so for all of them.
type mirrorSide struct {
	peer
	addr, pid string
}

// runMirror measures POSTs whose copies go elsewhere: to Kafka through the synced journal, and by nginx's mirror to a
// sink. nginx opens a connection for each copy whose answer has a body, since it does not read that; where the sink
// answers without one, nginx-quiet, it keeps them. Then Kafka is killed, and all are measured again.
func (b *bench) runMirror(k *lab.KafkaServer) error {
	sink, err := freeAddr()
	if err != nil {
		return err
	}
	if err := writeConf(b.dir, "sink", `server { listen `+sink+` backlog=8192; `+legacyFields+` location / { return 200 '`+order+`'; } location = /quiet { return 204; } }`); err != nil {
		return err
	}
	sp, err := start(b.back, sink, "nginx", "-p", b.dir, "-c", filepath.Join(b.dir, "sink.conf"))
	if err != nil {
		return err
	}
	defer stop(sp)
	defer func(before []string) { b.origin = before }(b.origin)
	b.origin = slices.Concat(b.origin, children(sp.Process.Pid), []string{strconv.Itoa(sp.Process.Pid)}) // what answers nginx's copies
	nginx := func(to string) func(string, protocol) []string {
		return func(a string, _ protocol) []string {
			writePeer(b.dir, a, b.backend, kept("sink", sink), "location = /m { internal; proxy_pass http://sink"+to+"; } mirror /m; mirror_request_body on;")
			return []string{"nginx", "-p", b.dir, "-c", filepath.Join(b.dir, "peer.conf")}
		}
	}
	defer func() { os.RemoveAll(b.home) }() // banyan's journal, once it has ended
	var sides []mirrorSide
	var names []string
	for _, p := range []peer{{name: "nginx", cmd: nginx("$request_uri")}, {name: "nginx-quiet", cmd: nginx("/quiet")}, {name: "banyan", cmd: b.banyan}} {
		cmd, addr, err := b.begin(p, http1)
		if err != nil {
			return err
		}
		defer stop(cmd)
		sides, names = append(sides, mirrorSide{p, addr, strconv.Itoa(cmd.Process.Pid)}), append(names, p.name)
	}
	if err := b.dualWrite(); err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < mirrorWarm; {
		for _, p := range sides {
			if _, err := b.ask(mirrored, p.addr, p.pid); err != nil {
				return fmt.Errorf("mirror, %s: %w", p.name, err)
			}
		}
	}
	got := map[string][]sample{}
	if err := b.measureMirror(sides, "alive", got); err != nil {
		return err
	}
	if err := k.Crash(); err != nil {
		return err
	}
	if err := b.measureMirror(sides, "dead", got); err != nil {
		return fmt.Errorf("without Kafka: %w", err)
	}
	fmt.Printf("POSTs of 2 KiB with a copy: banyan's to Kafka through a synced journal, nginx's by mirror to a sink, whose answers have no body for nginx-quiet\n")
	report(got, []string{"alive", "dead"}, names, nil)
	times := func(f func(sample) float64) float64 {
		return median(got["banyan dead"], f) / median(got["banyan alive"], f)
	}
	fmt.Printf("Kafka dead against alive: p99 x %.2f, throughput x %.2f\n\n",
		times(func(s sample) float64 { return s.P99 }), times(func(s sample) float64 { return float64(s.Requests) }))
	if err := k.Start(context.Background()); err != nil { // for other scenes
		return err
	}
	return b.pin(k.Pid())
}

// measureMirror asks all sides in each round. What banyan still does for its writes, while Kafka is alive, is part of what
// they cost.
func (b *bench) measureMirror(sides []mirrorSide, kafka string, got map[string][]sample) error {
	sides = slices.Clone(sides)
	for round := range b.rounds {
		for _, p := range sides {
			s, err := b.ask(mirrored, p.addr, p.pid)
			if err == nil && p.name == "banyan" && kafka == "alive" {
				err = b.shipped(&s, p.pid)
			}
			if err != nil {
				return fmt.Errorf("mirror, %s: %w", p.name, err)
			}
			key := p.name + " " + kafka
			got[key] = append(got[key], s)
		}
		slices.Reverse(sides)
		fmt.Fprintf(os.Stderr, "mirror, Kafka %s, round %d of %d\n", kafka, round+1, b.rounds)
	}
	return nil
}

// shipped waits until Kafka has all that was written, and adds what that costs banyan to the writes.
func (b *bench) shipped(s *sample, pid string) error {
	before := cpuTime(pid)
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) { // each look costs banyan a millisecond
		left, err := b.backlog()
		if err != nil {
			return err
		}
		if left == 0 {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("after a minute Kafka still lacks %v records", left)
		}
	}
	s.CPU += (cpuTime(pid) - before) / 1e3 / float64(s.Requests)
	return nil
}

func (b *bench) backlog() (float64, error) {
	token, err := os.ReadFile(filepath.Join(b.home, "journal", "admin", "viewer.token"))
	if err != nil {
		return 0, err
	}
	text, err := fetch("http://"+b.admin+"/metrics", strings.TrimSpace(string(token)))
	if err != nil {
		return 0, err
	}
	_, line, ok := strings.Cut(text, "\nbanyan_journal_backlog ")
	if !ok {
		return 0, fmt.Errorf("the metrics do not tell the backlog: %.300s", text)
	}
	line, _, _ = strings.Cut(line, "\n")
	return strconv.ParseFloat(line, 64)
}

// fetch gets a text, with a token where there is one.
func fetch(url, token string) (string, error) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("%s: %s: %.300s", url, resp.Status, text)
	}
	return string(text), err
}

// dualWrite flips the migration, unless it was flipped before, and waits until the last banyan obeys.
func (b *bench) dualWrite() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg := kafka.Config{Brokers: []string{b.broker}, Prefix: "bench", Partitions: 6, Replication: 1}.WithDefaults()
	cl, err := cfg.Producer("bench")
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		f := stage.Flip{V: stage.FlipVersion, ID: "bench", Migration: "units", From: stage.State{Stage: stage.Off}, To: stage.State{Version: 1, Stage: stage.DualWrite}, Who: "bench", Reason: "bench"}
		err := cl.ProduceSync(ctx, kafka.Record(cfg.Topics().Control(), 0, event.KindControl, "units", event.Encode(f))).FirstErr()
		for i := 0; err == nil && i < 50; i++ {
			if text, _ := os.ReadFile(filepath.Join(b.home, "journal", "stages.json")); bytes.Contains(text, []byte(`"dualwrite"`)) {
				return nil
			}
			time.Sleep(100 * time.Millisecond)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("banyan does not obey the flip to dualwrite (%v)", err)
		}
		time.Sleep(200 * time.Millisecond) // the topic comes with banyan's start
	}
}
