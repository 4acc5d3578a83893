package pending

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"banyan/proxy/event"
)

// SeenCookie carries what legacy has shown to a session ([Seen]). It is not the cookie of the own writes: answers to
// requests that ran side by side overwrite each other's cookies, and a lost write would be one that is missed.
const SeenCookie = "banyan_seen"

// MaxSeen bounds the cookie. What falls out is kept for all keys of its migration.
const MaxSeen = 4

// SeenFor bounds for how long reads that legacy answered only because legacy had answered before can follow each other.
// Each such answer shows something newer, and moves the mark on: while the read model is further behind than the pause
// between two reads, that would go on for ever. After SeenFor the candidate answers, and the read may go back in time.
const SeenFor = 10 * time.Second

// Sight is the newest answer that legacy gave of a key: the candidate must not show less.
type Sight struct {
	Migration event.Migration
	Key       event.OrderingKey // or AnyKey: it is not known what a page shows
	At        time.Time         // when the head of the answer was there
	Since     time.Time         // of the first answer in an unbroken row that were given only because of the one before
}

// Seen are a session's sights, newest first, at most one for each key.
type Seen []Sight

// ParseSeen reads a cookie's value. What cannot be read is left out: it costs a read that goes back, no write.
func ParseSeen(value string) Seen {
	var s Seen
	for item := range strings.SplitSeq(value, ":") {
		m, rest, _ := strings.Cut(item, "~")
		k, times, _ := strings.Cut(rest, "~")
		at, since, ok := strings.Cut(times, ".")
		key, err := url.PathUnescape(k)
		a, err1 := strconv.ParseUint(at, 36, 46)
		b, err2 := strconv.ParseUint(since, 36, 46)
		if !ok || err != nil || err1 != nil || err2 != nil || m == "" || len(s) == MaxSeen {
			continue
		}
		s = append(s, Sight{event.Migration(m), event.OrderingKey(key), time.UnixMilli(int64(a)), time.UnixMilli(int64(b))})
	}
	return s
}

// Add puts a sight in front, in place of all that it covers.
func (s Seen) Add(n Sight) Seen {
	out := Seen{n}
	for _, o := range s {
		if o.Migration == n.Migration && (o.Key == n.Key || n.Key == AnyKey) {
			if o.At.After(out[0].At) { // by the rounding, or another proxy's clock
				out[0].At = o.At
			}
			continue
		}
		out = append(out, o)
	}
	if len(out) > MaxSeen {
		return out.collapsed(out[len(out)-1].Migration)
	}
	return out
}

// collapsed makes the sights of a migration one of all its keys, which asks for more, never for less.
func (s Seen) collapsed(m event.Migration) Seen {
	var out Seen
	at := -1
	for _, x := range s {
		switch {
		case x.Migration != m:
			out = append(out, x)
		case at < 0:
			at = len(out)
			x.Key = AnyKey
			out = append(out, x)
		case x.At.After(out[at].At):
			out[at].At = x.At
		}
	}
	return out[:min(len(out), MaxSeen)] // one sight of each of many migrations: the oldest is let go
}

// String is the cookie's value.
func (s Seen) String() string {
	var b strings.Builder
	for i, x := range s {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(string(x.Migration) + "~" + escape(string(x.Key)) + "~" + millis(x.At) + "." + millis(x.Since))
	}
	return b.String()
}

// millis are rounded up: a sight must not become older.
func millis(t time.Time) string {
	return strconv.FormatInt(max(0, t.Add(time.Millisecond-1).UnixMilli()), 36)
}

// For is what a read of the key must not show less than: the newest sight that concerns it.
func (s Seen) For(m event.Migration, k event.OrderingKey) (newest Sight, ok bool) {
	for _, x := range s {
		if x.Migration == m && (x.Key == k || x.Key == AnyKey) && (!ok || x.At.After(newest.At)) {
			newest, ok = x, true
		}
	}
	return newest, ok
}

// Binds says whether the sight still counts at a time.
func (x Sight) Binds(now time.Time) bool { return now.Sub(x.Since) < SeenFor }
