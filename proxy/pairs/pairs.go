package pairs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/proxy/migrate"
	"banyan/proxy/upstream"
)

// Config of the copies.
type Config struct {
	Replica     event.Replica
	Epoch       event.Epoch
	Fingerprint string // of config and rules, for what is not given by an Under
	// Generation is the one that readers have now; the fingerprint of later ones than the first names it. nil: the first.
	Generation func(event.Migration) int
	Queue      int   // reads that wait for the candidate to catch up, and as many behind them; default 1000
	Bytes      int64 // of their bodies, default 64 MiB
	Workers    int   // default 8
	// CatchUp is how long the candidate's read model may take to pass legacy's answer before it is asked all the same.
	// Default 5 s.
	CatchUp time.Duration
	// ClockError widens the end of legacy's answer; default 5 ms, for one host.
	ClockError time.Duration
	Model      Model
	Sides      map[event.Migration]Sides
	// Publish hands a record to Kafka; it must not block for long, and says no when it cannot take it.
	Publish func(k event.Kind, key event.OrderingKey, value []byte) bool
}

// Model tells how far a read model is; package pending does.
type Model interface {
	Passed(ctx context.Context, m event.Migration, k event.OrderingKey, at time.Time, d time.Duration) bool
}

// Sides tell where a migration's two sides are asked: base URLs without a path. A side of several instances that hold
// sessions tells the one that holds the cookie's; the cookie is "" for a copy without.
type Sides struct {
	Legacy, Candidate func(cookie string) string
	LegacyVia         upstream.Upstream // asks legacy when it speaks no HTTP
}

// Pairs is safe for concurrent use.
type Pairs struct {
	cfg    Config
	client *http.Client
	queue  chan migrate.Read // to wait for the candidate
	ready  chan migrate.Read // to be asked
	cancel context.CancelFunc
	wg     sync.WaitGroup
	now    func() time.Time
	sides  atomic.Pointer[map[event.Migration]Sides]

	mu      sync.Mutex // guards what follows
	reads   int        // that wait
	waiting int64      // bytes of their bodies
	tallies map[tallyKey]*tally
	past    map[tallyKey]*tally // sums of those that were forgotten, without a config
	recent  []string            // configs, the newest last
}

var _ migrate.Copies = (*Pairs)(nil)

// Drop reasons.
const (
	QueueFull = "queue_full"
	TooLarge  = "body_too_large"
	Undeliver = "publish_failed"
	// OtherGeneration: the candidate answered from a generation that this proxy does not take for the current one (any
	// more, or yet).
	OtherGeneration = "other_generation"
	ShuttingDown    = "shutdown"
)

// New fills defaults; Start begins.
func New(c Config) *Pairs {
	if c.Queue == 0 {
		c.Queue = 1000
	}
	if c.Bytes == 0 {
		c.Bytes = 64 << 20
	}
	if c.Workers == 0 {
		c.Workers = 8
	}
	if c.CatchUp == 0 {
		c.CatchUp = 5 * time.Second
	}
	if c.ClockError == 0 {
		c.ClockError = 5 * time.Millisecond
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxConnsPerHost, t.MaxIdleConnsPerHost, t.DisableCompression, t.Proxy = c.Workers, c.Workers, true, nil
	p := &Pairs{cfg: c, queue: make(chan migrate.Read, c.Queue), ready: make(chan migrate.Read), tallies: map[tallyKey]*tally{}, past: map[tallyKey]*tally{}, now: time.Now,
		client: &http.Client{Transport: t, Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	p.sides.Store(&c.Sides)
	return p
}

// Start runs the workers until Stop.
func (p *Pairs) Start(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(ctx)
	for range p.cfg.Workers {
		p.wg.Go(func() { p.work(ctx) })
	}
	p.wg.Go(func() { p.catchUp(ctx) })
	p.wg.Go(func() { p.tell(ctx) })
}

// Stop gives up what waits, counted, publishes the last tallies and returns.
func (p *Pairs) Stop() {
	p.cancel()
	p.wg.Wait()
	for {
		select {
		case r := <-p.queue:
			p.drop(keyOf(&r), ShuttingDown)
			continue
		default:
		}
		break
	}
	p.publishTallies()
	p.client.CloseIdleConnections()
}

// Room implements migrate.Copies.
func (p *Pairs) Room(m event.Migration, route string, _ int64) bool {
	return p.room(tallyKey{m, route, p.cfg.Fingerprint})
}

func (p *Pairs) room(k tallyKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) < cap(p.queue) && p.waiting < p.cfg.Bytes {
		return true
	}
	t := p.tallyLocked(k)
	t.Asked++
	t.Dropped[QueueFull]++
	return false
}

// Offer implements migrate.Copies.
func (p *Pairs) Offer(r migrate.Read) {
	if r.Fingerprint == "" {
		r.Fingerprint = p.cfg.Fingerprint // of the config; that of the pair is made when it is complete
	}
	size := int64(len(r.Legacy.Body) + len(r.Candidate.Body))
	p.mu.Lock()
	t := p.tallyLocked(keyOf(&r))
	t.Asked++
	cut := r.Legacy.Length > int64(len(r.Legacy.Body)) || r.Candidate.Length > int64(len(r.Candidate.Body))
	switch {
	case cut:
		t.Dropped[TooLarge]++
	default:
		select {
		case p.queue <- r:
			p.waiting += size
			p.reads++
		default:
			t.Dropped[QueueFull]++
		}
	}
	p.mu.Unlock()
}

// Waiting is how many reads wait for the other side, and the bytes of their answers.
func (p *Pairs) Waiting() (reads int, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reads, p.waiting
}

// catchUp lets reads wait for the candidate, each by itself: while a read model lags, workers must not stand idle.
func (p *Pairs) catchUp(ctx context.Context) {
	room := make(chan struct{}, cap(p.queue))
	for {
		var r migrate.Read
		select {
		case <-ctx.Done():
			return
		case room <- struct{}{}:
		}
		select {
		case <-ctx.Done():
			return
		case r = <-p.queue:
		}
		p.wg.Go(func() { // ends with ctx, or when the read is a worker's
			defer func() { <-room }()
			if r.Served == capture.Legacy {
				p.cfg.Model.Passed(ctx, r.Migration, r.Key, r.Legacy.End.Add(p.cfg.ClockError), p.cfg.CatchUp)
			}
			select {
			case p.ready <- r:
			case <-ctx.Done():
				p.drop(keyOf(&r), ShuttingDown)
			}
		})
	}
}

func (p *Pairs) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-p.ready:
			p.mu.Lock()
			p.waiting -= int64(len(r.Legacy.Body) + len(r.Candidate.Body))
			p.reads--
			p.mu.Unlock()
			p.complete(ctx, &r)
		}
	}
}

