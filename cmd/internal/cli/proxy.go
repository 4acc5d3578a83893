package cli

import (
	"time"

	"github.com/spf13/cobra"
)

func (a *app) proxy() *cobra.Command {
	var p passthrough
	c := &cobra.Command{
		Use:   "proxy --listen ADDR --legacy URL",
		Short: "Stand in front of legacy",
		Long: `Stands in front of legacy and passes everything through, byte for byte. It needs no configuration file, keeps nothing
on disk, and nothing else has to run.

SIGTERM or SIGINT drains: requests under way end, then the process does. A second one ends it at once.`,
		Example: `  banyan proxy --listen :8080 --legacy http://127.0.0.1:80
  banyan proxy --listen 127.0.0.1:8080 --legacy unix:/run/nginx/legacy.sock --trusted-proxy 127.0.0.1/32`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.passthrough(c.Context(), p) },
	}
	f := c.Flags()
	f.StringVar(&p.listen, "listen", "", "host:port or unix:/path to listen on (:8080 is every interface)")
	f.StringVar(&p.legacy, "legacy", "", "http://host:port or unix:/path of the legacy backend")
	f.StringSliceVar(&p.trusted, "trusted-proxy", nil, "address range whose X-Forwarded-* fields are believed, such as 10.0.0.0/8; may be repeated")
	f.DurationVar(&p.drain, "drain", 30*time.Second, "how long a stop waits for requests under way")
	a.logFlags(c, &p.level)
	return c
}
