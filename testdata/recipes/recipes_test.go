package recipes

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// what a client asks in the comparison.
type request struct {
	name, method, target, head string
	body                       []byte
}

func requests(host string) []request {
	h := "Host: " + host + "\r\n"
	form := h + "Content-Type: application/x-www-form-urlencoded\r\n"
	upload := bytes.Repeat([]byte("0123456789abcdef"), 8<<20/16)
	multipart := slices.Concat([]byte("--B\r\nContent-Disposition: form-data; name=\"a[k]\"\r\n\r\nv\r\n--B\r\nContent-Disposition: form-data; name=\"map\"; filename=\"m a\u00fc.png\"\r\nContent-Type: image/png\r\n\r\n"),
		upload, []byte("\r\n--B--\r\n"))
	out := []request{
		{"upload", "POST", "/index.php?do=upload", h + "Content-Type: multipart/form-data; boundary=B\r\n", multipart},
		{"form", "POST", "/index.php?page=unit&action=move", form, []byte("unit=42&to=7&a[]=1&a[]=2&name=%C3%BC+x&name=last&semi=a;b")},
		{"json", "POST", "/index.php", h + "Content-Type: application/json\r\n", []byte(`{"action":"move","unit":42}`)},
		{"put", "PUT", "/index.php", h, []byte("put")},
		{"empty post", "POST", "/index.php", h, []byte{}},
		{"chunked", "POST", "/index.php", form + "Transfer-Encoding: chunked\r\n", nil},
		{"too large", "POST", "/index.php", form, bytes.Repeat([]byte("x"), 17<<20)},
		{"head", "HEAD", "/index.php?x=1", h, nil},
		{"options", "OPTIONS", "/index.php", h, nil},
		{"cookies and more", "GET", "/index.php", h + "Cookie: PHPSESSID=abc; b=%20x; d=\"q\"\r\nUser-Agent: X/1 (y)\r\nReferer: https://elsewhere/\r\nAccept-Language: de\r\nAccept-Encoding: gzip, br\r\n" +
			"Authorization: Basic cDpxOnI=\r\nX-Requested-With: XMLHttpRequest\r\nX-Empty:\r\nX-Long: " + strings.Repeat("l", 3000) + "\r\nOrigin: null\r\nIf-None-Match: \"x\"\r\nClient-Ip: 6.6.6.6\r\n", nil},
		{"two cookie lines", "GET", "/index.php", h + "Cookie: a=1\r\nCookie: b=2\r\n", nil},
		{"claims", "GET", "/index.php", h + "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Host: evil.example\r\nX_Forwarded_For: 7.7.7.7\r\n", nil},
		{"range", "GET", "/style.css", h + "Range: bytes=2-5\r\n", nil},
		{"other name", "GET", "/index.php", "Host: GAME.example:8443\r\n", nil},
	}
	for _, target := range []string{
		"/", "/?page=map&a=1&a=2", "/index.php?a=1&a=2&b[]=x&b[k]=y&c=%20+&d;e=f&g=%2F%2f&h=%zz&i==&&", "//index.php", "/./index.php", "/dir/../index.php?x", "/%69ndex.php",
		"/index.php/extra//a%2Fb;c=d/%C3%A9?raw=%2F;x", "/index.php%2Fextra", "/index.php?", "/pretty/a%2Fb//c;d=e/%20?q=1", "//double//slash", "/%2e%2e/x", "/a%5Cb",
		"/style.css", "/style.css?v=7", "/a%20b.txt", "/%61%20b.txt", "/dir/", "/dir", "/dir?x=1", "/missing.php", "/missing.css", "/dir/../style.css",
		"/index.php?do=redirect", "/index.php?do=redirect&to=%2Frelative", "/index.php?do=redirect&to=index.php%3Fa%3Db&status=303", "/index.php?do=cookies",
		"/index.php?do=gone", "/index.php?do=broken", "/index.php?do=empty", "/index.php?do=big", "/index.php?do=length", "/" + strings.Repeat("x", 4000),
	} {
		out = append(out, request{"GET " + target[:min(40, len(target))], "GET", target, h, nil})
	}
	return out
}

// chunks ends the head of a chunked request and is its body.
const chunks = "7\r\nunit=42\r\n5\r\n&to=7\r\n0\r\n\r\n"

// answer is one answer as it is compared, in lines.
type answer []string

// snapshot asks everything and gives each answer by its request's name.
func (s *site) snapshot(t *testing.T, host string) map[string]answer {
	t.Helper()
	return s.answers(t, requests(host))
}

