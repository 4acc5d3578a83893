package dispatch

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/translate"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Config is the dispatch of one migration.
type Config struct {
	Kafka      kafka.Config
	Migration  event.Migration
	Generation int // of the events, from 1
	// Begin is where a generation that is made anew begins to read the settled stream, by partition; none: at its start.
	Begin []int64
	// URL is the service's command handler.
	URL string
	// Rules are the migration's `rows:`.
	Rules *translate.Rules
	// Timeout is how long one delivery may take. Default 10s, 10ms to 5m.
	Timeout time.Duration
	// RetryMax bounds the pause between two tries, which doubles from 50ms. Default 5s, 50ms to 5m.
	RetryMax time.Duration
	// Keys is how many ordering keys of one partition are delivered side by side. Default 16, 1 to 1000.
	Keys int
	Log  *slog.Logger // nil: no log
	// Options for the Kafka clients, for hooks of telemetry.
	Options []kgo.Opt
}

func (c Config) withDefaults() Config {
	c.Kafka = c.Kafka.WithDefaults()
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.RetryMax == 0 {
		c.RetryMax = 5 * time.Second
	}
	if c.Keys == 0 {
		c.Keys = 16
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate names the field, the value and the bound of everything that is wrong; zero means the default.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if c.Migration == "" {
		bad("migration: missing")
	}
	if c.Generation < 1 {
		bad("generation: %d: want 1 or more", c.Generation)
	}
	if u, err := url.Parse(c.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		bad("dispatch: %q: want the URL of the service's command handler, http://host:port/commands", c.URL)
	}
	if c.Rules == nil {
		bad("rows: missing: what no command explains must be told by them")
	}
	if c.Timeout < 10*time.Millisecond || c.Timeout > 5*time.Minute {
		bad("timeout: %s: want 10ms to 5m", c.Timeout)
	}
	if c.RetryMax < 50*time.Millisecond || c.RetryMax > 5*time.Minute {
		bad("retry_max: %s: want 50ms to 5m", c.RetryMax)
	}
	if c.Keys < 1 || c.Keys > 1000 {
		bad("keys: %d: want 1 to 1000", c.Keys)
	}
	return errors.Join(errs...)
}
