package php

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"banyan/proxy/route"
)

// Nginx resolves a target as nginx with `index index.php` before php-fpm does, with or without a PATH_INFO split:
// percent-decoded once, slashes merged, dot segments resolved, "/x.php/extra" runs x.php, and a directory runs its
// index.php.
type Nginx struct{}

// Apache resolves a target as Apache does that hands files named *.php, *.phar and *.phtml to php-fpm (mod_proxy_fcgi),
// with AcceptPathInfo, MergeSlashes and `DirectoryIndex index.php`. With its defaults it answers "%2f" with 404 and "%3f" before a script
// with 403; with other settings they mean something else: such a target is refused.
type Apache struct{}

// None resolves a target for a legacy that is not files of PHP: the path as sent, percent-decoded once. What servers and
// frameworks read in different ways is refused: an empty or dot segment, an encoded slash, a backslash, a control byte.
type None struct{}

var (
	_ route.Canonicalizer = Nginx{}
	_ route.Canonicalizer = Apache{}
	_ route.Canonicalizer = None{}
	_ route.Canonicalizer = (*Server)(nil)

	_ route.Resolver = Nginx{}
	_ route.Resolver = Apache{}
	_ route.Resolver = None{}
	_ route.Resolver = (*Server)(nil)

	_ route.Plainer = Nginx{}
	_ route.Plainer = Apache{}
	_ route.Plainer = None{}
)

// ErrTarget says that a target cannot be resolved without guessing; it is refused with 400.
var ErrTarget = errors.New("request target is ambiguous")

// Target is a request's target as the front end and PHP see it.
type Target struct {
	// Path is what routes match: percent-decoded, but for '%', '?' and '#', which stand as %25, %3F and %23, so that it
	// can be resolved again and stays what it is. For a script it ends with the script's name. "*" is OPTIONS *.
	Path     string
	Asked    string // the path that was asked for, in the same form: with PATH_INFO, without an index
	Script   string // decoded, as SCRIPT_NAME; "" when it is no script
	PathInfo string // decoded, what follows the script's name
	Query    []byte // as sent, behind the first '?'
}

// Canonical implements route.Canonicalizer.
func (n Nginx) Canonical(target []byte) (string, []byte, error) { return canonical(n.Resolve(target)) }

// Paths implements route.Resolver.
func (n Nginx) Paths(target []byte) (path, asked string, query []byte, err error) {
	return paths(n.Resolve(target))
}

// Resolve gives all that is known of the target.
func (n Nginx) Resolve(target []byte) (Target, error) {
	return resolve(target, n.rules(), cutScript)
}

func (Nginx) rules() rules { return strict | noLineFeed }

// Plain implements route.Plainer.
func (Nginx) Plain(target []byte) (path, query []byte, ok bool) { return plain(target) }

// Canonical implements route.Canonicalizer.
func (a Apache) Canonical(target []byte) (string, []byte, error) { return canonical(a.Resolve(target)) }

// Paths implements route.Resolver.
func (a Apache) Paths(target []byte) (path, asked string, query []byte, err error) {
	return paths(a.Resolve(target))
}

// Resolve gives all that is known of the target.
func (Apache) Resolve(target []byte) (Target, error) {
	return resolve(target, strict|noEncodedSlash|noEncodedMark, cutScript)
}

// Plain implements route.Plainer.
func (Apache) Plain(target []byte) (path, query []byte, ok bool) { return plain(target) }

// Canonical implements route.Canonicalizer.
func (n None) Canonical(target []byte) (string, []byte, error) { return canonical(n.Resolve(target)) }

// Paths implements route.Resolver.
func (n None) Paths(target []byte) (path, asked string, query []byte, err error) {
	return paths(n.Resolve(target))
}

// Resolve gives all that is known of the target.
func (None) Resolve(target []byte) (Target, error) {
	return resolve(target, strict|noEncodedSlash|asSent, func(path string) Target { return Target{Path: path} })
}

// Plain implements route.Plainer.
func (None) Plain(target []byte) (path, query []byte, ok bool) { return plain(target) }

func canonical(t Target, err error) (string, []byte, error) { return t.Path, t.Query, err }

func paths(t Target, err error) (path, asked string, query []byte, e error) {
	return t.Path, t.Asked, t.Query, err
}

// rules are what front ends differ in.
type rules int

const (
	strict         rules = 1 << iota // a bad escape and a path that leaves the root are refused
	noLineFeed                       // "%0a" is refused: a regular expression decides, whose '$' and '.' know line feeds
	noEncodedSlash                   // "%2f" is refused
	noEncodedMark                    // "%3f" is refused
	asSent                           // nothing is merged or resolved: what would have to be is refused
	asciiOnly                        // other bytes come percent-encoded or are refused
)

// resolve decodes and cleans the path, lets the front end find the script, and escapes the path again.
func resolve(target []byte, r rules, find func(string) Target) (Target, error) {
	if string(target) == "*" {
		return Target{Path: "*", Asked: "*"}, nil
	}
	clean, query, err := cleaned(target, r)
	if err != nil {
		return Target{}, err
	}
	t := find(clean)
	t.Path, t.Asked, t.Query = escapePath(t.Path), escapePath(clean), query
	return t, nil
}

// cleaned is the decoded path without dot segments and double slashes.
func cleaned(target []byte, r rules) (path string, query []byte, err error) {
	raw, query, err := split(target)
	if err != nil {
		return "", nil, err
	}
	if r&asciiOnly != 0 && slices.ContainsFunc(query, func(c byte) bool { return c >= 0x80 }) {
		return "", nil, fmt.Errorf("%w: not ASCII in the query %.60q", ErrTarget, query)
	}
	decoded, err := decode(raw, r)
	if err != nil {
		return "", nil, err
	}
	if path, err = clean(decoded, r); err != nil {
		return "", nil, fmt.Errorf("%w in %.60q", err, raw)
	}
	return path, query, nil
}

