package php

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"banyan/proxy/route"
)

// Nginx resolves a target as nginx with `index index.php` and a PATH_INFO split before php-fpm does: percent-decoded
// once, slashes merged, dot segments resolved, "/x.php/extra" runs x.php, and a directory runs its index.php.
type Nginx struct{}

var _ route.Canonicalizer = Nginx{}

// ErrTarget says that a target cannot be resolved without guessing; it is refused with 400.
var ErrTarget = errors.New("request target is ambiguous")

// Canonical implements route.Canonicalizer.
func (Nginx) Canonical(target []byte) (string, []byte, error) {
	path, query, err := split(target)
	if err != nil {
		return "", nil, err
	}
	clean, err := resolve(path)
	if err != nil {
		return "", nil, err
	}
	return script(clean), query, nil
}

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

// resolve decodes once, merges slashes and resolves dot segments. A path that leaves the root, a bad escape, NUL and
// a '#' are refused: front ends differ on them.
func resolve(path []byte) (string, error) {
	if plain(path) {
		return string(path), nil
	}
	decoded := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' {
			if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
				return "", fmt.Errorf("%w: bad escape in %.60q", ErrTarget, path)
			}
			c = hex(path[i+1])<<4 | hex(path[i+2])
			i += 2
		}
		if c == 0 {
			return "", fmt.Errorf("%w: NUL in %.60q", ErrTarget, path)
		}
		decoded = append(decoded, c)
	}
	var segments []string
	parts := strings.Split(string(decoded), "/")
	for i, p := range parts[1:] {
		last := i == len(parts)-2
		switch p {
		case "", ".":
		case "..":
			if len(segments) == 0 {
				return "", fmt.Errorf("%w: %.60q leaves the root", ErrTarget, path)
			}
			segments = segments[:len(segments)-1]
		default:
			segments = append(segments, p)
			continue
		}
		if last {
			segments = append(segments, "") // a directory
		}
	}
	return "/" + strings.Join(segments, "/"), nil
}

// plain says that there is nothing to resolve.
func plain(path []byte) bool {
	for i, c := range path {
		switch c {
		case '%', 0, '#':
			return false
		case '/', '.':
			if i > 0 && path[i-1] == '/' {
				return false
			}
		}
	}
	return true
}

// script cuts PATH_INFO and adds a directory's index.
func script(path string) string {
	if i := strings.Index(path, ".php/"); i > 0 && path[i-1] != '/' {
		return path[:i+4]
	}
	if strings.HasSuffix(path, "/") {
		return path + "index.php"
	}
	return path
}
