package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"banyan/proxy/certs"

	"github.com/google/go-cmp/cmp"
)

func env(string) (string, bool) { return "", false }

const small = `version: 1
upstreams: { legacy: { http: "http://127.0.0.1:8000" } }
`

func TestSmallestFile(t *testing.T) {
	f, err := Parse("banyan.yaml", []byte(small), env)
	if err != nil {
		t.Fatal(err)
	}
	if f.Proxy.Listen != ":8080" || f.Proxy.Limits.Inline != 1<<20 || f.Upstreams["legacy"].Timeout != time.Minute || f.Kafka.Prefix != "banyan" {
		t.Fatalf("defaults: %+v", f)
	}
}

func problems(t *testing.T, src string) Errors {
	t.Helper()
	_, err := Parse("banyan.yaml", []byte(src), env)
	var es Errors
	if !errors.As(err, &es) {
		t.Fatalf("%v; want Errors", err)
	}
	return es
}

func TestEveryErrorAtOnceWithItsPlace(t *testing.T) {
	es := problems(t, `version: 1
proxy:
  lisen: ":80"
  limits: { head: 64, body: many, header_timeout: 5 }
upstreams:
  legacy: { http: "http://127.0.0.1:8000", http: "x" }
  units: [1]
kafka: { partitions: x }
`)
	var got []string
	for _, p := range es {
		got = append(got, p.Error())
	}
	want := []string{
		`banyan.yaml:3:3: proxy.lisen: unknown key (did you mean listen?)`,
		`banyan.yaml:4:29: proxy.limits.body: "many": want a size such as 64KiB, 1MiB or 20GiB`,
		`banyan.yaml:4:51: proxy.limits.header_timeout: "5": want a duration with its unit, such as 250ms, 30s or 14d`,
		`banyan.yaml:6:44: upstreams.legacy.http: given twice; first at line 6`,
		`banyan.yaml:7:10: upstreams.units: want a mapping with http, fastcgi, timeout, max_connections, max_requests, sticky, drain, queue, eject, health, breaker, slow_start, max_execution, resolve, root, router, not a list`,
		`banyan.yaml:8:22: kafka.partitions: "x": want a whole number`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	if !strings.Contains(es.Detail(), "3 |   lisen: \":80\"\n    |   ^") {
		t.Fatalf("the excerpt lacks the line with a caret:\n%s", es.Detail())
	}
}

func TestMeaningIsCheckedWithPlaces(t *testing.T) {
	src := small + `kafka: { brokers: ["127.0.0.1:9092"] }
routes:
  - { match: { path: "/a/**" }, to: unit }
migrations:
  units:
    candidate: legacy
    order_by: "match/{match}"
    when_full: fail
    writes:
      - name: move
        match: { method: post, path: /index.php }
        params: { unit: forms.unit }
        applied: 'stat == 302'
    reads:
      - { name: map, match: { path: "api.php" }, candidate_path: "/m/{x}" }
`
	text := problems(t, src).Error()
	for _, want := range []string{
		`banyan.yaml:5:33: routes[0].to: "unit" is not an upstream (known here: legacy)`,
		`banyan.yaml:10:5: migrations.units.when_full: "fail": want fail_open or fail_closed`,
		`banyan.yaml:15:9: migrations.units.writes[0].applied: `,
		`banyan.yaml:14:9: migrations.units.writes[0].params: no parameter "match", which order_by needs`,
		`banyan.yaml:13:18: migrations.units.writes[0].match.method: "post": want upper case`,
		`banyan.yaml:14:19: migrations.units.writes[0].params.unit: "forms.unit"`,
		`migrations.units.reads[0].candidate_path: {x} is not one of the route's params`,
		`migrations.units.reads[0].match.path: "api.php": a path starts with '/'`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("errors\n%s\nlack\n%s", text, want)
		}
	}
}

