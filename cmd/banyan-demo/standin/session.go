package standin

import (
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"sync"
	"time"
)

// session is one browser's. Who holds mu runs a script; the others wait, as for PHP's
// session file.
type session struct {
	mu     sync.Mutex // held for a whole script; guards all but used
	id     string
	token  string
	player string // id, "" without login
	match  string
	used   time.Time // guarded by sessions.mu
}

const (
	sessionLife = 24 * time.Minute // session.gc_maxlifetime
	mostOpen    = 100_000          // beyond it, sessions nobody uses end at once
)

type sessions struct {
	mu    sync.Mutex // guards the fields below
	open  map[string]*session
	swept time.Time
}

var sessionID = regexp.MustCompile(`\A[A-Za-z0-9,-]{1,128}\z`)

// start gives the session of a cookie, locked. An unknown id is taken as it is, like
// PHP without strict mode; fresh says that the browser has to be told another one.
func (s *sessions) start(cookie string) (found *session, fresh bool) {
	if fresh = !sessionID.MatchString(cookie); fresh {
		cookie = random()
	}
	for {
		found = s.get(cookie)
		found.mu.Lock()
		if s.current(cookie, found) {
			return found, fresh
		}
		found.mu.Unlock() // ended, or renamed by a login, while we waited
	}
}

func (s *sessions) get(id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	found, ok := s.open[id]
	if !ok {
		s.sweepLocked(now)
		found = &session{id: id, token: random()}
		s.open[id] = found
	}
	found.used = now
	return found
}

func (s *sessions) current(id string, x *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[id] == x
}

// rename gives a session that its caller has locked a new id.
func (s *sessions) rename(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, x.id)
	x.id = random()
	s.open[x.id] = x
}

// end forgets a session that its caller has locked.
func (s *sessions) end(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, x.id)
}

// sweepLocked ends old sessions now and then, and any that is not in use when there are too many.
func (s *sessions) sweepLocked(now time.Time) {
	full := len(s.open) >= mostOpen
	if !full && now.Sub(s.swept) < time.Minute {
		return
	}
	s.swept = now
	for id, x := range s.open {
		if now.Sub(x.used) > sessionLife || full && len(s.open) > mostOpen/2 && now.Sub(x.used) > time.Minute {
			delete(s.open, id)
		}
	}
}

// random is 32 characters that nobody guesses.
func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
