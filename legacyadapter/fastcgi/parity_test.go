package fastcgi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banyan/proxy"
	"banyan/testdata/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func site(t testing.TB) string {
	t.Helper()
	root, err := filepath.Abs("testdata/site")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// front is banyan before a php-fpm.
func front(t testing.TB, cfg Config, server proxy.Config, options proxy.ForwardOptions) (addr string, up *Upstream) {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "legacy"
	}
	up, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := proxy.NewServer(server, &proxy.Passthrough{Upstream: up, Options: options}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }() // ends with Shutdown
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		<-done
		up.Close()
	})
	return l.Addr().String(), up
}

// nginxConf is nginx as Debian's files set it up: snippets/fastcgi-php.conf and fastcgi.conf, line by line.
const nginxConf = `
set_real_ip_from 127.0.0.2/32; real_ip_header X-Forwarded-For; real_ip_recursive on;
server {
  listen {{.Addr}};
  root %q;
  index index.php;
  client_max_body_size 64m;
  location ~ /\.(?!well-known) { return 404; }
  location / { try_files $uri $uri/ %s; }
  location ~ \.php\.bak$ { return 404; }
  types { text/css css; text/plain txt; text/html html; }
  location ~ [^/]\.php(/|$) {
    fastcgi_split_path_info ^(.+?\.php)(/.*)$;
    try_files $fastcgi_script_name =404;
    set $path_info $fastcgi_path_info;
    fastcgi_param PATH_INFO $path_info;
    fastcgi_index index.php;
    fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
    fastcgi_param QUERY_STRING $query_string;
    fastcgi_param REQUEST_METHOD $request_method;
    fastcgi_param CONTENT_TYPE $content_type;
    fastcgi_param CONTENT_LENGTH $content_length;
    fastcgi_param SCRIPT_NAME $fastcgi_script_name;
    fastcgi_param REQUEST_URI $request_uri;
    fastcgi_param DOCUMENT_URI $document_uri;
    fastcgi_param DOCUMENT_ROOT $document_root;
    fastcgi_param SERVER_PROTOCOL $server_protocol;
    fastcgi_param REQUEST_SCHEME $scheme;
    fastcgi_param HTTPS $https if_not_empty;
    fastcgi_param GATEWAY_INTERFACE CGI/1.1;
    fastcgi_param SERVER_SOFTWARE nginx/$nginx_version;
    fastcgi_param REMOTE_ADDR $remote_addr;
    fastcgi_param REMOTE_PORT $remote_port;
    fastcgi_param REMOTE_USER $remote_user;
    fastcgi_param SERVER_ADDR $server_addr;
    fastcgi_param SERVER_PORT $server_port;
    fastcgi_param SERVER_NAME $server_name;
    fastcgi_param REDIRECT_STATUS 200;
    fastcgi_pass "unix:%s";
  }
}`

// exchange sends raw bytes from a local address, and gives the answer with its body.
func exchange(t testing.TB, addr, from, raw string) (*http.Response, []byte) {
	t.Helper()
	d := net.Dialer{}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(raw, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%.200q: %v", raw, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%.200q: %v", raw, err)
	}
	return resp, body
}

// odd is a request; head lines beside Host and Connection, and the body.
type odd struct {
	line  string // "GET /x"; HTTP/1.1 if it names no version
	lines string // "A: b|C: d"
	body  string
	from  string // local address, default 127.0.0.1
}

func (o odd) raw() string {
	line := o.line
	if !strings.Contains(line, " HTTP/") {
		line += " HTTP/1.1"
	}
	raw := line + "\r\nHost: game.test\r\nConnection: close\r\n"
	for l := range strings.SplitSeq(o.lines, "|") {
		if l != "" {
			raw += l + "\r\n"
		}
	}
	if o.body != "" && !strings.Contains(o.lines, "Transfer-Encoding") {
		raw += fmt.Sprintf("Content-Length: %d\r\n", len(o.body))
	}
	return raw + "\r\n" + o.body
}

const form = "Content-Type: application/x-www-form-urlencoded"