func TestInstances(t *testing.T) {
	f, err := Parse("banyan.yaml", []byte(`version: 1
upstreams:
  legacy: { http: ["http://10.0.0.1", "${B}"], sticky: { cookie: "sess_*", idle: 2h }, queue: { wait: 2s } }
  units: { http: unix:/run/units.sock }
`), func(n string) (string, bool) { return "http://10.0.0.2", n == "B" })
	if err != nil {
		t.Fatal(err)
	}
	legacy, units := f.Upstreams["legacy"], f.Upstreams["units"]
	if d := cmp.Diff(Instances{"http://10.0.0.1", "http://10.0.0.2"}, legacy.HTTP); d != "" || units.HTTP.First() != "unix:/run/units.sock" {
		t.Error(d, units.HTTP)
	}
	if c := legacy.Balance("legacy"); !legacy.Balanced() || c.Sticky.Idle != 2*time.Hour || c.Queue.Wait != 2*time.Second || c.SlowStart != 10*time.Second || len(c.Instances) != 2 {
		t.Errorf("%+v", c)
	}
	if units.Balanced() {
		t.Error("one instance without protection needs no balancer")
	}
	text := problems(t, `version: 1
upstreams:
  legacy:
    http: ["http://10.0.0.1", 10.0.0.2]
    sticky: { cookie: "PHP SESSID" }
    breaker: { failures: 3 }
  alone: { http: "http://10.0.0.3", sticky: { cookie: PHPSESSID } }
  none: { timeout: 1s }
  units:
    http: [ "http://10.0.0.4",
            "http://10.0.0.4" ]
  slow: { http: ["http://a", "http://b"], health: { path: /, every: 1s, timeout: 2s } }
`).Error()
	for _, want := range []string{
		`banyan.yaml:4:31: upstreams.legacy.http[1]: "10.0.0.2": want http://host:port without a path`,
		`banyan.yaml:5:15: upstreams.legacy.sticky.cookie: "PHP SESSID": ' ' cannot stand in a cookie's name`,
		`banyan.yaml:6:5: upstreams.legacy.breaker: nobody would answer instead`,
		`banyan.yaml:7:37: upstreams.alone.sticky: there is one instance`,
		`banyan.yaml:8:3: upstreams.none: neither http nor fastcgi is given`,
		`banyan.yaml:11:13: upstreams.units.http[1]: "http://10.0.0.4" is given twice`,
		`banyan.yaml:12:73: upstreams.slow.health.timeout: 2s is not between 1ms and 1s`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("errors\n%s\nlack\n%s", text, want)
		}
	}
}

func TestResolve(t *testing.T) {
	root := t.TempDir()
	for upstream, want := range map[string]string{
		`http: "http://h"`:                                                                        "php.Nginx",
		`http: "http://h", resolve: nginx`:                                                        "php.Nginx",
		`http: "http://h", resolve: apache`:                                                       "php.Apache",
		`http: "http://h", resolve: none`:                                                         "php.None",
		`http: "http://h", resolve: php-server, root: "` + root + `"`:                             "*php.Server",
		`http: "http://h", resolve: php-server, root: "` + root + `", router: /index.php`:         "*php.Server",
		`http: "http://h", resolve: apach`:                                                        `2:42: upstreams.legacy.resolve: "apach": want nginx, apache, php-server or none (did you mean apache?)`,
		`http: "http://h", resolve: php-server`:                                                   `upstreams.legacy.root: none given: what a path runs behind php-server depends on the files below its document root (root: ./public`,
		`http: "http://h", resolve: php-server, root: "` + root + `/none"`:                        `upstreams.legacy: document root: stat `,
		`http: "http://h", resolve: php-server, root: "` + root + `", router: router.php`:         `upstreams.legacy: router "router.php": want the path of the script`,
		`http: "http://h", root: "` + root + `"`:                                                  `upstreams.legacy.root: "` + root + `": only php-server looks at files; nginx does not (resolve: php-server)`,
		`http: "http://h", resolve: none, router: /index.php`:                                     `upstreams.legacy.router: "/index.php": only php-server looks at files; none does not`,
		`http: "http://h" }, other: { http: "http://h", resolve: apache } }` + "\n" + otherLegacy: `migrations.m.legacy: upstream other resolves paths otherwise than upstream legacy`,
	} {
		if !strings.Contains(upstream, "\n") {
			upstream += " } }\n"
		}
		f, err := Parse("banyan.yaml", []byte("version: 1\nupstreams: { legacy: { "+upstream), env)
		if err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %s", upstream, err, want)
			}
			continue
		}
		if c, err := f.Canonicalizer(); err != nil || fmt.Sprintf("%T", c) != want {
			t.Errorf("%s: %T, %v; want %s", upstream, c, err, want)
		}
	}
}

