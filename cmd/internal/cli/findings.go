package cli

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"banyan/proxy/admin"

	"github.com/spf13/cobra"
)

func (a *app) findings() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use:   "findings",
		Short: "List, explain and accept differences between legacy and candidate",
		Long: `Differences between legacy and candidate, grouped by cause. A finding closes by itself when every place that showed it
was compared again and found equal; one that is known and may stay for a while is accepted, with an owner and an expiry.`,
	}
	r.flags(c)
	c.AddCommand(a.findingsList(&r), a.findingsShow(&r), a.findingsAccept(&r))
	return c
}

func (a *app) findingsList(r *remote) *cobra.Command {
	var o output
	var migration string
	var states []string
	var all bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List findings, the newest first",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := r.client(c)
			if err != nil {
				return err
			}
			q := url.Values{}
			if migration != "" {
				q.Set("migration", migration)
			}
			if !all {
				q["state"] = states
			}
			var got struct {
				Findings []admin.Finding `json:"findings"`
			}
			if _, err := cl.call(c.Context(), "GET", "/api/v1/findings?"+q.Encode(), nil, &got); err != nil {
				return err
			}
			return o.print(a.stdout, got, func() error { return a.listFindings(got.Findings) })
		},
	}
	f := c.Flags()
	f.StringVarP(&migration, "migration", "m", "", "of this migration only")
	f.StringSliceVar(&states, "state", []string{"open", "reopened"}, "open, accepted, fixed, reopened; may be repeated")
	f.BoolVar(&all, "all", false, "in every state")
	o.flag(c)
	return c
}

func (a *app) listFindings(all []admin.Finding) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(a.stdout, "no findings; whether enough was compared is what `banyan stage flip --dry-run` tells")
		return err
	}
	rows := [][]string{{"ID", "STATE", "MIGRATION", "CAUSE", "WHERE", "SEEN", "DIFFER", "LAST SEEN"}}
	for _, f := range all {
		differ := strconv.Itoa(f.Differ)
		if f.More {
			differ += "+"
		}
		rows = append(rows, []string{f.ID, f.State, string(f.Migration), f.Cause, f.Comparison + " " + f.Place, strconv.FormatInt(f.Count, 10), differ, when(f.LastSeen)})
	}
	if err := table(a.stdout, rows...); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "`banyan findings show %s` tells why\n", all[0].ID)
	return err
}

func (a *app) findingsShow(r *remote) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show a finding: its cause, both sides' values, the requests involved",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := r.client(c)
			if err != nil {
				return err
			}
			var f admin.Finding
			if _, err := cl.call(c.Context(), "GET", "/api/v1/findings/"+url.PathEscape(args[0]), nil, &f); err != nil {
				return err
			}
			return o.print(a.stdout, f, func() error { return a.showFinding(&f) })
		},
	}
	o.flag(c)
	return c
}

func (a *app) showFinding(f *admin.Finding) error {
	rows := [][]string{
		{"state", f.State}, {"migration", string(f.Migration)}, {"where", f.Comparison + " " + f.Place}, {"cause", f.Cause}, {"class", f.Class}, {"why", f.Why},
		{"seen", fmt.Sprintf("%s, from %s to %s", plural(int(f.Count), "time", "times"), when(f.FirstSeen), when(f.LastSeen))},
		{"differ now", places(f)},
	}
	if x := f.Acceptance; x != nil {
		rows = append(rows, []string{"accepted", fmt.Sprintf("by %s until %s: %s", x.Owner, when(x.Expires), x.Reason)})
	}
	if f.FixedAt != nil {
		rows = append(rows, []string{"fixed", when(*f.FixedAt)})
	}
	fmt.Fprintln(a.stdout, f.ID)
	for _, r := range rows {
		r[0] = "  " + r[0]
	}
	if err := table(a.stdout, rows...); err != nil {
		return err
	}
	for i := range f.Examples {
		if err := a.showExample(i+1, &f.Examples[i]); err != nil {
			return err
		}
	}
	return nil
}

