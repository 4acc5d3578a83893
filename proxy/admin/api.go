package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"banyan/proxy/event"
	"banyan/proxy/stage"
)

func (s *Server) routes(m *http.ServeMux) {
	const (
		noStages   = "stages are served by the proxy role with Kafka and at least one migration configured"
		noLedger   = "findings are served where a ledger is configured (ledger.postgres): by the role shadow, or serve"
		noBackfill = "backfill and retranslate are served by the role shadow, or serve: give --admin its address"
		noParked   = "parked keys are served where migrations are configured"
	)
	handle := func(pattern string, wired bool, without string, h func(http.ResponseWriter, *http.Request)) {
		if !wired {
			h = func(w http.ResponseWriter, _ *http.Request) { fail(w, http.StatusNotImplemented, "%s", without) }
		}
		m.HandleFunc(pattern, h)
	}
	c := s.cfg
	handle("GET /api/v1/stages", c.Stages != nil, noStages, s.stages)
	handle("GET /api/v1/stages/{migration}/history", c.Stages != nil, noStages, s.history)
	handle("POST /api/v1/stages/{migration}/flip", c.Flips != nil, noStages, s.flip)
	handle("GET /api/v1/findings", c.Findings != nil, noLedger, s.findings)
	handle("GET /api/v1/findings/{id}", c.Findings != nil, noLedger, s.finding)
	handle("POST /api/v1/findings/{id}/accept", c.Findings != nil, noLedger, s.accept)
	handle("GET /api/v1/backfill", c.Backfill != nil, noBackfill, s.backfills)
	handle("POST /api/v1/backfill", c.Backfill != nil, noBackfill, s.backfill)
	handle("GET /api/v1/retranslate", c.Retranslate != nil, noBackfill, s.retranslations)
	handle("POST /api/v1/retranslate", c.Retranslate != nil, noBackfill, s.retranslate)
	handle("GET /api/v1/parked", c.Parked != nil, noParked, s.parked)
	handle("POST /api/v1/parked/release", c.Parked != nil, noParked, s.release)
	handle("GET /api/v1/status", len(c.Status) > 0, "no part of this process tells a status", s.status)
	handle("GET /metrics", c.Metrics != nil, "metrics are not kept by this process", func(w http.ResponseWriter, r *http.Request) { c.Metrics.ServeHTTP(w, r) })
	for pattern, h := range c.Mounts {
		m.Handle(pattern, h)
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error": "the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}

func fail(w http.ResponseWriter, status int, format string, args ...any) {
	reply(w, status, map[string]string{"error": fmt.Sprintf(format, args...)})
}

// failed answers an error of an implementation.
func (s *Server) failed(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, ErrInvalid):
		status = http.StatusBadRequest
	case errors.Is(err, ErrConflict):
		status = http.StatusConflict
	case errors.Is(err, ErrMissing):
		status = http.StatusServiceUnavailable
	case errors.Is(err, context.DeadlineExceeded):
		status = http.StatusGatewayTimeout
	default:
		s.cfg.Log.Error("admin: a request failed", "error", err)
	}
	fail(w, status, "%s", strings.TrimPrefix(err.Error(), ErrInvalid.Error()+": "))
}

