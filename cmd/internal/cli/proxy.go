package cli

import (
	"time"

	"banyan/cmd/internal/role"

	"github.com/spf13/cobra"
)

func (a *app) proxy() *cobra.Command {
	var p passthrough
	var o configured
	c := &cobra.Command{
		Use:   "proxy {--listen ADDR --legacy URL | -c FILE}",
		Short: "Stand in front of legacy",
		Long: `Stands in front of legacy. With --listen and --legacy it passes everything through, byte for byte: it needs no
configuration, keeps nothing on disk, and nothing else has to run. With -c it applies the routes and migrations of a
configuration: writes are recorded, reads compared, and moved when their stage says so.

Where legacy is PHP, no web server is needed: --legacy fastcgi:ADDR asks php-fpm itself, and the files of --root are
served from here. At most 4 of php-fpm's children are used; a configuration can say more (fastcgi.max_connections).

SIGTERM or SIGINT drains: requests under way end, then the process does. A second one ends it at once. SIGHUP reads the
configuration again, as banyan reload does. SIGUSR2 starts the program anew, as its file and its configuration are then,
hands the sockets over, and drains once the new process serves.`,
		Example: `  banyan proxy --listen :8080 --legacy http://127.0.0.1:80
  banyan proxy --listen 127.0.0.1:8080 --legacy unix:/run/nginx/legacy.sock --trusted-proxy 127.0.0.1/32
  banyan proxy --listen :8080 --legacy fastcgi:unix:/run/php/php-fpm.sock --root /srv/game/public
  banyan proxy --listen :443 --tls-cert site.pem --tls-key site.key --legacy http://127.0.0.1:80
  banyan proxy -c banyan.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.file == "" {
				p.level = o.level
				return a.passthrough(c.Context(), p)
			}
			for _, name := range []string{"listen", "legacy", "root", "front-controller", "trusted-proxy", "drain", "admin", "token-file", "tls-cert", "tls-key"} {
				if c.Flags().Changed(name) {
					return usage("--%s has no effect with -c: the configuration says it", name)
				}
			}
			return a.run(c.Context(), o, "banyan-proxy", role.Roles{Proxy: true})
		},
	}
	f := c.Flags()
	f.StringVar(&p.listen, "listen", "", "host:port or unix:/path to listen on (:8080 is every interface)")
	f.StringVar(&p.legacy, "legacy", "", "http://host:port or unix:/path of the legacy backend, or fastcgi:unix:/path or fastcgi:host:port of its php-fpm")
	f.StringVar(&p.root, "root", "", "directory of the site, when legacy is a php-fpm")
	f.BoolVar(&p.frontController, "front-controller", false, "with --root: run /index.php for a path that is neither script nor file nor directory")
	f.StringSliceVar(&p.trusted, "trusted-proxy", nil, "address range whose X-Forwarded-* fields are believed, such as 10.0.0.0/8; may be repeated")
	f.DurationVar(&p.drain, "drain", 30*time.Second, "how long a stop waits for requests under way")
	f.StringVar(&p.admin, "admin", "", "host:port for health, readiness and metrics (default: none)")
	f.StringVar(&p.tokenFile, "token-file", "", "file with the token that reading metrics takes; made if it is not there")
	f.StringVar(&p.cert, "tls-cert", "", "PEM file of the certificate to speak HTTPS with, HTTP/2 included; read again when it changes")
	f.StringVar(&p.key, "tls-key", "", "PEM file of its private key")
	a.configFlags(c, &o, "")
	return c
}
