package standin_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"banyan/cmd/banyan-demo/standin"
	"banyan/testdata/game"
	"banyan/testdata/lab"
)

// An impatient client: it leaves as soon as its bytes are sent.
func TestWriteSurvivesItsClient(t *testing.T) {
	w := stand(t, small)
	b := w.login(1)
	here, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	body := "match=1&token=" + b.token + "&unit=1&stance=flee&client_ref=left"
	conn, err := net.Dial("tcp", here.Host)
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewWriter(conn)
	fmt.Fprintf(out, "POST /index.php?page=unit&action=orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nCookie: ", len(body))
	for _, c := range b.client.Jar.Cookies(here) {
		fmt.Fprintf(out, "%s=%s; ", c.Name, c.Value)
	}
	fmt.Fprintf(out, "a=b\r\n\r\n%s", body)
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	// Nothing tells when a script has ended whose client is gone.
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for deadline := time.After(time.Minute); w.value("SELECT client_ref FROM units WHERE id = 1") != "left"; {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatal("the write is lost")
		}
	}
}

func TestNewAndSetupNameWhatIsWrong(t *testing.T) {
	for url, want := range map[string]string{"postgres://127.0.0.1:1/x": "is the server up", "mysql://x": "URL"} {
		if _, err := standin.New(t.Context(), standin.Config{URL: url}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", url, err)
		}
	}
	if _, err := standin.New(t.Context(), standin.Config{Workers: -1}); err == nil || !strings.Contains(err.Error(), "Workers") {
		t.Errorf("Workers -1: %v", err)
	}
	_, g := standAt(t, lab.Postgres(t).Database(t), small, false)
	if err := g.Setup(t.Context(), standin.Size{Players: 9, Provinces: 8}); err == nil || !strings.Contains(err.Error(), "capital") {
		t.Errorf("9 players in 8 provinces: %v", err)
	}
}

// BenchmarkEndpoints is what a poll costs a client who is alone, in each implementation, on the default world.
func BenchmarkEndpoints(b *testing.B) {
	worlds := []*world{original(b, game.Size{}), stand(b, game.Size{})}
	for _, target := range []string{"api.php?action=map", "api.php?action=resources"} {
		for _, w := range worlds {
			b.Run(w.name+"/"+strings.TrimPrefix(target, "api.php?action="), func(b *testing.B) { poll(b, w.login(1), target) })
		}
	}
}

func poll(b *testing.B, who *browser, target string) {
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		start := time.Now()
		if a := who.get(target); a.status != http.StatusOK {
			b.Fatalf("%+v", a)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "req/s")
}
