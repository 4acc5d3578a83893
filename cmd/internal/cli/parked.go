package cli

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"banyan/proxy/admin"
	"banyan/proxy/event"

	"github.com/spf13/cobra"
)

func (a *app) parked() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use:   "parked",
		Short: "List the keys that have stopped, and let them go on",
		Long: `An ordering key is parked when a record of it cannot be used: a mapping cannot tell a row, the service refuses a command,
an event breaks its contract or a table refuses it. Nothing later of that key is applied, nothing is skipped, and reads of it
go to legacy; other keys go on. Once the cause is mended and the shadow role runs with it, a release lets the key go on
from where it stopped.`,
	}
	r.flags(c)
	c.AddCommand(a.parkedList(&r), a.parkedRelease(&r))
	return c
}

func (a *app) parkedList(r *remote) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "list [MIGRATION]",
		Short: "List parked keys: where each stopped, since when, why, and how much waits",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := r.client(c)
			if err != nil {
				return err
			}
			path := "/api/v1/parked"
			if len(args) > 0 {
				path += "?migration=" + url.QueryEscape(args[0])
			}
			var got struct {
				Parked []admin.Parked `json:"parked"`
			}
			if _, err := cl.call(c.Context(), "GET", path, nil, &got); err != nil {
				return err
			}
			return o.print(a.stdout, got, func() error { return a.listParked(got.Parked) })
		},
	}
	o.flag(c)
	return c
}

func (a *app) listParked(all []admin.Parked) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(a.stdout, "no key is parked")
		return err
	}
	rows := [][]string{{"MIGRATION", "GENERATION", "STAGE", "KEY", "SINCE", "POSITION", "WAITING", "REASON"}}
	for _, p := range all {
		waiting, reason := "-", line(p.Reason)
		if p.Waiting != nil {
			waiting = strconv.FormatInt(*p.Waiting, 10)
		}
		if p.Released {
			reason = "(released, catches up) " + reason
		}
		rows = append(rows, []string{string(p.Migration), strconv.Itoa(p.Generation), p.Stage, line(string(p.Key)), when(p.Since), p.Position.String(), waiting, reason})
	}
	return table(a.stdout, rows...)
}

func (a *app) parkedRelease(r *remote) *cobra.Command {
	var o output
	var q admin.ReleaseRequest
	var keys []string
	c := &cobra.Command{
		Use:   "release MIGRATION (--key KEY | --all) --reason TEXT",
		Short: "Let parked keys go on from where they stopped",
		Long: `Lets parked keys go on from where each stopped: what it has missed is read back and applied in order, while other keys go
on. Until it has caught up the key stays listed, and reads of it go to legacy. If what stopped it is not mended, or something
later cannot be used, it is parked again there, and needs another release.

Exit status: 0 released, 1 a key is not parked (then none is released), 2 usage, 3 something that is needed is missing.`,
		Example: `  banyan parked release units --key match/7 --reason "game.unit.fought takes a health of 0"
  banyan parked release units --all --reason "the mapping knows the new column"`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			q.Migration, q.Reason = event.Migration(args[0]), strings.TrimSpace(q.Reason)
			for _, k := range keys {
				q.Keys = append(q.Keys, event.OrderingKey(k))
			}
			switch {
			case q.Reason == "":
				return usage("why? Give --reason \"…\": the record of the release keeps it")
			case q.All == (len(q.Keys) > 0):
				return usage("which? Give --key, as often as you need, or --all")
			}
			cl, err := r.client(c)
			if err != nil {
				return err
			}
			var got struct {
				Released []admin.Parked `json:"released"`
				Error    string         `json:"error,omitempty"`
			}
			conflict, err := cl.call(c.Context(), "POST", "/api/v1/parked/release", q, &got)
			if err != nil {
				return err
			}
			if conflict {
				return no("%s", strings.TrimPrefix(dash(got.Error), admin.ErrConflict.Error()+": "))
			}
			return o.print(a.stdout, got, func() error {
				for _, p := range got.Released {
					fmt.Fprintf(a.stdout, "%s of %s, generation %d, is released and catches up from %s\n", line(string(p.Key)), p.Migration, p.Generation, p.Stage)
				}
				return nil
			})
		},
	}
	f := c.Flags()
	f.StringSliceVar(&keys, "key", nil, "this ordering key, such as match/7; may be repeated")
	f.BoolVar(&q.All, "all", false, "every parked key of the migration")
	f.StringVar(&q.Reason, "reason", "", "why it may go on, for the record (required)")
	f.StringVar(&q.Who, "who", whoami(), "who answers for it, for the record")
	o.flag(c)
	return c
}
