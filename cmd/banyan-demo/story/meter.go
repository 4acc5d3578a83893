package story

import (
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/stage"
)

// meter measures polls at the players' end, in two buckets: matches that the share has chosen, and the others. A poll of a
// chosen match that legacy had to answer stays in its bucket, with all that was waited for.
type meter struct {
	next http.RoundTripper

	mu     sync.Mutex // guards the fields below
	share  stage.Share
	window window
}

// window is what was measured since the last one.
type window struct {
	legacy    sample // matches outside the share
	chosen    sample // matches of the share, whoever answered
	candidate sample // those of them that the candidate answered
}

// sample is how long polls took.
type sample []time.Duration

// quantile is exact; 0 without data.
func (s sample) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// begin starts a window in which the share is in force, and gives the one before.
func (m *meter) begin(s stage.Share) window {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.window
	m.share, m.window = s, window{}
	return w
}

// RoundTrip measures to the end of the answer.
func (m *meter) RoundTrip(r *http.Request) (*http.Response, error) {
	start := time.Now()
	resp, err := m.next.RoundTrip(r)
	q := r.URL.Query()
	if err != nil || r.Method != http.MethodGet || q.Get("action") != "map" && q.Get("action") != "units" || q.Get("match") == "" {
		return resp, err
	}
	byCandidate := resp.Header.Get("Banyan-Served-By") == "candidate"
	resp.Body = &measured{ReadCloser: resp.Body, end: func() { m.add(event.OrderingKey("match/"+q.Get("match")), byCandidate, time.Since(start)) }}
	return resp, nil
}

func (m *meter) add(match event.OrderingKey, byCandidate bool, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.share.Chosen(match) {
		m.window.legacy = append(m.window.legacy, took)
		return
	}
	m.window.chosen = append(m.window.chosen, took)
	if byCandidate {
		m.window.candidate = append(m.window.candidate, took)
	}
}

// measured tells of its end once.
type measured struct {
	io.ReadCloser
	once sync.Once
	end  func()
}

// Close ends the measuring.
func (m *measured) Close() error {
	m.once.Do(m.end)
	return m.ReadCloser.Close()
}
