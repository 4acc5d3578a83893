package fastcgi

import (
	"bytes"
	"encoding/base64"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"banyan/proxy/upstream"
	"banyan/proxy/wire"
)

// fixedParams are the parameters that are the same for all requests.
func fixedParams(cfg *Config) []byte {
	fixed := map[string]string{"GATEWAY_INTERFACE": "CGI/1.1", "SERVER_SOFTWARE": "banyan", "REDIRECT_STATUS": "200",
		"DOCUMENT_ROOT": cfg.ScriptRoot, "SERVER_NAME": cfg.ServerName}
	maps.Copy(fixed, cfg.Params)
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(fixed)) {
		v := fixed[name]
		b = append(append(appendSize(appendSize(b, len(name)), len(v)), name...), v...)
	}
	return b
}

// call is what the parameters of one request are made of.
type call struct {
	req    *wire.Request
	query  []byte
	script string // below the root: "/index.php"
	info   string // PATH_INFO
	length int64  // of the body, -1 without one
	origin upstream.Origin
}

// appendParams appends the parameters as nginx's fastcgi_params and fastcgi-php.conf give them.
func (u *Upstream) appendParams(dst []byte, c *call) ([]byte, error) {
	w := newParams(dst, u.cfg.Params)
	if w.room(len(u.fixed)) {
		w.b = append(w.b, u.fixed...)
	}
	r := c.req
	var scratch [64]byte
	w.add("REQUEST_METHOD", r.Method())
	w.add("REQUEST_URI", r.Target())
	w.add("QUERY_STRING", c.query)
	if w.begin("SCRIPT_FILENAME", len(u.cfg.ScriptRoot)+len(c.script)) {
		w.b = append(append(w.b, u.cfg.ScriptRoot...), c.script...)
	}
	w.addText("SCRIPT_NAME", c.script)
	w.addText("DOCUMENT_URI", c.script)
	w.addText("PATH_INFO", c.info)
	w.add("CONTENT_TYPE", r.Field("content-type"))
	length := scratch[:0]
	if c.length >= 0 {
		length = strconv.AppendInt(length, c.length, 10)
	}
	w.add("CONTENT_LENGTH", length)
	w.add("REMOTE_USER", basicUser(r.Field("authorization")))
	client, local, protocol, tls := loopback, loopback, "HTTP/1.1", false
	if o := c.origin; o != nil {
		client, local, protocol, tls = o.Client(), o.Local(), o.Protocol(), o.TLS()
	}
	w.addText("SERVER_PROTOCOL", protocol)
	if tls {
		w.addText("REQUEST_SCHEME", "https")
		w.addText("HTTPS", "on")
	} else {
		w.addText("REQUEST_SCHEME", "http")
	}
	w.add("REMOTE_ADDR", appendAddr(scratch[:0], client))
	w.add("REMOTE_PORT", appendPort(scratch[:0], client))
	w.add("SERVER_ADDR", appendAddr(scratch[:0], local))
	w.add("SERVER_PORT", appendPort(scratch[:0], local))
	addFields(&w, r)
	return w.end()
}

// loopback is the client of a request that the proxy made up.
var loopback = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)

func appendAddr(dst []byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return append(dst, "unix:"...) // as nginx says
	}
	return a.Addr().AppendTo(dst)
}

func appendPort(dst []byte, a netip.AddrPort) []byte {
	if a.Port() == 0 {
		return dst
	}
	return strconv.AppendUint(dst, uint64(a.Port()), 10)
}

// basicUser is the name that a client gives in Authorization, which nobody has checked.
func basicUser(v []byte) []byte {
	if len(v) < 6 || !wire.Is(v[:6], "basic ") {
		return nil
	}
	b, err := base64.StdEncoding.AppendDecode(nil, bytes.TrimLeft(v[6:], " "))
	user, _, ok := bytes.Cut(b, []byte(":"))
	if err != nil || !ok || bytes.IndexByte(user, 0) >= 0 {
		return nil
	}
	return user
}

// upper makes a variable's name of a field's; 0 stands for what nginx drops: PHP would fold it into another name.
var upper = func() (t [256]byte) {
	for c := range byte(26) {
		t['a'+c], t['A'+c] = 'A'+c, 'A'+c
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = byte(c)
	}
	t['-'] = '_'
	return t
}()

// addFields adds the request's fields as HTTP_…; those of one name are joined.
func addFields(w *paramWriter, r *wire.Request) {
	const prefix = "HTTP_"
	for i := range r.Len() {
		name, value := r.Name(i), r.Value(i)
		if !fieldOK(name) || seenBefore(r, i) {
			continue
		}
		sep := ", "
		if r.Kind(i) == wire.Cookie {
			sep = "; "
		}
		size, more := len(value), false
		for j := i + 1; j < r.Len(); j++ {
			if sameName(name, r.Name(j)) {
				size += len(sep) + len(r.Value(j))
				more = true
			}
		}
		if !w.room(len(prefix) + len(name) + size + sizesRoom) {
			return
		}
		at := len(w.b)
		b := append(appendSize(appendSize(w.b, len(prefix)+len(name)), size), prefix...)
		from := len(b) - len(prefix)
		for _, c := range name {
			b = append(b, upper[c])
		}
		if len(w.given) > 0 {
			if _, given := w.given[string(b[from:])]; given {
				w.b = b[:at]
				continue
			}
		}
		b = append(b, value...)
		for j := i + 1; more && j < r.Len(); j++ {
			if sameName(name, r.Name(j)) {
				b = append(append(b, sep...), r.Value(j)...)
			}
		}
		w.b = b
	}
}

// fieldOK tells whether a field becomes a variable. Never Proxy: programs would take HTTP_PROXY for their own setting.
func fieldOK(name []byte) bool {
	for _, c := range name {
		if upper[c] == 0 {
			return false
		}
	}
	return !wire.Is(name, "proxy")
}

func seenBefore(r *wire.Request, i int) bool {
	for j := range i {
		if sameName(r.Name(i), r.Name(j)) {
			return true
		}
	}
	return false
}

func sameName(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if upper[a[i]] != upper[b[i]] {
			return false
		}
	}
	return true
}