// complete asks the other side and counts or publishes the pair.
func (p *Pairs) complete(ctx context.Context, r *migrate.Read) {
	k := keyOf(r)
	if r.Served == capture.Legacy {
		r.Candidate = p.ask(ctx, r.Migration, capture.Candidate, r.Candidate.Target)
	} else {
		r.Legacy = p.askLegacy(ctx, r)
	}
	if ctx.Err() != nil {
		p.drop(k, ShuttingDown)
		return
	}
	g := p.generation(r.Migration)
	if a := r.Candidate.Generation; a != 0 && a != g {
		p.drop(k, OtherGeneration)
		return
	}
	r.Fingerprint, r.Tries = Fingerprint(k.config, g), 1
	equal := r.Legacy.Status == r.Candidate.Status && r.Legacy.Status != 0 && bytes.Equal(r.Legacy.Body, r.Candidate.Body)
	sent := !equal && p.cfg.Publish(event.KindPair, r.Key, event.Encode(r.Pair))
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.tallyLocked(k)
	switch {
	case equal:
		t.Equal++
	case sent:
		t.Sent++
	default:
		t.Dropped[Undeliver]++
	}
}

func (p *Pairs) generation(m event.Migration) int {
	if p.cfg.Generation == nil {
		return 1
	}
	return p.cfg.Generation(m)
}

// Fingerprint is what evidence of a generation is bound to: rows and answers of another one prove nothing about it. It
// names the generation from the second on.
func Fingerprint(config string, generation int) string {
	if generation > 1 {
		config += "-g" + strconv.Itoa(generation)
	}
	return config
}

func (p *Pairs) drop(k tallyKey, why string) {
	p.mu.Lock()
	p.tallyLocked(k).Dropped[why]++
	p.mu.Unlock()
}

// maxBody bounds the other side's answer.
const maxBody = 1 << 20

// ask asks one side of a migration.
func (p *Pairs) ask(ctx context.Context, m event.Migration, side capture.Side, target string) capture.Answer {
	sides := (*p.sides.Load())[m]
	base := sides.Candidate
	if side == capture.Legacy {
		base = sides.Legacy
	}
	return Ask(ctx, p.client, base(""), target)
}

// askLegacy asks as the client did.
func (p *Pairs) askLegacy(ctx context.Context, r *migrate.Read) capture.Answer {
	sides := (*p.sides.Load())[r.Migration]
	if u := sides.LegacyVia; u != nil {
		return askVia(u, r.Legacy.Target, r.Cookie, r.Host)
	}
	return ask(ctx, p.client, sides.Legacy(r.Cookie), r.Legacy.Target, r.Cookie, r.Host)
}

// Ask sends a GET and takes the answer whole, within bounds. Trouble is in the answer's Error.
func Ask(ctx context.Context, client *http.Client, base, target string) capture.Answer {
	return ask(ctx, client, base, target, "", "")
}

func ask(ctx context.Context, client *http.Client, base, target, cookie, host string) capture.Answer {
	a := capture.Answer{Target: target, Start: time.Now()}
	fail := func(err error) capture.Answer {
		a.Error, a.End = err.Error(), time.Now()
		return a
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+target, nil)
	if err != nil {
		return fail(fmt.Errorf("ask %s%s: %w", base, target, err))
	}
	req.Header.Set("User-Agent", "banyan")
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	req.Host = host                    // "": that of the URL
	req.Header.Set("Banyan-Copy", "1") // so that the service can leave copies out of its own statistics
	resp, err := client.Do(req)
	if err != nil {
		return fail(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return fail(err)
	}
	a.Status, a.ContentType, a.Encoding = resp.StatusCode, resp.Header.Get("Content-Type"), resp.Header.Get("Content-Encoding")
	a.Length, a.Body, a.End = int64(len(b)), b[:min(len(b), maxBody)], time.Now()
	a.Before, a.After = migrate.Positions(resp.Header.Get("Banyan-Position"))
	a.Generation = migrate.Generation(resp.Header.Get("Banyan-Generation"))
	return a
}