// glance is a snapshot without the large bodies, which take most of the time.
func (s *site) glance(t *testing.T, host string) map[string]answer {
	t.Helper()
	return s.answers(t, slices.DeleteFunc(requests(host), func(q request) bool { return len(q.body) > 1<<20 }))
}

func (s *site) answers(t *testing.T, requests []request) map[string]answer {
	t.Helper()
	out := map[string]answer{}
	for _, q := range requests {
		head := q.head
		if strings.Contains(head, "chunked") {
			head += "Connection: close\r\n\r\n" + chunks // what exchange adds comes too late, and is not read
		}
		r, body, port, err := s.ask(q.method, q.target, head, q.body)
		if err != nil {
			out[q.name] = answer{"error " + err.Error()}
			continue
		}
		a := answer{"status " + r.Status}
		for name, values := range r.Header {
			if name == "Date" || name == "Connection" { // the time; whether this connection is kept
				continue
			}
			for i, v := range values {
				a = append(a, fmt.Sprintf("header %s[%d] %s", name, i, v))
			}
		}
		out[q.name] = append(a, told(body, port)...)
		sort.Strings(out[q.name])
	}
	return out
}

// told is a line for each value that the script saw, or the digest of another body.
func told(body []byte, port int) answer {
	var seen map[string]json.RawMessage
	if json.Unmarshal(body, &seen) != nil {
		return answer{fmt.Sprintf("body %d %x", len(body), sha256.Sum256(body))}
	}
	var a answer
	for part, raw := range seen {
		var values map[string]any
		if json.Unmarshal(raw, &values) != nil {
			a = append(a, fmt.Sprintf("php %s %s", part, raw))
			continue
		}
		for name, v := range values {
			text := fmt.Sprint(v)
			if name == "REMOTE_PORT" && text == fmt.Sprint(port) {
				text = "the client's"
			}
			a = append(a, fmt.Sprintf("php %s.%s %s", part, name, text))
		}
	}
	return a
}

// accepted are the differences that PHP may see, each with its reason. Nothing else may differ.
var accepted = []struct {
	line *regexp.Regexp
	why  string
}{
	{regexp.MustCompile(`^php server\.REMOTE_PORT `), "the client's port does not travel with its address"},
	{regexp.MustCompile(`^php server\.SERVER_ADDR `), "the address of the nginx that php-fpm is asked by"},
	{regexp.MustCompile(`^php server\.HTTP_CONNECTION `), "belongs to one connection"},
	{regexp.MustCompile(`^php server\.HTTP_TRANSFER_ENCODING `), "belongs to one connection"},
	{regexp.MustCompile(`^php server\.HTTP_X_FORWARDED_(FOR|PROTO|HOST) (6\.6\.6\.6|gopher|evil\.example)$`), "what a client claims is not passed on"},
	{regexp.MustCompile(`^php server\.HTTP_CLIENT_IP 6\.6\.6\.6$`), "what a client claims is not passed on"},
	{regexp.MustCompile(`^php server\.HTTP_CONTENT_LENGTH 12$`), "nginx gathers a chunked body before it passes it on, and says its length"},
}

// differences lists what has changed in the answers of after and is not accepted, and counts how often each acceptance was
// needed.
func differences(before, after map[string]answer, used map[string]int) []string {
	var out []string
	for name, a := range after {
		b := before[name]
		for _, side := range []struct {
			sign       string
			mine, over answer
		}{{"-", b, a}, {"+", a, b}} {
			for _, line := range side.mine {
				if slices.Contains(side.over, line) {
					continue
				}
				if why := accept(line); why != "" {
					used[why]++
					continue
				}
				out = append(out, fmt.Sprintf("%s: %s %.200s", name, side.sign, line))
			}
		}
	}
	sort.Strings(out)
	return out
}

func accept(line string) string {
	for _, x := range accepted {
		if x.line.MatchString(line) {
			return x.why
		}
	}
	return ""
}

func (s *site) same(t *testing.T, when string, before, after map[string]answer) {
	t.Helper()
	used := map[string]int{}
	d := differences(before, after, used)
	if len(d) > 0 {
		t.Errorf("%s: %d differences (- before, + now):\n%s", when, len(d), strings.Join(d, "\n"))
	}
	n := 0
	for _, a := range before {
		n += len(a)
	}
	t.Logf("%s: %d requests, %d values compared, accepted: %v", when, len(before), n, used)
}

