package cli

import (
	"io"
	"maps"
	"slices"
	"strconv"

	"banyan/proxy/balance"

	"github.com/spf13/cobra"
)

func (a *app) upstream() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use:   "upstream",
		Short: "Show the instances of upstreams, and take one out of service without losing its sessions",
		Long: `Shows and drains instances of upstreams, at the one proxy whose admin API is asked: each proxy has to be told.

A drained instance gets no new sessions. Those that it holds stay until they end: once ` + "`sessions`" + ` is 0, or after
sticky.idle at the latest, nobody misses it, if ` + "`active`" + ` is 0 as well: a WebSocket is a request under way for as long as
it is open, and holds its session. A restart of the proxy forgets that it drains.`,
	}
	var o output
	show := &cobra.Command{
		Use:     "show",
		Short:   "Show instances, their state and how many sessions each holds",
		Example: "  banyan upstream show",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := r.client(c)
			if err != nil {
				return err
			}
			var got struct {
				Upstreams map[string]balance.Stats `json:"upstreams"`
			}
			if _, err := cl.call(c.Context(), "GET", "/api/v1/status", nil, &got); err != nil {
				return err
			}
			return o.print(a.stdout, got.Upstreams, func() error { return showUpstreams(a.stdout, got.Upstreams) })
		},
	}
	o.flag(show)
	var off bool
	drain := &cobra.Command{
		Use:     "drain UPSTREAM INSTANCE",
		Short:   "Send no new sessions to an instance; --off takes that back",
		Example: "  banyan upstream drain legacy http://10.0.0.2:80",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := r.client(c)
			if err != nil {
				return err
			}
			var got balance.Stats
			ask := map[string]any{"upstream": args[0], "instance": args[1], "off": off}
			if _, err := cl.call(c.Context(), "POST", "/api/v1/upstreams/drain", ask, &got); err != nil {
				return err
			}
			return showUpstreams(a.stdout, map[string]balance.Stats{args[0]: got})
		},
	}
	drain.Flags().BoolVar(&off, "off", false, "let new sessions come again")
	c.AddCommand(show, drain)
	r.flags(c)
	return c
}

func showUpstreams(to io.Writer, all map[string]balance.Stats) error {
	rows := [][]string{{"UPSTREAM", "INSTANCE", "STATE", "SESSIONS", "ACTIVE", "WAITING", "FAILURES", "EJECTIONS", "MOVED"}}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, i := range all[name].Instances {
			row := []string{name, i.Name, string(i.State)}
			for _, n := range []int64{int64(i.Sessions), int64(i.Active), int64(i.Waiting), i.Failures, i.Ejections, i.Moved} {
				row = append(row, strconv.FormatInt(n, 10))
			}
			rows = append(rows, row)
		}
	}
	return table(to, rows...)
}
