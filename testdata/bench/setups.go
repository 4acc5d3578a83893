package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// write makes a peer's file out of a text in which each word is replaced by the one behind it, and gives its path.
func (b *bench) write(name, text string, words ...string) string {
	file := filepath.Join(b.dir, name)
	_ = os.WriteFile(file, []byte(strings.NewReplacer(words...).Replace(text)), 0o644) // a peer without its file does not start
	return file
}

func (b *bench) nginx(addr string, p protocol) []string {
	more := ""
	switch p {
	case h2Clear:
		addr += " http2"
	case h2TLS:
		addr, more = addr+" ssl http2", "ssl_certificate "+b.cert()+"; ssl_certificate_key "+b.key()+";"
	}
	writePeer(b.dir, addr, b.backend, "", more)
	return []string{"nginx", "-p", b.dir, "-c", filepath.Join(b.dir, "peer.conf")}
}

// itself is a server in this program. Banyan's request path runs under the scheduler's setting that banyan makes for
// itself (package awake).
func (b *bench) itself(command string) func(string, protocol) []string {
	return func(addr string, p protocol) []string {
		args := []string{b.self, command, "-listen", addr, "-legacy", "http://" + b.backend}
		if p == h2TLS {
			args = append(args, "-cert", b.cert(), "-key", b.key())
		}
		if command != "proxy" {
			return args
		}
		if b.profile != "" {
			args = append(args, "-profile", b.profile)
		}
		return append([]string{"env", "GODEBUG=schedtrace=2147483647"}, args...)
	}
}

const haproxyConf = `global
  nbthread 1
  maxconn MOST
defaults
  mode http
  timeout client 300s
  timeout server 300s
  timeout connect 5s
  option forwardfor
  http-reuse always
frontend front
  bind LISTEN backlog 8192
  http-request set-header X-Forwarded-Proto http
  default_backend legacy
backend legacy
  server one LEGACY pool-max-conn 256
`

func (b *bench) caddy(addr string, p protocol) []string {
	site, protocols, cert := "http://:PORT", "h1", ""
	switch p {
	case h2Clear:
		protocols = "h1 h2c"
	case h2TLS:
		site, protocols, cert = "https://:PORT", "h1 h2", "tls "+b.cert()+" "+b.key()
	}
	_, port, _ := net.SplitHostPort(addr)
	conf := b.write("Caddyfile", caddyConf, "SITE", strings.ReplaceAll(site, "PORT", port), "PROTOCOLS", protocols, "CERT", cert, "LEGACY", b.backend)
	return []string{"env", "XDG_CONFIG_HOME=" + b.dir, "XDG_DATA_HOME=" + b.dir, b.program("caddy"), "run", "--adapter", "caddyfile", "--config", conf}
}

const caddyConf = `{
	admin off
	auto_https off
	persist_config off
	log {
		level ERROR
	}
	servers {
		protocols PROTOCOLS
	}
}
SITE {
	bind 127.0.0.1
	CERT
	reverse_proxy LEGACY {
		transport http {
			keepalive_idle_conns_per_host 256
			keepalive 300s
			compression off
		}
	}
}
`

func (b *bench) traefik(more string) func(string, protocol) []string {
	return func(addr string, p protocol) []string {
		routes, secure := traefikRoutes, ""
		if p == h2TLS {
			routes, secure = routes+"tls: { certificates: [ { certFile: CERT, keyFile: KEY } ] }\n", "tls: {}"
		}
		file := b.write("routes.yml", routes, "TLS", secure, "CERT", b.cert(), "KEY", b.key(), "LEGACY", b.backend)
		return []string{b.program("traefik"), "--configFile=" + b.write("traefik.yml", traefikConf+more, "LISTEN", addr, "ROUTES", file)}
	}
}

const traefikConf = `global: { checkNewVersion: false, sendAnonymousUsage: false }
log: { level: ERROR }
entryPoints: { front: { address: "LISTEN", transport: { respondingTimeouts: { idleTimeout: 300s } } } }
providers: { file: { filename: ROUTES, watch: false } }
`

const traefikRoutes = "http:\n" +
	"  routers: { all: { rule: \"PathPrefix(`/`)\", service: legacy, TLS } }\n" +
	`  services: { legacy: { loadBalancer: { servers: [ { url: "http://LEGACY" } ], serversTransport: kept } } }
  serversTransports: { kept: { maxIdleConnsPerHost: 1024, forwardingTimeouts: { idleConnTimeout: 300s } } }
`

// banyan is the real program with what an installation has: 100 routes of a migration, among them 25 for each path that
// is asked for, told apart by the query; sessions kept at one of two instances; metrics, traces and deadlines, which are
// always there. It writes its configuration anew for each start.
func (b *bench) banyan(addr string, p protocol) []string {
	b.starts++
	dir := filepath.Join(b.dir, fmt.Sprintf("banyan-%d", b.starts))
	b.home = dir
	_ = os.MkdirAll(dir, 0o755) // without it, the program does not start
	admin, _ := freeAddr()
	b.admin = admin
	secure := ""
	if p == h2TLS {
		secure = fmt.Sprintf("tls: { listen: %q, certificates: [{ cert: %q, key: %q }] }, ", addr, b.cert(), b.key())
		addr, _ = freeAddr()
	}
	var w, r strings.Builder
	for i := range 75 {
		path := []string{"/1k", "/post", "/64k"}[i%3]
		fmt.Fprintf(&w, "      - { name: write%d, match: { path: %s, query: { action: act%d } }, params: { match: query.match } }\n", i, path, i/3)
	}
	for i := range 25 {
		fmt.Fprintf(&r, "      - { name: read%d, match: { method: GET, path: \"/api/v%d/{unit}\", query: { page: map } }, params: { match: query.match, unit: path.unit }, candidate_path: \"/matches/{match}/{unit}\" }\n", i, i)
	}
	text := strings.NewReplacer("LISTEN", addr, "TLS", secure, "ADMIN", admin, "LEGACY", b.backend, "SECOND", b.second, "BROKER", b.broker, "REPLICA", fmt.Sprint("bench", b.starts)).Replace(`version: 1
proxy: { listen: "LISTEN", TLSadmin: "ADMIN", replica: "REPLICA", journal: { dir: journal, quota: 4GiB }, sessions: { cookie: PHPSESSID }, limits: { idle_timeout: 300s } }
upstreams:
  legacy: { http: ["http://LEGACY", "http://SECOND"], sticky: { cookie: PHPSESSID } }
  candidate: { http: "http://LEGACY" }
kafka: { brokers: ["BROKER"], prefix: bench, partitions: 6, replication: 1 }
migrations:
  units:
    candidate: candidate
    order_by: "match/{match}"
    writes:
`) + w.String() + "    reads:\n" + r.String()
	file := filepath.Join(dir, "banyan.yaml")
	_ = os.WriteFile(file, []byte(text), 0o644) // as above
	return []string{b.binary, "proxy", "-c", file, "--log-level", "error"}
}
