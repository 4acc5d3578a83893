package fastcgi

import (
	"strings"
	"sync"
	"syscall"
	"time"

	"banyan/legacyadapter/php"
	"banyan/proxy/upstream"
)

// what is to be done with a request target.
type what uint8

const (
	refused   what = iota // it cannot be told what it means
	missing               // there is nothing
	runs                  // a script
	file                  // a file that is no script
	moved                 // a directory without its slash
	elsewhere             // the Static upstream's
)

// place is what a request target means.
type place struct {
	what  what
	path  string // below the root, decoded and clean: of the file, or of the script
	info  string // PATH_INFO
	query []byte
}

// resolve follows nginx with `try_files $uri $uri/ =404` (or the front controller) for files, and fastcgi-php.conf for
// scripts: what is handed to php-fpm exists below the root, and nothing but its own name says which script it is.
func (u *Upstream) resolve(target []byte) place {
	path, script, query, err := php.Nginx{}.Split(target)
	if err != nil {
		return place{what: refused}
	}
	p := place{query: query}
	if u.named.reserved(path) {
		p.what = missing
		return p
	}
	if script > 0 {
		p.path, p.info = path[:script], path[script:]
		if u.isScript(p.path) {
			p.what = runs
		} else {
			p.what = missing
		}
		return p
	}
	if dir := strings.HasSuffix(path, "/"); dir {
		if p.path = path + u.cfg.Index; u.isScript(p.path) {
			p.what = runs
			return p
		}
	} else if hidden(path) {
		p.what = missing
		return p
	} else {
		p.path = path
		switch u.kind(path) {
		case syscall.S_IFREG:
			if p.what = file; source(path) {
				p.what = missing
			} else if u.cfg.Static != nil {
				p.what = elsewhere
			}
			return p
		case syscall.S_IFDIR:
			p.what = moved
			return p
		}
	}
	if u.cfg.FrontController && u.isScript("/index.php") {
		p.what, p.path = runs, "/index.php"
		return p
	}
	if p.what = missing; u.cfg.Static != nil {
		p.what = elsewhere
	}
	return p
}

// scripts remembers for a moment which paths are scripts: each request would ask the file system. A script that is
// deleted is php-fpm's to miss for as long.
type scripts struct {
	mu    sync.Mutex       // guards known
	known map[string]int64 // path -> upstream.Now when it was looked at
}

const (
	scriptsFor = int64(time.Second)
	maxScripts = 1024
)

// isScript tells whether a path below the root is a file.
func (u *Upstream) isScript(path string) bool {
	now, s := upstream.Now(), &u.scripts
	s.mu.Lock()
	at, ok := s.known[path]
	s.mu.Unlock()
	if ok && now-at < scriptsFor {
		return true
	}
	if u.kind(path) != syscall.S_IFREG {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= maxScripts {
		clear(s.known)
	}
	s.known[strings.Clone(path)] = now
	return true
}

// kind is the file type of a path below the root, 0 if there is nothing.
func (u *Upstream) kind(path string) uint32 {
	var st syscall.Stat_t
	if syscall.Stat(u.cfg.Root+path, &st) != nil {
		return 0
	}
	return uint32(st.Mode) & syscall.S_IFMT
}

// hidden tells whether a segment begins with a dot, other than .well-known: .git, .env, .htaccess.
func hidden(path string) bool {
	for rest := path; ; {
		i := strings.Index(rest, "/.")
		if i < 0 {
			return false
		}
		rest = rest[i+1:]
		if seg, _, _ := strings.Cut(rest, "/"); seg != ".well-known" {
			return true
		}
	}
}

// source tells whether a file may hold a program, by its name: what a deployment or an editor left beside a script is one
// too (x.php~, x.php.bak).
func source(path string) bool {
	name := strings.ToLower(path[strings.LastIndexByte(path, '/')+1:])
	for _, part := range []string{".php", ".phtml", ".phar", ".inc"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