func TestFastCGI(t *testing.T) {
	f, err := Parse("dir/banyan.yaml", []byte(`version: 1
upstreams:
  legacy: { fastcgi: { address: "unix:/run/php.sock", root: public, params: { HTTPS: "on" }, internal: { "/protected/": /srv/files/ }, sendfile: [/srv/files] } }
`), env)
	if err != nil {
		t.Fatal(err)
	}
	here, _ := os.Getwd()
	c := f.FastCGI("legacy", f.Upstreams["legacy"])
	if c.Root != filepath.Join(here, "dir", "public") || c.Params["HTTPS"] != "on" || c.Internal["/protected/"] != "/srv/files/" || len(c.Sendfile) != 1 || c.Timeouts.FirstByte != time.Minute {
		t.Fatalf("%+v", c)
	}
	text := problems(t, `version: 1
upstreams:
  legacy: { fastcgi: { address: "/run/php.sock", root: "/srv/game" } }
  both: { http: "http://127.0.0.1", fastcgi: { address: "127.0.0.1:9000", root: /srv } }
  none: { timeout: 1s }
  wide: { max_connections: 9, fastcgi: { address: "127.0.0.1:9000", root: /srv } }
  rootless: { fastcgi: { address: "127.0.0.1:9000" } }
  index: { fastcgi: { address: "127.0.0.1:9000", root: /srv, index: "a.html" } }
  files: { fastcgi: { address: "127.0.0.1:9000", root: /srv, static: nobody } }
  circle: { fastcgi: { address: "127.0.0.1:9000", root: /srv, static: circle } }
  prefix: { fastcgi: { address: "127.0.0.1:9000", root: /srv/public, internal: { "/protected": /srv/files } } }
  relative: { fastcgi: { address: "127.0.0.1:9000", root: /srv/public, internal: { "/protected/": ./files } } }
  above: { fastcgi: { address: "127.0.0.1:9000", root: /srv/public, sendfile: [/mnt, /srv] } }
migrations:
  units: { candidate: circle, order_by: "match/1", reads: [ { name: map, match: { path: /api.php } } ] }
kafka: { brokers: ["127.0.0.1:9092"] }
`).Error()
	for _, want := range []string{
		`banyan.yaml:3:24: upstreams.legacy.fastcgi.address: "/run/php.sock" is neither host:port nor unix:/path/to/socket`,
		`banyan.yaml:4:37: upstreams.both.fastcgi: http and fastcgi are both given`,
		`banyan.yaml:5:3: upstreams.none: neither http nor fastcgi is given`,
		`banyan.yaml:6:11: upstreams.wide.max_connections: with fastcgi it is fastcgi.max_connections`,
		`upstreams.rootless.fastcgi.root: "" is not a clean absolute path`,
		`banyan.yaml:8:62: upstreams.index.fastcgi.index: "a.html" is not the name of a .php file`,
		`banyan.yaml:9:62: upstreams.files.fastcgi.static: "nobody" is not an upstream`,
		`banyan.yaml:10:63: upstreams.circle.fastcgi.static: "circle" is fastcgi`,
		`banyan.yaml:11:82: upstreams.prefix.fastcgi.internal./protected: "/protected" is not the beginning of URIs, decoded and with a slash at both ends, such as /protected/`,
		`banyan.yaml:12:84: upstreams.relative.fastcgi.internal./protected/: "./files" is not a clean absolute directory such as /srv/files`,
		`banyan.yaml:13:86: upstreams.above.fastcgi.sendfile[1]: "/srv" holds the root, /srv/public, whose programs would be served as files: name a directory beside it, or one below it`,
		`banyan.yaml:15:12: migrations.units.candidate: "circle" is fastcgi`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("errors\n%s\nlack\n%s", text, want)
		}
	}
}

