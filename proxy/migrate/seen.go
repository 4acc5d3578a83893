package migrate

import (
	"bytes"
	"time"

	"banyan/proxy"
	"banyan/proxy/event"
	"banyan/proxy/pending"
	"banyan/proxy/route"
	"banyan/proxy/stage"
	"banyan/proxy/wire"
)

// What legacy shows to a session at stage live, the candidate must not take back: the session's next read of the key
// waits until the read model holds everything that legacy had committed when the head of that answer came. Neither Kafka
// nor a database is asked: fences come with progress.
//
// The head's time, because a cookie cannot be set later: what legacy reads after it has begun to answer is not covered.

func sights(d *route.Decision) pending.Seen {
	cookie, ok := d.Cookie(pending.SeenCookie)
	if !ok {
		return nil
	}
	return pending.ParseSeen(string(cookie))
}

// shown notes that legacy answers a read in the share. A read that fell back only because of an earlier sight goes on
// with the row that began there, so that the row ends.
func (r *read) shown(a *wire.Response) {
	seen := sights(r.d)
	now := time.Now()
	n := pending.Sight{Migration: r.m.Name, Key: r.key, At: now, Since: now}
	if old, ok := seen.For(r.m.Name, r.key); ok && r.why == fellBackSeen {
		n.Since = old.Since
	}
	setSeen(a, seen.Add(n))
}

// setSeen's cookie need not outlive a lag that anybody would call live.
func setSeen(a *wire.Response, s pending.Seen) {
	a.Add("Set-Cookie", []byte(pending.SeenCookie+"="+s.String()+"; Path=/; Max-Age=30; HttpOnly; SameSite=Lax"))
}

// page passes a request to legacy that no route names. What it shows nobody knows, so it may be anything of a migration
// that is live; sessions are noted, as strangers are shown nothing of theirs, and their answers may be cached.
func (h *Handler) page(x *proxy.Exchange, c *Config, d *route.Decision) {
	live := c.live()
	if len(live) == 0 || c.Sessions.Cookie == "" {
		h.legacy(x, c)
		return
	}
	if _, ok := d.Cookie(c.Sessions.Cookie); !ok {
		h.legacy(x, c)
		return
	}
	h.mayShow(x, c, d, live)
}

// mayShow notes that the session may have seen anything of the migrations that are live.
func (h *Handler) mayShow(x *proxy.Exchange, c *Config, d *route.Decision, live []event.Migration) {
	seen := sights(d)
	o := proxy.ForwardOptions{DropCookie: pending.OurCookies + "*", OnHead: func(_ *proxy.Exchange, a *wire.Response) proxy.Verdict {
		learnFrom(c, a)
		if shows(a) {
			now := time.Now()
			for _, m := range live {
				seen = seen.Add(pending.Sight{Migration: m, Key: pending.AnyKey, At: now, Since: now})
			}
			setSeen(a, seen)
		}
		return proxy.Pass
	}}
	if _, err := x.Forward(c.Legacy, o); err != nil {
		x.Fail(err)
	}
}

// live lists the migrations whose reads the candidate may answer.
func (c *Config) live() (out []event.Migration) {
	if c.Model == nil {
		return nil
	}
	for name := range c.Migrations {
		if c.States(name).Stage == stage.Live {
			out = append(out, name)
		}
	}
	return out
}

// shows says whether an answer can show state: not an image, a script, a redirect.
func shows(a *wire.Response) bool {
	t := a.Field("content-type")
	return a.Status() == 200 && (bytes.HasPrefix(t, []byte("text/html")) || bytes.HasPrefix(t, []byte("application/json")))
}
