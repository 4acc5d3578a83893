package diff

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Rules is a compiled set of rules. It is immutable and may be shared. A nil
// *Rules has none.
//
// All patterns together are one automaton, so that a walk over a document takes
// one step in it per step of the path, whatever the number of rules.
type Rules struct {
	rules []compiled
	root  *node
	// learns: an opaque or counter rule makes one place depend on others.
	learns bool
}

type compiled struct {
	rule    Rule
	text    string
	pattern Pattern
	within  *tolerance
	entity  *template
	loose   loose
}

// node is a state of the automaton: what the rules say here, and where each
// step leads.
type node struct {
	plan
	next  map[string]*node
	other *node // where a step that next does not name leads
	// dead: no rule speaks of this place, nor of any below it.
	dead bool
	// ruled: a rule speaks of this very place.
	ruled bool
	// listed: next may name an element of a list, by index or by key.
	listed bool
}

// plan is the first rule of each kind that matches a place.
type plan struct {
	ignore, within, clock, countdown, unordered, opaque, counter, loose, entity *compiled
}

var deadNode = func() *node {
	n := &node{dead: true}
	n.other = n
	return n
}()

// step follows a member's name, or the text of an element's step.
func (n *node) step(name string) *node {
	if next, ok := n.next[name]; ok {
		return next
	}
	return n.other
}

// maxNodes bounds the automaton. Rules as people write them need a few dozen;
// only many ** with many * behind them grow without end.
const maxNodes = 4096

// maxPlaces bounds the sum of the places that the nodes stand for, and so the
// time that building takes.
const maxPlaces = 1 << 20

// Compile validates the rules and builds their automaton. Its errors name the
// rule by number, from 0, as in rules[2]: clock: …
func Compile(rules []Rule) (*Rules, error) {
	set := &Rules{rules: make([]compiled, len(rules))}
	var errs []error
	for i, r := range rules {
		if err := r.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("rules[%d]: %w", i, err))
			continue
		}
		c := compiled{rule: r, text: r.String()}
		c.pattern, _ = ParsePattern(r.At)
		c.within, _ = parseTolerance(r.Within)
		c.entity, _ = parseTemplate(r.Entity)
		for _, w := range r.Loose {
			c.loose |= looseWords[w]
		}
		set.rules[i] = c
		set.learns = set.learns || r.Opaque || r.Counter
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	b := builder{set: set, nodes: map[string]*node{}}
	set.root = b.node(b.start())
	if b.full {
		return nil, fmt.Errorf("the rules' wildcards combine in too many ways (over %d): use fewer * behind **", maxNodes)
	}
	return set, nil
}

// Rules lists what was compiled.
func (s *Rules) Rules() []Rule {
	if s == nil {
		return nil
	}
	rules := make([]Rule, len(s.rules))
	for i := range s.rules {
		rules[i] = s.rules[i].rule
	}
	return rules
}

func (s *Rules) start() *node {
	if s == nil || s.root == nil {
		return deadNode
	}
	return s.root
}

// builder makes the automaton by the subset construction.
type builder struct {
	set    *Rules
	nodes  map[string]*node
	places int
	full   bool
}

// place is how far one rule's pattern is matched.
type place struct{ rule, at int }

func (b *builder) start() []place {
	var all []place
	for i := range b.set.rules {
		all = b.reach(all, i, 0)
	}
	return all
}

// reach adds a place and those that ** lets follow it.
func (b *builder) reach(to []place, rule, at int) []place {
	steps := b.set.rules[rule].pattern.steps
	for {
		to = append(to, place{rule, at})
		if at == len(steps) || steps[at].kind != stepDeep {
			return to
		}
		at++
	}
}

func (b *builder) node(places []place) *node {
	slices.SortFunc(places, func(x, y place) int {
		if x.rule != y.rule {
			return x.rule - y.rule
		}
		return x.at - y.at
	})
	places = slices.Compact(places)
	if len(places) == 0 || b.full {
		return deadNode
	}
	var raw []byte
	for _, p := range places {
		raw = binary.AppendUvarint(binary.AppendUvarint(raw, uint64(p.rule)), uint64(p.at))
	}
	key := string(raw)
	if n, ok := b.nodes[key]; ok {
		return n
	}
	if b.places += len(places); len(b.nodes) >= maxNodes || b.places > maxPlaces {
		b.full = true
		return deadNode
	}
	n := &node{}
	b.nodes[key] = n
	names := map[string]struct{}{}
	for _, p := range places {
		c := &b.set.rules[p.rule]
		if p.at == len(c.pattern.steps) {
			n.plan.add(c)
			n.ruled = true
		} else if s := c.pattern.steps[p.at]; s.kind == stepName {
			names[s.name] = struct{}{}
		}
	}
	n.other = b.node(b.follow(places, nil))
	n.next = make(map[string]*node, len(names))
	for name := range names {
		n.next[name] = b.node(b.follow(places, &name))
		n.listed = n.listed || isIndex(name) || strings.Contains(name, "=")
	}
	n.dead = !n.ruled && len(names) == 0 && n.other == deadNode
	return n
}

// follow takes a step with a name, or with one that no pattern spells out.
func (b *builder) follow(places []place, name *string) []place {
	var to []place
	for _, p := range places {
		steps := b.set.rules[p.rule].pattern.steps
		if p.at == len(steps) {
			continue
		}
		switch s := steps[p.at]; {
		case s.kind == stepDeep:
			to = b.reach(to, p.rule, p.at)
		case s.kind == stepAny || name != nil && s.name == *name:
			to = b.reach(to, p.rule, p.at+1)
		}
	}
	return to
}

func isIndex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func (p *plan) add(c *compiled) {
	set := func(to **compiled, has bool) {
		if has && *to == nil {
			*to = c
		}
	}
	set(&p.ignore, c.rule.Ignore)
	set(&p.within, c.within != nil)
	set(&p.clock, c.rule.Clock > 0)
	set(&p.countdown, c.rule.Countdown > 0)
	set(&p.unordered, c.rule.Unordered || len(c.rule.UnorderedBy) > 0)
	set(&p.opaque, c.rule.Opaque)
	set(&p.counter, c.rule.Counter)
	set(&p.loose, len(c.rule.Loose) > 0)
	set(&p.entity, c.entity != nil)
}
