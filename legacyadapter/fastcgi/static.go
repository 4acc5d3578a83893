package fastcgi

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"banyan/proxy/wire"
)

// types are those that a site has; a browser is told nothing that depends on the machine's own list.
var types = map[string]string{
	"avif": "image/avif", "css": "text/css", "csv": "text/csv", "eot": "application/vnd.ms-fontobject", "gif": "image/gif",
	"htm": "text/html", "html": "text/html", "ico": "image/x-icon", "jpeg": "image/jpeg", "jpg": "image/jpeg",
	"js": "application/javascript", "json": "application/json", "map": "application/json", "mjs": "application/javascript",
	"mp3": "audio/mpeg", "mp4": "video/mp4", "ogg": "audio/ogg", "otf": "font/otf", "pdf": "application/pdf", "png": "image/png",
	"rss": "application/rss+xml", "svg": "image/svg+xml", "ttf": "font/ttf", "txt": "text/plain", "wasm": "application/wasm",
	"wav": "audio/wav", "webm": "video/webm", "webmanifest": "application/manifest+json", "webp": "image/webp",
	"woff": "font/woff", "woff2": "font/woff2", "xml": "text/xml", "zip": "application/zip",
}

func mimeType(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		if t, ok := types[strings.ToLower(name[i+1:])]; ok {
			return t
		}
	}
	return "application/octet-stream"
}

// local is an answer that is made here.
type local struct {
	head []byte
	body []byte
	file *os.File
	left int64  // of file
	kept []byte // lines of a script's head
	kind string // its Content-Type
}

// say makes a short answer, with the lines that are kept of a script's.
func (c *conn) say(status int, text string, fields ...wire.Pair) {
	body := []byte(text + "\n")
	c.own.head = c.ownHead(status, int64(len(body)), append(fields, wire.Pair{Name: "Content-Type", Value: []byte("text/plain; charset=utf-8")})...)
	c.own.body = body
}

// ownHead makes a head with a length, the lines that are kept of a script's, and the fields whose values could stand in
// one.
func (c *conn) ownHead(status int, length int64, fields ...wire.Pair) []byte {
	b := append(strconv.AppendInt(append([]byte(nil), "HTTP/1.1 "...), int64(status), 10), ' ')
	b = append(append(b, http.StatusText(status)...), "\r\nDate: "...)
	b = append(time.Now().UTC().AppendFormat(b, http.TimeFormat), "\r\n"...)
	b = append(b, c.own.kept...)
	for _, f := range fields {
		b, _ = wire.AppendField(b, f.Name, f.Value)
	}
	if length >= 0 {
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), length, 10), "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// redirect sends the client to the directory's own URL. The path is encoded anew: it is clean, so it begins with one
// slash and cannot name another host.
func (c *conn) redirect(p *place) {
	to := (&url.URL{Path: p.path + "/"}).EscapedPath()
	if len(p.query) > 0 {
		to += "?" + string(p.query)
	}
	c.say(http.StatusMovedPermanently, "moved to "+to, wire.Pair{Name: "Location", Value: []byte(to)})
}

// serve answers with a file below the root. OpenInRoot follows no symbolic link out of it.
func (c *conn) serve(p *place) {
	method := string(c.req.Method())
	if method != "GET" && method != "HEAD" {
		c.say(http.StatusMethodNotAllowed, "this is a file", wire.Pair{Name: "Allow", Value: []byte("GET, HEAD")})
		return
	}
	f, err := os.OpenInRoot(c.up.cfg.Root, strings.TrimPrefix(p.path, "/"))
	if err != nil {
		c.say(http.StatusNotFound, "not found")
		return
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		f.Close()
		c.say(http.StatusNotFound, "not found")
		return
	}
	c.serveFile(f, st, http.StatusOK, mimeType(p.path))
}

