package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/proxy/stage"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Follower reads the control log. It is safe for concurrent use.
type Follower struct {
	log  *slog.Logger
	file string
	obey func(map[event.Migration]stage.State)
	read reader

	states atomic.Pointer[map[event.Migration]stage.State] // what is obeyed; starts as what the disk says. Never changed in place: each request reads it

	mu      sync.Mutex // guards what follows, and replacing states
	fold    stage.Log
	changed chan struct{} // closed and renewed at each record
}

// FollowerConfig is for [Follow].
type FollowerConfig struct {
	Kafka kafka.Config
	Log   *slog.Logger
	// File keeps the states last obeyed, so that a restart without Kafka goes on with them. "" keeps nothing.
	File string
	// Obey is called with all states after each flip that counts, before it is acknowledged. It must be quick.
	Obey func(map[event.Migration]stage.State)
}

// Follow starts to read the log. It returns at once, obeying what the disk says; [Follower.Ready] tells when the log
// was read to its end. Stop it with Stop.
func Follow(ctx context.Context, c FollowerConfig) (*Follower, error) {
	f := &Follower{log: c.Log, file: c.File, obey: c.Obey, changed: make(chan struct{})}
	if f.obey == nil {
		f.obey = func(map[event.Migration]stage.State) {}
	}
	if err := f.load(); err != nil {
		return nil, err
	}
	f.obey(f.States())
	f.read = reader{cfg: c.Kafka, topic: c.Kafka.Topics().Control(), log: c.Log, apply: f.apply}
	return f, f.read.start(ctx)
}

// Stop ends the reader and returns when it has ended.
func (f *Follower) Stop() { f.read.stop() }

// Ready is closed when the log was read to the end that it had at the start.
func (f *Follower) Ready() <-chan struct{} { return f.read.ready }

// States is a copy of what is obeyed.
func (f *Follower) States() map[event.Migration]stage.State {
	states := map[event.Migration]stage.State{}
	maps.Copy(states, *f.states.Load())
	return states
}

// State of one migration; off if it never had one.
func (f *Follower) State(m event.Migration) stage.State {
	if s, ok := (*f.states.Load())[m]; ok {
		return s
	}
	return stage.State{Stage: stage.Off}
}

// History is every record of a migration, or of all for "", oldest first, void ones included.
func (f *Follower) History(m event.Migration) []stage.Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fold.History(m)
}

func (f *Follower) apply(r *kgo.Record) {
	if kafka.KindOf(r) != event.KindControl {
		return
	}
	flip, err := stage.DecodeFlip(r.Value)
	if err != nil {
		f.log.Error("control log: a record cannot be read; it does not count", "offset", r.Offset, "error", err)
		return
	}
	f.mu.Lock()
	e := f.fold.Apply(r.Offset, flip)
	var states map[event.Migration]stage.State
	if e.Void == "" {
		// A disk that knows a later version than the log so far keeps its state until the log has caught up.
		states = f.States()
		if states[flip.Migration].Version <= e.To.Version {
			states[flip.Migration] = e.To
		}
		now := maps.Clone(states)
		f.states.Store(&now)
	}
	changed := f.changed
	f.changed = make(chan struct{})
	f.mu.Unlock()
	if states != nil {
		f.obey(states) // first obey, then say so: see the package's "Not obvious"
		if err := f.save(states); err != nil {
			f.log.Error("control log: the stage cannot be kept on disk; a restart without Kafka would start with an older one", "error", err)
		}
		f.log.Info("stage", "migration", flip.Migration, "from", flip.From.String(), "to", e.Describe(), "who", flip.Who, "reason", flip.Reason, "version", flip.To.Version)
	}
	close(changed)
}

func (f *Follower) load() error {
	states := map[event.Migration]stage.State{}
	f.states.Store(&states)
	if f.file == "" {
		return nil
	}
	b, err := os.ReadFile(f.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, &states)
	}
	if err != nil {
		return fmt.Errorf("stages on disk: %s: %w; remove the file to start from the control log alone", f.file, err)
	}
	return nil
}

// save replaces the file atomically.
func (f *Follower) save(states map[event.Migration]stage.State) error {
	if f.file == "" {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.file), ".stages-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(event.Encode(states))
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), f.file)
}

// Changed returns a channel that is closed at the next record.
func (f *Follower) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// find looks for a record by id.
func (f *Follower) find(id string) (stage.Entry, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.fold.History("") {
		if e.ID == id {
			return e, true
		}
	}
	return stage.Entry{}, false
}
