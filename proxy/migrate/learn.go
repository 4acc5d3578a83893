package migrate

import (
	"bytes"

	"banyan/proxy"
	"banyan/proxy/wire"
)

// learn watches legacy's answers for a session that gets a player: both named by Set-Cookie fields of one answer.
func (h *Handler) learn(c *Config) func(*proxy.Exchange, *wire.Response) proxy.Verdict {
	s := &c.Sessions
	if s.Player == "" || s.Cookie == "" || s.Players == nil {
		return nil
	}
	return func(_ *proxy.Exchange, r *wire.Response) proxy.Verdict {
		learnFrom(c, r)
		return proxy.Pass
	}
}

func learnFrom(c *Config, r *wire.Response) {
	s := &c.Sessions
	if s.Player == "" || s.Cookie == "" || s.Players == nil {
		return
	}
	session, player, named := "", "", false
	for name, value := range r.All() {
		if !wire.Is(name, "set-cookie") {
			continue
		}
		pair, _, _ := bytes.Cut(value, []byte(";"))
		k, v, _ := bytes.Cut(pair, []byte("="))
		switch string(bytes.TrimSpace(k)) {
		case s.Cookie:
			session = string(v)
		case s.Player:
			player, named = string(v), true
		}
	}
	if session != "" && named {
		s.Players.Learn(c.Redact.Session(session), player)
	}
}
