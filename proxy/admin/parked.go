package admin

import (
	"context"
	"net/http"
	"strings"
	"time"

	"banyan/proxy/event"
)

// Parker lists the keys that have stopped, and lets them go on.
type Parker interface {
	// Parked lists those of a migration, of all for "", in the generations that are fed.
	Parked(ctx context.Context, m event.Migration) ([]Parked, error)
	// Release lets keys go on from where they stopped, and gives those that it let go. It is an ErrConflict if one of them
	// is not parked, or released already; then none is let go.
	Release(ctx context.Context, r ReleaseRequest) ([]Parked, error)
}

// Parked is a key that has stopped at a record that could not be used.
type Parked struct {
	Migration  event.Migration   `json:"migration"`
	Generation int               `json:"generation"`
	Stage      string            `json:"stage"` // translate, dispatch or project
	Key        event.OrderingKey `json:"key"`
	Since      time.Time         `json:"since"`
	Position   event.Position    `json:"position,omitzero"`
	Topic      string            `json:"topic"`
	Partition  int32             `json:"partition"`
	Offset     int64             `json:"offset"`             // everything of the key below it is done
	Waiting    *int64            `json:"waiting,omitempty"`  // events; absent where they are not counted
	Released   bool              `json:"released,omitempty"` // it is catching up
	Event      string            `json:"event,omitempty"`
	Type       string            `json:"type,omitempty"`
	Reason     string            `json:"reason"`
}

// ReleaseRequest names the keys of a migration, or all of them.
type ReleaseRequest struct {
	Migration event.Migration     `json:"migration"`
	Keys      []event.OrderingKey `json:"keys,omitempty"`
	All       bool                `json:"all,omitempty"`
	Reason    string              `json:"reason"`
	Who       string              `json:"who"`
}

func (s *Server) parked(w http.ResponseWriter, r *http.Request) {
	m := event.Migration(r.URL.Query().Get("migration"))
	call(s, w, r, func(ctx context.Context) ([]Parked, error) { return s.cfg.Parked.Parked(ctx, m) }, listed[Parked]("parked"))
}

func (s *Server) release(w http.ResponseWriter, r *http.Request) {
	var q ReleaseRequest
	if !read(w, r, &q) {
		return
	}
	switch {
	case q.Migration == "":
		fail(w, http.StatusBadRequest, "migration: none given")
	case q.All == (len(q.Keys) > 0):
		fail(w, http.StatusBadRequest, "keys or all: want one of them")
	case strings.TrimSpace(q.Reason) == "" || strings.TrimSpace(q.Who) == "":
		fail(w, http.StatusBadRequest, "reason and who: the audit needs both")
	default:
		call(s, w, r, func(ctx context.Context) ([]Parked, error) { return s.cfg.Parked.Release(ctx, q) }, listed[Parked]("released"))
	}
}