var odds = []odd{
	{line: "GET /dump.php"},
	{line: "GET /dump.php?"},
	{line: "GET /dump.php?a=1&a=2&b[]=1&b[]=2&c[x][y]=3"},
	{line: "GET /dump.php?a.b=1&a%20c=2&_x=3"},
	{line: "GET /dump.php?a=%zz&b=%00&c=%ff"},
	{line: "GET /dump.php?a+b=c+d&e=%2B"},
	{line: "GET /dump.php?x=\"<>{}|^`"},
	{line: "GET /dump.php?a=1;b=2"},
	{line: "GET /dump.php??a=1?b"},
	{line: "GET /dump.php/"},
	{line: "GET /dump.php/extra"},
	{line: "GET /dump.php/extra/more.php?x=1"},
	{line: "GET /dump.php/a%20b/%C3%A4"},
	{line: "GET /dump.php/a//b"},
	{line: "GET /dump.php/a/../b"},
	{line: "GET /dump.php/a/./b"},
	{line: "GET /dump.php%2fextra"},
	{line: "GET /dump%2ephp"},
	{line: "GET /%64ump.php"},
	{line: "GET //dump.php"},
	{line: "GET /./dump.php"},
	{line: "GET /dir/../dump.php"},
	{line: "GET /dir/%2e%2e/dump.php"},
	{line: "GET /dir/"},
	{line: "GET /dir/?x=1"},
	{line: "GET /dir//index.php"},
	{line: "GET /"},
	{line: "GET /?page=map&action=move"},
	{line: "GET /missing.php"},
	{line: "GET /upload.jpg/x.php"},
	{line: "GET /upload.jpg%00.php"},
	{line: "GET /style.css/x.php"},
	{line: "GET /dump.php.bak"},
	{line: "GET /DUMP.PHP"},
	{line: "GET /.hidden/config"},
	{line: "GET /nothing/here"},
	{line: "GET /dir"},
	{line: "GET /dir?x=1&y"},
	{line: "GET /style.css"},
	{line: "GET /a%20b.txt"},
	{line: "HEAD /style.css"},
	{line: "HEAD /dump.php"},
	{line: "POST /dump.php", lines: form, body: "a=1&b[]=2&b[]=3&c.d=4"},
	{line: "POST /dump.php?a=0&q=1", lines: form, body: "a=1"},
	{line: "POST /dump.php", lines: form + "; charset=UTF-8", body: "name=%C3%A4&raw=\xff\x00"},
	{line: "POST /dump.php", lines: "Content-Type: application/json", body: `{"a":[1,2]}`},
	{line: "POST /dump.php", body: "no type at all"},
	{line: "POST /dump.php", lines: "Content-Length: 0"},
	{line: "POST /dump.php", lines: form + "|Transfer-Encoding: chunked", body: "5\r\na=1&b\r\n3\r\n=22\r\n0\r\n\r\n"},
	{line: "POST /dump.php", lines: "Content-Type: multipart/form-data; boundary=b", body: "--b\r\nContent-Disposition: form-data; name=\"t\"\r\n\r\ntext\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\nfile\r\n--b--\r\n"},
	{line: "PUT /dump.php/item/7", lines: "Content-Type: text/plain", body: "put"},
	{line: "DELETE /dump.php?id=7"},
	{line: "PATCH /dump.php", lines: form, body: "a=1"},
	{line: "OPTIONS /dump.php", lines: "Origin: http://a.test|Access-Control-Request-Method: PUT"},
	{line: "REPORT /dump.php"},
	{line: "GET /dump.php HTTP/1.0"},
	{line: "GET http://game.test/dump.php?x=1"},
	{line: "GET /dump.php", lines: "Cookie: a=1; b=2; a=3; c.d=4; e=%41+"},
	{line: "GET /dump.php", lines: "X-Custom: a|X-Other:   spaced   |X-Empty:"},
	{line: "GET /dump.php", lines: "X_Under: a|Proxy: evil:80|X.Dot: b"},
	{line: "GET /dump.php", lines: "X-Twice: a|X-Twice: b"},
	{line: "GET /dump.php", lines: "X-Long: " + strings.Repeat("y", 3000)},
	{line: "GET /dump.php", lines: "Accept: */*|Accept-Encoding: gzip, br|Accept-Language: de|User-Agent: Mozilla/5.0 (odd)|Referer: http://a.test/?x"},
	{line: "GET /dump.php", lines: "Authorization: Basic " + "bWU6c2VjcmV0"},
	{line: "GET /dump.php", lines: "Authorization: Bearer abc"},
	{line: "GET /dump.php", lines: "Authorization: Digest username=\"a\", realm=\"r\", nonce=\"n\", uri=\"/\", response=\"x\""},
	{line: "GET /dump.php", lines: "X-Latin: \xe4\xf6|X-Utf: ä"},
	{line: "GET /dump.php", lines: "If-None-Match: \"x\"|Range: bytes=0-1|If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT"},
	{line: "GET /dump.php", lines: "X-Forwarded-For: 198.51.100.7|X-Forwarded-Proto: https", from: "127.0.0.2"},
	{line: "GET /dump.php", lines: "X-Forwarded-For: 198.51.100.7, 127.0.0.2", from: "127.0.0.2"},
	{line: "GET /dump.php", lines: "X-Forwarded-For: 203.0.113.9, nonsense", from: "127.0.0.2"},
	{line: "GET /dump.php", from: "127.0.0.2"},
	{line: "GET /dump.php?" + strings.Repeat("long=1&", 800)},
	{line: "GET /answer.php?how=line"},
	{line: "GET /answer.php?how=status&code=500"},
	{line: "GET /answer.php?how=status&code=418"},
	{line: "GET /answer.php?how=location"},
	{line: "GET /answer.php?how=created"},
	{line: "GET /answer.php?how=cookies"},
	{line: "GET /answer.php?how=length"},
	{line: "HEAD /answer.php?how=length"},
	{line: "GET /answer.php?how=longer"},
	{line: "GET /answer.php?how=empty"},
	{line: "GET /answer.php?how=bare"},
	{line: "GET /answer.php?how=204"},
	{line: "GET /answer.php?how=304"},
	{line: "GET /answer.php?how=connection"},
	{line: "GET /answer.php?how=hints"},
	{line: "GET /answer.php?how=events"},
	{line: "GET /answer.php?how=fatal"},
	{line: "GET /answer.php?how=finish"},
	{line: "POST /answer.php?how=digest", lines: "Content-Type: text/plain", body: strings.Repeat("0123456789", 30_000)},
	{line: "POST /answer.php?how=echo", lines: "Content-Type: text/plain", body: strings.Repeat("0123456789", 30_000)},
}

