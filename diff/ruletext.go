package diff

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// String prints r in the one-line form that [ParseRule] reads, as in
//
//	/units unordered_by id entity unit/{id}
//	"/units/*/stock" within 0.01 why "float column"
func (r Rule) String() string {
	words := []string{quoteWord(r.At)}
	flag := func(name string, set bool) {
		if set {
			words = append(words, name)
		}
	}
	field := func(name, value string) {
		if value != "" {
			words = append(words, name, quoteWord(value))
		}
	}
	flag("ignore", r.Ignore)
	field("within", r.Within)
	if r.Clock != 0 {
		field("clock", r.Clock.String())
	}
	if r.Countdown != 0 {
		field("countdown", r.Countdown.String())
	}
	flag("unordered", r.Unordered)
	field("unordered_by", strings.Join(r.UnorderedBy, ","))
	flag("opaque", r.Opaque)
	flag("counter", r.Counter)
	field("loose", strings.Join(r.Loose, ","))
	field("entity", r.Entity)
	field("why", r.Why)
	return strings.Join(words, " ")
}

// quoteWord quotes what would not come back as one word.
func quoteWord(s string) string {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '"' {
			return strconv.Quote(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}

// ParseRule reads the one-line form and validates it.
func ParseRule(s string) (Rule, error) {
	words, err := splitQuoted(s)
	if err != nil {
		return Rule{}, fmt.Errorf("rule %q: %w", s, err)
	}
	if len(words) == 0 {
		return Rule{}, errors.New("rule is empty")
	}
	r := Rule{At: words[0]}
	for rest := words[1:]; len(rest) > 0; {
		used, err := r.set(rest)
		if err != nil {
			return Rule{}, fmt.Errorf("rule %q: %w", s, err)
		}
		rest = rest[used:]
	}
	if err := r.Validate(); err != nil {
		return Rule{}, fmt.Errorf("rule %q: %w", s, err)
	}
	return r, nil
}

// set takes one field off the front of words, and says how many it took.
func (r *Rule) set(words []string) (int, error) {
	switch words[0] {
	case "ignore":
		r.Ignore = true
		return 1, nil
	case "unordered":
		r.Unordered = true
		return 1, nil
	case "opaque":
		r.Opaque = true
		return 1, nil
	case "counter":
		r.Counter = true
		return 1, nil
	}
	if len(words) < 2 {
		return 0, fmt.Errorf("%q is not a field, or lacks its value", words[0])
	}
	value := words[1]
	if value == "" {
		return 0, &FieldError{words[0], value, "must not be empty"}
	}
	switch words[0] {
	case "within":
		r.Within = value
	case "clock", "countdown":
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return 0, &FieldError{words[0], value, "must be a duration with its unit, as 2s"}
		}
		if words[0] == "clock" {
			r.Clock = d
		} else {
			r.Countdown = d
		}
	case "unordered_by":
		r.UnorderedBy = splitWords(value)
	case "loose":
		r.Loose = splitWords(value)
	case "entity":
		r.Entity = value
	case "why":
		r.Why = value
	default:
		return 0, fmt.Errorf("%q is not a field of a rule", words[0])
	}
	return 2, nil
}

// splitQuoted splits at spaces; a word may be quoted as a Go string.
func splitQuoted(s string) ([]string, error) {
	var words []string
	for s = strings.TrimLeft(s, " \t"); s != ""; s = strings.TrimLeft(s, " \t") {
		if s[0] != '"' {
			end := strings.IndexAny(s, " \t")
			if end < 0 {
				end = len(s)
			}
			words = append(words, s[:end])
			s = s[end:]
			continue
		}
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			return nil, errors.New("a quoted word does not end")
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		words = append(words, word)
		s = s[len(quoted):]
	}
	return words, nil
}