// read decodes a change's body: one JSON object with known members.
func read(w http.ResponseWriter, r *http.Request, v any) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		fail(w, http.StatusUnsupportedMediaType, "want Content-Type: application/json, not %q", r.Header.Get("Content-Type"))
		return false
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err = d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("something follows the object")
			if more != nil {
				err = more
			}
		}
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		fail(w, http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", large.Limit)
	case err != nil:
		fail(w, http.StatusBadRequest, "the body is not what this takes: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return err == nil
}

func call[T any](s *Server, w http.ResponseWriter, r *http.Request, ask func(context.Context) (T, error), shape func(T) any) {
	ctx, cancel := context.WithTimeout(r.Context(), callWait)
	defer cancel()
	v, err := ask(ctx)
	if err != nil {
		s.failed(w, err)
		return
	}
	reply(w, http.StatusOK, shape(v))
}

// listed wraps a list, an empty one as [].
func listed[T any](name string) func([]T) any {
	return func(l []T) any {
		if l == nil {
			l = []T{}
		}
		return map[string][]T{name: l}
	}
}

func (s *Server) stages(w http.ResponseWriter, r *http.Request) {
	call(s, w, r, s.cfg.Stages.Stages, listed[StageInfo]("stages"))
}

func (s *Server) history(w http.ResponseWriter, r *http.Request) {
	m := event.Migration(r.PathValue("migration"))
	call(s, w, r, func(ctx context.Context) ([]stage.Entry, error) { return s.cfg.Stages.History(ctx, m) }, listed[stage.Entry]("entries"))
}

func (s *Server) findings(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	call(s, w, r, func(ctx context.Context) ([]Finding, error) {
		return s.cfg.Findings.Findings(ctx, event.Migration(q.Get("migration")), q["state"])
	}, listed[Finding]("findings"))
}

func (s *Server) finding(w http.ResponseWriter, r *http.Request) {
	call(s, w, r, func(ctx context.Context) (*Finding, error) { return s.cfg.Findings.Finding(ctx, r.PathValue("id")) }, func(f *Finding) any { return f })
}

func (s *Server) accept(w http.ResponseWriter, r *http.Request) {
	var a Acceptance
	if !read(w, r, &a) {
		return
	}
	switch {
	case strings.TrimSpace(a.Reason) == "":
		fail(w, http.StatusBadRequest, "reason: none given; who reads this finding next year needs one")
		return
	case strings.TrimSpace(a.Owner) == "":
		fail(w, http.StatusBadRequest, "owner: none given; somebody answers for it until it expires")
		return
	case !a.Expires.After(s.now()):
		fail(w, http.StatusBadRequest, "expires: %s is not in the future", a.Expires.Format("2006-01-02T15:04:05Z07:00"))
		return
	}
	a.At = s.now()
	id := r.PathValue("id")
	call(s, w, r, func(ctx context.Context) (*Finding, error) {
		if err := s.cfg.Findings.Accept(ctx, id, a); err != nil {
			return nil, err
		}
		s.cfg.Log.Info("finding accepted", "finding", id, "owner", a.Owner, "reason", a.Reason, "expires", a.Expires)
		return s.cfg.Findings.Finding(ctx, id)
	}, func(f *Finding) any { return f })
}

func (s *Server) backfills(w http.ResponseWriter, r *http.Request) {
	call(s, w, r, s.cfg.Backfill.Backfills, listed[BackfillStatus]("backfills"))
}

func (s *Server) backfill(w http.ResponseWriter, r *http.Request) {
	var b BackfillRequest
	if !read(w, r, &b) {
		return
	}
	if b.Migration == "" {
		fail(w, http.StatusBadRequest, "migration: none given")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callWait)
	defer cancel()
	st, err := s.cfg.Backfill.Backfill(ctx, b)
	if err != nil {
		s.failed(w, err)
		return
	}
	reply(w, http.StatusAccepted, st)
}

func (s *Server) retranslations(w http.ResponseWriter, r *http.Request) {
	call(s, w, r, s.cfg.Retranslate.Retranslations, listed[RetranslateStatus]("retranslations"))
}

func (s *Server) retranslate(w http.ResponseWriter, r *http.Request) {
	var q RetranslateRequest
	if !read(w, r, &q) {
		return
	}
	switch {
	case q.Migration == "":
		fail(w, http.StatusBadRequest, "migration: none given")
		return
	case strings.TrimSpace(q.Reason) == "" || strings.TrimSpace(q.Who) == "":
		fail(w, http.StatusBadRequest, "reason and who: the audit needs both")
		return
	case q.Abandon && (q.NoSwap || q.Force):
		fail(w, http.StatusBadRequest, "abandon: neither no_swap nor force goes with it")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callWait)
	defer cancel()
	st, err := s.cfg.Retranslate.Retranslate(ctx, q)
	if err != nil {
		s.failed(w, err)
		return
	}
	reply(w, http.StatusAccepted, st)
}

// status asks every part; one that fails does not hide the others.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	out := map[string]any{}
	for _, p := range s.cfg.Status {
		ctx, cancel := context.WithTimeout(r.Context(), partWait)
		v, err := p.Read(ctx)
		cancel()
		if err != nil {
			v = map[string]string{"error": err.Error()}
		}
		out[p.Name] = v
	}
	reply(w, http.StatusOK, out)
}
