package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// peers are the proxies of the scene h1, nginx first; absent says why others that belong there are not.
func (b *bench) peers() (all []peer, absent []string) {
	all = append(all, peer{"nginx", func(a string) []string {
		writePeer(b.dir, a, b.backend, "")
		return []string{"nginx", "-p", b.dir, "-c", filepath.Join(b.dir, "peer.conf")}
	}})
	if b.features {
		all = append(all, peer{"banyan", b.banyan})
	}
	all = append(all, peer{"bare", func(a string) []string {
		return []string{b.self, "proxy", "-listen", a, "-legacy", "http://" + b.backend, "-profile", b.profile}
	}}, peer{"net/http", func(a string) []string {
		return []string{b.self, "nethttp", "-listen", a, "-legacy", "http://" + b.backend}
	}})
	for _, p := range []struct{ name, file, conf string }{{"haproxy", "haproxy.cfg", haproxyConf}, {"caddy", "Caddyfile", caddyConf}} {
		if _, err := exec.LookPath(p.name); err != nil {
			absent = append(absent, p.name+": not installed; Debian's package "+p.name+" has it")
			continue
		}
		all = append(all, peer{p.name, func(a string) []string {
			file := filepath.Join(b.dir, p.file)
			text := strings.NewReplacer("LISTEN", a, "PORT", a[strings.LastIndex(a, ":")+1:], "LEGACY", b.backend).Replace(p.conf)
			_ = os.WriteFile(file, []byte(text), 0o644) // a peer without its file does not start
			if p.name == "haproxy" {
				return []string{"haproxy", "-db", "-f", file}
			}
			return []string{"env", "XDG_CONFIG_HOME=" + b.dir, "XDG_DATA_HOME=" + b.dir, "caddy", "run", "--adapter", "caddyfile", "--config", file}
		}})
	}
	absent = append(absent, "traefik: Debian has no package of it", "fasthttp: would enter go.mod for this alone")
	if b.extra != "" {
		all = append(all, peer{"other", func(a string) []string {
			return strings.Fields(strings.NewReplacer("LISTEN", a, "LEGACY", b.backend).Replace(b.extra))
		}})
	}
	return all, absent
}

const haproxyConf = `global
  nbthread 1
  maxconn 12000
  no strict-limits
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

const caddyConf = `{
	admin off
	auto_https off
}
http://:PORT {
	bind 127.0.0.1
	reverse_proxy LEGACY {
		transport http {
			keepalive_idle_conns_per_host 256
			keepalive 300s
			compression off
		}
	}
}
`

// banyan is the real program with what an installation has: 100 routes of a migration, among them 25 for each path that
// is asked for, told apart by the query; sessions kept at one of two instances; metrics, traces and deadlines, which are
// always there. It writes its configuration anew for each start.
func (b *bench) banyan(addr string) []string {
	b.starts++
	dir := filepath.Join(b.dir, fmt.Sprintf("banyan-%d", b.starts))
	b.home = dir
	_ = os.MkdirAll(dir, 0o755) // without it, the program does not start
	admin, _ := freeAddr()
	var w, r strings.Builder
	for i := range 75 {
		path := []string{"/1k", "/post", "/64k"}[i%3]
		fmt.Fprintf(&w, "      - { name: write%d, match: { path: %s, query: { action: act%d } }, params: { match: query.match } }\n", i, path, i/3)
	}
	for i := range 25 {
		fmt.Fprintf(&r, "      - { name: read%d, match: { method: GET, path: \"/api/v%d/{unit}\", query: { page: map } }, params: { match: query.match, unit: path.unit }, candidate_path: \"/matches/{match}/{unit}\" }\n", i, i)
	}
	text := strings.NewReplacer("LISTEN", addr, "ADMIN", admin, "LEGACY", b.backend, "SECOND", b.second, "BROKER", b.broker, "REPLICA", fmt.Sprint("bench", b.starts)).Replace(`version: 1
proxy: { listen: "LISTEN", admin: "ADMIN", replica: "REPLICA", journal: { dir: journal, quota: 4GiB }, sessions: { cookie: PHPSESSID }, limits: { idle_timeout: 300s } }
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
