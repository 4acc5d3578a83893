package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// draft is a request as its parts, for mutators to change before it becomes bytes.
type draft struct {
	line     string
	fields   []string
	framing  string // "", "length" or "chunked"
	length   string // what Content-Length says when it does not say the truth
	body     string
	chunks   []string // size line, data and CRLF each; the last chunk aside
	last     string   // the last chunk's line
	trailers []string
}

// smuggled is what must never be read as a request of its own unless the framing says so.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: t\r\nX-Smuggled: 1\r\n\r\n"

var draftTargets = []string{"/", "/index.php?page=a&b[]=1&b[]=2", "//x//y", "/a/../b", "/%2e%2e/%zz", "/a;b=c?d;e", "/caf\xc3\xa9", "/\"<>\\^`{|}", "/*", "http://t/abs?x", "HTTP://T", "https://t/"}

// newDraft is a valid request.
func newDraft(r *rand.Rand) *draft {
	method := []string{"GET", "GET", "POST", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "FOO", "get"}[r.IntN(10)]
	d := &draft{line: method + " " + draftTargets[r.IntN(len(draftTargets))] + " HTTP/1.1", fields: []string{"Host: t"}, last: "0"}
	if r.IntN(30) == 0 {
		d.line = "OPTIONS * HTTP/1.1"
	}
	for range r.IntN(4) {
		d.fields = append(d.fields, oddities[r.IntN(len(oddities))])
	}
	switch r.IntN(12) {
	case 0:
		d.fields = append(d.fields, "Connection: X-A, keep-alive ,,TE", "TE: trailers", "Keep-Alive: timeout=5")
	case 1:
		d.fields = append(d.fields, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
	case 2:
		d.fields = append(d.fields, "X-Forwarded-For: 10.0.0.1", "Forwarded: for=x", "X_Real_IP: 1", "X.Y: 2", "Proxy: http://x/", "Banyan-X: 1")
	case 3:
		if r.IntN(3) == 0 {
			d.fields = append(d.fields, "Connection: close")
		}
	case 4:
		if r.IntN(3) == 0 {
			d.line = strings.Replace(strings.Replace(d.line, "HTTP/1.1", "HTTP/1.0", 1), "http://t", "/http://t", 1)
			if d.line[:4] != "HTTP" && !strings.Contains(d.line, "://") && r.IntN(2) == 0 {
				d.fields = d.fields[1:]
			}
		}
	}
	if method != "GET" && r.IntN(4) > 0 || r.IntN(8) == 0 {
		d.addBody(r)
	}
	return d
}

// addBody gives the draft a body, with what an attacker would put there.
func (d *draft) addBody(r *rand.Rand) {
	d.body = []string{"hello", smuggled, "a=1&b=2", "0\r\n\r\n" + smuggled, "\r\n", "5\r\nhello\r\n0\r\n\r\n", strings.Repeat("x", 1+r.IntN(5000)), ""}[r.IntN(8)]
	if r.IntN(50) == 0 {
		d.body = strings.Repeat("0123456789abcdef", 2000+r.IntN(2000)) // more than a proxy keeps before it asks
	}
	if r.IntN(6) == 0 {
		d.fields = append(d.fields, "Expect: 100-continue")
	}
	if strings.HasSuffix(d.line, "1.0") || r.IntN(2) == 0 {
		d.framing = "length"
		return
	}
	d.framing = "chunked"
	for rest := d.body; rest != ""; {
		n := min(len(rest), 1+r.IntN(1+2*len(d.body)/3))
		size := fmt.Sprintf([]string{"%x", "%X", "0%x", "%x;a=b", "%x;q=\"x;y\"", "%x;", "0000%x"}[r.IntN(7)], n)
		d.chunks = append(d.chunks, size+"\r\n"+rest[:n]+"\r\n")
		rest = rest[n:]
	}
	if r.IntN(4) == 0 {
		d.trailers = append(d.trailers, "X-Trailer: 1", "Content-Length: 5", "Host: u")
	}
	if r.IntN(6) == 0 {
		d.last = []string{"00", "0;x=y", "000000000000000"}[r.IntN(3)]
	}
}

// text is the draft's bytes.
func (d *draft) text(r *rand.Rand) string {
	fields := slices.Clone(d.fields)
	add := func(f string) { fields = slices.Insert(fields, r.IntN(len(fields)+1), f) }
	switch length := d.length; {
	case d.framing == "chunked":
		add([]string{"Transfer-Encoding: chunked", "transfer-encoding:Chunked"}[r.IntN(2)])
		if length != "" {
			add("Content-Length: " + length)
		}
	case d.framing == "length" || length != "":
		if length == "" {
			length = fmt.Sprint(len(d.body))
		}
		add("Content-Length: " + length)
	}
	out := d.line + "\r\n"
	for _, f := range fields {
		out += f + "\r\n"
	}
	out += "\r\n"
	if d.framing != "chunked" {
		return out + d.body
	}
	out += strings.Join(d.chunks, "") + d.last + "\r\n"
	for _, f := range d.trailers {
		out += f + "\r\n"
	}
	return out + "\r\n"
}

// replaceOne changes one place of s where old stands.
func replaceOne(r *rand.Rand, s, old, with string) string {
	n := strings.Count(s, old)
	if n == 0 {
		return s
	}
	i := 0
	for skip := r.IntN(n); ; skip-- {
		i += strings.Index(s[i:], old)
		if skip == 0 {
			return s[:i] + with + s[i+len(old):]
		}
		i += len(old)
	}
}

func oneOf(r *rand.Rand, from ...string) string { return from[r.IntN(len(from))] }

// aField changes a field line.
func aField(d *draft, r *rand.Rand, change func(string) string) {
	if len(d.fields) > 0 {
		i := r.IntN(len(d.fields))
		d.fields[i] = change(d.fields[i])
	}
}

// aChunk changes a chunk, of a body that is made for it if there is none.
func aChunk(d *draft, r *rand.Rand, change func(string) string) {
	for d.framing != "chunked" && !strings.HasSuffix(d.line, "1.0") {
		d.body, d.length = "", ""
		d.addBody(r)
	}
	if len(d.chunks) == 0 {
		d.last = strings.TrimSuffix(change(d.last+"\r\n"), "\r\n")
		return
	}
	i := r.IntN(len(d.chunks))
	d.chunks[i] = change(d.chunks[i])
}

// ctl is bytes that parsers disagree on.
var ctl = []string{"\r", "\n", "\x00", "\t", " ", "\x0b", "\x0c", "\x7f", "\x85", "\xa0", "\xff", "\r\n", "\n\r", "\x01"}

// draftMutators change what a request says, each in a way that some server was once hurt by.
var draftMutators = []struct {
	name   string
	mutate func(d *draft, r *rand.Rand)
}{
	{"length differs", func(d *draft, r *rand.Rand) {
		n := len(d.body)
		d.length = oneOf(r, fmt.Sprint(n+1), fmt.Sprint(max(0, n-1)), "0", fmt.Sprint(n+len(smuggled)), "65536", "65537", "999999999999999999")
	}},
	{"length spelled oddly", func(d *draft, r *rand.Rand) {
		n := fmt.Sprint(len(d.body))
		d.length = oneOf(r, "+"+n, "-"+n, "0x"+n, n+",", n+", "+n, n+","+n, "0"+n, "000000000000000000"+n, n+" ", n+".0", n+"e0", n+"_", "1_0", "", "\""+n+"\"", n+";", "18446744073709551616", "9223372036854775808", "4294967296", n+"\x0b", "\xa0"+n, n+" 5")
	}},
	{"second length", func(d *draft, r *rand.Rand) {
		d.fields = append(d.fields, oneOf(r, "Content-Length: ", "content-length:", "CONTENT-LENGTH:\t", "Content-Length : ", "Content_Length: ", "Content-Length\x00: ", " Content-Length: ", "Content-Length:\x0b")+oneOf(r, "0", "5", fmt.Sprint(len(d.body)), fmt.Sprint(len(smuggled)), ""))
	}},
	{"coding spelled oddly", func(d *draft, r *rand.Rand) {
		d.fields = append(d.fields, oneOf(r, "Transfer-Encoding: ", "transfer-encoding:", "Transfer-Encoding : ", "Transfer_Encoding: ", "Transfer.Encoding: ", "\tTransfer-Encoding: ", "Transfer-Encoding\x0b: ", "X: y\rTransfer-Encoding: ", "X: y\nTransfer-Encoding: ", "Transfer-Encoding:\x00", "Transfer-Encoding:\r\n ")+
			oneOf(r, "chunked", "Chunked", "identity", "chunked, identity", "gzip, chunked", ",chunked", "chunked,", "xchunked", "chunked;q=1", "\"chunked\"", "'chunked'", "chunked chunked", "\x0bchunked", "chunked\x00", "\xa0chunked", "chunk", "", "cow", "chunked\r\n , identity"))
	}},
	{"chunked in truth", func(d *draft, r *rand.Rand) {
		d.fields = append(d.fields, "Transfer-Encoding: chunked")
		if r.IntN(2) == 0 {
			d.framing = ""
		}
		d.body = "0\r\n\r\n" + d.body
	}},
	{"fold", func(d *draft, r *rand.Rand) {
		aField(d, r, func(f string) string {
			return f + oneOf(r, "\r\n ", "\r\n\t", "\n ", "\r ") + oneOf(r, "folded", "X: y", "Content-Length: 5", "")
		})
	}},
	{"space around a colon", func(d *draft, r *rand.Rand) {
		aField(d, r, func(f string) string {
			return strings.Replace(f, ":", oneOf(r, " :", "\t:", " : ", "::", "\x0b:", "\r:", "", ": :"), 1)
		})
	}},
	{"byte in a name", func(d *draft, r *rand.Rand) {
		aField(d, r, func(f string) string { i := r.IntN(min(len(f), 8) + 1); return f[:i] + oneOf(r, ctl...) + f[i:] })
	}},
	{"byte in a value", func(d *draft, r *rand.Rand) {
		aField(d, r, func(f string) string { return f + oneOf(r, ctl...) + oneOf(r, "", "x", "X: y") })
	}},
	{"line without a name", func(d *draft, r *rand.Rand) {
		d.fields = append(d.fields, oneOf(r, ":", ": x", "x", " ", "\t", "\r", " : x", "GET / HTTP/1.1", "(x): y", "x/y: z", "[x]: y", "x@y: z", "\xefx: y", "\"x\": y"))
	}},
	{"host", func(d *draft, r *rand.Rand) {
		h := oneOf(r, "Host: u", "host: t", "Host:", "Host: t:80", "Host: t, u", "Host: t/u", "Host: u@t", "Host: t:x", "Host: t:65536", "Host: [::1]", "Host: [::1", "Host: t u", "Host: t\x00.u", "Host: \xfft", "HOST : t", "Host: t#", "Host: T", "Host: t:", "Host: []:1", "Host: [::]80", "Host: t:000080")
		if i := slices.Index(d.fields, "Host: t"); i >= 0 && r.IntN(2) == 0 {
			d.fields[i] = h
			return
		}
		d.fields = slices.Insert(d.fields, r.IntN(len(d.fields)+1), h)
	}},
	{"no host", func(d *draft, r *rand.Rand) {
		d.fields = slices.DeleteFunc(d.fields, func(f string) bool { return f == "Host: t" })
	}},
	{"target", func(d *draft, r *rand.Rand) {
		w := strings.Split(d.line, " ")
		if len(w) > 1 {
			w[1] = oneOf(r, "*", "t:80", "x", "", "http://u/", "http://t@u/", "http://t", "http://t?x", "http:///x", "http://t#x", "/#x", "/\x00", "/\x7f", "/ x", "/\tx", "/a\rb", "/a\nb", "file:///x", "http://t:80/", "//u/x", "?x", "http://T/x", "\\x", "http:/x", "HTTPS://t?", "http://t\\u/", "ftp://t/", "/x\xff")
			d.line = strings.Join(w, " ")
		}
	}},
	{"version", func(d *draft, r *rand.Rand) {
		w := strings.Split(d.line, " ")
		w[len(w)-1] = oneOf(r, "HTTP/1.0", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "http/1.1", "HTTP/1.1 ", "HTTP/1.10", "HTTP/01.1", "HTTP/1.", "HTTP/1,1", "HTTP/1.1\x00", "HTTP /1.1", "", "ICAP/1.1", "HTTP/1.1\t", "HTTP/9.9", "HTTP/1.\xb1")
		d.line = strings.Join(w, " ")
	}},
	{"method", func(d *draft, r *rand.Rand) {
		_, rest, _ := strings.Cut(d.line, " ")
		d.line = oneOf(r, "CONNECT", "HEAD", "G\x00T", "GET\t", "G(T", "", "HEAD", "TRACE", "GET\xff", "G=T", "\"GET\"", "PRI", " GET", "\tGET", strings.Repeat("M", 64), strings.Repeat("M", 65)) + " " + rest
	}},
	{"start line", func(d *draft, r *rand.Rand) {
		d.line = replaceOne(r, d.line, " ", oneOf(r, "  ", "\t", "", " x ", "\x0b", "\x0c", "\r", "\x85", " \t"))
	}},
	{"empty lines before", func(d *draft, r *rand.Rand) {
		d.line = oneOf(r, "\r\n", "\r\n\r\n", "\n", "\r", "\r\r\n", " \r\n") + d.line
	}},
	{"connection lists a field", func(d *draft, r *rand.Rand) {
		if len(d.fields) > 0 {
			name, _, _ := strings.Cut(d.fields[r.IntN(len(d.fields))], ":")
			d.fields = append(d.fields, "Connection: "+oneOf(r, name, strings.ToUpper(name), "x,"+name+",", "keep-alive, "+name))
		}
	}},
	{"connection", func(d *draft, r *rand.Rand) {
		d.fields = append(d.fields, oneOf(r, "Connection: ", "connection:", "Proxy-Connection: ")+oneOf(r, "close", "Close, x", "keep-alive", "Host", "Content-Length", "Transfer-Encoding", "Cookie", "X-A, x-a", "close\x00", "clos e", ",,close,,", strings.Repeat("a,", 32), strings.Repeat("a,", 33), "Authorization, Range", "upgrade, HTTP2-Settings", "expect", "X-Forwarded-For", "\"close\"", "close;x"))
	}},
	{"upgrade", func(d *draft, r *rand.Rand) {
		d.fields = append(d.fields, "Connection: "+oneOf(r, "upgrade", "Upgrade, HTTP2-Settings", "x"), "Upgrade: "+oneOf(r, "h2c", "websocket", "", "TLS/1.0, x", "h2c,WebSocket", "websocket/13", "websocket x", "websocket, a/b/c", ", websocket ,, WEBSOCKET"),
			oneOf(r, "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", "X: y", "Upgrade: second", "Upgrade: websocket", "Content-Length: 0"))
	}},
	{"expect", func(d *draft, r *rand.Rand) {
		d.fields = append(d.fields, "Expect: "+oneOf(r, "100-continue", "100-Continue", "200-ok", "", "100-continue, x", "100-continue\x00", "x=y"))
	}},
	{"names that PHP folds", func(d *draft, r *rand.Rand) {
		d.fields = append(d.fields, oneOf(r, "X_Forwarded_For: 6.6.6.6", "X-Forwarded_For: 6.6.6.6", "X.Forwarded.For: 6", "Content_Length: 5", "content_length: 5", "HTTP_HOST: u", "Transfer_Encoding: chunked", "X-Forwarded-Host: u", "x-original-url: /admin", "X-Rewrite-URL: /admin", "pROXY: x", "Client-IP: 6", "x-banyan-y: z", "Host_: u"))
	}},
	{"chunk size", func(d *draft, r *rand.Rand) {
		aChunk(d, r, func(c string) string {
			size, rest, _ := strings.Cut(c, "\r\n")
			return oneOf(r, "0x"+size, "+"+size, "-"+size, size+"_0", "0_"+size, " "+size, size+" ", size+"\t", "", "\r\n"+size, "ffffffffffffffff", "fffffffffffffff0", "8000000000000000", "10000000000000000"+size, "000000000000000000"+size, "7fffffffffffffff", size+"g", size+"\x00", "\x0b"+size, size+".", size+"h", "\""+size+"\"", size+"0", "1"+size, "0", size+"\xb5") + "\r\n" + rest
		})
	}},
	{"chunk extension", func(d *draft, r *rand.Rand) {
		aChunk(d, r, func(c string) string {
			size, rest, _ := strings.Cut(c, "\r\n")
			return size + oneOf(r, ";", ";x", "; x", " ;x", "\t;x", ";x\n", ";\nx", ";x=\"a\nb\"", ";x=\"a\r\nb\"", ";x=\"a\rb\"", ";\r", "\r;x", ";\x00", ";x=\"", ";\x7f", ";\xff", ";x=\"\\\"\"", ";"+strings.Repeat("x", 900), ";"+strings.Repeat("x", 1200), "\x0b;x", ";\n"+smuggled, ":x") + "\r\n" + rest
		})
	}},
	{"many extensions", func(d *draft, r *rand.Rand) {
		for range 10 + r.IntN(20) {
			d.chunks = append(d.chunks, "1;"+strings.Repeat("y", 900)+"\r\nz\r\n")
		}
	}},
	{"chunk end", func(d *draft, r *rand.Rand) {
		aChunk(d, r, func(c string) string {
			return strings.TrimSuffix(c, "\r\n") + oneOf(r, "\n", "\r", "", "XX", "X\n", "\rX", "\r\r\n", "\n\r", "X\r\n", "\r\n\r\n", "\r\nX", "XX\r\n", "\x00\x00")
		})
	}},
	{"chunk line end", func(d *draft, r *rand.Rand) {
		aChunk(d, r, func(c string) string {
			return strings.Replace(c, "\r\n", oneOf(r, "\n", "\r", "\r\r\n", "\n\r", " \r\n", "\rX", "\n\n"), 1)
		})
	}},
	{"last chunk", func(d *draft, r *rand.Rand) {
		d.last = oneOf(r, "", "0 ", "-0", "+0", "0x0", "0\n", "0\r", "0\r\n0", "00000000000000000", "0;", "0;\nx", "0\r\nX", "0XX", "0_0", "\r\n0", "0\x00")
	}},
	{"trailer", func(d *draft, r *rand.Rand) {
		d.trailers = append(d.trailers, oneOf(r, "X: y", "Transfer-Encoding: chunked", "Content-Length: 5", "Host: u", "Connection: close", "X : y", " X: y", "X", ": y", "X: y\n", "X: \x00", "X: a\rb", "X\x00: y", "GET /smuggled HTTP/1.1", "X: "+strings.Repeat("t", 5000), "X: y\r\n z"))
	}},
	{"body cut", func(d *draft, r *rand.Rand) {
		if len(d.chunks) > 0 {
			d.chunks = d.chunks[:len(d.chunks)-1]
		} else if d.body != "" {
			d.length, d.body = fmt.Sprint(len(d.body)), d.body[:r.IntN(len(d.body))]
		}
	}},
	{"body more", func(d *draft, r *rand.Rand) {
		d.length = fmt.Sprint(len(d.body))
		d.body += oneOf(r, smuggled, "\r\n", "x", "\r\n\r\n"+smuggled, "\n"+smuggled, "0\r\n\r\n", "\x00")
		if d.framing == "chunked" {
			d.length = ""
		}
	}},
	{"many fields", func(d *draft, r *rand.Rand) {
		d.fields = append(d.fields, slices.Repeat([]string{"X:"}, []int{200, 250, 255, 256, 300}[r.IntN(5)])...)
	}},
	{"long field", func(d *draft, r *rand.Rand) {
		d.fields = append(d.fields, "X-Long: "+strings.Repeat("l", 3000+r.IntN(3000)))
	}},
	{"long line", func(d *draft, r *rand.Rand) {
		d.line = strings.Replace(d.line, "/", "/"+strings.Repeat("l", r.IntN(6000)), 1)
	}},
}

// byteMutators change a stream without knowing what it says.
var byteMutators = []struct {
	name   string
	mutate func(s string, r *rand.Rand) string
}{
	{"insert", func(s string, r *rand.Rand) string {
		i := r.IntN(len(s) + 1)
		return s[:i] + oneOf(r, append(ctl, ":", ";", ",", "_", "0", "#")...) + s[i:]
	}},
	{"delete", func(s string, r *rand.Rand) string {
		i := r.IntN(len(s))
		return s[:i] + s[min(len(s), i+1+r.IntN(3)):]
	}},
	{"replace", func(s string, r *rand.Rand) string {
		i := r.IntN(len(s))
		return s[:i] + string([]byte{byte(r.Uint32())}) + s[i+1:]
	}},
	{"line end", func(s string, r *rand.Rand) string {
		return replaceOne(r, s, "\r\n", oneOf(r, "\n", "\r", "\r\r\n", "\n\r", "", "\r\n\r\n", "\r\x00\n", " \r\n"))
	}},
	{"all line ends", func(s string, r *rand.Rand) string { return strings.ReplaceAll(s, "\r\n", oneOf(r, "\n", "\r")) }},
	{"truncate", func(s string, r *rand.Rand) string { return s[:r.IntN(len(s))] }},
	{"behead", func(s string, r *rand.Rand) string { return s[r.IntN(min(len(s), 30)):] }},
	{"line twice", func(s string, r *rand.Rand) string {
		lines := strings.SplitAfter(s, "\r\n")
		i := r.IntN(len(lines))
		return strings.Join(slices.Insert(lines, r.IntN(len(lines)+1), lines[i]), "")
	}},
	{"line away", func(s string, r *rand.Rand) string {
		lines := strings.SplitAfter(s, "\r\n")
		i := r.IntN(len(lines))
		return strings.Join(slices.Delete(lines, i, i+1), "")
	}},
	{"smuggle", func(s string, r *rand.Rand) string { i := r.IntN(len(s) + 1); return s[:i] + smuggled + s[i:] }},
	{"case", func(s string, r *rand.Rand) string {
		i := r.IntN(len(s))
		j := min(len(s), i+5)
		return s[:i] + strings.ToUpper(s[i:j]) + s[j:]
	}},
	{"digit", func(s string, r *rand.Rand) string {
		return replaceOne(r, s, oneOf(r, "0", "1", "5", "t"), oneOf(r, "0", "1", "9", "\xb9", "a", "O"))
	}},
}

// newStream is a pipeline of requests, mutated more often than not.
func newStream(r *rand.Rand, used map[string]int) string {
	drafts := make([]*draft, 1+r.IntN(4))
	for i := range drafts {
		drafts[i] = newDraft(r)
	}
	for range []int{0, 1, 1, 1, 1, 2, 2, 3}[r.IntN(8)] {
		m := draftMutators[r.IntN(len(draftMutators))]
		m.mutate(drafts[r.IntN(len(drafts))], r)
		used[m.name]++
	}
	stream := ""
	for _, d := range drafts {
		stream += d.text(r)
	}
	for range []int{0, 0, 0, 0, 1, 1, 2}[r.IntN(7)] {
		if stream == "" {
			break
		}
		m := byteMutators[r.IntN(len(byteMutators))]
		stream = m.mutate(stream, r)
		used["bytes: "+m.name]++
	}
	return stream
}