const otherLegacy = "kafka: { brokers: [\"h:9092\"] }\nmigrations: { m: { legacy: other, order_by: \"x/{x}\" } }\n"

func TestTLSIsChecked(t *testing.T) {
	text := problems(t, small+`proxy:
  listen: ":443"
  limits: { streams: 20000 }
  tls:
    listen: ":443"
    min_version: "1.1"
    certificates: [{ cert: a.pem }]
`).Error()
	for _, want := range []string{
		`banyan.yaml:7:5: proxy.tls.listen: ":443": proxy.listen has this address`,
		`banyan.yaml:8:5: proxy.tls.min_version: "1.1": want 1.2 or 1.3`,
		`banyan.yaml:9:20: proxy.tls.certificates[0]: want both cert and key`,
		`banyan.yaml:5:13: proxy.limits.streams: 20000: want 1 to 10000`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("errors\n%s\nlack\n%s", text, want)
		}
	}
	if text := problems(t, small+"proxy: { tls: { listen: nowhere } }\n").Error(); !strings.Contains(text, "no certificates") || !strings.Contains(text, "want host:port") {
		t.Errorf("%s", text)
	}
	f, err := Parse("/etc/banyan/banyan.yaml", []byte(small+"proxy: { tls: { certificates: [{ cert: a.pem, key: /k/a.key }], client_ca: ca.pem } }\n"), env)
	if err != nil {
		t.Fatal(err)
	}
	want := certs.Config{Pairs: []certs.Pair{{Cert: "/etc/banyan/a.pem", Key: "/k/a.key"}}, MinVersion: "1.2", ClientCA: "/etc/banyan/ca.pem"}
	if d := cmp.Diff(want, f.Certs()); d != "" || f.Proxy.TLS.Listen != ":8443" || f.Proxy.Limits.Streams != 100 {
		t.Errorf("%s %+v", d, f.Proxy)
	}
}

func TestSecretsComeFromEnvironmentAndFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(file, []byte("postgres://secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Parse("banyan.yaml", []byte(small+"ledger: { postgres: \"${file:"+file+"}\" }\nlegacy_db: { mysql: \"u:${PW}$$x@tcp(h)/d\" }\n"),
		func(n string) (string, bool) { return "p", n == "PW" })
	if err != nil {
		t.Fatal(err)
	}
	if f.Ledger.Postgres != "postgres://secret" || f.LegacyDB.MySQL != "u:p$x@tcp(h)/d" {
		t.Fatal(f.Ledger, f.LegacyDB)
	}
	if es := problems(t, small+"ledger: { postgres: \"${NOPE}\" }\n"); !strings.Contains(es.Error(), "3:21: ledger.postgres: the environment variable NOPE is not set") {
		t.Fatal(es)
	}
}

func TestNotYAML(t *testing.T) {
	if es := problems(t, "version: 1\nproxy: [\n"); !strings.Contains(es.Error(), "not YAML") {
		t.Fatal(es)
	}
}

