package config

import (
	"fmt"
	"slices"
	"strings"

	"banyan/proxy/wire"
)

// unseen are protocols that carry requests of HTTP, or encrypt what follows: what no route has seen would reach legacy.
var unseen = []string{"h2c", "h2", "http", "tls"}

// checkUpgrade reports what a connection on a plain route cannot be switched to.
func (f *File) checkUpgrade(d *decoder, path string, r PlainRoute) {
	if len(r.Upgrade) == 0 {
		return
	}
	fail := func(hint, format string, args ...any) { d.failPath(path+".upgrade", hint, format, args...) }
	for i, p := range r.Upgrade {
		at := fmt.Sprintf("%s.upgrade[%d]", path, i)
		name, _, _ := strings.Cut(strings.ToLower(p), "/")
		switch {
		case !wire.IsProtocol([]byte(p)):
			d.failPath(at, "upgrade: websocket", "%q: want a protocol as a client's Upgrade names it", p)
		case slices.Contains(unseen, name):
			d.failPath(at, "upgrade: websocket", "%q: requests would follow that no route sees", p)
		case slices.ContainsFunc(r.Upgrade[:i], func(o string) bool { return strings.EqualFold(o, p) }):
			d.failPath(at, "", "%q is given twice", p)
		case name == "websocket" && r.Match.Method != "" && !slices.Contains(strings.Split(r.Match.Method, "|"), "GET"):
			d.failPath(at, "method: GET, or none", "match.method is %s, and a WebSocket begins with GET", r.Match.Method)
		}
	}
	if f.Upstreams[r.To].FastCGI != nil {
		fail("to: an http upstream, at which the WebSocket server listens", "%s is fastcgi, and a script cannot switch protocols", r.To)
	}
	if r.Match.Form != nil || r.Match.JSON != nil {
		fail("match path, query, header or cookie", "the route matches bodies, and a request with a body switches nothing")
	}
}

const plainInstead = "routes: [{ match: { path: /chat }, to: legacy, upgrade: websocket }]"

// misplaced implements misplacer.
func (*Write) misplaced(key string) (why, hint string) {
	if key != "upgrade" {
		return "", ""
	}
	return "a write route cannot switch protocols: nothing that follows would be recorded", plainInstead
}

// misplaced implements misplacer.
func (*Read) misplaced(key string) (why, hint string) {
	if key != "upgrade" {
		return "", ""
	}
	return "a read route cannot switch protocols: nothing that follows could be compared", plainInstead
}
