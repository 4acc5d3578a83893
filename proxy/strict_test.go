package proxy_test

import (
	"slices"
	"strconv"
	"strings"
)

// The strict reference: HTTP/1.1 (RFC 9110, RFC 9112) over a whole buffer, with the stricter rules that package wire
// documents. It shares nothing with the proxy, and is written to be seen right, not to be fast. Where the RFCs leave a
// choice, the proxy's is in the list of accepted choices below:
//
//   - Bare CR, bare LF, NUL, obs-fold, space before a request's colon: refused.
//   - A start line is three words with one space between; one empty line may come before it.
//   - Content-Length: once, 1 to 18 digits. Transfer-Encoding: once, "chunked", not in HTTP/1.0, not beside a length.
//   - Host: once, host [":" port], or empty; none in HTTP/1.0 only. An absolute target names the same authority.
//   - CONNECT is refused, and "*" but for OPTIONS. An absolute target has no user, and no query without a path.
//   - Expect is 100-continue or nothing. Connection lists up to 32 names.
//   - A chunk's size is 1 to 15 digits, and ";" follows at once, if at all; extensions are bounded, and hold no control
//     byte. Trailers are fields like others, bounded, and dropped.
//   - HTTP/1.0 connections end with their answer, whatever they ask for.
//   - What is read of a head that is too large may be refused for another reason that it gives.
//   - A client that goes on behind its connection's last request may meet a reset, behind the whole answer.
//   - "PRI * HTTP/2.0" at a connection's start is HTTP/2, and no request.
//   - What ends in the middle of a line may be refused or not: a proxy may see earlier that it cannot become good.

// refLimits are bounds that a reader is configured with.
type refLimits struct{ head, fields, body int }

type refField struct{ name, value, line string }

// refMessage is a request, or an answer, as it was read.
type refMessage struct {
	start    string // the start line
	method   string
	target   string // in origin form
	minor    int
	status   int
	fields   []refField
	head     string // all of it, as it came
	chunked  bool
	length   int    // -1 without
	body     string // decoded; of a faulty message what came of it
	trailers []refField
	last     bool // the connection ends with it
	expects  bool
}

type refKind uint8

const (
	refUnfinished refKind = iota // the stream ends in the middle of it
	refMalformed
)

// refFault says why a stream cannot be read on.
type refFault struct {
	kind     refKind
	midLine  bool  // unfinished in the middle of a line
	statuses []int // with one of which a server refuses it
	why      string
}

func refBad(why string, statuses ...int) *refFault {
	return &refFault{kind: refMalformed, statuses: statuses, why: why}
}

// refReading is a stream's requests up to its end, or to the first that cannot be read.
type refReading struct {
	requests []refMessage
	torn     *refMessage // whose head was read and whose body was not
	at       int         // where the requests end
	fault    *refFault   // nil: nothing was left
}

func refRead(stream string, lim refLimits) (r refReading) {
	for r.at < len(stream) {
		q, n, fault := refRequest(stream[r.at:], lim)
		if fault != nil {
			if r.fault = fault; q.head != "" {
				r.torn = &q
			}
			return r
		}
		r.requests, r.at = append(r.requests, q), r.at+n
		if q.last {
			return r
		}
	}
	return r
}

// refRequest reads the request at the start of s and tells its length.
func refRequest(s string, lim refLimits) (q refMessage, n int, fault *refFault) {
	rest := strings.TrimPrefix(s, "\r\n")
	rest, fault = q.readHead(rest, lim.fields, q.requestLine)
	if fault == nil {
		fault = q.checkRequest(lim)
	}
	if size := len(s) - len(rest); size > lim.head || fault != nil && fault.kind == refUnfinished && len(s) >= lim.head {
		large := refBad("head too large", 431)
		if fault != nil { // whichever is seen first
			large.statuses = append(large.statuses, fault.statuses...)
		}
		fault = large
	}
	if fault != nil {
		return refMessage{}, 0, fault
	}
	if rest, fault = q.readBody(rest, lim.body); fault != nil {
		return q, 0, fault
	}
	return q, len(s) - len(rest), nil
}

// refLine cuts a line off.
func refLine(s string) (line, rest string, fault *refFault) {
	line, rest, ok := strings.Cut(s, "\n")
	if !ok {
		return "", s, &refFault{kind: refUnfinished, midLine: s != "", statuses: []int{400}, why: "in a line"}
	}
	line, ok = strings.CutSuffix(line, "\r")
	if !ok || strings.ContainsAny(line, "\r\x00") {
		return "", rest, refBad("line not ended by CRLF, or with CR or NUL in it", 400)
	}
	return line, rest, nil
}

