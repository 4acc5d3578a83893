package php

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Server resolves a target as PHP's own web server does, `php -S address -t root [router.php]`. It runs the nearest
// index.php up the tree for a path that no file answers, so what a path runs depends on which files there are: Server
// looks at them, with one to a few stat calls per request.
type Server struct {
	root   string
	router string
}

// NewServer takes the document root as this process sees it, and the script that the router script ends in, as a path
// below the root ("/index.php"); "" without a router. A router is taken to return false for a file or a directory that
// exists, but for the root, and to run that script for all else.
func NewServer(root, router string) (*Server, error) {
	fi, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("document root: %w", err)
	}
	if !fi.IsDir() {
		return nil, fmt.Errorf("document root %s: it is not a directory", root)
	}
	if router != "" && (router[0] != '/' || escapePath(router) != router) {
		return nil, fmt.Errorf("router %q: want the path of the script that it runs, such as /index.php", router)
	}
	return &Server{root: root, router: router}, nil
}

// Canonical implements route.Canonicalizer.
func (s *Server) Canonical(target []byte) (string, []byte, error) {
	return canonical(s.Resolve(target))
}

// Paths implements route.Resolver.
func (s *Server) Paths(target []byte) (path, asked string, query []byte, err error) {
	return paths(s.Resolve(target))
}

// Resolve gives all that is known of the target. A bad escape stands for itself, and a path cannot leave the root; bytes
// beyond ASCII, at which php -S hangs up, are refused. So is, with a router, which takes the path apart by itself, what it
// may read otherwise than php -S: all that [None] refuses.
func (s *Server) Resolve(target []byte) (Target, error) {
	if string(target) == "*" {
		return Target{}, fmt.Errorf("%w: php -S takes * for a path", ErrTarget)
	}
	if s.router == "" {
		return resolve(target, asciiOnly, s.find)
	}
	t, err := resolve(target, asciiOnly|strict|noEncodedSlash|asSent, s.route)
	if err == nil && looksLikePort(t.Asked) {
		return Target{}, fmt.Errorf("%w: PHP's parse_url reads a port in %.60q", ErrTarget, target)
	}
	return t, err
}

// looksLikePort: parse_url fails for a path with a ':' before a digit, and the router with it.
func looksLikePort(path string) bool {
	for i := strings.IndexByte(path, ':'); i >= 0 && i+1 < len(path); i++ {
		if path[i] == ':' && path[i+1] >= '0' && path[i+1] <= '9' {
			return true
		}
	}
	return false
}

// find walks up the tree to the first thing that is there: a file, or a directory with an index. With a dot anywhere in
// the path, a directory is nothing.
func (s *Server) find(path string) Target {
	for at := path; ; {
		switch s.look(at) {
		case aFile:
			return found(at, path[len(at):])
		case aDirectory:
			if strings.IndexByte(path, '.') >= 0 {
				return Target{Path: path}
			}
			dir := strings.TrimSuffix(at, "/")
			for _, index := range []string{"/index.php", "/index.html"} {
				if s.look(dir+index) == aFile {
					return found(dir+index, path[len(dir):])
				}
			}
			return Target{Path: path}
		}
		i := strings.LastIndexByte(at, '/')
		if i < 0 {
			return Target{Path: path}
		}
		at = at[:i]
	}
}

// route leaves what exists to php -S, and gives the rest to the router.
func (s *Server) route(path string) Target {
	if path == "/" || s.look(path) == nothing {
		return Target{Path: s.router, Script: s.router, PathInfo: path}
	}
	return s.find(path)
}

func found(file, info string) Target {
	t := Target{Path: file}
	if len(file) > 4 && strings.EqualFold(file[len(file)-4:], ".php") {
		t.Script, t.PathInfo = file, info
	}
	return t
}

type kind int

const (
	nothing kind = iota
	aFile
	aDirectory
)

// look says what stands at a clean path.
func (s *Server) look(path string) kind {
	fi, err := os.Stat(filepath.Join(s.root, filepath.FromSlash(path)))
	switch {
	case err != nil:
		return nothing
	case fi.IsDir():
		return aDirectory
	case strings.HasSuffix(path, "/"):
		return nothing
	}
	return aFile
}
