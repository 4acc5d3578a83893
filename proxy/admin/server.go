package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Config of the listener. What is nil is answered with 501.
type Config struct {
	Listen string // host:port
	// Open gives the listener: a predecessor's, or open's. Nil: open's.
	Open    func(open func(addr string) (net.Listener, error)) (net.Listener, error)
	Tokens  Tokens
	Ready   []Check
	Metrics http.Handler

	Stages   Stages
	Flips    Flipper
	Findings Ledger
	Backfill Backfiller
	// Retranslate makes new generations.
	Retranslate Retranslator
	Parked      Parker
	Status      []Part
	// Mounts are further pages by pattern; reading them takes a token, anything but GET and HEAD the operator's.
	Mounts map[string]http.Handler

	Log *slog.Logger
}

// Limits of the listener.
const (
	maxBody     = 64 << 10
	maxHead     = 16 << 10
	readyWait   = 2 * time.Second
	partWait    = 5 * time.Second
	callWait    = 30 * time.Second // ledger, plan
	flipWait    = 30 * time.Second // until all proxies obey
	responseEnd = 90 * time.Second
)

// Server is the admin listener.
type Server struct {
	cfg      Config
	tokens   digests
	http     *http.Server
	listener net.Listener
	served   chan struct{}
	draining atomic.Bool
	now      func() time.Time
}

// New checks the config.
func New(c Config) (*Server, error) {
	if err := c.Tokens.Validate(); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	s := &Server{cfg: c, tokens: c.Tokens.digests(), now: time.Now}
	s.http = &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: responseEnd,
		IdleTimeout: time.Minute, MaxHeaderBytes: maxHead, ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug)}
	return s, nil
}

// Start listens and returns; it serves until Stop.
func (s *Server) Start(ctx context.Context) error {
	if s.listener != nil {
		return nil
	}
	open := func(addr string) (net.Listener, error) { return new(net.ListenConfig).Listen(ctx, "tcp", addr) }
	var l net.Listener
	var err error
	if s.cfg.Open != nil {
		l, err = s.cfg.Open(open)
	} else {
		l, err = open(s.cfg.Listen)
	}
	if err != nil {
		return fmt.Errorf("admin: listen on %q (want host:port): %w", s.cfg.Listen, err)
	}
	s.listener, s.served = l, make(chan struct{})
	go func() { // ends at Stop
		defer close(s.served)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Log.Error("admin: the listener ended", "error", err)
		}
	}()
	return nil
}

// Addr is where it listens, after Start.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Drain makes readiness say no, so that nothing new is sent here. Health stays.
func (s *Server) Drain() { s.draining.Store(true) }

// Stop ends requests under way gracefully until ctx ends, and then at once.
func (s *Server) Stop(ctx context.Context) error {
	s.Drain()
	if s.listener == nil {
		return nil
	}
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("admin: stop: %w", errors.Join(err, s.http.Close()))
	}
	<-s.served
	return err
}

// Handler is the whole of the listener, for tests and for mounting it elsewhere.
func (s *Server) Handler() http.Handler {
	inner := http.NewServeMux()
	s.routes(inner)
	outer := http.NewServeMux()
	outer.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	outer.HandleFunc("GET /readyz", s.ready)
	outer.Handle("/", s.authorized(inner))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		outer.ServeHTTP(w, r)
	})
}

// authorized lets readers read and operators change.
func (s *Server) authorized(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reads, changes := s.tokens.who(r)
		switch {
		case !reads:
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, http.StatusUnauthorized, "a token is needed: Authorization: Bearer …; the proxy's log says where its file is")
		case r.Method != http.MethodGet && r.Method != http.MethodHead && !changes:
			fail(w, http.StatusForbidden, "this token may only read: changes take the operator's")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// reason is why a process is not ready.
type reason struct {
	Name    string `json:"name"`
	Problem string `json:"problem"`
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyWait)
	defer cancel()
	reasons := []reason{}
	if s.draining.Load() {
		reasons = append(reasons, reason{"drain", "this process is ending"})
	}
	for _, c := range s.cfg.Ready {
		if err := c.Ask(ctx); err != nil {
			reasons = append(reasons, reason{c.Name, err.Error()})
		}
	}
	status := http.StatusOK
	if len(reasons) > 0 {
		status = http.StatusServiceUnavailable
	}
	reply(w, status, map[string]any{"ready": len(reasons) == 0, "reasons": reasons})
}
