package fastcgi

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"banyan/proxy/upstream"
	"banyan/proxy/wire"
)

// location is a directory whose files a script may name.
type location struct {
	prefix string // of the URI or path that names a file in it, with a slash at its end
	dir    string
	below  bool // the root
}

// locations are those of one kind, the longest prefix first.
type locations []location

func (l locations) find(name string) *location {
	for i := range l {
		if strings.HasPrefix(name, l[i].prefix) {
			return &l[i]
		}
	}
	return nil
}

// named are the files that scripts may name.
type named struct {
	internal locations // by X-Accel-Redirect
	sendfile locations // by X-Sendfile
	closed   []string  // prefixes of request paths that no client reaches
}

func newNamed(cfg *Config) (n named) {
	for prefix, dir := range cfg.Internal {
		dir = strings.TrimSuffix(dir, "/")
		n.internal = append(n.internal, location{prefix, dir, holds(cfg.Root, dir)})
	}
	n.closed = slices.Sorted(maps.Keys(cfg.Internal))
	for _, dir := range cfg.Sendfile {
		dir = strings.TrimSuffix(dir, "/")
		below := holds(cfg.Root, dir)
		n.sendfile = append(n.sendfile, location{dir + "/", dir, below})
		if below {
			n.closed = append(n.closed, strings.TrimPrefix(dir, cfg.Root)+"/")
		}
	}
	for _, l := range []locations{n.internal, n.sendfile} {
		slices.SortFunc(l, func(a, b location) int { return len(b.prefix) - len(a.prefix) })
	}
	return n
}

