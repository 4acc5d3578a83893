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

func (w *paramWriter) add(name string, value []byte) error {
	if err := w.room(len(name) + len(value) + 8); err != nil {
		return err
	}
	w.b = append(append(appendSize(appendSize(w.b, len(name)), len(value)), name...), value...)
	return nil
}

func (w *paramWriter) addText(name, value string) error {
	if err := w.room(len(name) + len(value) + 8); err != nil {
		return err
	}
	w.b = append(append(appendSize(appendSize(w.b, len(name)), len(value)), name...), value...)
	return nil
}

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
	w := newParams(dst)
	if err := w.room(len(u.fixed)); err != nil {
		return dst, err
	}
	w.b = append(w.b, u.fixed...)
	r := c.req
	var err error
	text := func(name, value string) {
		if _, own := u.cfg.Params[name]; !own && err == nil {
			err = w.addText(name, value)
		}
	}
	raw := func(name string, value []byte) {
		if _, own := u.cfg.Params[name]; !own && err == nil {
			err = w.add(name, value)
		}
	}
	var scratch [64]byte
	raw("REQUEST_METHOD", r.Method())
	raw("REQUEST_URI", r.Target())
	raw("QUERY_STRING", c.query)
	text("SCRIPT_FILENAME", u.cfg.ScriptRoot+c.script)
	text("SCRIPT_NAME", c.script)
	text("DOCUMENT_URI", c.script)
	text("PATH_INFO", c.info)
	raw("CONTENT_TYPE", r.Field("content-type"))
	if c.length >= 0 {
		raw("CONTENT_LENGTH", strconv.AppendInt(scratch[:0], c.length, 10))
	} else {
		text("CONTENT_LENGTH", "")
	}
	raw("REMOTE_USER", basicUser(r.Field("authorization")))
	var client, local netip.AddrPort
	protocol, tls := "HTTP/1.1", false
	if o := c.origin; o != nil {
		client, local, protocol, tls = o.Client(), o.Local(), o.Protocol(), o.TLS()
	}
	text("SERVER_PROTOCOL", protocol)
	if tls {
		text("REQUEST_SCHEME", "https")
		text("HTTPS", "on")
	} else {
		text("REQUEST_SCHEME", "http")
	}
	raw("REMOTE_ADDR", appendAddr(scratch[:0], client))
	raw("REMOTE_PORT", appendPort(scratch[:0], client))
	raw("SERVER_ADDR", appendAddr(scratch[:0], local))
	raw("SERVER_PORT", appendPort(scratch[:0], local))
	if err == nil {
		err = u.addFields(&w, r)
	}
	return w.end(), err
}

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
func (u *Upstream) addFields(w *paramWriter, r *wire.Request) error {
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
		if err := w.room(len("HTTP_") + len(name) + size + 8); err != nil {
			return err
		}
		at := len(w.b)
		b := append(appendSize(appendSize(w.b, len("HTTP_")+len(name)), size), "HTTP_"...)
		from := len(b)
		for _, c := range name {
			b = append(b, upper[c])
		}
		if _, own := u.cfg.Params[string(b[from-len("HTTP_"):])]; own && len(u.cfg.Params) > 0 {
			w.b = b[:at]
			continue
		}
		b = append(b, value...)
		for j := i + 1; more && j < r.Len(); j++ {
			if sameName(name, r.Name(j)) {
				b = append(append(b, sep...), r.Value(j)...)
			}
		}
		w.b = b
	}
	return nil
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
