package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"text/template"
)

// ApacheServer is an Apache httpd in front of whatever its configuration says.
type ApacheServer struct {
	*Process
	Addr string // host:port
	URL  string // without a slash at the end
}

// Apache is a server of the test's own. The configuration follows upon Listen, a few modules (mime, dir, proxy_fcgi,
// rewrite) and paths of the server's own; it is a template in which {{.Addr}}, {{.Port}} and {{.Dir}} are as for Nginx.
func Apache(t testing.TB, conf string) *ApacheServer {
	t.Helper()
	return private(t, func(ctx context.Context, opts Options) (*ApacheServer, error) { return StartApache(ctx, opts, conf) })
}

// ApachePHP is Apache's classic pair: files below root, scripts by php-fpm. It gives the URL without a slash at the end.
func ApachePHP(t testing.TB, fpm *PHPFPMServer, root string) (url string) {
	t.Helper()
	return Apache(t, ApachePHPConf(fpm.Socket, root)).URL
}

// ApachePHPConf is the configuration of ApachePHP, as Debian's package of php-fpm and most guides have it.
func ApachePHPConf(socket, root string) string {
	return fmt.Sprintf(`DocumentRoot %q
DirectoryIndex index.php index.html
<Directory %q>
  AllowOverride None
  Require all granted
</Directory>
<FilesMatch ".+\.ph(?:ar|p|tml)$">
  SetHandler "proxy:unix:%s|fcgi://localhost"
</FilesMatch>
`, root, root, socket)
}

// StartApache starts a server; Stop ends it.
func StartApache(ctx context.Context, opts Options, conf string) (*ApacheServer, error) {
	daemon, err := find("Apache", "apache2", "httpd")
	if err != nil {
		return nil, err
	}
	tmpl, err := template.New("apache").Option("missingkey=error").Parse(conf)
	if err != nil {
		return nil, fmt.Errorf("configuration of Apache: %w", err)
	}
	return retried(ctx, func() (*ApacheServer, error) { return newApache(opts, daemon, tmpl) })
}

func newApache(opts Options, daemon string, tmpl *template.Template) (*ApacheServer, error) {
	modules, err := apacheModules(daemon)
	if err != nil {
		return nil, err
	}
	p, err := newProcess("apache", opts)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &ApacheServer{Process: p, Addr: loopback(port), URL: "http://" + loopback(port)}
	out := bytes.NewBufferString(fmt.Sprintf(`ServerRoot %q
PidFile pid
Mutex sem
DefaultRuntimeDir %q
Listen %s
ServerName localhost
ErrorLog log
LogLevel warn
TypesConfig /dev/null
StartServers 1
MinSpareThreads 1
MaxSpareThreads 8
ThreadsPerChild 8
MaxRequestWorkers 16
`, p.dir, p.dir, s.Addr))
	var load bytes.Buffer
	for _, name := range []string{"mpm_event", "authz_core", "mime", "dir", "proxy", "proxy_fcgi", "rewrite"} {
		fmt.Fprintf(&load, "LoadModule %s_module %q\n", name, filepath.Join(modules, "mod_"+name+".so"))
	}
	if err := tmpl.Execute(out, map[string]any{"Addr": s.Addr, "Port": port, "Dir": p.dir}); err != nil {
		return nil, fmt.Errorf("configuration of Apache: %w", err)
	}
	file := filepath.Join(p.dir, "httpd.conf")
	if err := os.WriteFile(file, append(load.Bytes(), out.Bytes()...), 0o644); err != nil {
		return nil, fmt.Errorf("configuration of Apache: %w", err)
	}
	p.command = func() *exec.Cmd {
		_ = os.Remove(filepath.Join(p.dir, "pid")) // of a killed one; it would be taken for running
		return exec.Command(daemon, "-DFOREGROUND", "-d", p.dir, "-f", file)
	}
	p.ready = func(ctx context.Context) error { return dial(ctx, "tcp", s.Addr) }
	return s, nil
}

// apacheModules is where the distribution keeps them.
func apacheModules(daemon string) (string, error) {
	for _, dir := range []string{"/usr/lib/apache2/modules", "/usr/lib64/httpd/modules", "/usr/lib/httpd/modules", filepath.Join(filepath.Dir(daemon), "../modules")} {
		if _, err := os.Stat(filepath.Join(dir, "mod_proxy_fcgi.so")); err == nil {
			return dir, nil
		}
	}
	return "", &missingError{"Apache's mod_proxy_fcgi"}
}