// reserved tells whether a request's path is one that only scripts may name, as in a location that is nginx's `internal`.
func (n *named) reserved(path string) bool {
	for _, prefix := range n.closed {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// validateNamed names the first entry of Internal or Sendfile that cannot be used.
func (c *Config) validateNamed() error {
	for _, prefix := range slices.Sorted(maps.Keys(c.Internal)) {
		field := "internal." + prefix
		if len(prefix) < 3 || prefix[0] != '/' || path.Clean(prefix)+"/" != prefix || strings.ContainsAny(prefix, "%?#\\\x00\r\n\t ") {
			return fmt.Errorf("%s: %q is not the beginning of URIs, decoded and with a slash at both ends, such as /protected/", field, prefix)
		}
		dir := c.Internal[prefix]
		if err := c.validateDir(dir); err != nil {
			return fmt.Errorf("%s: %w", field, err)
		}
		if dir = strings.TrimSuffix(dir, "/"); holds(c.Root, dir) && c.Root+prefix != dir+"/" {
			return fmt.Errorf("%s: %q is below the root, so clients reach it at another path: keep it outside of the root, or name it by its own path, %s/", field, dir, strings.TrimPrefix(dir, c.Root))
		}
	}
	for i, dir := range c.Sendfile {
		if err := c.validateDir(dir); err != nil {
			return fmt.Errorf("sendfile[%d]: %w", i, err)
		}
	}
	return nil
}

func (c *Config) validateDir(dir string) error {
	clean := strings.TrimSuffix(dir, "/")
	switch {
	case !filepath.IsAbs(clean) || filepath.Clean(clean) != clean || clean == "/":
		return fmt.Errorf("%q is not a clean absolute directory such as /srv/files", dir)
	case holds(clean, c.Root):
		return fmt.Errorf("%q holds the root, %s, whose programs would be served as files: name a directory beside it, or one below it", dir, c.Root)
	}
	return nil
}

// holds tells whether the second directory is the first, or below it.
func holds(dir, other string) bool {
	return dir == other || strings.HasPrefix(other, dir+"/")
}

// lookNamed says which directory of Internal or Sendfile is missing, or is another one than its name says.
func (c *Config) lookNamed() error {
	root, err := filepath.EvalSymlinks(c.Root)
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	n := newNamed(c)
	for i, l := range []locations{n.internal, n.sendfile} {
		field := [...]string{"internal", "sendfile"}[i]
		for _, at := range l {
			dir, err := filepath.EvalSymlinks(at.dir)
			if err != nil {
				return fmt.Errorf("%s: %w", field, err)
			}
			switch st, err := os.Stat(dir); {
			case err != nil:
				return fmt.Errorf("%s: %w", field, err)
			case !st.IsDir():
				return fmt.Errorf("%s: %s is not a directory", field, at.dir)
			case holds(dir, root) || holds(root, dir) && !at.below:
				return fmt.Errorf("%s: %s is in truth %s, which is part of the site at %s: its programs would be served as files", field, at.dir, dir, root)
			}
		}
	}
	return nil
}

var (
	errAccel      = errors.New("script answers with X-Accel-Redirect, which needs a front that serves the file, and no location is declared: fastcgi.internal, such as { \"/protected/\": /srv/files/ }; or let the script send the file")
	errSendfile   = errors.New("script answers with X-Sendfile, which needs a front that serves the file, and no directory is declared: fastcgi.sendfile, such as [/srv/files]; or let the script send the file")
	errNoLocation = errors.New("script answers with an X-Accel-Redirect to what is no location of fastcgi.internal; no other request is made for it")
	errNoDir      = errors.New("script answers with an X-Sendfile of what is in no directory of fastcgi.sendfile")
)

// fetch answers with the file that the script names. First the script is heard to its end, so that php-fpm's child is
// free: a slow client may take hours for the file.
func (c *conn) fetch(resp *wire.Response, in *upstream.Inbox) error {
	c.chosen, c.framing = resp.Status(), wire.NoBody
	if err := c.drain(); err != nil {
		return err
	}
	c.giveBack()
	c.done = false
	value, accel := resp.Field("x-accel-redirect"), true
	if value == nil {
		value, accel = resp.Field("x-sendfile"), false
	}
	c.own.kept, c.own.kind = kept(resp, accel), string(resp.Field("content-type"))
	var err error
	if accel {
		err = c.accelerate(string(value))
	} else {
		err = c.sendfile(string(value), resp.Status())
	}
	if err != nil {
		c.refuse(string(value), err)
		return c.fail("serve the file that the script names", upstream.Malformed, err)
	}
	return c.receiveOwn(resp, in)
}

// kept are the lines that are still true with another body. Of an X-Accel-Redirect nginx keeps five fields; with
// X-Sendfile Apache and lighttpd keep what the script says, but for what is about the body.
func kept(resp *wire.Response, accel bool) (lines []byte) {
	for i := range resp.Len() {
		if keeps(resp.Name(i), accel) {
			lines = append(lines, resp.Line(i)...)
		}
	}
	return lines
}

func keeps(name []byte, accel bool) bool {
	if accel {
		return slices.ContainsFunc(accelKeeps, func(n string) bool { return wire.Is(name, n) })
	}
	return !slices.ContainsFunc(sendfileDrops, func(n string) bool { return wire.Is(name, n) })
}

var (
	accelKeeps    = []string{"content-disposition", "set-cookie", "cache-control", "expires"} // and Content-Type, with the file
	sendfileDrops = []string{"x-sendfile", "date", "content-length", "content-encoding", "content-range", "content-type", "accept-ranges", "etag", "last-modified"}
)

// accelerate follows nginx for an X-Accel-Redirect. A query is of no use to a file.
func (c *conn) accelerate(uri string) error {
	if len(c.up.named.internal) == 0 {
		return errAccel
	}
	uri, _, _ = strings.Cut(uri, "?")
	name, err := url.PathUnescape(uri)
	if err != nil || unsafe(name) {
		c.missing(uri, "the path is malformed, or leads up")
		return nil
	}
	at := c.up.named.internal.find(name)
	if at == nil {
		return errNoLocation
	}
	c.serveNamed(at, name, http.StatusOK)
	return nil
}

// sendfile follows Apache's mod_xsendfile for an X-Sendfile: the path is taken as it is. A status other than 200 stays,
// as lighttpd does it, and the file is then sent whole.
func (c *conn) sendfile(name string, status int) error {
	if len(c.up.named.sendfile) == 0 {
		return errSendfile
	}
	if unsafe(name) {
		c.missing(name, "the path leads up")
		return nil
	}
	at := c.up.named.sendfile.find(name)
	if at == nil {
		return errNoDir
	}
	if status == http.StatusPartialContent { // of the body that is dropped
		status = http.StatusOK
	}
	c.serveNamed(at, name, status)
	return nil
}

// unsafe tells whether a path holds a NUL, or a segment that leads up.
func unsafe(name string) bool {
	return strings.IndexByte(name, 0) >= 0 || slices.Contains(strings.Split(name, "/"), "..")
}

// serveNamed answers with a file of a location. No symbolic link is followed out of it, and where it is part of the site
// no program is shown.
func (c *conn) serveNamed(at *location, name string, status int) {
	rest := path.Clean("./" + strings.TrimPrefix(name, at.prefix))
	if at.below && rest != "." && (source(rest) || hidden("/"+rest)) {
		c.missing(name, "it may be a program, or is hidden, and is part of the site")
		return
	}
	f, err := openBelow(at.dir, rest)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			c.forbidden(name, err.Error())
		} else {
			c.missing(name, err.Error())
		}
		return
	}
	st, err := f.Stat()
	switch {
	case err != nil:
		c.missing(name, err.Error())
	case st.IsDir():
		c.forbidden(name, "it is a directory")
	case !st.Mode().IsRegular() || strings.HasSuffix(name, "/"):
		c.missing(name, "it is no file")
	default:
		c.serveFile(f, st, status, cmp.Or(c.own.kind, mimeType(rest)))
		return
	}
	f.Close()
}

// openBelow opens a file, and waits for nobody where it is none.
func openBelow(dir, name string) (*os.File, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

func (c *conn) missing(name, why string) {
	c.refuse(name, errors.New(why))
	c.say(http.StatusNotFound, "not found")
}

func (c *conn) forbidden(name, why string) {
	c.refuse(name, errors.New(why))
	c.say(http.StatusForbidden, "forbidden")
}

// refuse logs that a script names what is not served.
func (c *conn) refuse(name string, why error) {
	c.up.cfg.Log.Warn("script names a file that is not served", append(c.attrs(), "file", fmt.Sprintf("%.200s", name), "error", why)...)
}
