package book

import (
	"context"
	"fmt"
	"sync"
)

// Library keeps a book for each generation of events that commands are delivered for. While banyan makes a new generation,
// old commands are decided anew for it beside the new ones, and what has happened in one generation must not be seen in
// the other. It is safe for concurrent use.
type Library struct {
	open func(ctx context.Context, generation int) (b *Book, closer func(), err error)
	most int

	mu    sync.Mutex // guards the rest
	books map[int]*volume
	used  uint64 // counts uses
	ended bool
}

type volume struct {
	ready  chan struct{} // closed when opened, or failed
	book   *Book
	closer func()
	err    error

	users int
	last  uint64
}

// NewLibrary opens books when they are first used, and keeps at most so many; the one that was not used longest goes first.
func NewLibrary(most int, open func(ctx context.Context, generation int) (b *Book, closer func(), err error)) *Library {
	return &Library{open: open, most: most, books: map[int]*volume{}}
}

// Use gives the book of a generation until release is called.
func (l *Library) Use(ctx context.Context, generation int) (b *Book, release func(), err error) {
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return nil, nil, fmt.Errorf("generation %d: the service ends", generation)
	}
	v := l.books[generation]
	mine := v == nil
	if mine {
		v = &volume{ready: make(chan struct{})}
		l.books[generation] = v
	}
	l.used++
	v.users, v.last = v.users+1, l.used
	gone := l.surplusLocked()
	l.mu.Unlock()
	for _, closer := range gone {
		closer()
	}
	if mine {
		v.book, v.closer, v.err = l.open(ctx, generation)
		close(v.ready)
	}
	release = func() {
		l.mu.Lock()
		v.users--
		l.mu.Unlock()
	}
	select {
	case <-v.ready:
	case <-ctx.Done():
		release()
		return nil, nil, context.Cause(ctx)
	}
	if v.err != nil {
		l.mu.Lock()
		if l.books[generation] == v { // the next use tries again
			delete(l.books, generation)
		}
		l.mu.Unlock()
		release()
		return nil, nil, fmt.Errorf("generation %d: %w", generation, v.err)
	}
	return v.book, release, nil
}

// surplusLocked takes out books that nobody uses until no more are kept than may be.
func (l *Library) surplusLocked() (closers []func()) {
	for len(l.books) > l.most {
		oldest := 0
		for g, v := range l.books {
			if v.users == 0 && (oldest == 0 || v.last < l.books[oldest].last) {
				oldest = g
			}
		}
		if oldest == 0 {
			return closers // all are used: they are few
		}
		if v := l.books[oldest]; v.closer != nil {
			closers = append(closers, v.closer)
		}
		delete(l.books, oldest)
	}
	return closers
}

// Close closes all books. No use may be under way.
func (l *Library) Close() {
	l.mu.Lock()
	l.ended = true
	books := l.books
	l.books = map[int]*volume{}
	l.mu.Unlock()
	for _, v := range books {
		<-v.ready
		if v.closer != nil {
			v.closer()
		}
	}
}
