package cli

import (
	"encoding/json"

	"github.com/spf13/cobra"
)

func (a *app) status() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what a running process tells of itself, as JSON",
		Long:  "Shows journal, account of writes, live proxies, change log and progress of read models, as JSON.",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := r.client(c)
			if err != nil {
				return err
			}
			var got map[string]json.RawMessage
			if _, err := cl.call(c.Context(), "GET", "/api/v1/status", nil, &got); err != nil {
				return err
			}
			return (&output{json: true}).print(a.stdout, got, nil)
		},
	}
	r.flags(c)
	return c
}
