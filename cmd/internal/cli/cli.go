package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// app is one run of the command line.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	began          bool // a command's own code runs: what fails from here on is not the usage
}

// Run executes one command line. [Report] tells its error and gives the exit status.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	at, err := root.ExecuteContextC(ctx)
	var f *failure
	if err != nil && !a.began && !errors.As(err, &f) {
		err = usage("%w\nTry `%s --help`.", err, at.CommandPath())
	}
	return err
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "banyan",
		Short: "Replace a legacy backend route by route, with live users and with proof",
		Long: `banyan grows around a legacy backend: a proxy in front of it records every write, consumers rebuild its state in
new read models, differences are found and explained, and reads move to the new side when the evidence allows it.

Begin with the proxy alone; everything goes to legacy, nothing else has to run:

  banyan proxy --listen :8080 --legacy http://127.0.0.1:80

Exit status: 0 ok, 1 the answer is no, 2 usage or configuration, 3 something that is needed is missing.`,
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SetHelpCommand(&cobra.Command{Use: "help [command]", Short: "Explain a command", RunE: help})
	root.AddGroup(&cobra.Group{ID: "run", Title: "Run:"}, &cobra.Group{ID: "operate", Title: "Operate a running system:"},
		&cobra.Group{ID: "write", Title: "Write a configuration:"})
	for _, g := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{"run", []*cobra.Command{a.proxy(), a.shadow(), a.serve()}},
		{"operate", []*cobra.Command{a.stage(), a.findings(), a.backfill(), a.retranslate(), a.parked(), a.upstream(), a.status(), a.reload()}},
		{"write", []*cobra.Command{a.check(), a.schema()}},
	} {
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
	root.AddCommand(a.version())
	a.finish(root)
	return root
}

// help explains the command that args name.
func help(cmd *cobra.Command, args []string) error {
	at, rest, err := cmd.Root().Find(args)
	if err != nil || len(rest) > 0 {
		return usage("there is no command `banyan %s`; `banyan --help` lists them", strings.Join(args, " "))
	}
	return at.Help()
}

// finish gives every command the habits that cobra leaves open: a word that is no subcommand is an error, and a
// command's own code is told apart from parsing.
func (a *app) finish(c *cobra.Command) {
	for _, sub := range c.Commands() {
		a.finish(sub)
	}
	if c.RunE == nil && c.Run == nil {
		c.Args = noSuchCommand
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		c.SuggestionsMinimumDistance = 2
		return
	}
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			a.began = true
			return run(c, args)
		}
	}
}

// noSuchCommand refuses what follows a command that only groups others.
func noSuchCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if s := c.SuggestionsFor(args[0]); len(s) > 0 {
		hint = fmt.Sprintf("; did you mean `%s %s`?", c.CommandPath(), s[0])
	}
	return fmt.Errorf("there is no command `%s %s`%s", c.CommandPath(), args[0], hint)
}
