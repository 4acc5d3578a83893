package cli

import (
	"context"
	"log/slog"
	"testing"
	"time"
)

// A process that serves lets go of what a load needed when it is over, each time and not only of what its start needed.
func TestServingRestsAfterALoad(t *testing.T) {
	l, err := newLife(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.end()
	ctx, stop := context.WithCancel(t.Context())
	rests, ended := make(chan struct{}, 16), make(chan error)
	go func() {
		_, err := l.serving(ctx, nil, nil, func() { rests <- struct{}{} })
		ended <- err
	}()
	for _, after := range []string{"its start", "a load"} {
		select {
		case <-rests:
		case <-time.After(time.Minute):
			t.Fatalf("it did not rest after %s", after)
		}
		for began := time.Now(); time.Since(began) < 1500*time.Millisecond; { // a load: longer than between two looks
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
