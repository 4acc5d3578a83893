package fastcgi

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"banyan/proxy/upstream"
)

// Config describes a php-fpm and the site that it runs.
type Config struct {
	// Name is what routes call it. Required.
	Name string
	// Address is host:port or unix:/path/to/socket. Required.
	Address string
	// Root is the directory of the site as this process sees it: no script is run that is not a file below it. Absolute.
	// Required. It may be a symbolic link that a deployment moves.
	Root string
	// ScriptRoot is the same directory as php-fpm sees it, when that is another path, as in another container. Default
	// Root.
	ScriptRoot string
	// Index is the script of a directory. Default index.php.
	Index string
	// FrontController runs /index.php for a path that is neither script, file nor directory, as nginx's
	// `try_files $uri $uri/ /index.php?$args` does. Default: such a path is answered with 404.
	FrontController bool
	// Static is asked for what is not a script. Default: files below Root are served from here.
	Static upstream.Upstream
	// Internal are directories whose files a script may name in X-Accel-Redirect, by the prefix of their URIs, with a slash
	// at both ends: {"/protected/": "/srv/files"} is nginx's `location ^~ /protected/ { internal; alias /srv/files/; }`.
	// No client reaches such a URI. Absolute directories, which do not hold Root. One below Root has its own path as its
	// prefix; nothing in it is served that may be a program (as of Root itself). Default: an X-Accel-Redirect is an error.
	Internal map[string]string
	// Sendfile are directories whose files a script may name in X-Sendfile, by their absolute path here, which php-fpm has
	// to see as the same: mod_xsendfile's XSendFilePath. As for Internal, no client reaches one that is below Root.
	// Default: an X-Sendfile is an error.
	Sendfile []string
	// ServerName is what scripts see as SERVER_NAME, as nginx's server_name is: not what the client says. Default "".
	ServerName string
	// Params are further parameters, which replace those of the same name: HTTPS, APP_ENV, PHP_VALUE.
	Params map[string]string
	// MaxConns bounds the connections in all, and so the children of php-fpm that are taken: each kept connection holds
	// one, busy or not. A request beyond waits for up to Timeouts.Dial. Keep it below pm.max_children, so that whoever
	// else asks php-fpm finds a free child. Default 4: Debian's pool has 5 children.
	MaxConns int
	// Bounds are the waits and sizes. An unused connection holds its child: keep IdleTimeout below
	// request_terminate_timeout, which counts that time too.
	upstream.Bounds
	// RequestsPerConn is after how many requests a connection is closed; 1 keeps none. A child that has served
	// pm.max_requests closes its connection; a request that is written in that very moment is lost, and is not sent
	// again: so 1 is right where pm.max_requests is set and such a 502 in that many requests is too much. Default 0: any
	// number.
	RequestsPerConn int
	// Spool stores a body that does not come with its head in a temporary file before php-fpm is asked, as nginx does:
	// a slow client then holds no child. Default: a body is sent as it comes; one without a length is stored anyhow,
	// since CONTENT_LENGTH comes first.
	Spool bool
	// SpoolDir is where bodies are stored. Default the system's directory for temporary files.
	SpoolDir string
	// Log takes what scripts write to STDERR, and which files they name that are not served. Default: nobody.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	c.ScriptRoot = cmp.Or(c.ScriptRoot, c.Root)
	c.Index = cmp.Or(c.Index, "index.php")
	c.MaxConns = cmp.Or(c.MaxConns, 4)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Bounds = c.Bounds.WithDefaults()
	return c
}

// Validate names the first field that cannot be used.
func (c Config) Validate() error {
	d := c.withDefaults()
	if c.Name == "" {
		return errors.New("name: missing")
	}
	if _, _, err := ParseAddress(c.Address); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	for _, f := range []struct{ name, v string }{{"root", d.Root}, {"script_root", d.ScriptRoot}} {
		if !filepath.IsAbs(f.v) || strings.HasSuffix(f.v, "/") || filepath.Clean(f.v) != f.v {
			return fmt.Errorf("%s: %q is not a clean absolute path such as /srv/game/public", f.name, f.v)
		}
	}
	if strings.ContainsAny(d.Index, "/\\\x00") || !strings.HasSuffix(d.Index, ".php") || d.Index == ".php" {
		return fmt.Errorf("index: %q is not the name of a .php file", d.Index)
	}
	if err := d.validateNamed(); err != nil {
		return err
	}
	for name, v := range d.Params {
		if name == "" || strings.ContainsAny(name+v, "\x00\r\n") || len(name)+len(v) > 8<<10 {
			return fmt.Errorf("params.%s: name and value have no line breaks and 8 KiB at most", name)
		}
	}
	switch {
	case d.MaxConns < 1:
		return fmt.Errorf("max_connections: %d is below 1", d.MaxConns)
	case d.RequestsPerConn < 0:
		return fmt.Errorf("requests_per_connection: %d is below 0", d.RequestsPerConn)
	}
	return d.Bounds.Validate()
}

// Look says what of the configuration the machine lacks: the root, or a php-fpm that listens. It runs no script.
func (c Config) Look() error {
	c = c.withDefaults()
	if st, err := os.Stat(c.Root); err != nil {
		return fmt.Errorf("root: %w", err)
	} else if !st.IsDir() {
		return fmt.Errorf("root: %s is not a directory", c.Root)
	}
	if c.FrontController {
		if _, err := os.Stat(c.Root + "/index.php"); err != nil {
			return fmt.Errorf("front_controller: %w", err)
		}
	}
	if err := c.lookNamed(); err != nil {
		return err
	}
	network, addr, err := ParseAddress(c.Address)
	if err != nil {
		return err
	}
	nc, err := net.DialTimeout(network, addr, time.Second)
	if err != nil {
		return fmt.Errorf("php-fpm does not answer: %w", err)
	}
	return nc.Close()
}

// ParseAddress gives what to dial for host:port or unix:/path/to/socket.
func ParseAddress(s string) (network, addr string, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return "", "", fmt.Errorf("%q is not unix:/path/to/socket", s)
		}
		return "unix", path, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || port == "" || strings.Contains(s, "/") {
		return "", "", fmt.Errorf("%q is neither host:port nor unix:/path/to/socket", s)
	}
	return "tcp", s, nil
}
