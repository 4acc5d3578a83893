package route

import (
	"maps"
	"slices"
)

// want is a condition: a parameter of that name is there, and has this value unless it is "*".
type want struct{ name, value string }

// wants are the conditions on one part of a request, nil for none.
type wants []want

func wantsOf(m map[string]string) wants {
	var all wants
	for _, name := range slices.Sorted(maps.Keys(m)) {
		all = append(all, want{name, m[name]})
	}
	return all
}

func (all wants) met(v Values) bool {
	for _, w := range all {
		if got, ok := v.Get(w.name); !ok || w.value != "*" && got != w.value {
			return false
		}
	}
	return true
}

// shelf holds routes in order, and finds those that a request can be of. Applications that dispatch by a parameter have
// many routes for one path; looking at each would cost more than all else that is done for a request. Those that are
// left out would not have matched: a shelf decides nothing.
type shelf struct {
	all    []*compiled
	by     string                 // the query parameter that tells the most routes apart, "" for none
	value  map[string][]*compiled // by its value: those that want this value, any, or nothing of it
	other  []*compiled            // for all other values: those that want any, or nothing of it
	absent []*compiled            // when it is not there: those that want nothing of it
}

// fewRoutes are looked at one by one.
const fewRoutes = 4

func newShelf(routes []*compiled) *shelf {
	s := &shelf{all: routes}
	values := map[string]map[string]bool{}
	for _, c := range routes {
		for _, w := range c.query {
			if w.value == "*" {
				continue
			}
			if values[w.name] == nil {
				values[w.name] = map[string]bool{}
			}
			values[w.name][w.value] = true
		}
	}
	most := fewRoutes
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if n := len(values[name]); n > most {
			s.by, most = name, n
		}
	}
	if s.by == "" {
		return s
	}
	s.value = map[string][]*compiled{}
	for v := range values[s.by] {
		s.value[v] = s.those(func(wanted string) bool { return wanted == v || wanted == "*" })
	}
	s.other = s.those(func(wanted string) bool { return wanted == "*" })
	s.absent = s.those(func(string) bool { return false })
	return s
}

// those are the routes that want nothing of the parameter, or what fits.
func (s *shelf) those(fits func(wanted string) bool) (out []*compiled) {
	for _, c := range s.all {
		if !slices.ContainsFunc(c.query, func(w want) bool { return w.name == s.by && !fits(w.value) }) {
			out = append(out, c)
		}
	}
	return out
}

// pick gives the routes that the request can be of, in order.
func (s *shelf) pick(d *Decision) []*compiled {
	if s.by == "" {
		return s.all
	}
	v, ok := d.queryValues().Get(s.by)
	if !ok {
		return s.absent
	}
	if routes, ok := s.value[v]; ok {
		return routes
	}
	return s.other
}