// A field without a yaml name could never be set, one of a kind that the decoder has no grammar for would panic.
func TestEveryFieldCanBeSet(t *testing.T) {
	var walk func(t reflect.Type, path string)
	seen := map[reflect.Type]bool{}
	walk = func(typ reflect.Type, path string) {
		if reflect.PointerTo(typ).Implements(reflect.TypeFor[textValue]()) {
			return
		}
		switch typ.Kind() {
		case reflect.Struct:
			if seen[typ] {
				return
			}
			seen[typ] = true
			for i := range typ.NumField() {
				f := typ.Field(i)
				if f.IsExported() && f.Tag.Get("yaml") == "" && !f.Anonymous && path != "" && !strings.Contains(path, "Translate") {
					t.Errorf("%s.%s has no yaml name", path, f.Name)
				}
				if f.IsExported() && f.Tag.Get("yaml") != "-" {
					walk(f.Type, path+"."+f.Name)
				}
			}
		case reflect.Slice, reflect.Pointer, reflect.Map:
			walk(typ.Elem(), path)
		case reflect.String, reflect.Bool, reflect.Int, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint32, reflect.Float64:
		default:
			t.Errorf("%s: the decoder has no grammar for %s", path, typ)
		}
	}
	walk(reflect.TypeFor[File](), "File")
}

func FuzzParse(f *testing.F) {
	f.Add(small)
	f.Add("a: &a [*a]\n")
	f.Add("version: 1\nmigrations: { u: { order_by: \"{\", rows: { t: {} } } }")
	f.Fuzz(func(t *testing.T, src string) {
		_, err := Parse("x", []byte(src), env)
		var es Errors
		if err != nil && (!errors.As(err, &es) || len(es) == 0) {
			t.Fatal(err)
		}
	})
}

func TestDefenceIsChecked(t *testing.T) {
	text := problems(t, small+`proxy:
  proxy_protocol: [10.0.0.0/8, 10.0.0.1]
  limits:
    connections_per_client: -1
    inline: 2MiB
    buffered: 1MiB
    body_rate: 2MiB
    body_timeout: 48h
    write_timeout: 1us
`).Error()
	for _, want := range []string{
		`banyan.yaml:4:32: proxy.proxy_protocol[1]: "10.0.0.1": want a range such as 10.0.0.0/8`,
		`banyan.yaml:6:5: proxy.limits.connections_per_client: -1: want 1 or more, or 0 for no bound`,
		`banyan.yaml:8:5: proxy.limits.buffered: 1MiB: want 1MiB or more, and no less than limits.inline, 2MiB`,
		`banyan.yaml:9:5: proxy.limits.body_rate: 2MiB: want at most 1MiB, a second`,
		`banyan.yaml:10:5: proxy.limits.body_timeout: 48h0m0s: want 1ms to 24h`,
		`banyan.yaml:11:5: proxy.limits.write_timeout: 1µs: want 1ms to 24h`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("errors\n%s\nlack\n%s", text, want)
		}
	}
	for text, want := range map[string]Bytes{"": 100, "proxy: { limits: { body_rate: 0 } }\n": 0} {
		f, err := Parse("banyan.yaml", []byte(small+text), env)
		if err != nil {
			t.Fatal(err)
		}
		if l := f.Proxy.Limits; *l.BodyRate != want || l.Buffered != 512<<20 || l.ConnectionsPerClient != 0 {
			t.Errorf("%q: %+v", text, l)
		}
	}
}

