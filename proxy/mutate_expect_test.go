package proxy_test

import (
	"regexp"
	"slices"
	"strings"
)

// hopNames are fields of one connection, on either side.
var hopNames = []string{"connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "proxy-authorization", "http2-settings"}

// untrustedNames are what an untrusted client cannot say, or what the proxy itself answers.
var untrustedNames = []string{"expect", "proxy", "forwarded", "x-real-ip", "client-ip", "x-original-url", "x-rewrite-url"}

// routingNames stay though Connection lists them; in an answer only the first two.
var routingNames = []string{"content-length", "transfer-encoding", "host", "cookie"}

// passes tells whether a request's field reaches legacy: the list in package proxy's documentation.
func (q *refMessage) passes(name string) bool {
	name = strings.ToLower(name)
	for _, prefix := range []string{"x-forwarded-", "banyan-", "x-banyan-"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return !slices.Contains(hopNames, name) && !slices.Contains(untrustedNames, name) && !strings.ContainsAny(name, "_.") &&
		(slices.Contains(routingNames, name) || !slices.Contains(q.listed(), name))
}

// forwarded is the head that legacy must get, byte for byte.
func (q *refMessage) forwarded(upgrade bool) string {
	out := q.method + " " + q.target + " HTTP/1.1\r\n"
	for _, f := range q.fields {
		if q.passes(f.name) {
			out += f.line
		}
	}
	host := ""
	if h := q.all("host"); h != nil {
		host = h[0]
	} else {
		out += "Host: \r\n"
	}
	out += "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: " + host + "\r\n"
	if to := q.offered(); upgrade && to != "" {
		out += "Connection: Upgrade\r\nUpgrade: " + to + "\r\n"
	}
	return out + "\r\n"
}

var refProtocol = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+(/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?$")

// offered is what legacy is asked to switch to, where WebSocket may pass.
func (q *refMessage) offered() string {
	var out []string
	if q.minor != 1 || q.chunked || q.length > 0 || !slices.Contains(q.listed(), "upgrade") {
		return ""
	}
	for _, p := range strings.Split(strings.Join(q.all("upgrade"), ","), ",") {
		switch p = strings.Trim(p, " \t"); {
		case p == "":
		case !refProtocol.MatchString(p):
			return ""
		case strings.EqualFold(p, "websocket"):
			out = append(out, p)
		}
	}
	return strings.Join(out, ", ")
}

// refAnswer reads the answer at the start of s: interim ones, then the final one. A body that nothing else ends ends
// with s. What is in interim was read even if the rest is at fault.
func refAnswer(s string, head bool, maxFields int) (interim []refMessage, a refMessage, rest string, fault *refFault) {
	for rest = s; ; {
		a = refMessage{}
		if rest, fault = a.readHead(rest, maxFields, a.statusLine); fault != nil {
			return interim, refMessage{}, rest, fault
		}
		if a.status >= 200 {
			break
		}
		if len(interim) == 64 || a.status == 101 {
			return interim, refMessage{}, rest, refBad("interim answers")
		}
		interim = append(interim, a)
	}
	switch {
	case head || a.status == 204 || a.status == 304:
		return interim, a, rest, nil
	case !a.chunked && a.length < 0:
		a.body, a.last = rest, true
		return interim, a, "", nil
	}
	rest, fault = a.readBody(rest, 1<<30)
	return interim, a, rest, fault
}

// statusLine checks the start line of an answer.
func (q *refMessage) statusLine() *refFault {
	l := q.start
	bad := len(l) < 12 || l[:7] != "HTTP/1." || l[7] != '0' && l[7] != '1' || l[8] != ' ' || l[9] < '1' || !refOnly(l[9:12], "0123456789") || len(l) > 12 && l[12] != ' '
	if bad {
		return refBad("status line")
	}
	q.minor = int(l[7] - '0')
	q.status = int(l[9]-'0')*100 + int(l[10]-'0')*10 + int(l[11]-'0')
	return nil
}

// passed is the head that the client must get of an answer to the request to.
func (q *refMessage) passed(to *refMessage) string {
	bare := q.status < 200 || q.status == 204
	out := "HTTP/1.1" + q.start[8:] + "\r\n"
	for _, f := range q.fields {
		name := strings.ToLower(f.name)
		framing := name == "content-length" && bare || name == "transfer-encoding" && (bare || to.minor == 0)
		hop := slices.Contains(hopNames, name) || slices.Contains(q.listed(), name) && !slices.Contains(routingNames[:2], name)
		if !framing && !hop {
			out += f.line
		}
	}
	if !bare && q.status != 304 && to.method != "HEAD" && !q.chunked && q.length < 0 && to.minor == 1 {
		out += "Transfer-Encoding: chunked\r\n"
	}
	if q.status >= 200 && to.last {
		out += "Connection: close\r\n"
	}
	return out + "\r\n"
}
