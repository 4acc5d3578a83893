package lab_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"banyan/testdata/lab"

	_ "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func openMySQL(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func queryRow[T any](t *testing.T, db *sql.DB, query string) T {
	t.Helper()
	var v T
	if err := db.QueryRow(query).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func TestMariaDBDescribesItsChanges(t *testing.T) {
	s := lab.MariaDB(t)
	_, dsn := s.Database(t)
	db := openMySQL(t, dsn)
	for query, want := range map[string]string{
		"select @@log_bin":                    "1",
		"select @@binlog_format":              "ROW",
		"select @@binlog_row_image":           "FULL",
		"select @@binlog_row_metadata":        "FULL",
		"select @@binlog_annotate_row_events": "1",
		"select @@character_set_database":     "utf8mb4",
	} {
		if got := queryRow[string](t, db, query); got != want {
			t.Errorf("%s = %s, want %s", query, got, want)
		}
	}
	var file, ignored string
	var pos int
	if err := db.QueryRow("show master status").Scan(&file, &pos, &ignored, &ignored); err != nil {
		t.Errorf("the account may not read the binary log: %v", err)
	}
}

func TestMariaDBComesBackWithItsDataAfterACrash(t *testing.T) {
	s := lab.NewMariaDB(t)
	_, dsn := s.Database(t)
	db := openMySQL(t, dsn)
	for _, statement := range []string{"create table t (a int)", "insert into t values (7)"} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	crashAndStart(t, s)
	if got := queryRow[int](t, openMySQL(t, dsn), "select a from t"); got != 7 {
		t.Errorf("a = %d after the crash, want 7", got)
	}
}

func TestADirectoryKeepsItsDataFromServerToServer(t *testing.T) {
	opts := lab.Options{Dir: t.TempDir()}
	for _, statement := range []string{"create database kept", "drop database kept"} {
		s, err := lab.StartMariaDB(t.Context(), opts)
		if lab.IsMissing(err) {
			lab.MariaDB(t) // says what is missing
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := openMySQL(t, s.DSN("")).Exec(statement); err != nil {
			t.Error(err)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestPostgresHasDatabasesOfItsOwnForEachTest(t *testing.T) {
	s := lab.Postgres(t)
	var url string
	t.Run("a test with a replication slot in use", func(t *testing.T) {
		url = s.Database(t)
		conn := connectPostgres(t, url+"&replication=database")
		if _, err := conn.PgConn().Exec(t.Context(), "CREATE_REPLICATION_SLOT "+lab.Prefix(t)+" LOGICAL pgoutput").ReadAll(); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := pgx.Connect(t.Context(), url); err == nil {
		t.Error("the database is still there after its test")
	}
}

func TestPostgresComesBackWithItsDataAfterACrash(t *testing.T) {
	s := lab.NewPostgres(t)
	url := s.Database(t)
	if _, err := connectPostgres(t, url).Exec(t.Context(), "create table t as select 7 as a"); err != nil {
		t.Fatal(err)
	}
	crashAndStart(t, s)
	var got int
	if err := connectPostgres(t, url).QueryRow(t.Context(), "select a from t").Scan(&got); err != nil || got != 7 {
		t.Errorf("a = %d, %v after the crash, want 7", got, err)
	}
}

func connectPostgres(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func TestKafkaHasGroupsAndTransactions(t *testing.T) {
	s := lab.Kafka(t)
	name := lab.Prefix(t)
	produceInTransaction(t, s, name)
	consumer := kafkaClient(t, s, kgo.ConsumerGroup(name), kgo.ConsumeTopics(name), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	begin := time.Now()
	fetches := consumer.PollFetches(t.Context())
	if fetches.Err() != nil || fetches.NumRecords() != 1 {
		t.Fatalf("%d records, %v", fetches.NumRecords(), fetches.Err())
	}
	t.Logf("a new group had its first record after %v", time.Since(begin))

	missing := kafkaClient(t, s, kgo.UnknownTopicRetries(0))
	if err := missing.ProduceSync(t.Context(), &kgo.Record{Topic: name + "_x"}).FirstErr(); err == nil {
		t.Error("a topic was made by itself")
	}
}

func TestKafkaComesBackWithItsDataAfterACrash(t *testing.T) {
	s := lab.NewKafka(t)
	name := lab.Prefix(t)
	produceInTransaction(t, s, name)
	crashAndStart(t, s)
	consumer := kafkaClient(t, s, kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if n := consumer.PollFetches(t.Context()).NumRecords(); n != 1 {
		t.Errorf("%d records after the crash, want 1", n)
	}
}

func TestPausedKafkaAnswersNothingAndGoesOn(t *testing.T) {
	s := lab.NewKafka(t)
	// The client's handshake runs to the end of its own timeout, whatever the context says.
	client := kafkaClient(t, s, kgo.RequestTimeoutOverhead(300*time.Millisecond))
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := client.Ping(ctx); err == nil {
		t.Error("a paused server answered")
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := kafkaClient(t, s).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func kafkaClient(t *testing.T, s *lab.KafkaServer, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(s.Brokers...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func produceInTransaction(t *testing.T, s *lab.KafkaServer, topic string) {
	t.Helper()
	client := kafkaClient(t, s, kgo.TransactionalID(topic))
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 2, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := client.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
}

func TestRedisStopsAndStarts(t *testing.T) {
	s := lab.NewRedis(t)
	for range 2 { // a second stop is no error
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if s.Pid() != 0 {
		t.Error("it still runs")
	}
	for range 2 {
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestASharedServerCannotBeCrashed(t *testing.T) {
	s := &lab.RedisServer{Process: &lab.Process{}}
	if err := s.Crash(); err == nil || !strings.Contains(err.Error(), "shared") {
		t.Errorf("crash of a shared server: %v", err)
	}
}

type crasher interface {
	Crash() error
	Start(context.Context) error
}

func crashAndStart(t *testing.T, s crasher) {
	t.Helper()
	if err := s.Crash(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("back after %v", time.Since(begin))
}

func TestPrefixIsGoodForTopicsAndTables(t *testing.T) {
	t.Run("Some Name/with Ünicode and more than forty bytes", func(t *testing.T) {
		a, b := lab.Prefix(t), lab.Prefix(t)
		if a == b || len(a) > 40 || strings.Trim(a, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("%q, %q", a, b)
		}
	})
}
