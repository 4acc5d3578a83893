package diff

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// Rule says how one kind of noise is compared, at the places that At matches.
// Its fields are those of the configuration file. A rule has at most one of
// Ignore, Within, Clock, Unordered, UnorderedBy, Opaque and Counter, and may
// have Loose and Entity beside it. Where several rules speak of one place, the
// first of them that says something of its kind decides.
type Rule struct {
	// At is a [Pattern]. "" is the document itself. Required.
	At string `yaml:"at" json:"at"`
	// Ignore mutes the place and all below it: nothing there is compared, and
	// its leaves are counted as muted. Needs Why.
	Ignore bool `yaml:"ignore,omitempty" json:"ignore,omitempty"`
	// Within lets numbers lie apart: 0.01 absolute, or 1% of the larger
	// magnitude. More than 0, and at most 100%.
	Within string `yaml:"within,omitempty" json:"within,omitempty"`
	// Clock lets instants lie apart, however each side writes them: epoch
	// seconds or milliseconds, RFC 3339, or 2006-01-02 15:04:05 in UTC; the time
	// between the two answers ([Options.Elapsed]) comes on top. More
	// than 0, less than 15m: that is the smallest step between time zones, and
	// a wrong time zone is a finding.
	Clock time.Duration `yaml:"clock,omitempty" json:"clock,omitempty"`
	// Countdown lets numbers of seconds that run down to zero lie apart by so much, beside the time between the two
	// answers. More than 0, less than 15m.
	Countdown time.Duration `yaml:"countdown,omitempty" json:"countdown,omitempty"`
	// Unordered compares a list as a multiset of whole elements.
	Unordered bool `yaml:"unordered,omitempty" json:"unordered,omitempty"`
	// UnorderedBy compares a list as a multiset of elements that are found by
	// the named members, which the elements, objects, should share with no other.
	UnorderedBy Words `yaml:"unordered_by,omitempty" json:"unordered_by,omitempty"`
	// Opaque lets values differ as long as one of legacy stands for one of the
	// candidate's, and the reverse, throughout a [Session].
	Opaque bool `yaml:"opaque,omitempty" json:"opaque,omitempty"`
	// Counter lets numbers differ as long as neither side's goes down within a
	// [Session].
	Counter bool `yaml:"counter,omitempty" json:"counter,omitempty"`
	// Loose names kinds of looseness, or presets of them, for the place and all
	// below it, until a rule further down says otherwise. See [LooseKinds].
	Loose Words `yaml:"loose,omitempty" json:"loose,omitempty"`
	// Entity names what the object at the place is, or each element of the list
	// at the place: unit/{id} with the member id, {@} for the path's last step.
	Entity string `yaml:"entity,omitempty" json:"entity,omitempty"`
	// Why is for the reader of a report. Required with Ignore.
	Why string `yaml:"why,omitempty" json:"why,omitempty"`
}

// FieldError is what Validate says of one field.
type FieldError struct {
	Field string // as in the configuration file
	Value string
	Bound string // what it may be, and why
}

func (e *FieldError) Error() string { return fmt.Sprintf("%s: %q: %s", e.Field, e.Value, e.Bound) }

// Validate returns every error of r, joined; each is a [FieldError].
func (r Rule) Validate() error {
	var errs []error
	bad := func(field, value, bound string) {
		errs = append(errs, &FieldError{field, value, bound})
	}
	if _, err := ParsePattern(r.At); err != nil {
		bad("at", r.At, err.Error())
	}
	r.validateKinds(bad)
	if r.Within != "" {
		if _, bound := parseTolerance(r.Within); bound != "" {
			bad("within", r.Within, bound)
		}
	}
	if r.Clock < 0 || r.Clock >= maxClock {
		bad("clock", r.Clock.String(), "must be more than 0 and less than 15m, the smallest step between time zones: more would hide a wrong one")
	}
	if r.Countdown < 0 || r.Countdown >= maxClock {
		bad("countdown", r.Countdown.String(), "must be more than 0 and less than 15m")
	}
	for _, key := range r.UnorderedBy {
		if key == "" || strings.Contains(key, ",") {
			bad("unordered_by", key, "must be the names of members, without commas")
		}
	}
	for _, word := range r.Loose {
		if _, ok := looseWords[word]; !ok {
			bad("loose", word, "must be one of "+strings.Join(LooseKinds(), ", "))
		}
	}
	if _, bound := parseTemplate(r.Entity); bound != "" {
		bad("entity", r.Entity, bound)
	}
	if r.Ignore && strings.TrimSpace(r.Why) == "" {
		bad("why", r.Why, "must give the reason: an ignored place is no evidence")
	}
	return errors.Join(errs...)
}

// maxClock is the smallest step between the time zones of the world.
const maxClock = 15 * time.Minute

func (r Rule) validateKinds(bad func(field, value, bound string)) {
	kinds := r.kinds()
	switch {
	case len(kinds) > 1:
		bad(kinds[1], "with "+kinds[0], "a rule has one of ignore, within, clock, countdown, unordered, unordered_by, opaque, counter; write two rules")
	case r.Ignore && (len(r.Loose) > 0 || r.Entity != ""):
		bad("ignore", "with loose or entity", "nothing is compared at an ignored place")
	case len(kinds) == 0 && len(r.Loose) == 0 && r.Entity == "":
		bad("at", r.At, "the rule says nothing: give it ignore, within, clock, countdown, unordered, unordered_by, opaque, counter, loose or entity")
	}
}

