package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// output is the flag -o: text for people, or json for scripts.
type output struct{ json bool }

var _ interface {
	Set(string) error
	String() string
	Type() string
} = (*output)(nil)

// Set implements pflag.Value.
func (o *output) Set(s string) error {
	if s != "text" && s != "json" {
		return fmt.Errorf("want text or json")
	}
	o.json = s == "json"
	return nil
}

// String implements pflag.Value.
func (o *output) String() string {
	if o.json {
		return "json"
	}
	return "text"
}

// Type implements pflag.Value.
func (o *output) Type() string { return "text|json" }

func (o *output) flag(c *cobra.Command) {
	c.Flags().VarP(o, "output", "o", "what to print")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that does not exist
}

// print writes v as JSON, or calls text.
func (o *output) print(w io.Writer, v any, text func() error) error {
	if !o.json {
		return text()
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table writes rows in columns as wide as they need. The last column is not padded.
func table(w io.Writer, rows ...[]string) error {
	var width []int
	for _, r := range rows {
		for i, cell := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, r := range rows {
		for i, cell := range r {
			b.WriteString(cell)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}