func places(f *admin.Finding) string {
	n := plural(f.Differ, "place", "places")
	if f.More {
		n += " and others that are not listed"
	}
	const some = 5
	var names []string
	for _, k := range f.Keys[:min(some, len(f.Keys))] {
		names = append(names, strings.TrimSpace(string(k.Entity)+" "+k.Path+" ("+string(k.Key)+")"))
	}
	if len(names) == 0 {
		return n
	}
	if f.Differ > len(names) {
		names = append(names, "…")
	}
	return n + ": " + strings.Join(names, ", ")
}

func (a *app) showExample(n int, e *admin.Example) error {
	fmt.Fprintf(a.stdout, "example %d, %s\n", n, when(e.At))
	rows := [][]string{{"  at", strings.TrimSpace(string(e.Entity) + " " + e.Path + " (" + string(e.Key) + ")")}, {"  legacy", value(e.Legacy)}, {"  candidate", value(e.Candidate)}}
	if e.Target != "" {
		rows = append(rows, []string{"  asked", e.Target})
	}
	if len(e.Writes) > 0 {
		var ids []string
		for _, w := range e.Writes {
			ids = append(ids, w.String())
		}
		rows = append(rows, []string{"  writes", strings.Join(ids, ", ")})
	}
	if e.Why != "" {
		rows = append(rows, []string{"  why", e.Why})
	}
	return table(a.stdout, rows...)
}

// value is one side's value on one line. Captured bytes are text: what a terminal would obey is shown, not done.
func value(v json.RawMessage) string {
	if v == nil {
		return "(not there)"
	}
	const longest = 400
	s := line(string(v))
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "… (" + strconv.Itoa(len(v)) + " bytes; -o json shows all that is kept)"
	}
	return s
}

// line is captured text on one line: what a terminal would obey is shown, not done.
func line(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

func (a *app) findingsAccept(r *remote) *cobra.Command {
	var o output
	var x admin.Acceptance
	var expires string
	c := &cobra.Command{
		Use:     "accept ID --reason TEXT --owner NAME --expires 30d",
		Short:   "Let a finding stay until it expires",
		Example: `  banyan findings accept f-12 --reason "legacy rounds down, see wiki" --owner core --expires 30d`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			switch {
			case strings.TrimSpace(x.Reason) == "":
				return usage("why? Give --reason \"…\"")
			case strings.TrimSpace(x.Owner) == "":
				return usage("whose is it? Give --owner: somebody answers for it until it expires")
			}
			if x.Expires, err = expiry(expires, time.Now()); err != nil {
				return err
			}
			cl, err := r.client(c)
			if err != nil {
				return err
			}
			var f admin.Finding
			if _, err := cl.call(c.Context(), "POST", "/api/v1/findings/"+url.PathEscape(args[0])+"/accept", x, &f); err != nil {
				return err
			}
			return o.print(a.stdout, f, func() error {
				_, err := fmt.Fprintf(a.stdout, "%s is accepted until %s; it opens again by itself\n", f.ID, when(x.Expires))
				return err
			})
		},
	}
	f := c.Flags()
	f.StringVar(&x.Reason, "reason", "", "why it may stay (required)")
	f.StringVar(&x.Owner, "owner", "", "who answers for it (required)")
	f.StringVar(&expires, "expires", "", "when it opens again: a time from now such as 30d or 12h, or a date such as 2027-01-31 (required)")
	o.flag(c)
	return c
}

// expiry reads a time from now, or a date (UTC).
func expiry(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse("2006-01-02", s); err == nil {
		if !t.After(now) {
			return t, usage("--expires %s is not in the future", s)
		}
		return t, nil
	}
	var d time.Duration
	var err error
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	} else {
		d, err = time.ParseDuration(s)
	}
	if err != nil || d <= 0 {
		return time.Time{}, usage("--expires %q: want a time from now such as 30d or 12h, or a date such as 2027-01-31", s)
	}
	return now.Add(d), nil
}