// sanity: the comparison is of what it should be.
func (s *site) sane(t *testing.T, before map[string]answer) {
	t.Helper()
	for name, want := range map[string]string{
		"GET /dir": "status 301 Moved Permanently", "GET /missing.php": "status 404 Not Found", "too large": "status 413 Request Entity Too Large", "upload": "php files.map [m aü.png image/png 8.388608e+06 0 ",
		"GET /index.php?do=cookies": "header Set-Cookie[17] ", "form": "php post.name last", "chunked": "php post.to 7", "GET /style.css": "header Content-Type[0] text/css",
		"GET /index.php/extra//a%2Fb;c=d/%C3%A9?raw=%": "php server.REQUEST_URI /index.php/extra//a%2Fb;c=d/%C3%A9?raw=%2F;x", "claims": "php server.REMOTE_ADDR " + clientIP,
	} {
		if len(name) > 44 { // as requests names it
			name = name[:44]
		}
		if !slices.ContainsFunc(before[name], func(l string) bool { return strings.HasPrefix(l, want) }) {
			t.Errorf("before: %s lacks %q:\n%s", name, want, strings.Join(before[name], "\n"))
		}
	}
}

// eachAdded takes away each line that the recipe adds and reasons for, and wants the comparison to notice.
func (s *site) eachAdded(t *testing.T, conf, host string, before map[string]answer, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if strings.Count(conf, line) != 1 {
			t.Fatalf("%q is not one line of the recipe", line)
		}
		s.restart(t, strings.Replace(conf, line, "", 1))
		d := differences(before, s.glance(t, host), map[string]int{})
		if len(d) == 0 {
			t.Errorf("nothing differs without %q: it is not needed, or not tested", line)
			continue
		}
		t.Logf("without %q: %d differences, such as %s", line, len(d), d[len(d)-1])
	}
	s.restart(t, conf)
}

// visitors ask all the time, each on a new connection, and must never be refused. The last one keeps a session.
func (s *site) visitors(t *testing.T, host string) (stop func() int64) {
	t.Helper()
	var n atomic.Int64
	var wg sync.WaitGroup
	end := make(chan struct{})
	for i := range 3 {
		wg.Go(func() {
			head := "Host: " + host + "\r\n"
			for visit := 1; ; visit++ {
				select {
				case <-end:
					return
				default:
				}
				r, body, _, err := s.ask("GET", "/index.php?do=session", head, nil)
				if err != nil || r.StatusCode != 200 || string(body) != fmt.Sprint(visit) {
					t.Errorf("visitor %d: visit %d: %v %v %q", i, visit, err, r, body)
					return
				}
				if c := r.Header.Get("Set-Cookie"); c != "" {
					head += "Cookie: " + c[:strings.IndexByte(c, ';')] + "\r\n"
				}
				n.Add(1)
			}
		})
	}
	return func() int64 { close(end); wg.Wait(); return n.Load() }
}

// through tells whether PHP's requests pass banyan now: the client's port does not travel.
func (s *site) through(host string) bool {
	_, body, port, err := s.ask("GET", "/index.php", "Host: "+host+"\r\n", nil)
	return err == nil && !bytes.Contains(body, fmt.Appendf(nil, "%d", port))
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after a minute", what)
		}
		time.Sleep(20 * time.Millisecond) // another program's state, which gives no signal
	}
}

