package compare

import (
	"bytes"
	"mime"
	"slices"
	"strconv"
	"strings"
	"time"

	"banyan/diff"
	"banyan/proxy/capture"
	"banyan/proxy/event"
)

// Route is a read route as it is compared.
type Route struct {
	Name   string
	Tables []string // "units" or "units.hp": what it shows; none: everything of the key
	Rules  *diff.Rules
}

// route is a Route made ready.
type route struct {
	Route
	tables     Tables
	kinds      []string       // what the entities of its rules begin with
	positional []string       // of them, those of lists that are compared by place
	muted      []diff.Pattern // what ignore rules take out
}

func newRoute(r Route) *route {
	x := &route{Route: r, tables: NewTables(r.Tables)}
	rules := r.Rules.Rules()
	for _, rule := range rules {
		if rule.Ignore {
			if p, err := diff.ParsePattern(rule.At); err == nil {
				x.muted = append(x.muted, p)
			}
		}
		if rule.Entity == "" {
			continue
		}
		kind, _, _ := strings.Cut(rule.Entity, "{")
		x.kinds = append(x.kinds, kind)
		if !slices.ContainsFunc(rules, func(o diff.Rule) bool { return o.At == rule.At && (o.Unordered || len(o.UnorderedBy) > 0) }) {
			x.positional = append(x.positional, kind)
		}
	}
	return x
}

func anyPrefix(kinds []string, e string) bool {
	return slices.ContainsFunc(kinds, func(k string) bool { return strings.HasPrefix(e, k) })
}

// confine tells what a change can show in: paths of its entity, or, if the route's rules know no such entity, anywhere.
func (r *route) confine(t Touched) Touched {
	for e := range t.Entities {
		if !anyPrefix(r.kinds, string(e)) {
			t.Wild = true
		}
	}
	return t
}

// mutes reports whether an ignore rule takes the path, or what is around it, out of the comparison.
func (r *route) mutes(path diff.Path) bool {
	steps := path.Steps()
	for n := range len(steps) + 1 {
		if slices.ContainsFunc(r.muted, func(p diff.Pattern) bool { return p.Match(diff.NewPath(steps[:n]...)) }) {
			return true
		}
	}
	return false
}

// outcome of looking at a pair.
type outcome int

const (
	wait outcome = iota // the log was not read far enough
	ask                 // the candidate lagged: ask it again
	undecided
	equal
	tolerated
	different
)

// verdict on a pair.
type verdict struct {
	outcome
	reason    string // of undecided
	low, high event.Position
	reads     event.Position // legacy's read surely saw everything up to here
	version   event.Position // of the state that both showed
	report    diff.Report    // of what was judged
	differs   []diff.Difference
	moved     Touched // what was not judged
}

// Paths of differences that are not in a body.
const (
	pathStatus      = "/#status"
	pathContentType = "/#content-type"
)

// judgement is what judging needs beside the pair.
type judgement struct {
	fingerprint string
	generation  int
	clockError  time.Duration
	maxBody     int
	mayAsk      bool // the candidate can be asked once more
}

// judge is pure: it looks at the index only.
func (j *judgement) judge(x *Index, r *route, p *capture.Pair) verdict {
	if why := j.unfit(p); why != "" {
		return verdict{outcome: undecided, reason: why}
	}
	v, ok := j.window(x, p)
	if !ok {
		return v
	}
	v.moved = r.confine(x.Touched(p.Key, v.low, v.high, r.tables))
	v.version = x.Version(p.Key, v.high, r.tables)
	why := "changed in between"
	if v.moved.Any() && v.low < v.reads {
		if lag := x.Touched(p.Key, v.low, v.reads, r.tables); lag.Any() {
			why = candidateLags
			if j.mayAsk {
				v.outcome = ask
				return v
			}
		}
	}
	j.compare(&v, r, p, why)
	return v
}

// unfit says why a pair cannot be judged whatever the log says.
func (j *judgement) unfit(p *capture.Pair) string {
	cut := func(a *capture.Answer) bool { return a.Length > int64(len(a.Body)) }
	switch {
	case p.Fingerprint != "" && p.Fingerprint != j.fingerprint:
		return "other config"
	case p.Candidate.Generation != 0 && j.generation != 0 && p.Candidate.Generation != j.generation:
		return "other generation"
	case p.Key == "":
		return "no ordering key"
	case p.Legacy.Status == 0:
		return "legacy did not answer"
	case p.Candidate.Status == 0:
		return "candidate did not answer"
	case cut(&p.Legacy) || cut(&p.Candidate):
		return "answer cut off"
	case p.Candidate.After == 0:
		return "candidate gave no position"
	}
	return ""
}

// candidateLags is why a pair is undecided whose candidate has not shown what legacy saw.
const candidateLags = "candidate lags"

// window finds the positions between which nothing may have changed. ok is false with the reason to wait or to give up.
func (j *judgement) window(x *Index, p *capture.Pair) (w verdict, ok bool) {
	he, ok := x.After(p.Legacy.End.Add(j.clockError))
	if !ok {
		return w, false // outcome wait
	}
	ls, ok := x.Before(p.Legacy.Start.Add(-j.clockError))
	if !ok {
		w.outcome, w.reason = undecided, "too old to judge"
		return w, false
	}
	w.reads, w.low, w.high = ls, min(ls, p.Candidate.Before), max(he, p.Candidate.After)
	switch x.Knows(p.Key, w.low, w.high) {
	case Early:
		return w, false
	case Aged:
		w.outcome, w.reason = undecided, "too old to judge"
		return w, false
	}
	return w, true
}

