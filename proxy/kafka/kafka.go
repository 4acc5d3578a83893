// Package kafka is the one place that builds Kafka clients, so that TLS, client ids, acks and partitioning are decided
// once. It promises: producers are idempotent with acks=all, keep the order of a partition and send each record to the
// partition it names; topics are created co-partitioned or refused with what differs. It leaves retries without end,
// batching of work and offsets to its callers. It fails with errors that name the brokers and what to check.
package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"banyan/proxy/event"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Config tells how to reach Kafka and how banyan's topics look there.
type Config struct {
	Brokers     []string      `yaml:"brokers"`     // host:port, at least one
	Prefix      string        `yaml:"prefix"`      // of every topic; default "banyan"
	Partitions  int32         `yaml:"partitions"`  // of the keyed topics, for ever; default 24, 1 to 1000
	Replication int16         `yaml:"replication"` // default 3; 1 only where losing a broker may lose writes
	Retention   time.Duration `yaml:"retention"`   // of writes, changes and pairs; default 14 days. settled and events do not expire
	TLS         *TLS          `yaml:"tls"`         // nil: plain text
	SASL        *SASL         `yaml:"sasl"`        // nil: none
}

// TLS names files; empty CA means the system's.
type TLS struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// SASL is a login. Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
type SASL struct {
	Mechanism string `yaml:"mechanism"`
	User      string `yaml:"user"`
	Password  string `yaml:"password"`
}

// WithDefaults fills what is zero.
func (c Config) WithDefaults() Config {
	if c.Prefix == "" {
		c.Prefix = "banyan"
	}
	if c.Partitions == 0 {
		c.Partitions = 24
	}
	if c.Replication == 0 {
		c.Replication = 3
	}
	if c.Retention == 0 {
		c.Retention = 14 * 24 * time.Hour
	}
	return c
}

// Validate names the field, the value and the bound of everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	if len(c.Brokers) == 0 {
		errs = append(errs, errors.New("brokers: none; want at least one host:port"))
	}
	for _, b := range c.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			errs = append(errs, fmt.Errorf("brokers: %q: want host:port", b))
		}
	}
	if len(c.Prefix) == 0 || len(c.Prefix) > 64 || strings.Trim(c.Prefix, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
		errs = append(errs, fmt.Errorf("prefix: %q: want 1 to 64 of a-z, 0-9, '.', '_' and '-'", c.Prefix))
	}
	if c.Partitions < 1 || c.Partitions > 1000 {
		errs = append(errs, fmt.Errorf("partitions: %d: want 1 to 1000; it can never change", c.Partitions))
	}
	if c.Replication < 1 {
		errs = append(errs, fmt.Errorf("replication: %d: want 1 or more", c.Replication))
	}
	if c.SASL != nil {
		if _, err := c.SASL.option(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Topics names this installation's topics.
func (c Config) Topics() event.Topics { return event.Topics{P: c.Prefix} }

func (s *SASL) option() (kgo.Opt, error) {
	switch s.Mechanism {
	case "PLAIN":
		return kgo.SASL(plain.Auth{User: s.User, Pass: s.Password}.AsMechanism()), nil
	case "SCRAM-SHA-256":
		return kgo.SASL(scram.Auth{User: s.User, Pass: s.Password}.AsSha256Mechanism()), nil
	case "SCRAM-SHA-512":
		return kgo.SASL(scram.Auth{User: s.User, Pass: s.Password}.AsSha512Mechanism()), nil
	}
	return nil, fmt.Errorf("sasl.mechanism: %q: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", s.Mechanism)
}

func (t *TLS) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca: %s holds no certificate in PEM form", t.CA)
		}
	}
	if t.Cert != "" || t.Key != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("tls.cert and tls.key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// Client builds a client. id is the client id that broker logs show ("banyan-proxy"). It does not connect.
func (c Config) Client(id string, more ...kgo.Opt) (*kgo.Client, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(id),
		kgo.RetryBackoffFn(backoff),
		kgo.MetadataMinAge(250 * time.Millisecond), // a topic made a moment ago is seen soon
		kgo.DialTimeout(5 * time.Second),
	}
	if c.TLS != nil {
		t, err := c.TLS.config()
		if err != nil {
			return nil, fmt.Errorf("kafka: %w", err)
		}
		opts = append(opts, kgo.DialTLSConfig(t))
	}
	if c.SASL != nil {
		o, err := c.SASL.option()
		if err != nil {
			return nil, fmt.Errorf("kafka: %w", err)
		}
		opts = append(opts, o)
	}
	cl, err := kgo.NewClient(append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client %s: %w", id, err)
	}
	return cl, nil
}

func backoff(tries int) time.Duration {
	return min(50*time.Millisecond<<min(tries, 6), 2*time.Second)
}

// Producer builds a client that sends each record to the partition it names, in order, idempotently, to all replicas.
// Records are never given up by it: cancel their context to stop.
func (c Config) Producer(id string, more ...kgo.Opt) (*kgo.Client, error) {
	return c.Client(id, append([]kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(2 * time.Millisecond),
		kgo.ProducerBatchMaxBytes(1 << 20),
		// Not lz4, whose writer takes 8 MiB of blocks for each client.
		kgo.ProducerBatchCompression(kgo.SnappyCompression(), kgo.NoCompression()),
		kgo.UnknownTopicRetries(4),
	}, more...)...)
}