// serveFile answers with an open file, which it closes; unless the status is 200, with the whole of it. Conditions and
// ranges are those of GET, conditions of HEAD too (RFC 9110 13.2.1, 14.2).
func (c *conn) serveFile(f *os.File, st os.FileInfo, status int, contentType string) {
	method := string(c.req.Method())
	size, changed := st.Size(), st.ModTime().UTC().Truncate(time.Second)
	tag := fmt.Sprintf("\"%x-%x\"", changed.Unix(), size)
	fields := []wire.Pair{{Name: "Last-Modified", Value: changed.AppendFormat(nil, http.TimeFormat)}, {Name: "ETag", Value: []byte(tag)}}
	plain := status == http.StatusOK && (method == "GET" || method == "HEAD")
	if plain && c.stale412(tag, changed) {
		f.Close()
		c.say(http.StatusPreconditionFailed, "the file is another one")
		return
	}
	if plain && c.fresh304(tag, changed) {
		f.Close()
		c.own.head = c.ownHead(http.StatusNotModified, -1, fields...)
		return
	}
	from, length := int64(0), size
	if v := c.req.Field("range"); v != nil && plain && method == "GET" && size > 0 && c.sameFile(tag, changed) {
		start, n, ok := parseRange(v, size)
		switch {
		case ok && n == 0:
			f.Close()
			c.say(http.StatusRequestedRangeNotSatisfiable, "no such range", wire.Pair{Name: "Content-Range", Value: fmt.Appendf(nil, "bytes */%d", size)})
			return
		case ok:
			from, length, status = start, n, http.StatusPartialContent
			fields = append(fields, wire.Pair{Name: "Content-Range", Value: fmt.Appendf(nil, "bytes %d-%d/%d", start, start+n-1, size)})
		}
	}
	if _, err := f.Seek(from, 0); err != nil {
		f.Close()
		c.say(http.StatusNotFound, "not found")
		return
	}
	if status == http.StatusOK {
		fields = append(fields, wire.Pair{Name: "Accept-Ranges", Value: []byte("bytes")})
	}
	fields = append(fields, wire.Pair{Name: "Content-Type", Value: []byte(contentType)})
	c.own.head = c.ownHead(status, length, fields...)
	c.own.file, c.own.left = f, length
}

// stale412 tells whether the client wants another state of the file (RFC 9110 13.1.1, 13.1.4).
func (c *conn) stale412(tag string, changed time.Time) bool {
	if v := c.req.Field("if-match"); v != nil {
		return !listed(v, tag, false)
	}
	if v := c.req.Field("if-unmodified-since"); v != nil {
		t, err := http.ParseTime(string(v))
		return err == nil && changed.After(t)
	}
	return false
}

// listed tells whether a list of tags has one, or is "*". A weak tag counts only where that is enough (RFC 9110 8.8.3.2).
func listed(v []byte, tag string, weak bool) bool {
	for t := range bytes.SplitSeq(v, []byte(",")) {
		if t = bytes.Trim(t, " \t"); weak {
			t = bytes.TrimPrefix(t, []byte("W/"))
		}
		if string(t) == tag || string(t) == "*" {
			return true
		}
	}
	return false
}

// fresh304 tells whether the client has the file already. A tag counts more than a date (RFC 9110 13.2.2).
func (c *conn) fresh304(tag string, changed time.Time) bool {
	if v := c.req.Field("if-none-match"); v != nil {
		return listed(v, tag, true)
	}
	if v := c.req.Field("if-modified-since"); v != nil {
		t, err := http.ParseTime(string(v))
		return err == nil && !changed.After(t)
	}
	return false
}

// sameFile tells whether a range is wanted of just this file.
func (c *conn) sameFile(tag string, changed time.Time) bool {
	v := c.req.Field("if-range")
	if v == nil || string(v) == tag {
		return true
	}
	t, err := http.ParseTime(string(v))
	return err == nil && t.Equal(changed)
}

// parseRange reads one range of bytes. ok is false for what is ignored: other units, several ranges, nonsense. n is 0
// when no byte of the file is in it.
func parseRange(v []byte, size int64) (start, n int64, ok bool) {
	spec, is := bytes.CutPrefix(bytes.ToLower(v), []byte("bytes="))
	first, last, dash := bytes.Cut(bytes.Trim(spec, " \t"), []byte("-"))
	if !is || !dash || len(first)+len(last) == 0 {
		return 0, 0, false
	}
	number := func(b []byte) (int64, bool) {
		n, err := strconv.ParseUint(string(b), 10, 63)
		return int64(n), err == nil
	}
	if len(first) == 0 { // the last n bytes
		if n, ok = number(last); !ok {
			return 0, 0, false
		}
		n = min(n, size)
		return size - n, n, true
	}
	if start, ok = number(first); !ok {
		return 0, 0, false
	}
	end := size - 1
	if len(last) > 0 {
		to, ok := number(last)
		if !ok || to < start {
			return 0, 0, false
		}
		end = min(end, to)
	}
	if start > end {
		return 0, 0, true
	}
	return start, end - start + 1, true
}
