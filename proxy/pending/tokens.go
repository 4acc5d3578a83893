package pending

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"banyan/proxy/event"
)

// Cookie is the name of the cookie that carries [Tokens].
const Cookie = "banyan_writes"

// OurCookies is what the names of our cookies begin with. They never reach legacy or the candidate.
const OurCookies = "banyan_"

// MaxTokens bounds the cookie: a session that writes to more keys at a time reads from legacy until they are settled.
const MaxTokens = 8

// AnyKey stands for a write whose key was not known when it was answered: every read of the migration waits for it.
const AnyKey event.OrderingKey = "*"

// Token is a session's newest write of one key.
type Token struct {
	Migration event.Migration
	Key       event.OrderingKey
	Write     event.WriteID
	At        time.Time // when legacy answered it; zero: not known, as in a cookie of an older build
}

// Tokens are a session's newest writes, newest first, at most one for each key.
type Tokens struct {
	List     []Token
	Overflow bool // there were more: nothing is known about other keys
}

// ParseTokens reads a cookie's value. What cannot be read is left out, and counts as overflow: a write that we once
// promised to wait for may have been there.
func ParseTokens(value string) Tokens {
	var t Tokens
	if value == "" {
		return t
	}
	for item := range strings.SplitSeq(value, ":") {
		if item == "more" || len(t.List) == MaxTokens {
			t.Overflow = true
			continue
		}
		m, rest, ok := strings.Cut(item, "~")
		k, rest, ok2 := strings.Cut(rest, "~")
		id, at, timed := strings.Cut(rest, "~")
		key, err := url.PathUnescape(k)
		w, err2 := event.ParseWriteID(id)
		if !ok || !ok2 || err != nil || err2 != nil {
			t.Overflow = true
			continue
		}
		n := Token{Migration: event.Migration(m), Key: event.OrderingKey(key), Write: w}
		if ms, err := strconv.ParseUint(at, 36, 46); timed && err == nil {
			n.At = time.UnixMilli(int64(ms))
		}
		t.List = append(t.List, n)
	}
	return t
}

// Add puts a write in front, in place of an earlier one of its key.
func (t Tokens) Add(n Token) Tokens {
	out := Tokens{List: []Token{n}, Overflow: t.Overflow}
	for _, o := range t.List {
		if o.Migration == n.Migration && o.Key == n.Key {
			continue
		}
		if len(out.List) == MaxTokens {
			out.Overflow = true
			break
		}
		out.List = append(out.List, o)
	}
	return out
}

// String is the cookie's value.
func (t Tokens) String() string {
	var b strings.Builder
	for i, k := range t.List {
		if i > 0 {
			b.WriteString(":")
		}
		b.WriteString(string(k.Migration) + "~" + escape(string(k.Key)) + "~" + k.Write.String())
		if !k.At.IsZero() {
			b.WriteString("~" + millis(k.At))
		}
	}
	if t.Overflow {
		if len(t.List) > 0 {
			b.WriteString(":")
		}
		b.WriteString("more")
	}
	return b.String()
}

// escape leaves nothing that a cookie's value or the grammar above cannot hold.
func escape(s string) string {
	s = url.QueryEscape(s) // '+' for a space is the one that PathUnescape does not undo
	return strings.NewReplacer("+", "%20", "~", "%7E").Replace(s)
}

// For are the writes that a read of the key must hold, and when the newest of them was answered. all is false if there
// may be more than these.
func (t Tokens) For(m event.Migration, k event.OrderingKey) (writes []event.WriteID, newest time.Time, all bool) {
	for _, x := range t.List {
		if x.Migration == m && (x.Key == k || x.Key == AnyKey) {
			writes = append(writes, x.Write)
			if x.At.After(newest) {
				newest = x.At
			}
		}
	}
	return writes, newest, !t.Overflow
}
