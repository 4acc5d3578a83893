package cli

import (
	"context"
	"errors"
	"fmt"

	"banyan/cmd/internal/config"
	"banyan/cmd/internal/role"

	"github.com/spf13/cobra"
)

// Problem is something that a database, Kafka or another dependency lacks.
type Problem struct {
	Subject string `json:"subject"`        // "kafka", "legacy_db"
	Message string `json:"message"`        // what is wrong
	Mend    string `json:"mend,omitempty"` // the statement or setting that mends it
}

// checked is what `check -o json` prints.
type checked struct {
	OK       bool            `json:"ok"`
	File     string          `json:"file"`
	Errors   []problemInFile `json:"errors,omitempty"`   // of the file
	Problems []Problem       `json:"problems,omitempty"` // of what it names
}

type problemInFile struct {
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func (a *app) check() *cobra.Command {
	var o output
	var file string
	var offline bool
	c := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Check the configuration and what it names, and tell everything at once",
		Long: `Checks the configuration without starting anything. Every error is told at once, with file, line, column and what to do.
Then php-fpm, instances of upstreams that have several, legacy's database, Kafka and the ledger are asked whether they are as the
file needs them, with the statement that mends what is not. Topics that are missing are no problem: the roles make them at their start.

Exit status: 0 ok, 2 the file has errors, 3 something that it names is missing or lacks a setting.`,
		Example: "  banyan check -c banyan.yaml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.checkFile(c.Context(), file, offline, &o)
		},
	}
	c.Flags().BoolVar(&offline, "offline", false, "check the file alone; ask neither upstreams nor legacy's database, Kafka and the ledger")
	c.Flags().StringVarP(&file, "config", "c", "banyan.yaml", "the configuration")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // fails only for a flag that does not exist
	o.flag(c)
	return c
}

func (a *app) checkFile(ctx context.Context, file string, offline bool, o *output) error {
	f, err := load(file)
	var errs config.Errors
	switch {
	case errors.As(err, &errs) && o.json:
		out := checked{File: file}
		for _, p := range errs {
			out.Errors = append(out.Errors, problemInFile{p.Line, p.Column, p.Path, p.Message, p.Hint})
		}
		if err := o.print(a.stdout, out, nil); err != nil {
			return err
		}
		return &failure{statusUsage, errors.New("")}
	case err != nil:
		return err
	}
	out := checked{OK: true, File: file}
	if !offline {
		for _, l := range role.Check(ctx, f) {
			out.Problems = append(out.Problems, Problem(l))
		}
	}
	out.OK = len(out.Problems) == 0
	if err := o.print(a.stdout, out, func() error { return a.showChecked(f, &out) }); err != nil || out.OK {
		return err
	}
	return &failure{statusMissing, errors.New("")}
}

func (a *app) showChecked(f *config.File, c *checked) error {
	for _, p := range c.Problems {
		fmt.Fprintf(a.stdout, "%s: %s\n", p.Subject, p.Message)
		if p.Mend != "" {
			fmt.Fprintf(a.stdout, "    %s\n", p.Mend)
		}
	}
	if !c.OK {
		_, err := fmt.Fprintln(a.stdout, plural(len(c.Problems), "thing is missing", "things are missing"))
		return err
	}
	reads, writes := 0, 0
	for _, m := range f.Migrations {
		reads, writes = reads+len(m.Reads), writes+len(m.Writes)
	}
	_, err := fmt.Fprintf(a.stdout, "%s is fine: %s with %s and %s, %s\n", c.File, plural(len(f.Migrations), "migration", "migrations"),
		plural(writes, "write route", "write routes"), plural(reads, "read route", "read routes"), plural(len(f.Routes), "plain route", "plain routes"))
	return err
}