func (r Rule) kinds() []string {
	var kinds []string
	for _, k := range [...]struct {
		name string
		set  bool
	}{
		{"ignore", r.Ignore}, {"within", r.Within != ""}, {"clock", r.Clock != 0}, {"countdown", r.Countdown != 0}, {"unordered", r.Unordered},
		{"unordered_by", len(r.UnorderedBy) > 0}, {"opaque", r.Opaque}, {"counter", r.Counter},
	} {
		if k.set {
			kinds = append(kinds, k.name)
		}
	}
	return kinds
}

func parseTolerance(s string) (*tolerance, string) {
	const bound = "must be a number more than 0, as 0.01, or a share of the larger magnitude up to 100%, as 1%"
	t := &tolerance{text: s}
	number, relative := strings.CutSuffix(s, "%")
	t.relative = relative
	if !isNumber(number) {
		return nil, bound
	}
	amount, ok := rational(number)
	if !ok || amount.Sign() <= 0 {
		return nil, bound
	}
	if relative {
		amount.Quo(amount, big.NewRat(100, 1))
		if amount.Cmp(big.NewRat(1, 1)) > 0 {
			return nil, bound
		}
	}
	t.amount = amount
	t.approx, _ = amount.Float64()
	return t, ""
}

// template is an entity's text between and around its members' names.
type template struct {
	text  []string // one more than names
	names []string
}

func parseTemplate(s string) (*template, string) {
	if s == "" {
		return nil, ""
	}
	t := &template{}
	rest := s
	for {
		before, after, ok := strings.Cut(rest, "{")
		if strings.Contains(before, "}") {
			return nil, "has a } without its {"
		}
		t.text = append(t.text, before)
		if !ok {
			break
		}
		name, tail, ok := strings.Cut(after, "}")
		if !ok || name == "" || strings.Contains(name, "{") {
			return nil, "must name members in braces, as unit/{id}"
		}
		t.names = append(t.names, name)
		rest = tail
	}
	if len(t.names) == 0 {
		return nil, "must name a member in braces, as unit/{id}: else every element is one entity"
	}
	return t, ""
}

// fill yields the entity of an object, or "" if it lacks a member or the
// member is no scalar.
func (t *template) fill(v *Value, lastStep func() string) string {
	var b strings.Builder
	for i, name := range t.names {
		b.WriteString(t.text[i])
		if name == "@" {
			b.WriteString(lastStep())
			continue
		}
		m := v.Member(name)
		if m.kind != Number && m.kind != String && m.kind != Bool || m.text == "" {
			return ""
		}
		b.WriteString(m.text)
	}
	b.WriteString(t.text[len(t.names)])
	return b.String()
}

// Words is a list that may be written as one word, or as words with commas
// between them.
type Words []string

// UnmarshalYAML reads a scalar or a list.
func (w *Words) UnmarshalYAML(unmarshal func(any) error) error {
	var one string
	if unmarshal(&one) == nil {
		*w = splitWords(one)
		return nil
	}
	var many []string
	if err := unmarshal(&many); err != nil {
		return err
	}
	*w = many
	return nil
}

// UnmarshalJSON reads a string or a list of strings.
func (w *Words) UnmarshalJSON(data []byte) error {
	v, err := Decode(data)
	if err != nil {
		return err
	}
	switch v.kind {
	case String:
		*w = splitWords(v.text)
		return nil
	case List:
		words := make(Words, 0, len(v.items))
		for _, e := range v.items {
			if e.kind != String {
				return fmt.Errorf("must be a word or a list of words, not a list of %s", e.kind)
			}
			words = append(words, e.text)
		}
		*w = words
		return nil
	}
	return fmt.Errorf("must be a word or a list of words, not a %s", v.kind)
}

func splitWords(s string) Words {
	words := strings.Split(s, ",")
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	return words
}

// loose is a set of kinds of looseness.
type loose uint8

const (
	numericString  loose = 1 << iota // "1.50" and 1.5
	boolNumber                       // true and 1, "1"; false and 0, "0", ""
	emptyContainer                   // [] and {}
	nullEmpty                        // null and ""
	nullMissing                      // null and no member
	allLoose       = numericString | boolNumber | emptyContainer | nullEmpty | nullMissing
)

// looseWords are the kinds and presets. Each preset is a set of generic kinds;
// nothing else in this package knows a language.
var looseWords = map[string]loose{
	"numeric_string":  numericString,
	"bool_number":     boolNumber,
	"empty_container": emptyContainer,
	"null_empty":      nullEmpty,
	"null_missing":    nullMissing,
	"php":             allLoose,
	"none":            0,
}

// LooseKinds lists the words of [Rule.Loose]: numeric_string ("1.50" is 1.5),
// bool_number (true is 1 or "1", false is 0, "0" or ""), empty_container ([] is
// {}), null_empty (null is ""), null_missing (null is an absent member), the
// preset php (all of them), and none, which ends a looseness further up.
func LooseKinds() []string {
	var words []string
	for w := range looseWords {
		words = append(words, w)
	}
	slices.Sort(words)
	return words
}

func looseName(l loose) string {
	for _, w := range LooseKinds() {
		if looseWords[w] == l {
			return w
		}
	}
	return ""
}
