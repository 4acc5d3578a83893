// Package scene puts up what the story plays on: a legacy game with its database, and Kafka, PostgreSQL and Redis beside.
//
// It promises the same [Set] whichever parts it is made of: real servers ([Real]), or embedded ones that need nothing but
// Go ([Embedded]). All of it listens on loopback, at ports of its own, and is gone after [Set.Stop]. The game is seeded.
// It knows nothing of banyan but which variables its configuration asks for.
package scene

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// Set is what is there when the story begins.
type Set struct {
	Real   bool
	Where  []string          // what runs where, a line each, for people
	Legacy string            // URL of the game, without a slash at the end
	Env    map[string]string // what banyan.yaml of the game asks for, its own addresses aside
	// Cron runs the game's cron script once.
	Cron func(context.Context) error
	// Adapt fits the game's banyan.yaml to this legacy's database.
	Adapt func(yaml string) (string, error)

	stops []func() error // in order of start
	mu    sync.Mutex     // guards stops while servers start side by side
}

// Size of the game.
type Size struct{ Matches, Players, Provinces, Units int }

func (s *Set) onStop(stop func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stops = append(s.stops, stop)
}

// Stop ends all servers, the newest first.
func (s *Set) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for i := len(s.stops) - 1; i >= 0; i-- {
		errs = append(errs, s.stops[i]())
	}
	s.stops = nil
	return errors.Join(errs...)
}

// together runs starts side by side and gives every error.
func together(starts ...func() error) error {
	errs := make([]error, len(starts))
	var all sync.WaitGroup
	for i, start := range starts {
		all.Go(func() { errs[i] = start() })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Replace is strings.ReplaceAll that fails unless what is replaced is there, n times if n is not 0: a text that was edited
// since must not make an edit of it vanish.
func Replace(text, from, to string, n int) (string, error) {
	if found := strings.Count(text, from); found == 0 || n != 0 && found != n {
		return "", fmt.Errorf("%q is there %d times, want %d (0: some)", from, found, n)
	}
	return strings.ReplaceAll(text, from, to), nil
}
