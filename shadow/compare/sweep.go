package compare

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"banyan/proxy/event"
	"banyan/shadow/ledger"
)

// cursorState is where a sweep goes on: the last id of legacy that was compared.
type cursorState struct {
	Number json.Number `json:"number,omitempty"`
	Text   *string     `json:"text,omitempty"`
	End    bool        `json:"end,omitempty"` // the last chunk is done; busy entities are looked at again
	// Busy are the entities that were seen and not verified; with More there were too many to list.
	Busy []event.Entity `json:"busy,omitempty"`
	More bool           `json:"more,omitempty"`
}

// maxBusy bounds what a cursor lists.
const maxBusy = 1000

func (c *cursorState) after() any {
	switch {
	case c.Text != nil:
		return *c.Text
	case c.Number != "":
		return c.Number
	}
	return nil
}

// Sweep does the next chunk of the sweep, or begins one when it is time. When all chunks are done it ends as soon as no
// entity that was busy is waiting; it is complete if every one was compared after all.
func (s *State) Sweep(ctx context.Context) error {
	now := s.cfg.Now()
	if s.sweep == nil {
		if err := s.resume(ctx, now); err != nil {
			return err
		}
		if now.Before(s.nextChunk) {
			return nil
		}
	}
	var at cursorState
	if s.sweep.Cursor != nil {
		if err := json.Unmarshal(s.sweep.Cursor, &at); err != nil {
			return fmt.Errorf("cursor of sweep %s: %w", s.name, err)
		}
	}
	if !at.End {
		if err := s.chunk(ctx, &at, now); err != nil {
			return err
		}
	}
	if at.End && len(s.pending) == 0 {
		s.sweep.Done = true
	}
	at.Busy, at.More = nil, len(s.pending) > maxBusy
	for e := range s.pending {
		if !at.More {
			at.Busy = append(at.Busy, e)
		}
	}
	cursor, err := json.Marshal(at)
	if err != nil {
		return err
	}
	s.sweep.Cursor = cursor
	s.batch.Sweeps = append(s.batch.Sweeps, *s.sweep)
	if s.sweep.Done {
		s.nextChunk = s.sweep.Started.Add(s.cfg.Every)
		s.sweep = nil
	} else if at.End {
		s.nextChunk = now.Add(s.cfg.Pause)
	}
	return nil
}

// resume goes on with a sweep that was cut off, its busy entities included, or begins the next.
func (s *State) resume(ctx context.Context, now time.Time) error {
	old, err := s.cfg.Ledger.Sweep(ctx, s.cfg.Migration, s.name, s.cfg.Fingerprint)
	if err != nil {
		return err
	}
	if old != nil && old.Done {
		if next := old.Started.Add(s.cfg.Every); now.Before(next) {
			s.nextChunk = next
			return nil
		}
		old = nil
	}
	s.sweep = &ledger.Sweep{Comparison: s.name, Started: now}
	var at cursorState
	if old == nil || json.Unmarshal(old.Cursor, &at) != nil || at.More {
		return nil
	}
	s.sweep = old
	for _, e := range at.Busy {
		s.Queue(e)
		if s.waits(e) {
			s.pending[e] = struct{}{}
		} else {
			s.unverified(busy{e, -1, "too many entities wait"}, 0, now)
		}
	}
	return nil
}

// chunk compares the next rows in the order of ids.
func (s *State) chunk(ctx context.Context, at *cursorState, now time.Time) error {
	r, err := s.round(ctx, selection{chunk: true, after: at.after(), limit: s.cfg.ChunkRows}, nil)
	if err != nil {
		return err
	}
	if s.sweep.From == 0 {
		s.sweep.From = r.low
	}
	s.sweep.Position = r.high
	s.sweep.Verified += r.rows
	s.sweep.Different += r.different
	for _, b := range r.busy {
		n, first, ok := s.again(b.entity, now)
		if !ok || len(s.pending) >= s.cfg.MaxQueue {
			s.unverified(b, n, first)
			continue
		}
		s.pending[b.entity] = struct{}{}
	}
	switch v := r.last.(type) {
	case json.Number:
		at.Number = v
	case string:
		at.Text = &v
	}
	at.End = !r.full
	s.nextChunk = now
	if s.cfg.RowsPerSecond > 0 {
		s.nextChunk = now.Add(time.Duration(r.rows+int64(len(r.busy))) * time.Second / time.Duration(s.cfg.RowsPerSecond))
	}
	return nil
}
