package lab

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed" // the list of Kafka's jars
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// KafkaServer is one Kafka node that is broker and controller. Topics are made by
// whoever needs them: it makes none by itself.
type KafkaServer struct {
	*Process
	Brokers []string
}

// Kafka is the shared server of the tests; each test makes topics under its Prefix.
func Kafka(t testing.TB) *KafkaServer { t.Helper(); return sharedKafka.get(t) }

// NewKafka is a server of the test's own, for outages.
func NewKafka(t testing.TB) *KafkaServer { t.Helper(); return private(t, StartKafka) }

var sharedKafka = shared[*KafkaServer]{env: EnvKafka, open: openKafka, run: StartKafka}

// StartKafka starts a server; Stop ends it. The first use on a machine fetches
// Kafka's jars, about 43 MB, into the user's cache directory.
func StartKafka(ctx context.Context, opts Options) (*KafkaServer, error) {
	java, err := find("Java", "java")
	if err != nil {
		return nil, err
	}
	jars, err := KafkaJars(ctx)
	if err != nil {
		return nil, err
	}
	return retried(ctx, func() (*KafkaServer, error) { return newKafka(opts, java, jars) })
}

func newKafka(opts Options, java, jars string) (*KafkaServer, error) {
	p, err := newProcess("kafka", opts)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	controller, err := freePort()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(p.dir, "data")
	if err := formatKafka(data); err != nil {
		return nil, err
	}
	properties := filepath.Join(p.dir, "server.properties")
	if err := os.WriteFile(properties, []byte(kafkaProperties(data, loopback(port), loopback(controller))), 0o644); err != nil {
		return nil, fmt.Errorf("settings of kafka: %w", err)
	}
	s := &KafkaServer{Process: p, Brokers: []string{loopback(port)}}
	p.command = func() *exec.Cmd {
		// One compiler tier: up in two seconds instead of four, and less CPU in runs of minutes.
		return exec.Command(java, "-Xmx512m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
			"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
			"-cp", filepath.Join(jars, "*"), "kafka.Kafka", properties)
	}
	p.ready = func(ctx context.Context) error { return kafkaReady(ctx, s.Brokers) }
	return s, nil
}

// formatKafka writes what Kafka's own format command writes, which would cost a
// start of Java: the name of the cluster, of the node and of its directory.
func formatKafka(data string) error {
	if err := os.MkdirAll(data, 0o755); err != nil {
		return fmt.Errorf("directory of kafka: %w", err)
	}
	meta := filepath.Join(data, "meta.properties")
	if _, err := os.Stat(meta); err == nil {
		return nil
	}
	var cluster, dir [16]byte
	_, _ = rand.Read(cluster[:]) // never fails
	_, _ = rand.Read(dir[:])
	id := func(b [16]byte) string { b[0] &= 0x7f; return base64.RawURLEncoding.EncodeToString(b[:]) } // no leading dash
	text := "version=1\nnode.id=1\ncluster.id=" + id(cluster) + "\ndirectory.id=" + id(dir) + "\n"
	if err := os.WriteFile(meta, []byte(text), 0o644); err != nil {
		return fmt.Errorf("format kafka: %w", err)
	}
	return nil
}

func kafkaProperties(data, broker, controller string) string {
	return strings.Join([]string{
		"process.roles=broker,controller",
		"node.id=1",
		"controller.quorum.voters=1@" + controller,
		"listeners=PLAINTEXT://" + broker + ",CONTROLLER://" + controller,
		"advertised.listeners=PLAINTEXT://" + broker,
		"controller.listener.names=CONTROLLER",
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"log.dirs=" + data,
		"auto.create.topics.enable=false",
		"num.partitions=1",
		"default.replication.factor=1",
		"offsets.topic.replication.factor=1",
		"offsets.topic.num.partitions=4",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"transaction.state.log.num.partitions=4",
		"share.coordinator.state.topic.replication.factor=1",
		"share.coordinator.state.topic.min.isr=1",
		// A group starts at once, and a member that died is missed as soon as a test likes.
		"group.initial.rebalance.delay.ms=0",
		"group.min.session.timeout.ms=200",
		"group.consumer.min.session.timeout.ms=200",
		"group.consumer.min.heartbeat.interval.ms=100",
		// A node that was killed may come back at once.
		"broker.session.timeout.ms=3000",
		"broker.heartbeat.interval.ms=500",
		"controlled.shutdown.max.retries=1",
		// Small.
		"num.network.threads=2",
		"num.io.threads=4",
		"background.threads=2",
		"log.cleaner.dedupe.buffer.size=4194304",
		"log.index.size.max.bytes=1048576",
		"",
	}, "\n")
}

// kafkaReady asks for the brokers: the port opens before the node serves.
func kafkaReady(ctx context.Context, brokers []string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer client.Close()
	found, err := kadm.NewClient(client).ListBrokers(ctx)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return errors.New("no broker is registered yet")
	}
	return nil
}

//go:embed kafka/pom.xml
var kafkaPOM []byte

// KafkaJars gives the directory of Kafka's jars, and fetches them with Maven when
// this machine has not got them yet.
func KafkaJars(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	parent := filepath.Join(cache, "banyan")
	sum := sha256.Sum256(kafkaPOM) // another list, another directory
	jars := filepath.Join(parent, "kafka-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(jars); err == nil {
		return jars, nil
	}
	mvn, err := find("Maven, which fetches Kafka,", "mvn")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	// Fetched aside and renamed whole: another process may be doing the same.
	aside, err := os.MkdirTemp(parent, "fetch-")
	if err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	defer os.RemoveAll(aside)
	if err := os.WriteFile(filepath.Join(aside, "pom.xml"), kafkaPOM, 0o644); err != nil {
		return "", fmt.Errorf("fetch kafka: %w", err)
	}
	cmd := exec.CommandContext(ctx, mvn, "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(aside, "jars"))
	cmd.Dir = aside
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetch kafka: %w\n%s", err, out)
	}
	if err := os.Rename(filepath.Join(aside, "jars"), jars); err != nil {
		if _, there := os.Stat(jars); there != nil {
			return "", fmt.Errorf("fetch kafka: %w", err)
		}
	}
	return jars, nil
}

// Env is the value by which other processes find this server.
func (s *KafkaServer) Env() string { return strings.Join(s.Brokers, ",") }

func openKafka(value string) (*KafkaServer, error) {
	return &KafkaServer{Process: &Process{}, Brokers: strings.Split(value, ",")}, nil
}
