package role

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"banyan/cmd/internal/config"
	"banyan/proxy/balance"
	"banyan/proxy/certs"
	"banyan/proxy/kafka"
	"banyan/proxy/upstream"
	"banyan/shadow/ledger"
)

// Lack is something that the file names and that is missing, or lacks a setting.
type Lack struct{ Subject, Message, Mend string }

// Check asks php-fpm, instances of upstreams, legacy's database, Kafka and the ledger whether they are as the file needs them. It
// changes nothing but the ledger's own schema, which is brought up to date.
func Check(ctx context.Context, f *config.File) []Lack {
	out := slices.Concat(checkTLS(f), checkFastCGI(f), checkInstances(f))
	if len(f.Migrations) == 0 {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return append(append(append(out, checkLegacy(ctx, f)...), checkKafka(ctx, f)...), checkLedger(ctx, f)...)
}

// checkInstances asks each instance of the upstreams that have several, or checks, as the proxy would: one that is
// missing is not noticed by its users, since the others answer. An upstream of one instance may be started later.
func checkInstances(f *config.File) []Lack {
	var names []string
	for name, u := range f.Upstreams {
		if len(u.HTTP) > 1 || u.Health != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var mu sync.Mutex // guards out
	var out []Lack
	var wg sync.WaitGroup
	for _, name := range names {
		u := f.Upstreams[name]
		b, err := openBackend(name, &u, balance.Config{}, nil)
		if err != nil {
			out = append(out, Lack{"upstreams." + name, err.Error(), ""})
			continue
		}
		for i, address := range u.HTTP {
			wg.Go(func() {
				if err := ask(b.pools[i], address, u.Health); err != nil {
					mu.Lock()
					defer mu.Unlock()
					out = append(out, Lack{"upstreams." + name, fmt.Sprintf("instance %s: %v", address, err), ""})
				}
			})
		}
		defer b.close()
	}
	wg.Wait()
	slices.SortFunc(out, func(a, b Lack) int { return cmp.Compare(a.Subject+a.Message, b.Subject+b.Message) })
	return out
}

// ask makes a connection, and the check if there is one.
func ask(u upstream.Upstream, address string, h *balance.Health) error {
	if h != nil {
		return balance.Probe(balance.Instance{Name: address, Upstream: u}, *balance.Config{Health: h}.WithDefaults().Health)
	}
	c, err := u.Get(upstream.Timeouts{Dial: 2 * time.Second}, true)
	if err == nil {
		c.Abort()
	}
	return err
}

// checkFastCGI looks for the sites and the php-fpms. No script is run: any may write.
func checkFastCGI(f *config.File) []Lack {
	var out []Lack
	for _, name := range slices.Sorted(maps.Keys(f.Upstreams)) {
		if u := f.Upstreams[name]; u.FastCGI != nil {
			if err := f.FastCGI(name, u).Look(); err != nil {
				out = append(out, Lack{"upstreams." + name + ".fastcgi", err.Error(), ""})
			}
		}
	}
	return out
}

func checkTLS(f *config.File) (out []Lack) {
	if f.Proxy.TLS == nil {
		return nil
	}
	refused, err := certs.Check(f.Certs(), time.Now())
	if err != nil {
		return []Lack{{"proxy.tls", err.Error(), ""}}
	}
	for _, r := range refused {
		out = append(out, Lack{"proxy.tls", r, "renew it; a running proxy takes the new files over by itself"})
	}
	return out
}

func checkLegacy(ctx context.Context, f *config.File) []Lack {
	if f.LegacyDB.MySQL == "" && f.LegacyDB.Postgres == "" {
		return []Lack{{"legacy_db", "none given: without its change log writes cannot be settled", "legacy_db: { mysql: \"${LEGACY_DSN}\" }"}}
	}
	src, err := source(f, slog.New(slog.DiscardHandler))
	if err != nil {
		return []Lack{{"legacy_db", err.Error(), ""}}
	}
	if c, ok := src.(io.Closer); ok {
		defer c.Close()
	}
	var out []Lack
	for _, p := range src.Check(ctx, legacyTables(f)) {
		out = append(out, Lack{"legacy_db", p.What, p.Mend})
	}
	return out
}

// checkKafka: topics that are missing are no lack, since a role makes them at its start; a topic of another shape is.
func checkKafka(ctx context.Context, f *config.File) []Lack {
	cl, err := f.Kafka.Client("banyan-check")
	if err != nil {
		return []Lack{{"kafka", err.Error(), ""}}
	}
	defer cl.Close()
	var out []Lack
	for _, err := range f.Kafka.Wrong(ctx, cl, topics(f)...) {
		out = append(out, Lack{"kafka", err.Error(), ""})
	}
	return out
}

// topics are all that this file needs, the event topics of every migration included.
func topics(f *config.File) []kafka.Topic {
	out := f.Kafka.Base()
	for _, m := range f.Names() {
		out = append(out, kafka.Topic{Name: f.Kafka.Topics().Events(m, 1), Forever: true})
	}
	return out
}

func checkLedger(ctx context.Context, f *config.File) []Lack {
	if f.Ledger.Postgres == "" {
		return []Lack{{"ledger", "ledger.postgres: none given: findings, evidence and backfills need it", "ledger: { postgres: \"${LEDGER_DSN}\" }"}}
	}
	l, err := ledger.Open(ctx, ledger.Config{URL: f.Ledger.Postgres})
	if err != nil {
		return []Lack{{"ledger", err.Error(), ""}}
	}
	l.Close()
	return nil
}
