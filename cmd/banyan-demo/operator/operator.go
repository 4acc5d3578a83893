// Package operator does what an operator does: it types banyan's commands, and looks at the admin API while it waits.
//
// It promises that what is printed as a command was run as such, by the program that users have, with nothing but two
// environment variables; and that an answer of no is told apart from a failure, by the exit status.
package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"

	"banyan/proxy/admin"
	"banyan/proxy/event"
	"banyan/proxy/stage"
)

// Operator speaks to one admin listener.
type Operator struct {
	Banyan string // path of the program
	Admin  string // http://host:port
	Token  string
}

// Result is what became of a command.
type Result struct {
	Status         int
	Stdout, Stderr string
}

// Run runs `banyan args…`. The error is that it could not be run at all.
func (o *Operator) Run(ctx context.Context, args ...string) (Result, error) {
	cmd := exec.CommandContext(ctx, o.Banyan, args...)
	cmd.Env = append(os.Environ(), "BANYAN_ADMIN="+o.Admin, "BANYAN_TOKEN="+o.Token)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Result{}, fmt.Errorf("%s: %w", Line(args...), err)
	}
	return Result{cmd.ProcessState.ExitCode(), strings.TrimRight(out.String(), "\n"), strings.TrimRight(errs.String(), "\n")}, ctx.Err()
}

// Line is a command as one types it.
func Line(args ...string) string {
	words := []string{"banyan"}
	for _, a := range args {
		if strings.ContainsAny(a, " '\"$") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// FlipArgs is the command line of a flip.
func FlipArgs(m event.Migration, to stage.State, reason string) []string {
	args := []string{"stage", "flip", string(m), string(to.Stage)}
	if to.Stage == stage.Live {
		args = append(args, "--share", fmt.Sprintf("%g", to.Share.Percent))
	}
	return append(args, "--reason", reason)
}

func (o *Operator) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, o.Admin+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+o.Token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= 300 && resp.StatusCode != http.StatusConflict {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(b))
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// Plan asks what a flip would do.
func (o *Operator) Plan(ctx context.Context, m event.Migration, to stage.State) (*admin.Plan, error) {
	var out admin.Outcome
	err := o.call(ctx, http.MethodPost, "/api/v1/stages/"+url.PathEscape(string(m))+"/flip", admin.FlipRequest{Stage: to.Stage, Share: to.Share, DryRun: true}, &out)
	return &out.Plan, err
}

// Findings lists those in one of the states, in every state for none.
func (o *Operator) Findings(ctx context.Context, states ...string) ([]admin.Finding, error) {
	var out struct{ Findings []admin.Finding }
	err := o.call(ctx, http.MethodGet, "/api/v1/findings?"+url.Values{"state": states}.Encode(), nil, &out)
	return out.Findings, err
}

// Finding is one with its examples.
func (o *Operator) Finding(ctx context.Context, id string) (*admin.Finding, error) {
	var out admin.Finding
	err := o.call(ctx, http.MethodGet, "/api/v1/findings/"+url.PathEscape(id), nil, &out)
	return &out, err
}

// Backfill tells how far one is; nil if none was begun.
func (o *Operator) Backfill(ctx context.Context, m event.Migration) (*admin.BackfillStatus, error) {
	var out struct{ Backfills []admin.BackfillStatus }
	if err := o.call(ctx, http.MethodGet, "/api/v1/backfill", nil, &out); err != nil {
		return nil, err
	}
	for i := range out.Backfills {
		if out.Backfills[i].Migration == m {
			return &out.Backfills[i], nil
		}
	}
	return nil, nil
}

// Retranslation tells how far one is, in words; "" if none was begun.
func (o *Operator) Retranslation(ctx context.Context, m event.Migration) (string, error) {
	var out struct{ Retranslations []admin.RetranslateStatus }
	if err := o.call(ctx, http.MethodGet, "/api/v1/retranslate", nil, &out); err != nil {
		return "", err
	}
	for _, r := range out.Retranslations {
		if r.Migration == m {
			return fmt.Sprintf("%s, %d of %d partitions have caught up, %d rows compared, %d differ", r.Phase, r.CaughtUp, r.Partitions, r.Compared, r.Different), nil
		}
	}
	return "", nil
}

// Status reads one part of the status.
func (o *Operator) Status(ctx context.Context, part string, out any) error {
	var all map[string]json.RawMessage
	if err := o.call(ctx, http.MethodGet, "/api/v1/status", nil, &all); err != nil {
		return err
	}
	if err := json.Unmarshal(all[part], out); err != nil {
		return fmt.Errorf("status %s: %w: %s", part, err, all[part])
	}
	return nil
}