// nginx keeps TLS and files, PHP goes through banyan, and out again while people visit.
func TestBehindNginx(t *testing.T) {
	s := newSite(t, "before.conf", true)
	_, port, _ := net.SplitHostPort(s.public)
	host := "game.example:" + port
	php := s.fpm.Pid()
	before := s.snapshot(t, host)
	s.sane(t, before)
	s.same(t, "asked again", before, s.snapshot(t, host))

	recipe := read(t, "behind-nginx.conf")
	banyan := start(t, nil, "proxy", "--listen", s.front, "--legacy", "http://"+s.inner, "--trusted-proxy", "127.0.0.1/32")
	stop := s.visitors(t, host)
	s.use(t, recipe)
	wait(t, "the way in", func() bool { return s.through(host) })
	s.same(t, "through banyan", before, s.snapshot(t, host))
	s.use(t, wayOut(t, recipe))
	wait(t, "the way out", func() bool { return !s.through(host) })
	visits := stop()
	banyan.stop(t)
	s.same(t, "out again", before, s.snapshot(t, host))
	t.Logf("%d visits in three sessions meanwhile", visits)

	s.restart(t, recipe)
	banyan = start(t, nil, "proxy", "--listen", s.front, "--legacy", "http://"+s.inner)
	if d := differences(before, s.glance(t, host), map[string]int{}); len(d) == 0 {
		t.Error("nothing differs without --trusted-proxy: it is not needed, or not tested")
	}
	banyan.stop(t)
	start(t, nil, "proxy", "--listen", s.front, "--legacy", "http://"+s.inner, "--trusted-proxy", "127.0.0.1/32")
	s.eachAdded(t, recipe, host, before, "$request_uri", "proxy_set_header Host $http_host;", "proxy_set_header X-Forwarded-For $remote_addr;",
		"set_real_ip_from 127.0.0.1;", "real_ip_header X-Forwarded-For;", "real_ip_recursive on;", "fastcgi_param HTTPS on;", "fastcgi_param REQUEST_SCHEME https;",
		"fastcgi_param SERVER_PORT 443;", `fastcgi_param HTTP_X_FORWARDED_FOR "" if_not_empty;`, `fastcgi_param HTTP_X_FORWARDED_PROTO "" if_not_empty;`,
		`fastcgi_param HTTP_X_FORWARDED_HOST "" if_not_empty;`)
	if s.fpm.Pid() != php {
		t.Error("php-fpm was restarted")
	}
}

// wayOut exchanges the two lines as the recipe says.
func wayOut(t *testing.T, recipe string) string {
	t.Helper()
	lines := strings.Split(recipe, "\n")
	n := 0
	for i, l := range lines {
		switch text := strings.TrimSpace(l); {
		case strings.HasPrefix(text, "proxy_pass ") && strings.Contains(l, "way out"):
			lines[i], n = "#"+l, n+1
		case strings.HasPrefix(text, "#include ") && strings.Contains(l, "way out"):
			lines[i], n = strings.Replace(l, "#", "", 1), n+1
		}
	}
	if n != 2 {
		t.Fatalf("%d lines are marked as the way out, want 2", n)
	}
	return strings.Join(lines, "\n")
}

// banyan takes the public port, nginx goes behind it, and back.
func TestBeforeNginx(t *testing.T) {
	s := newSite(t, "before-plain.conf", false)
	_, port, _ := net.SplitHostPort(s.public)
	host := "game.example:" + port
	php := s.fpm.Pid()
	before := s.snapshot(t, host)
	if got, want := before["GET /dir"], "header Location[0] http://game.example:"+port+"/dir/"; !slices.Contains(got, want) {
		t.Errorf("before: /dir lacks %q: %q", want, got)
	}
	wanted := on80(before, port)

	recipe := read(t, "before-nginx.conf")
	free := func() bool {
		c, err := net.Dial("tcp", s.public)
		if err == nil {
			c.Close()
		}
		return err != nil
	}
	s.use(t, recipe)
	began := time.Now()
	wait(t, "nginx leaves the port", free)
	banyan := start(t, nil, "proxy", "--listen", s.public, "--legacy", "http://"+s.inner)
	t.Logf("the port was nobody's for at most %v", time.Since(began).Round(time.Millisecond))
	s.same(t, "through banyan", wanted, s.snapshot(t, host))
	s.eachAdded(t, recipe, host, wanted, "port_in_redirect off;", "set_real_ip_from 127.0.0.1;", "real_ip_header X-Forwarded-For;", "fastcgi_param SERVER_PORT 80;",
		`fastcgi_param HTTP_X_FORWARDED_FOR "" if_not_empty;`, `fastcgi_param HTTP_X_FORWARDED_PROTO "" if_not_empty;`, `fastcgi_param HTTP_X_FORWARDED_HOST "" if_not_empty;`)

	banyan.stop(t)
	s.use(t, read(t, "before-plain.conf"))
	wait(t, "nginx takes the port", func() bool { return !free() })
	s.same(t, "out again", before, s.snapshot(t, host))
	if s.fpm.Pid() != php {
		t.Error("php-fpm was restarted")
	}
}

// on80 is what nginx answers on port 80, which it leaves out of its own redirects.
func on80(answers map[string]answer, port string) map[string]answer {
	out := map[string]answer{}
	for name, a := range answers {
		for _, l := range a {
			if strings.HasPrefix(l, "header Location[0] http://game.example:"+port+"/dir/") {
				l = strings.Replace(l, ":"+port, "", 1)
			}
			out[name] = append(out[name], l)
		}
	}
	return out
}