// readHead reads start line and fields up to the empty line.
func (q *refMessage) readHead(s string, maxFields int, startLine func() *refFault) (rest string, fault *refFault) {
	q.length = -1
	if q.start, rest, fault = refLine(s); fault != nil {
		fault.statuses = append(fault.statuses, 501, 505) // for what else may be wrong in it
		return rest, fault
	}
	if fault := startLine(); fault != nil {
		return rest, fault
	}
	for {
		line, after, fault := refLine(rest)
		if rest = after; fault != nil {
			if len(q.fields) == maxFields {
				fault.statuses = append(fault.statuses, 431)
			}
			return rest, fault
		}
		if line == "" {
			q.head = s[:len(s)-len(rest)]
			return rest, q.checkFraming()
		}
		if len(q.fields) == maxFields {
			return rest, refBad("too many fields", 431)
		}
		f, ok := refParseField(line, q.status > 0)
		if !ok {
			return rest, refBad("field line", 400)
		}
		if q.fields = append(q.fields, f); !q.noteFraming(f) {
			return rest, refBad("framing", 400)
		}
	}
}

const refTokenBytes = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func refToken(s string) bool { return s != "" && refOnly(s, refTokenBytes) }

func refOnly(s, bytes string) bool {
	for i := range len(s) {
		if strings.IndexByte(bytes, s[i]) < 0 {
			return false
		}
	}
	return true
}

// refText tells whether s holds no control byte but HTAB.
func refText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// refParseField takes a field line apart. An answer's name may be followed by space, which is removed, and its value may
// hold control bytes.
func refParseField(line string, answer bool) (f refField, ok bool) {
	name, value, ok := strings.Cut(line, ":")
	if answer {
		name = strings.TrimRight(name, " \t")
		line = name + ":" + value
	}
	return refField{name, strings.Trim(value, " \t"), line + "\r\n"}, ok && refToken(name) && (answer || refText(value))
}

// requestLine checks the start line.
func (q *refMessage) requestLine() *refFault {
	w := strings.Split(q.start, " ")
	if len(w) != 3 {
		return refBad("start line", 400, 501, 505)
	}
	q.method, q.target = w[0], w[1]
	switch {
	case w[2] == "HTTP/1.1":
		q.minor = 1
	case w[2] != "HTTP/1.0":
		return refBad("version", 400, 505)
	}
	switch {
	case !refToken(q.method) || len(q.method) > 64:
		return refBad("method", 400)
	case q.method == "CONNECT":
		return refBad("CONNECT", 400, 501)
	case q.target == "" || strings.ContainsAny(q.target, "#\x7f") || !refText(q.target) || strings.Contains(q.target, "\t"):
		return refBad("target", 400)
	case q.target[0] == '/', q.target == "*" && q.method == "OPTIONS":
		return nil
	}
	authority, path, ok := refAbsolute(q.target)
	if !ok || path[0] != '/' || authority == "" || !refHost(authority) {
		return refBad("target", 400)
	}
	return nil
}

// refAbsolute takes an absolute target apart; path may be a query only.
func refAbsolute(target string) (authority, path string, ok bool) {
	scheme, after, ok := strings.Cut(target, "://")
	if s := strings.ToLower(scheme); !ok || s != "http" && s != "https" {
		return "", "", false
	}
	if i := strings.IndexAny(after, "/?"); i >= 0 {
		return after[:i], after[i:], true
	}
	return after, "/", true
}

// refHost tells whether s is a host with an optional port, or empty.
func refHost(s string) bool {
	const name = "-._~%!$&'()*+;=0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	host, port, ported := strings.Cut(s, ":")
	if strings.HasPrefix(s, "[") {
		inner, after, ok := strings.Cut(s[1:], "]")
		if !ok || len(inner) < 2 || !refOnly(inner, name+":") || after != "" && after[0] != ':' {
			return false
		}
		host, port, ported = "", strings.TrimPrefix(after, ":"), after != ""
	}
	if !refOnly(host, name) {
		return false
	}
	if !ported || port == "" {
		return true
	}
	n, err := strconv.Atoi(port)
	return err == nil && n < 1<<16 && len(port) <= 5 && refOnly(port, "0123456789")
}

