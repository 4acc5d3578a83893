package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"
	"text/template"
)

// NginxServer is an nginx in front of whatever its configuration says.
type NginxServer struct {
	*Process
	Addr string // host:port
	URL  string // without a slash at the end
}

// Nginx is a server of the test's own. The configuration is what stands inside of
// nginx's http block, a template in which {{.Addr}} is where to listen, {{.Port}}
// its port alone, and {{.Dir}} a directory for files.
func Nginx(t testing.TB, conf string) *NginxServer {
	t.Helper()
	return private(t, func(ctx context.Context, opts Options) (*NginxServer, error) { return StartNginx(ctx, opts, conf) })
}

// NginxPHP is the classic pair: nginx serves the files below root and passes
// scripts to php-fpm. It gives the URL without a slash at the end.
func NginxPHP(t testing.TB, fpm *PHPFPMServer, root string) (url string) {
	t.Helper()
	return Nginx(t, NginxPHPConf(fpm.Socket, root)).URL
}

// NginxPHPConf is the configuration of NginxPHP, as many administrators write it:
// path info after the script's name, and index.php for a directory.
func NginxPHPConf(socket, root string) string {
	return fmt.Sprintf(`server {
  listen {{.Addr}};
  root %q;
  index index.php index.html;
  client_max_body_size 64m;
  location / { try_files $uri $uri/ =404; }
  location ~ [^/]\.php(/|$) {
    fastcgi_split_path_info ^(.+?\.php)(/.*)$;
    set $path_info $fastcgi_path_info;
    if (!-f $document_root$fastcgi_script_name) { return 404; }
    fastcgi_param QUERY_STRING $query_string;
    fastcgi_param REQUEST_METHOD $request_method;
    fastcgi_param CONTENT_TYPE $content_type;
    fastcgi_param CONTENT_LENGTH $content_length;
    fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
    fastcgi_param SCRIPT_NAME $fastcgi_script_name;
    fastcgi_param PATH_INFO $path_info;
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
    fastcgi_param SERVER_ADDR $server_addr;
    fastcgi_param SERVER_PORT $server_port;
    fastcgi_param SERVER_NAME $server_name;
    fastcgi_param REDIRECT_STATUS 200;
    fastcgi_pass "unix:%s";
  }
}`, root, socket)
}

// StartNginx starts a server; Stop ends it.
func StartNginx(ctx context.Context, opts Options, conf string) (*NginxServer, error) {
	daemon, err := find("nginx", "nginx")
	if err != nil {
		return nil, err
	}
	tmpl, err := template.New("nginx").Option("missingkey=error").Parse(conf)
	if err != nil {
		return nil, fmt.Errorf("configuration of nginx: %w", err)
	}
	return retried(ctx, func() (*NginxServer, error) { return newNginx(opts, daemon, tmpl) })
}

func newNginx(opts Options, daemon string, tmpl *template.Template) (*NginxServer, error) {
	p, err := newProcess("nginx", opts)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &NginxServer{Process: p, Addr: loopback(port), URL: "http://" + loopback(port)}
	var http bytes.Buffer
	if err := tmpl.Execute(&http, map[string]any{"Addr": s.Addr, "Port": port, "Dir": p.dir}); err != nil {
		return nil, fmt.Errorf("configuration of nginx: %w", err)
	}
	whole, err := nginxConf(p.dir, http.String())
	if err != nil {
		return nil, err
	}
	file := filepath.Join(p.dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(whole), 0o644); err != nil {
		return nil, fmt.Errorf("configuration of nginx: %w", err)
	}
	p.command = func() *exec.Cmd { return exec.Command(daemon, "-p", p.dir, "-c", file, "-e", p.LogFile()) }
	p.ready = func(ctx context.Context) error { return dial(ctx, "tcp", s.Addr) }
	return s, nil
}

func nginxConf(dir, http string) (string, error) {
	who := ""
	if os.Getuid() == 0 { // else the workers may not read what root's tests wrote
		me, err := user.Current()
		if err != nil {
			return "", fmt.Errorf("who am I: %w", err)
		}
		who = "user " + me.Username + " root;\n"
	}
	types := "types { text/html html; text/css css; application/javascript js; image/png png; image/svg+xml svg; application/json json; }"
	return who + `daemon off;
worker_processes 2;
pid pid;
events { worker_connections 1024; }
http {
  access_log off;
  default_type application/octet-stream;
  ` + types + `
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
` + http + "\n}\n", nil
}
