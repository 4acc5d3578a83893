package readmodel

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"banyan/proxy/event"
	"banyan/testdata/lab"

	"github.com/jackc/pgx/v5"
	"github.com/redis/rueidis"
)

// What the package comment promises to services in any language.
func TestThePointerIsReadAsDocumented(t *testing.T) {
	url, redis := lab.Postgres(t).Database(t), "redis://"+lab.Redis(t).Addr
	prefix := lab.Prefix(t)
	p, err := OpenPointer(t.Context(), PointerConfig{Postgres: url, Redis: redis, Prefix: prefix, Migration: "units"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if g, err := p.Get(t.Context()); g != 1 || err != nil {
		t.Fatal("without a table:", g, err)
	}
	other, err := OpenPointer(t.Context(), PointerConfig{Postgres: url, Migration: "economy"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var all sync.WaitGroup
	for _, x := range []struct {
		p          *Pointer
		generation int
		version    uint64
	}{{p, 2, 7}, {p, 1, 5}, {p, 1, 3}, {other, 4, 9}} { // in any order, by many at a time
		all.Go(func() {
			if err := x.p.Set(t.Context(), x.generation, x.version); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := p.Set(t.Context(), 1, 6); err != nil { // a process that was long away
		t.Fatal(err)
	}
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	var g int
	if err := c.QueryRow(t.Context(), "select generation from banyan.generation where migration = 'units'").Scan(&g); g != 2 || err != nil {
		t.Fatal("PostgreSQL:", g, err)
	}
	opt, err := rueidis.ParseURL(redis)
	if err != nil {
		t.Fatal(err)
	}
	opt.DisableCache = true
	cl, err := rueidis.NewClient(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if s, err := cl.Do(t.Context(), cl.B().Hget().Key(prefix+":units:generation").Field("d").Build()).ToString(); s != "2" || err != nil {
		t.Fatal("Redis:", s, err)
	}
	if g, err := other.Get(t.Context()); g != 4 || err != nil {
		t.Fatal("another migration:", g, err)
	}
	p.pool.Close() // PostgreSQL is away
	if g, err := p.Get(t.Context()); g != 2 || err != nil {
		t.Fatal("Redis alone:", g, err)
	}
	lost, err := OpenPointer(t.Context(), PointerConfig{Postgres: url, Redis: redis, Prefix: prefix, Migration: "unknown"})
	if err != nil {
		t.Fatal(err)
	}
	defer lost.Close()
	lost.pool.Close()
	if g, err := lost.Get(t.Context()); err == nil {
		t.Fatal("nothing in Redis is not the first generation: it may have been emptied;", g)
	}
}

func TestAReaderFollowsAndRefusesWhatIsTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		g, away := 1, error(nil)
		set := func(n int, err error) {
			mu.Lock()
			g, away = n, err
			mu.Unlock()
		}
		r := follow(t.Context(), func(context.Context) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return g, away
		}, slog.New(slog.DiscardHandler), time.Now)
		defer r.Stop()
		want := func(n int) {
			t.Helper()
			if got, err := r.Generation(); got != n || (err == nil) != (n > 0) {
				t.Fatal(got, err, "want", n)
			}
		}
		want(1)
		set(2, nil)
		time.Sleep(ReaderPoll + time.Millisecond) // the bubble's clock
		want(2)
		set(3, errors.New("the database is away"))
		time.Sleep(ReaderBound - 2*ReaderPoll)
		want(2)
		time.Sleep(2*ReaderPoll + time.Millisecond)
		want(0)
		set(3, nil)
		time.Sleep(ReaderPoll + time.Millisecond)
		want(3)
	})
}

// A slow answer says what was so when it was asked for.
func TestAnAnswerIsAsOldAsItsQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		r := follow(t.Context(), func(context.Context) (int, error) {
			if !first {
				time.Sleep(ReaderPoll * 3 / 2) // the bubble's clock
			}
			first = false
			return 1, nil
		}, slog.New(slog.DiscardHandler), time.Now)
		defer r.Stop()
		time.Sleep(ReaderPoll*5/2 + time.Millisecond) // asked after one, answered after two and a half
		r.mu.Lock()
		age := time.Since(r.asked)
		r.mu.Unlock()
		if age != ReaderPoll*3/2+time.Millisecond {
			t.Fatal(age)
		}
	})
}

func TestDropTakesOneGenerationsKeys(t *testing.T) {
	url, prefix := "redis://"+lab.Redis(t).Addr, lab.Prefix(t)
	var of [3]*Redis
	for i, g := range []int{1, 11, 1} {
		m := "units"
		if i == 2 {
			m = "economy"
		}
		r, err := OpenRedis(RedisConfig{URL: url, Prefix: prefix, Migration: event.Migration(m), Generation: g})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.Set(t.Context(), []Document{{Key: "a", JSON: []byte(`1`)}, {Key: "b", JSON: []byte(`2`)}}); err != nil {
			t.Fatal(err)
		}
		of[i] = r
	}
	if err := of[0].Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", "1", "1"} {
		if got, err := of[i].Get(t.Context(), "a"); string(got) != want || err != nil {
			t.Errorf("%d: %q %v, want %q", i, got, err, want)
		}
	}
}
