package lab

import (
	"context"
	"os"
	"sync"
	"testing"
)

// The variables by which `with` names its servers to the tests that it runs.
const (
	EnvMariaDB  = "BANYAN_TEST_MARIADB"
	EnvPostgres = "BANYAN_TEST_POSTGRES"
	EnvKafka    = "BANYAN_TEST_KAFKA"
	EnvRedis    = "BANYAN_TEST_REDIS"
)

// shared starts a server at its first use and keeps it until the process ends,
// when the watchdog ends it: no test knows whether it is the last one.
type shared[S any] struct {
	env  string
	open func(value string) (S, error)
	run  func(context.Context, Options) (S, error)

	once sync.Once
	s    S
	err  error
}

func (h *shared[S]) get(t testing.TB) S {
	t.Helper()
	h.once.Do(func() {
		if value := os.Getenv(h.env); value != "" {
			h.s, h.err = h.open(value)
			return
		}
		h.s, h.err = h.run(context.Background(), Options{})
	})
	must(t, h.err)
	return h.s
}

// private gives a server to one test and ends it with the test.
func private[S interface{ Stop() error }](t testing.TB, run func(context.Context, Options) (S, error)) S {
	t.Helper()
	s, err := run(t.Context(), Options{})
	must(t, err)
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}
