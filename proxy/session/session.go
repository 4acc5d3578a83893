// Package session knows which player a session belongs to, and which instance of legacy holds it, learned from what
// legacy itself says.
//
// It promises: a player is believed only when legacy's own answer named it together with the session id (both in
// Set-Cookie fields of one answer), never because a client said so; memory is bounded, the least recently used session
// is forgotten first. It leaves what the player is for to its callers, and ends by forgetting: an unknown session has
// no player, and then legacy answers; one without a binding is placed anew. Players' sessions are kept as the keyed
// hashes of package redact, bindings as hashes of this process; neither keeps cookies.
package session

import (
	"container/list"
	"sync"
)

// Players maps sessions to players. It is safe for concurrent use.
type Players struct {
	max int

	mu    sync.Mutex // guards what follows
	order *list.List // of entry, most recently used first
	by    map[string]*list.Element
}

type entry struct{ session, player string }

// NewPlayers keeps at most max sessions.
func NewPlayers(max int) *Players {
	return &Players{max: max, order: list.New(), by: map[string]*list.Element{}}
}

// Learn remembers what legacy said. An empty player forgets the session: a logout.
func (p *Players) Learn(session, player string) {
	if session == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.by[session]; ok {
		p.order.Remove(e)
		delete(p.by, session)
	}
	if player == "" {
		return
	}
	p.by[session] = p.order.PushFront(entry{session, player})
	if p.order.Len() > p.max {
		last := p.order.Back()
		delete(p.by, p.order.Remove(last).(entry).session)
	}
}

// Player of a session, "" if it is not known.
func (p *Players) Player(session string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.by[session]
	if !ok {
		return ""
	}
	p.order.MoveToFront(e)
	return e.Value.(entry).player
}