// noteFraming checks what a field says of the body.
func (q *refMessage) noteFraming(f refField) bool {
	switch strings.ToLower(f.name) {
	case "content-length":
		if q.length >= 0 || f.value == "" || len(f.value) > 18 || !refOnly(f.value, "0123456789") {
			return false
		}
		q.length, _ = strconv.Atoi(f.value)
	case "transfer-encoding":
		if q.chunked || strings.ToLower(f.value) != "chunked" {
			return false
		}
		q.chunked = true
	}
	return true
}

// checkFraming checks what only the whole head shows, of either side.
func (q *refMessage) checkFraming() *refFault {
	names := q.listed()
	if len(names) > 32 {
		return refBad("Connection", 400)
	}
	if q.chunked && (q.length >= 0 || q.minor == 0) {
		return refBad("Transfer-Encoding", 400)
	}
	q.last = q.minor == 0 || slices.Contains(names, "close")
	return nil
}

// listed is the names in Connection, in lower case.
func (q *refMessage) listed() (names []string) {
	for _, v := range q.all("connection") {
		for _, name := range strings.Split(v, ",") {
			if name = strings.Trim(name, " \t"); name != "" {
				names = append(names, strings.ToLower(name))
			}
		}
	}
	return names
}

// all is the values of the fields called name.
func (q *refMessage) all(name string) (values []string) {
	for _, f := range q.fields {
		if strings.ToLower(f.name) == name {
			values = append(values, f.value)
		}
	}
	return values
}

func (q *refMessage) checkRequest(lim refLimits) *refFault {
	hosts, statuses := q.all("host"), []int(nil)
	if len(hosts) > 1 || len(hosts) == 0 && q.minor == 1 || len(hosts) == 1 && !refHost(hosts[0]) {
		statuses = append(statuses, 400)
	}
	if authority, path, ok := refAbsolute(q.target); ok && q.target[0] != '/' {
		if len(hosts) != 1 || !strings.EqualFold(authority, hosts[0]) {
			statuses = append(statuses, 400)
		}
		q.target = path
	}
	for _, v := range q.all("expect") {
		if strings.ToLower(v) != "100-continue" {
			statuses = append(statuses, 417)
		}
		q.expects = q.minor == 1
	}
	if q.length > lim.body {
		statuses = append(statuses, 413)
	}
	if statuses != nil {
		return refBad("head", statuses...)
	}
	return nil
}

// readBody reads a body that is framed by length or chunks.
func (q *refMessage) readBody(s string, limit int) (rest string, fault *refFault) {
	if !q.chunked {
		n := min(max(q.length, 0), len(s))
		if q.body = s[:n]; n < q.length {
			return s, &refFault{kind: refUnfinished, why: "in a body"}
		}
		return s[n:], nil
	}
	extensions := 0
	for {
		line, after, fault := refLine(s)
		if fault != nil {
			fault.statuses = append(fault.statuses, 413)
			return s, fault
		}
		s = after
		digits, extension, extended := strings.Cut(line, ";")
		if extended {
			extensions += len(extension) + 1
		}
		if digits == "" || len(digits) > 15 || !refOnly(digits, "0123456789abcdefABCDEF") || !refText(extension) || len(extension) > 1023 || extensions > 16<<10 {
			return s, refBad("chunk size", 400)
		}
		size, _ := strconv.ParseInt(digits, 16, 64)
		if size == 0 {
			return q.readTrailers(s)
		}
		n := int(min(size, int64(len(s))))
		if q.body += s[:n]; len(q.body) > limit {
			return s, refBad("body too large", 413, 400)
		}
		if s = s[n:]; n < int(size) || s == "" || s == "\r" {
			return s, &refFault{kind: refUnfinished, why: "in a chunk"}
		}
		var ok bool
		if s, ok = strings.CutPrefix(s, "\r\n"); !ok {
			return s, refBad("chunk end", 400)
		}
	}
}

func (q *refMessage) readTrailers(s string) (rest string, fault *refFault) {
	for size := 0; ; {
		line, rest, fault := refLine(s)
		if size += len(s) - len(rest); size > 8<<10 || fault != nil && fault.kind == refUnfinished && size+len(s) > 8<<10 {
			return s, refBad("trailers too large", 400)
		}
		if fault != nil || line == "" {
			return rest, fault
		}
		f, ok := refParseField(line, false)
		if !ok {
			return s, refBad("trailer", 400)
		}
		q.trailers, s = append(q.trailers, f), rest
	}
}