// Record builds a record of ours with its kind.
func Record(topic string, partition int32, kind event.Kind, key string, value []byte) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: partition, Key: []byte(key), Value: value,
		Headers: []kgo.RecordHeader{{Key: event.HeaderKind, Value: []byte(kind)}}}
}

// EventRecord builds the record of a domain event.
func EventRecord(topic string, partition int32, e *event.Event) *kgo.Record {
	hs := e.Headers()
	r := &kgo.Record{Topic: topic, Partition: partition, Key: []byte(e.Key), Value: e.Data, Headers: make([]kgo.RecordHeader, len(hs))}
	for i, h := range hs {
		r.Headers[i] = kgo.RecordHeader{Key: h.Key, Value: h.Value}
	}
	return r
}

// KindOf is the kind of a record, "" for a domain event or a foreign record.
func KindOf(r *kgo.Record) event.Kind {
	for _, h := range r.Headers {
		if h.Key == event.HeaderKind {
			return event.Kind(h.Value)
		}
	}
	return ""
}

// Headers are a record's headers without the library's type.
func Headers(r *kgo.Record) []event.Header {
	hs := make([]event.Header, len(r.Headers))
	for i, h := range r.Headers {
		hs[i] = event.Header{Key: h.Key, Value: h.Value}
	}
	return hs
}

// Topic is what [Config.EnsureTopics] makes.
type Topic struct {
	Name       string
	Partitions int32 // 0: the configured number
	Compacted  bool
	Forever    bool // neither expires nor is compacted
}

// Base are the topics that every role needs; event topics come with their migrations.
func (c Config) Base() []Topic {
	t := c.Topics()
	return []Topic{
		{Name: t.Writes()}, {Name: t.Changes()}, {Name: t.Settled(), Forever: true}, {Name: t.Pairs()}, {Name: t.Parked(), Forever: true},
		{Name: t.Progress(), Partitions: 1, Compacted: true}, {Name: t.Account(), Partitions: 1, Compacted: true},
		{Name: t.Replicas(), Partitions: 1, Compacted: true},
		{Name: t.Control(), Partitions: 1, Forever: true},
	}
}

// EnsureTopics creates the topics that are missing and refuses a topic whose number of partitions is not the wanted
// one: keys would land elsewhere, and order would be lost silently.
func (c Config) EnsureTopics(ctx context.Context, cl *kgo.Client, topics ...Topic) error {
	adm := kadm.NewClient(cl)
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.Name
	}
	have, err := adm.ListTopics(ctx, names...)
	if err != nil {
		return c.unreachable(err)
	}
	var errs []error
	for _, t := range topics {
		want := c.partitions(t)
		if d, ok := have[t.Name]; ok && d.Err == nil {
			if err := c.shape(t, len(d.Partitions)); err != nil {
				errs = append(errs, err)
			}
			continue
		}
		_, err := adm.CreateTopic(ctx, want, c.Replication, c.settings(t), t.Name)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			errs = append(errs, fmt.Errorf("create topic %s (%d partitions, replication %d): %w", t.Name, want, c.Replication, err))
		}
	}
	return errors.Join(errs...)
}

func (c Config) settings(t Topic) map[string]*string {
	s := map[string]*string{}
	set := func(k, v string) { s[k] = &v }
	switch {
	case t.Compacted:
		set("cleanup.policy", "compact")
	case t.Forever:
		set("retention.ms", "-1")
	default:
		set("retention.ms", strconv.FormatInt(c.Retention.Milliseconds(), 10))
	}
	return s
}

// Wrong tells what keeps the topics from being used: Kafka does not answer, or a topic has another number of partitions.
// A topic that is missing is not wrong: [Config.EnsureTopics] makes it.
func (c Config) Wrong(ctx context.Context, cl *kgo.Client, topics ...Topic) []error {
	have, err := kadm.NewClient(cl).ListTopics(ctx)
	if err != nil {
		return []error{c.unreachable(err)}
	}
	var errs []error
	for _, t := range topics {
		if d, ok := have[t.Name]; ok && d.Err == nil {
			if err := c.shape(t, len(d.Partitions)); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

func (c Config) unreachable(err error) error {
	return fmt.Errorf("list topics at %s: %w; check kafka.brokers and that the broker is up", strings.Join(c.Brokers, ","), err)
}

// shape compares a topic's number of partitions with the wanted one.
func (c Config) shape(t Topic, have int) error {
	want := c.partitions(t)
	if int32(have) == want {
		return nil
	}
	return fmt.Errorf("topic %s has %d partitions, config says %d: set kafka.partitions to %d, or use another kafka.prefix", t.Name, have, want, have)
}

func (c Config) partitions(t Topic) int32 {
	if t.Partitions != 0 {
		return t.Partitions
	}
	return c.Partitions
}

// Lag is how many records of a partition a consumer group has not committed.
type Lag struct {
	Group, Topic string
	Partition    int32
	Records      int64
}

// Lags asks for the lag of groups; a group that does not exist has none, and what a broker cannot tell now is left out.
func Lags(ctx context.Context, cl *kgo.Client, groups ...string) ([]Lag, error) {
	described, err := kadm.NewClient(cl).Lag(ctx, groups...)
	if err != nil {
		return nil, fmt.Errorf("lag of %d consumer groups: %w", len(groups), err)
	}
	var out []Lag
	for _, g := range described.Sorted() {
		for _, l := range g.Lag.Sorted() {
			if l.Err == nil && l.Lag >= 0 {
				out = append(out, Lag{g.Group, l.Topic, l.Partition, l.Lag})
			}
		}
	}
	return out, nil
}
