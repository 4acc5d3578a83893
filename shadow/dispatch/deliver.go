package dispatch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxReply bounds what is read of an answer.
const maxReply = 64 << 10

// refusedError is a 4xx: the same command will be refused again.
type refusedError struct {
	status int
	body   string
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("the service refused it: %d %s: %s", e.status, http.StatusText(e.status), e.body)
}

// againError is an answer that asks for patience.
type againError struct {
	err   error
	after time.Duration // Retry-After; 0: not said
}

func (e *againError) Error() string { return e.err.Error() }

// deliver sends a command until the service has taken or refused it.
func (w *worker) deliver(ctx context.Context, c *Command) (Reply, error) {
	c.Partition = w.n
	for try := 0; ; try++ {
		c.ReadTo = w.readTo.Load()
		reply, err := w.d.post(ctx, c)
		if err == nil {
			w.acknowledged(reply.ReadTo)
			w.d.stats.Delivered.Add(1)
			return reply, nil
		}
		var again *againError
		if ctx.Err() != nil || !errors.As(err, &again) {
			return reply, err
		}
		pause := min(max(50*time.Millisecond<<min(try, 20), again.after), w.d.cfg.RetryMax)
		if try&(try-1) == 0 { // 0, 1, 2, 4, 8 …: a long outage does not fill the log
			w.d.cfg.Log.Warn("command not taken; its partition waits", "command", c.ID, "partition", w.n, "tries", try+1, "pause", pause, "err", err)
		}
		w.d.stats.Retries.Add(1)
		if err := sleep(ctx, pause); err != nil {
			return reply, err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// post delivers once. The error is a refusedError or an againError.
func (d *Dispatcher) post(ctx context.Context, c *Command) (Reply, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return Reply{}, &refusedError{0, err.Error()}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return Reply{}, &againError{err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(IdempotencyHeader, c.ID)
	if c.Trace != "" {
		req.Header.Set("Traceparent", c.Trace)
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return Reply{}, &againError{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	switch s := resp.StatusCode; {
	case s >= 200 && s < 300:
		// The status alone counts: a body that came in half, or is none of ours, only costs the offset.
		var reply Reply
		if err != nil || json.Unmarshal(text, &reply) != nil {
			return Reply{}, nil
		}
		return reply, nil
	case s >= 400 && s < 500 && s != http.StatusRequestTimeout && s != http.StatusTooManyRequests:
		return Reply{}, &refusedError{s, excerpt(text)}
	default:
		return Reply{}, &againError{fmt.Errorf("%s answered %d: %s", d.cfg.URL, s, excerpt(text)), retryAfter(resp.Header.Get("Retry-After"))}
	}
}

func retryAfter(s string) time.Duration {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

func excerpt(b []byte) string {
	const most = 500
	return strings.ToValidUTF8(strings.Join(strings.Fields(string(b[:min(len(b), most)])), " "), "")
}