// plain says that there is nothing to resolve: the path stands for itself with every front end.
func plain(target []byte) (path, query []byte, ok bool) {
	if len(target) < 2 || target[0] != '/' {
		return nil, nil, false
	}
	path = target
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		path, query = target[:i], target[i+1:]
	}
	before := byte(0)
	for _, c := range path {
		if !ordinary[c] || before == '/' && (c == '/' || c == '.') || c == '/' && (before == 'p' || before == 'r' || before == 'l') {
			return nil, nil, false // "p/" may be the end of ".php/", and so on
		}
		before = c
	}
	return path, query, before != '/'
}

// ordinary are the bytes of a path that nobody reads as anything else.
var ordinary = func() (t [256]bool) {
	for c := byte('a'); c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range []byte("0123456789-_.~/@!$&'()*+,=:") {
		t[c] = true
	}
	return t
}()

// split cuts an origin-form or absolute-form target at its first '?'.
func split(target []byte) (path, query []byte, err error) {
	if len(target) > 0 && target[0] != '/' {
		i := bytes.Index(target, []byte("://"))
		if i < 0 {
			return nil, nil, fmt.Errorf("%w: %.60q is neither a path nor a URL", ErrTarget, target)
		}
		target = target[i+3:]
		slash := bytes.IndexAny(target, "/?")
		if slash < 0 {
			return []byte("/"), nil, nil
		}
		if target = target[slash:]; target[0] == '?' {
			return []byte("/"), target[1:], nil
		}
	}
	path, query, _ = bytes.Cut(target, []byte("?"))
	if len(path) == 0 {
		return nil, nil, fmt.Errorf("%w: it is empty", ErrTarget)
	}
	return path, query, nil
}

// decode decodes once. NUL and '#' are refused: strings of C and URLs end there.
func decode(path []byte, r rules) ([]byte, error) {
	out := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		c := path[i]
		encoded := c == '%' && i+2 < len(path) && isHex(path[i+1]) && isHex(path[i+2])
		switch {
		case encoded:
			c = hex(path[i+1])<<4 | hex(path[i+2])
			i += 2
		case c == '%' && r&strict != 0:
			return nil, fmt.Errorf("%w: bad escape in %.60q", ErrTarget, path)
		case c >= 0x80 && !encoded && r&asciiOnly != 0:
			return nil, fmt.Errorf("%w: not ASCII in %.60q", ErrTarget, path)
		case c == '#':
			return nil, fmt.Errorf("%w: fragment in %.60q", ErrTarget, path)
		}
		switch {
		case c == 0, c == '\n' && r&noLineFeed != 0:
			return nil, fmt.Errorf("%w: NUL or line feed in %.60q", ErrTarget, path)
		case encoded && (c == '/' && r&noEncodedSlash != 0 || c == '?' && r&noEncodedMark != 0):
			return nil, fmt.Errorf("%w: encoded slash or question mark in %.60q", ErrTarget, path)
		case r&asSent != 0 && (c < ' ' || c == 0x7f || c == '\\'):
			return nil, fmt.Errorf("%w: backslash or control byte in %.60q", ErrTarget, path)
		}
		out = append(out, c)
	}
	return out, nil
}

// clean merges slashes and resolves dot segments, in place.
func clean(path []byte, r rules) (string, error) {
	out := path[:1] // the slash
	for rest := path[1:]; ; {
		i := bytes.IndexByte(rest, '/')
		last := i < 0
		segment := rest
		if !last {
			segment = rest[:i]
		}
		switch s := string(segment); {
		case s == "" && last: // a directory
		case r&asSent != 0 && (s == "" || s == "." || s == ".."):
			return "", fmt.Errorf("%w: empty or dot segment", ErrTarget)
		case s == "" || s == ".":
		case s == "..":
			if len(out) == 1 {
				if r&strict != 0 {
					return "", fmt.Errorf("%w: it leaves the root", ErrTarget)
				}
				break
			}
			out = out[:bytes.LastIndexByte(out[:len(out)-1], '/')+1]
		default:
			out = append(out, segment...)
			if !last {
				out = append(out, '/')
			}
		}
		if last {
			return string(out), nil
		}
		rest = rest[i+1:]
	}
}

// scriptEnds are the ends of the names of files that php-fpm is let run. nginx asks it for *.php alone, but php-fpm looks
// for the script up the path: "/a.phar/x.php" runs a.phar.
var scriptEnds = []string{".php", ".phar", ".phtml"}

// cutScript finds the script by its name: up to the first segment that looks like one, or a directory's index.
func cutScript(path string) Target {
	for from := 1; ; {
		i := strings.IndexByte(path[from:], '/')
		if i < 0 {
			break
		}
		if isScript(path[from : from+i]) {
			return Target{Path: path[:from+i], Script: path[:from+i], PathInfo: path[from+i:]}
		}
		from += i + 1
	}
	if strings.HasSuffix(path, "/") {
		path += "index.php"
	}
	if !isScript(path[strings.LastIndexByte(path, '/')+1:]) {
		return Target{Path: path}
	}
	return Target{Path: path, Script: path}
}

// isScript says whether a name is a script's; an end alone is none.
func isScript(name string) bool {
	return slices.ContainsFunc(scriptEnds, func(end string) bool { return len(name) > len(end) && strings.HasSuffix(name, end) })
}

var pathEscaper = strings.NewReplacer("%", "%25", "?", "%3F", "#", "%23")

func escapePath(s string) string {
	if !strings.ContainsAny(s, "%?#") {
		return s
	}
	return pathEscaper.Replace(s)
}