// compare the answers; what moved is not judged.
func (j *judgement) compare(v *verdict, r *route, p *capture.Pair, why string) {
	moved := v.moved.Any()
	whole := func(d diff.Difference) {
		if moved {
			v.outcome, v.reason = undecided, why
			return
		}
		v.outcome, v.differs = different, []diff.Difference{d}
		v.report.Total, v.report.Compared = 1, 1
	}
	if a, b := p.Legacy.Status, p.Candidate.Status; a != b {
		whole(diff.Difference{Path: pathStatus, Class: diff.ClassValue, Legacy: numberValue(a), Candidate: numberValue(b), Group: "value " + pathStatus})
		return
	}
	if a, b := mediaType(p.Legacy.ContentType), mediaType(p.Candidate.ContentType); a != b {
		whole(diff.Difference{Path: pathContentType, Class: diff.ClassValue, Legacy: diff.NewString(a), Candidate: diff.NewString(b), Group: "value " + pathContentType})
		return
	}
	a, errA := decoded(&p.Legacy, j.maxBody)
	b, errB := decoded(&p.Candidate, j.maxBody)
	if errA != nil || errB != nil {
		v.outcome, v.reason = undecided, "body: "+firstText(errA, errB)
		return
	}
	if bytes.Equal(a, b) {
		v.outcome, v.report.Compared = equal, 1
		return
	}
	report, err := diff.CompareJSON(a, b, r.Rules, diff.Options{Keep: 1000, Elapsed: p.Candidate.End.Sub(p.Legacy.End), Undecided: func(entity string, _ diff.Path) bool {
		_, hit := v.moved.Entities[event.Entity(entity)]
		return entity != "" && hit
	}})
	switch {
	case err != nil && mediaType(p.Legacy.ContentType) == "text/html":
		v.outcome, v.reason = undecided, "html is not compared"
	case err != nil:
		whole(diff.Difference{Class: diff.ClassValue, Legacy: diff.NewString(clip(a)), Candidate: diff.NewString(clip(b)), Group: "value "})
	default:
		v.report = report
		v.decide(r, why)
	}
}

// decide takes out of the differences what a change in the window can have made.
func (v *verdict) decide(r *route, why string) {
	all := v.moved.Any()
	unfair := false
	for _, d := range v.report.Differences {
		_, hit := v.moved.Entities[event.Entity(d.Entity)]
		shifted := all && d.Entity != "" && anyPrefix(r.positional, d.Entity) && v.kindMoved(d.Entity, r.positional)
		switch {
		case v.moved.Wild, all && d.Entity == "", shifted, hit:
			unfair = true
			n := max(1, d.Legacy.Leaves(), d.Candidate.Leaves())
			v.report.Undecided += n
			v.report.Compared -= n
		default:
			v.differs = append(v.differs, d)
		}
	}
	// Differences that were counted but not kept cannot be told apart: they are none if anything moved.
	dropped := v.report.Dropped()
	switch {
	case len(v.differs) > 0 || dropped > 0 && !all:
		v.outcome = different
	case unfair || dropped > 0 || v.report.Compared <= 0 && v.report.Undecided > 0:
		v.outcome, v.reason = undecided, why
	case v.report.Compared <= 0:
		v.outcome, v.reason = undecided, "everything is muted"
	case slices.ContainsFunc(v.report.Used, func(u diff.Use) bool { return u.Kind != "ignore" }):
		v.outcome = tolerated
	default:
		v.outcome = equal
	}
}

// kindMoved reports whether an entity of the same list changed: its elements may have moved up.
func (v *verdict) kindMoved(entity string, kinds []string) bool {
	for _, k := range kinds {
		if !strings.HasPrefix(entity, k) {
			continue
		}
		for e := range v.moved.Entities {
			if strings.HasPrefix(string(e), k) {
				return true
			}
		}
	}
	return false
}

// shows reports whether the verdict is evidence for a place: it was compared, and is not among the differences.
func (v *verdict) shows(r *route, class, path string, entity event.Entity) bool {
	if v.outcome != equal && v.outcome != tolerated && v.outcome != different || v.report.Dropped() > 0 || r.mutes(diff.Path(path)) {
		return false
	}
	if _, hit := v.moved.Entities[entity]; hit || v.moved.Any() && (entity == "" || v.moved.Wild) {
		return false
	}
	for _, d := range v.differs {
		head := strings.HasPrefix(string(d.Path), "/#")
		if head && string(d.Path) != path {
			return path == pathStatus && d.Path == pathContentType // what stands behind was not compared
		}
		if string(d.Path) == path || strings.HasPrefix(path, string(d.Path)+"/") || strings.HasPrefix(string(d.Path), path+"/") {
			return false
		}
	}
	return true
}

func numberValue(n int) diff.Value {
	v, _ := diff.NewNumber(strconv.Itoa(n))
	return v
}

func mediaType(s string) string {
	t, _, err := mime.ParseMediaType(s)
	if err != nil {
		return strings.ToLower(strings.TrimSpace(s))
	}
	return t
}

func clip(b []byte) string {
	const most = 4096
	if len(b) > most {
		return string(b[:most]) + "…"
	}
	return string(b)
}

func firstText(errs ...error) string {
	for _, err := range errs {
		if err != nil {
			return err.Error()
		}
	}
	return ""
}
