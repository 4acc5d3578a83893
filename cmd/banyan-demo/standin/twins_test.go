package standin_test

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// twins are the original and the stand-in with the same world, to which the same things are done.
type twins struct {
	t        *testing.T
	both     [2]*world
	browsers map[int][2]*browser // by player of match 1; 0 has no login
	slowest  time.Duration       // of all that was done to both
}

func newTwins(t *testing.T) *twins {
	t.Helper()
	size := small
	size.Now = time.Now()
	x := &twins{t: t, both: [2]*world{original(t, size), stand(t, size)}, browsers: map[int][2]*browser{}}
	x.browsers[0] = [2]*browser{x.both[0].browser(), x.both[1].browser()}
	x.sql("UPDATE resources SET gold = 5000, wood = 5000, iron = 5000, gold_rate = 0, wood_rate = 0, iron_rate = 0")
	return x
}

func (x *twins) sql(statements ...string) {
	x.t.Helper()
	for _, s := range statements {
		x.both[0].exec(s)
		x.both[1].exec(s)
	}
}

func (x *twins) as(player int) [2]*browser {
	x.t.Helper()
	if _, ok := x.browsers[player]; !ok {
		x.browsers[player] = [2]*browser{x.both[0].login(player), x.both[1].login(player)}
	}
	return x.browsers[player]
}

// do does the same to both at once and compares what they answer and what is in their tables then. It gives the original's answer.
func (x *twins) do(name string, player int, what func(*browser) answer) answer {
	x.t.Helper()
	b := x.as(player)
	a := x.ask(b, what)
	x.compareAnswers(name, b, a)
	x.compareRows(name)
	return a[0]
}

func (x *twins) ask(b [2]*browser, what func(*browser) answer) (a [2]answer) {
	x.t.Helper()
	start := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		a[1] = what(b[1])
	}()
	a[0] = what(b[0])
	<-done
	x.slowest = max(x.slowest, time.Since(start))
	return a
}

func (x *twins) compareAnswers(name string, b [2]*browser, a [2]answer) {
	x.t.Helper()
	if a[0].status != a[1].status || a[0].location != a[1].location || a[0].contentType != a[1].contentType {
		x.t.Errorf("%s: the original answers %d %q %q, the stand-in %d %q %q", name, a[0].status, a[0].location, a[0].contentType, a[1].status, a[1].location, a[1].contentType)
	}
	for i := range a {
		a[i].body = masked(a[i].body, b[i].token)
		for j, c := range a[i].cookies {
			a[i].cookies[j] = maskedCookie(c)
		}
	}
	if !slices.Equal(a[0].cookies, a[1].cookies) {
		x.t.Errorf("%s: the original sets %q, the stand-in %q", name, a[0].cookies, a[1].cookies)
	}
	if a[0].body != a[1].body {
		first := 0
		for first < len(a[0].body) && first < len(a[1].body) && a[0].body[first] == a[1].body[first] {
			first++
		}
		from := max(0, first-80)
		excerpt := func(s string) string { return s[min(from, len(s)):min(first+120, len(s))] }
		x.t.Errorf("%s: bodies differ at byte %d:\n%s\n%s", name, first, excerpt(a[0].body), excerpt(a[1].body))
	}
}

var (
	clocks   = regexp.MustCompile(`[12]\d{3}-\d\d-\d\d \d\d:\d\d:\d\d|("(?:server_time|updated_at|arrives_at|arrives_in)":)\d+`)
	cookies  = regexp.MustCompile(`^(PHPSESSID=)\w+|expires=\w{3}, \d\d[- ]\w{3}[- ]\d{4} [\d:]{8} GMT`)
	mapUnit  = regexp.MustCompile(`\{"id":"\d+","player_id"[^}]*\}`)
	relation = regexp.MustCompile(`"\d+":"(?:war|peace|alliance)"`)
	option   = regexp.MustCompile(`<option value="\d+">[^<]*</option>`)
	anyToken = regexp.MustCompile(`(name="token" value=")\w+`)
)

// masked is a body without its times and token, and with what has no order in order: all else is compared byte by byte.
func masked(body, token string) string {
	if token != "" {
		body = strings.ReplaceAll(body, token, "TOKEN")
	}
	body = anyToken.ReplaceAllString(body, "${1}TOKEN")
	body = clocks.ReplaceAllString(body, "${1}TIME")
	for _, unordered := range []*regexp.Regexp{mapUnit, relation, option} {
		parts := unordered.FindAllString(body, -1)
		slices.Sort(parts)
		i := 0
		body = unordered.ReplaceAllStringFunc(body, func(string) string { i++; return parts[i-1] })
	}
	return body
}

func maskedCookie(c string) string { return cookies.ReplaceAllString(c, "${1}X") }

var (
	times  = []string{"created_at", "expires_at", "accepted_at", "arrives_at", "moved_at", "since", "sent_at", "fought_at", "last_seen", "built_at", "updated_at", "last_cron", "started_at"}
	stocks = []string{"gold", "wood", "iron"}
)

// compareRows compares all tables: times by as much as it took, stocks by as much as is produced meanwhile.
func (x *twins) compareRows(name string) {
	x.t.Helper()
	slack := x.slowest.Seconds() + 15 // both are asked in turn, and a loaded machine lets one wait
	const mostRate = 1000             // an hour
	diffRows(x.t, name, x.both[0].contents(), x.both[1].contents(), func(column, a, b string) bool {
		switch {
		case a == b:
			return true
		case slices.Contains(times, column):
			return a != "-" && b != "-" && math.Abs(float(a)-float(b)) <= slack
		case slices.Contains(stocks, column):
			return x.producing() && math.Abs(float(a)-float(b)) <= mostRate*slack/3600
		}
		return false
	})
}

// producing tells whether anything is produced at all; if not, stocks are compared exactly.
func (x *twins) producing() bool {
	return x.both[0].number("SELECT MAX(gold_rate) + MAX(wood_rate) + MAX(iron_rate) FROM resources") > 100
}

func float(s string) float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return math.NaN()
	}
	return f
}

// The comparison itself: what it must tell apart, and what it must not.
func TestTwinsAreToldApart(t *testing.T) {
	for name, c := range map[string][2]string{
		"a type":        {`{"id":"1","server_time":1700000000}`, `{"id":1,"server_time":1700000001}`},
		"a member more": {`{"ok":true}`, `{"ok":true,"x":1}`},
		"a zero date":   {`"arrives_at":"0000-00-00 00:00:00"`, `"arrives_at":"2026-01-01 00:00:00"`},
		"null":          {`"arrives_at":null`, `"arrives_at":1700000000`},
		"a tag":         {`<b id="gold">12</b>`, `<b id="gold">13</b>`},
	} {
		if masked(c[0], "") == masked(c[1], "") {
			t.Errorf("%s: %s and %s are the same", name, c[0], c[1])
		}
	}
	for _, c := range [][2]string{
		{`{"a":"2026-01-01 00:00:00","server_time":1}`, `{"a":"2026-01-01 00:00:01","server_time":2}`},
		{`[{"id":"1","player_id":"2"},{"id":"3","player_id":"2"}]`, `[{"id":"3","player_id":"2"},{"id":"1","player_id":"2"}]`},
	} {
		if masked(c[0], "") != masked(c[1], "") {
			t.Errorf("%s and %s are not the same", c[0], c[1])
		}
	}
}
