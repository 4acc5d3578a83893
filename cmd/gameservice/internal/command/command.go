// Package command answers the deliveries of banyan's dispatch: a write that legacy has decided becomes this service's own
// events.
//
// It promises: a 2xx answer says that the command's events are acknowledged by Kafka; a repeat publishes the same event
// ids, or nothing; nothing is written to a database, and no value of legacy's rows is copied but ids and clock. It leaves
// the rules of the game to economy. It fails with 5xx for everything that may pass, and with 422 for a command that it
// will never understand: then banyan parks the match. A command names the generation of events that it is delivered for:
// it is decided on what happened in that one, and its events go there.
package command

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"banyan/cmd/gameservice/internal/book"
	"banyan/cmd/gameservice/internal/economy"
	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/dispatch"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Source is the CloudEvents source of the service's events.
const Source = "/gameservice"

// maxCommand bounds the body of a delivery.
const maxCommand = 8 << 20

// Handler is the command side.
type Handler struct {
	Kafka    kafka.Config
	Producer *kgo.Client // of kafka.Config.Producer
	Books    *book.Library
	Bug      bool // see economy.Options
	Log      *slog.Logger

	Stats Stats
}

// Stats counts since the start.
type Stats struct {
	Commands atomic.Int64 // applied ones
	Events   atomic.Int64 // published
	Refused  atomic.Int64 // legacy did what our rules forbid
	Repeats  atomic.Int64 // some of whose events were there
	Unknown  atomic.Int64 // told by rows: not imported yet
}

// ServeHTTP takes one delivery.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var c dispatch.Command
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCommand))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if err := json.Unmarshal(body, &c); err != nil || c.V != dispatch.CommandVersion {
		http.Error(w, fmt.Sprintf("not a command of version %d: %v", dispatch.CommandVersion, err), http.StatusUnprocessableEntity)
		return
	}
	reply := dispatch.Reply{}
	if c.Verdict == event.VerdictApplied {
		if reply, err = h.take(r.Context(), &c); err != nil {
			status := http.StatusServiceUnavailable
			if errors.As(err, new(*badError)) {
				status = http.StatusUnprocessableEntity
			}
			h.Log.Error("command not taken", "command", c.ID, "route", c.Route, "status", status, "err", err)
			http.Error(w, err.Error(), status)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(reply) // the client may be gone: it will ask again
}

// badError is about the command itself.
type badError struct{ err error }

func (e *badError) Error() string { return e.err.Error() }

func (h *Handler) take(ctx context.Context, c *dispatch.Command) (reply dispatch.Reply, err error) {
	if n := event.Partition(c.Key, h.Kafka.Partitions); n != c.Partition {
		return reply, fmt.Errorf("%s is in partition %d here and in %d there: set kafka.partitions to banyan's", c.Key, n, c.Partition)
	}
	if _, err := book.MatchOf(c.Key); err != nil {
		return reply, &badError{err}
	}
	if c.Generation < 1 {
		return reply, &badError{fmt.Errorf("generation %d: want 1 or more", c.Generation)}
	}
	books, release, err := h.Books.Use(ctx, c.Generation)
	if err != nil {
		return reply, err
	}
	defer release()
	topic := h.Kafka.Topics().Events(c.Migration, c.Generation)
	h.Stats.Commands.Add(1)
	var records []*kgo.Record
	decide := func(v book.View) error {
		if v.Told != "" {
			h.Stats.Repeats.Add(1)
		}
		if v.Told != "" && v.Told != Source {
			reply.ByRows = true // as at the first delivery
			return nil
		}
		events, err := v.Match.Decide(order(c), economy.Options{Bug: h.Bug, Decided: v.Told == Source})
		var refusal economy.Refusal
		switch {
		case errors.As(err, &refusal):
			if v.Told == "" {
				h.Stats.Refused.Add(1)
				h.Log.Warn("legacy did what our rules forbid", "command", c.ID, "route", c.Route, "player", c.Player, "refusal", string(refusal), "overlaps", c.Overlaps)
			}
			return nil
		case errors.Is(err, economy.ErrUnknown):
			h.Stats.Unknown.Add(1)
			reply.ByRows = v.Told == ""
			return nil
		case err != nil:
			return &badError{err}
		}
		for i, e := range events {
			ev := envelope(c, i, e)
			if !v.Published(ev.ID) {
				records = append(records, kafka.EventRecord(topic, c.Partition, &ev))
			}
		}
		return nil
	}
	err = books.Decide(ctx, c.Key, c.Write.String(), c.ReadTo, decide, func() (int64, error) {
		if len(records) == 0 {
			return 0, nil
		}
		if err := h.Producer.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return 0, fmt.Errorf("publish: %w", err)
		}
		h.Stats.Events.Add(int64(len(records)))
		reply.ReadTo = records[len(records)-1].Offset + 1
		return reply.ReadTo, nil
	})
	return reply, err
}

// order is the command in the game's words. The same action comes as a form and as JSON.
func order(c *dispatch.Command) economy.Order {
	return economy.Order{Action: strings.TrimSuffix(c.Route, "_json"), Player: number(c.Player), Params: c.Params, Facts: facts(c)}
}

// envelope gives an event its identity: of the command and the subject, so that a repeat has the same.
func envelope(c *dispatch.Command, i int, e economy.Event) event.Event {
	id := sha256.Sum256([]byte(c.ID + "\x00" + e.Type + "\x00" + e.Subject))
	return event.Event{ID: hex.EncodeToString(id[:16]), Source: Source, Type: e.Type, Version: e.Version, Subject: event.Entity(e.Subject), Time: time.Now().UTC(),
		Key: c.Key, Data: e.Data, Cause: c.Write.String(), Position: c.Position, Sequence: i, Traceparent: c.Trace}
}