// accepted are the differences between nginx and banyan that are meant: by the name of the variable or field.
var accepted = map[string]string{
	"SERVER_SOFTWARE":        "the name of the server",
	"REQUEST_TIME":           "the time",
	"REQUEST_TIME_FLOAT":     "the time",
	"REMOTE_PORT":            "another connection",
	"SERVER_PORT":            "another listener",
	"HTTP_CONNECTION":        "a field of the connection is not passed on",
	"HTTP_TRANSFER_ENCODING": "a field of the connection is not passed on",
	"Proxy":                  "never passed on; PHP itself hides HTTP_PROXY, but not from getallheaders",
	"HTTP_X_TWICE":           "joined, as nginx does since 1.23; older ones let PHP see the last",
	"X-Twice":                "joined, as nginx does since 1.23; older ones let PHP see the last (getallheaders)",
	"Connection":             "a field of the connection is not passed on (getallheaders)",
	"Transfer-Encoding":      "a field of the connection is not passed on (getallheaders)",
}

// The same script through nginx and through banyan sees the same request.
func TestScriptsSeeWhatNginxShowsThem(t *testing.T) {
	for name, ctl := range map[string]struct {
		tries string
		front bool
	}{"files only": {"=404", false}, "front controller": {"/index.php?$args", true}} {
		t.Run(name, func(t *testing.T) {
			root := site(t)
			fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Workers: 4})
			nginx := lab.Nginx(t, fmt.Sprintf(nginxConf, root, ctl.tries, fpm.Socket))
			addr, _ := front(t, Config{Address: "unix:" + fpm.Socket, Root: root, MaxConns: 2, FrontController: ctl.front},
				proxy.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}, proxy.ForwardOptions{})
			for _, o := range odds {
				compare(t, o, nginx.Addr, addr)
			}
		})
	}
}

func compare(t *testing.T, o odd, nginx, banyan string) {
	t.Helper()
	want, wantBody := exchange(t, nginx, o.from, o.raw())
	got, gotBody := exchange(t, banyan, o.from, o.raw())
	name := fmt.Sprintf("%.60s [%.60s]", o.line, o.lines)
	if got.StatusCode != want.StatusCode {
		t.Errorf("%s: status %d, nginx %d", name, got.StatusCode, want.StatusCode)
		return
	}
	for _, f := range []string{"Content-Type", "Location", "Set-Cookie", "Content-Length", "X-Powered-By", "Etag", "X-A", "X-Accel-Buffering", "X-Accel-Expires", "Keep-Alive"} {
		if !own[want.StatusCode] && !slices.Equal(got.Header[f], want.Header[f]) {
			t.Errorf("%s: %s %q, nginx %q", name, f, got.Header[f], want.Header[f])
		}
	}
	if want.Header.Get("Content-Type") != "application/json" {
		if !own[want.StatusCode] && string(gotBody) != string(wantBody) {
			t.Errorf("%s: body %.200q, nginx %.200q", name, gotBody, wantBody)
		}
		return
	}
	var a, b map[string]any
	if err := json.Unmarshal(wantBody, &a); err != nil && len(wantBody) > 0 {
		t.Fatalf("%s: %v in %q", name, err, wantBody)
	}
	if err := json.Unmarshal(gotBody, &b); err != nil && len(gotBody) > 0 {
		t.Fatalf("%s: %v in %q", name, err, gotBody)
	}
	for part := range a {
		differences(t, name+": "+part, b[part], a[part])
	}
}

// own are the statuses whose bodies are the server's own.
var own = map[int]bool{400: true, 404: true, 405: true, 301: true, 403: true}

func differences(t *testing.T, name string, got, want any) {
	a, isMap := want.(map[string]any)
	b, _ := got.(map[string]any)
	if !isMap {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, nginx %v", name, got, want)
		}
		return
	}
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	for k := range keys {
		x, inA := a[k]
		y, inB := b[k]
		if _, ok := accepted[k]; !ok && (inA != inB || !reflect.DeepEqual(x, y)) {
			t.Errorf("%s.%s: %v (%v), nginx %v (%v)", name, k, y, inB, x, inA)
		}
	}
}
