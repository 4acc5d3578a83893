package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"banyan/cmd/internal/role"
	"banyan/cmd/internal/telemetry"

	"github.com/spf13/cobra"
)

func (a *app) reload() *cobra.Command {
	var r remote
	var o output
	c := &cobra.Command{
		Use:   "reload",
		Short: "Let a running process read its configuration again, without losing a request",
		Long: `Lets the process whose admin API is asked read its own configuration again, as SIGHUP does: routes, upstreams, the
request path's part of migrations, what is masked, trusted proxies and limits. Requests under way end as they began;
upstreams whose settings are the same keep their connections and sessions. Limits and trusted proxies hold for
connections that are made from then on.

All is taken over or nothing: while the file has errors, or changes what a running process cannot take over, the old one
serves on. A hand-over (SIGUSR2) takes everything over, without losing a request either.

Exit status: 0 it serves by the file as it is now, 2 it does not, and stderr says why.`,
		Example: "  banyan reload",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := r.client(c)
			if err != nil {
				return err
			}
			var got role.Reloaded
			if _, err := cl.call(c.Context(), "POST", "/api/v1/reload", nil, &got); err != nil {
				return err
			}
			return o.print(a.stdout, got, func() error {
				what := "nothing has changed"
				if len(got.Changed) > 0 {
					what = "changed: " + strings.Join(got.Changed, ", ")
				}
				_, err := fmt.Fprintf(a.stdout, "revision %d serves; %s\n", got.Revision, what)
				return err
			})
		},
	}
	o.flag(c)
	r.flags(c)
	return c
}

// observeReloads registers what is known of reloads.
func observeReloads(tel *telemetry.Provider, p *role.Process) error {
	return tel.ObserveReloads(func(context.Context) (outcomes []telemetry.Value, good, revision float64) {
		s := p.Reloads()
		for _, outcome := range slices.Sorted(maps.Keys(s.Outcomes)) {
			outcomes = append(outcomes, telemetry.Value{N: float64(s.Outcomes[outcome]), Labels: []string{outcome}})
		}
		if s.LastGood {
			good = 1
		}
		return outcomes, good, float64(s.Revision)
	})
}
