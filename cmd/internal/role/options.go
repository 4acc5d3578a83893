package role

import (
	"context"
	"log/slog"
	"net"
	"time"

	"banyan/cmd/internal/config"
	"banyan/proxy"

	"go.opentelemetry.io/otel/trace"
)

// Options are what a process gives to its roles.
type Options struct {
	Log      *slog.Logger
	Tracer   trace.Tracer   // nil: no spans
	Observer proxy.Observer // nil: no request metrics
	Build    string         // version of this binary, part of the fingerprint
	// Load reads the file again, for a reload; nil: there is none. Reloaded is told of the file that serves now.
	Load     func() (*config.File, error)
	Reloaded func(*config.File)
	// Synced is told how long each flush of the journal took; nil: nobody asks. It must not block.
	Synced func(time.Duration)
	// Listen opens a listener by the name of its use ("proxy", "tls", "admin"), or takes over a predecessor's; nil: by open alone.
	Listen func(name, addr string, open func(addr string) (net.Listener, error)) (net.Listener, error)

	delay func() time.Duration // of the read models, for tests
}

func (o *Options) listen(name, addr string, open func(addr string) (net.Listener, error)) (net.Listener, error) {
	if o.Listen == nil {
		return open(addr)
	}
	return o.Listen(name, addr, open)
}

// keep runs start until it succeeds or ctx ends, and says once per change what it waits for.
func keep(ctx context.Context, log *slog.Logger, what string, start func(context.Context) error) bool {
	last := ""
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 3*time.Second) {
		err := start(ctx)
		if err == nil {
			if last != "" {
				log.Info(what + ": there now")
			}
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if msg := err.Error(); msg != last {
			log.Warn(what+": not there yet; trying on, legacy keeps serving", "error", err)
			last = msg
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}