func TestUpgradeIsChecked(t *testing.T) {
	f, err := Parse("banyan.yaml", []byte(small+`routes:
  - { match: { path: /chat }, to: legacy, upgrade: websocket }
  - { match: { path: /many, method: "GET|POST" }, to: legacy, upgrade: [WebSocket, irc/6.9] }
  - { match: { path: /none }, to: legacy }
proxy: { limits: { upgrade_timeout: 1h } }
`), env)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Protocols{{"websocket"}, {"WebSocket", "irc/6.9"}, nil} {
		if d := cmp.Diff(want, f.Routes[i].Upgrade); d != "" {
			t.Error(d)
		}
	}
	if f.Proxy.Limits.UpgradeTimeout != time.Hour {
		t.Error(f.Proxy.Limits.UpgradeTimeout)
	}
	same := strings.Replace(small, "8000", "8001", 1) + "routes: [{ match: { path: /chat }, to: legacy }]\n"
	plain, err := Parse("banyan.yaml", []byte(same), env)
	if err != nil {
		t.Fatal(err)
	}
	if l := plain.Proxy.Limits.UpgradeTimeout; l != 10*time.Minute {
		t.Error(l)
	}
	other, err := Parse("banyan.yaml", []byte(strings.Replace(same, "legacy }]", "legacy, upgrade: websocket }]", 1)), env)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"routes[0].upgrade"}, Changes(plain, other)); d != "" || plain.Fingerprint("b") == other.Fingerprint("b") {
		t.Error("a change that nobody sees:", d)
	}
	text := problems(t, `version: 1
upstreams: { legacy: { fastcgi: { address: "127.0.0.1:9000", root: /srv } }, new: { http: "http://127.0.0.1:8000" } }
kafka: { brokers: ["127.0.0.1:9092"] }
proxy: { limits: { upgrade_timeout: 48h } }
routes:
  - { match: { path: /a }, to: legacy, upgrade: websocket }
  - { match: { path: /b }, to: new, upgrade: [ "web socket", websocket, WebSocket, h2c, TLS/1.2, "" ] }
  - { match: { path: /c, method: POST }, to: new, upgrade: websocket }
  - { match: { path: /d, form: { a: b } }, to: new, upgrade: websocket }
`).Error()
	for _, want := range []string{
		`banyan.yaml:4:20: proxy.limits.upgrade_timeout: 48h0m0s: want 1ms to 24h`,
		`banyan.yaml:6:40: routes[0].upgrade: legacy is fastcgi, and a script cannot switch protocols (to: an http upstream, at which the WebSocket server listens)`,
		`banyan.yaml:7:48: routes[1].upgrade[0]: "web socket": want a protocol as a client's Upgrade names it (upgrade: websocket)`,
		`banyan.yaml:7:73: routes[1].upgrade[2]: "WebSocket" is given twice`,
		`banyan.yaml:7:84: routes[1].upgrade[3]: "h2c": requests would follow that no route sees (upgrade: websocket)`,
		`banyan.yaml:7:89: routes[1].upgrade[4]: "TLS/1.2": requests would follow that no route sees`,
		`banyan.yaml:7:98: routes[1].upgrade[5]: "": want a protocol`,
		`routes[2].upgrade[0]: match.method is POST, and a WebSocket begins with GET (method: GET, or none)`,
		`banyan.yaml:9:53: routes[3].upgrade: the route matches bodies, and a request with a body switches nothing (match path, query, header or cookie)`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("errors\n%s\nlack\n%s", text, want)
		}
	}
	text = problems(t, small+`migrations:
  m:
    candidate: legacy
    order_by: "x/{x}"
    writes: [{ name: w, match: { path: /w }, params: { x: query.x }, upgrade: websocket }]
    reads: [{ name: r, match: { path: /r }, params: { x: query.x }, upgrade: websocket, compare: [] }]
    upgrade: websocket
`).Error()
	for _, want := range []string{
		`banyan.yaml:7:70: migrations.m.writes[0].upgrade: a write route cannot switch protocols: nothing that follows would be recorded (routes: [{ match: { path: /chat }, to: legacy, upgrade: websocket }])`,
		`banyan.yaml:8:69: migrations.m.reads[0].upgrade: a read route cannot switch protocols: nothing that follows could be compared (routes: [`,
		`banyan.yaml:9:5: migrations.m.upgrade: unknown key`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("errors\n%s\nlack\n%s", text, want)
		}
	}
}
