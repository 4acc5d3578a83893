package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Pair names a certificate's files.
type Pair struct {
	Cert string // PEM: the certificate, then those between it and the authority's
	Key  string // PEM
}

// Config is what to serve with.
type Config struct {
	// Pairs are the certificates; at least one. A client that asks for no name, or one that none has, gets the first.
	Pairs []Pair
	// MinVersion is "1.2" or "1.3". Default 1.2.
	MinVersion string
	// ClientCA is a PEM file of authorities: a client has to show a certificate of one of them. Default: it need not.
	ClientCA string
	// Every is how often the files are looked at. Default 5 s.
	Every time.Duration
}

// Versions are the values of Config.MinVersion.
var Versions = map[string]uint16{"": tls.VersionTLS12, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// Store holds the certificates in use.
type Store struct {
	cfg     Config
	log     *slog.Logger
	current atomic.Pointer[tls.Config]

	mu   sync.Mutex // guards both below: reloads come one by one
	seen []stamp    // of the files, when they were last read
	told string     // the trouble last logged
}

type stamp struct {
	changed time.Time
	size    int64
}

// New reads the files. log may be nil.
func New(cfg Config, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Every == 0 {
		cfg.Every = 5 * time.Second
	}
	s := &Store{cfg: cfg, log: log, seen: stamps(cfg)}
	c, err := load(cfg)
	if err != nil {
		return nil, err
	}
	s.current.Store(c)
	for _, w := range expiring(c, time.Now(), soon) {
		log.Warn(w)
	}
	return s, nil
}

// Config is for tls.NewListener. It stays the same; each handshake takes the certificates of its time.
func (s *Store) Config() *tls.Config {
	c := s.current.Load().Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current.Load(), nil }
	return c
}

// Check reads the files as New does, and tells of certificates that clients would refuse at that time.
func Check(cfg Config, now time.Time) (refused []string, err error) {
	c, err := load(cfg)
	if err != nil {
		return nil, err
	}
	return expiring(c, now, 0), nil
}

func load(cfg Config) (*tls.Config, error) {
	min, ok := Versions[cfg.MinVersion]
	switch {
	case !ok:
		return nil, fmt.Errorf("min_version: %q: want 1.2 or 1.3", cfg.MinVersion)
	case len(cfg.Pairs) == 0:
		return nil, errors.New("certificates: none; name at least one pair of cert and key")
	}
	c := &tls.Config{MinVersion: min, NextProtos: []string{"h2", "http/1.1"},
		DynamicRecordSizingDisabled: true} // a write is a record of up to 16 KiB, not a dozen
	for i, p := range cfg.Pairs {
		pair, err := loadPair(p)
		if err != nil {
			return nil, fmt.Errorf("certificates[%d]: %w", i, err)
		}
		c.Certificates = append(c.Certificates, pair)
	}
	if cfg.ClientCA != "" {
		b, err := os.ReadFile(cfg.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("client_ca: %w", err)
		}
		c.ClientCAs = x509.NewCertPool()
		if !c.ClientCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("client_ca: %s holds no certificate in PEM", cfg.ClientCA)
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
		c.SessionTicketsDisabled = true
	}
	return c, nil
}

func loadPair(p Pair) (tls.Certificate, error) {
	cert, err := os.ReadFile(p.Cert)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cert: %w", err)
	}
	key, err := os.ReadFile(p.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s with %s: %s", p.Cert, p.Key, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return pair, nil
}

// soon is when the end of a certificate is worth a word.
const soon = 7 * 24 * time.Hour

// expiring tells of certificates that are not valid now, or will not be soon.
func expiring(c *tls.Config, now time.Time, soon time.Duration) (out []string) {
	for _, p := range c.Certificates {
		name := p.Leaf.Subject.CommonName
		if len(p.Leaf.DNSNames) > 0 {
			name = strings.Join(p.Leaf.DNSNames, ", ")
		}
		switch until := p.Leaf.NotAfter; {
		case now.After(until):
			out = append(out, fmt.Sprintf("certificate for %s expired on %s: clients refuse it", name, until.UTC().Format(time.DateTime)))
		case now.Before(p.Leaf.NotBefore):
			out = append(out, fmt.Sprintf("certificate for %s is valid only from %s: clients refuse it until then", name, p.Leaf.NotBefore.UTC().Format(time.DateTime)))
		case until.Sub(now) < soon:
			out = append(out, fmt.Sprintf("certificate for %s expires on %s", name, until.UTC().Format(time.DateTime)))
		}
	}
	return out
}

func (c Config) files() (names []string) {
	for _, p := range c.Pairs {
		names = append(names, p.Cert, p.Key)
	}
	if c.ClientCA != "" {
		names = append(names, c.ClientCA)
	}
	return names
}

func stamps(cfg Config) (out []stamp) {
	for _, name := range cfg.files() {
		var s stamp
		if fi, err := os.Stat(name); err == nil { // follows links, by which renewals often swap
			s = stamp{fi.ModTime(), fi.Size()}
		}
		out = append(out, s)
	}
	return out
}

// Reload reads the files again if they have changed, and tells whether new ones are in use. An error leaves the old ones.
func (s *Store) Reload() (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := stamps(s.cfg)
	if slices.Equal(now, s.seen) {
		return false, nil
	}
	c, err := load(s.cfg)
	if err != nil { // looked at again each time: the other half of a pair may follow within the clock's grain
		if s.told != err.Error() {
			s.told = err.Error()
			s.log.Error("changed certificates cannot be used; the old ones serve on", "error", err)
		}
		return false, err
	}
	s.current.Store(c)
	s.seen, s.told = now, ""
	s.log.Info("new certificates in use", "not_after", c.Certificates[0].Leaf.NotAfter)
	for _, w := range expiring(c, time.Now(), soon) {
		s.log.Warn(w)
	}
	return true, nil
}

// Watch reloads until ctx ends.
func (s *Store) Watch(ctx context.Context) {
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_, _ = s.Reload() // which logs
		}
	}
}
