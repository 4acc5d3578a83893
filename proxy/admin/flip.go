package admin

import (
	"context"
	"net/http"
	"strings"

	"banyan/proxy/event"
	"banyan/proxy/stage"
)

// FlipRequest asks for a stage.
type FlipRequest struct {
	Stage  stage.Stage `json:"stage"`
	Share  stage.Share `json:"share,omitzero"`
	Reason string      `json:"reason"`
	Who    string      `json:"who"` // for the audit: a person, or a pipeline
	// Expect is the version of the state that the decision was taken on. Without it, it is whatever the state is.
	Expect *uint64 `json:"expect,omitempty"`
	Force  bool    `json:"force,omitempty"`   // although gates do not pass: marked for ever
	DryRun bool    `json:"dry_run,omitempty"` // show the plan and change nothing
}

// Outcome is the answer to a FlipRequest.
type Outcome struct {
	Plan    Plan     `json:"plan"`
	Passed  bool     `json:"passed"`            // the gates let it
	Flipped *Flipped `json:"flipped,omitempty"` // it was done
	Refused string   `json:"error,omitempty"`   // why it was not
}

func (s *Server) flip(w http.ResponseWriter, r *http.Request) {
	var f FlipRequest
	if !read(w, r, &f) {
		return
	}
	m := event.Migration(r.PathValue("migration"))
	if _, err := stage.Parse(string(f.Stage)); err != nil {
		fail(w, http.StatusBadRequest, "stage: %v", err)
		return
	}
	if err := f.Share.Validate(); err != nil {
		fail(w, http.StatusBadRequest, "%v", err)
		return
	}
	if !f.DryRun && (strings.TrimSpace(f.Reason) == "" || strings.TrimSpace(f.Who) == "") {
		fail(w, http.StatusBadRequest, "reason and who: the audit needs both")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callWait)
	plan, err := s.cfg.Flips.Plan(ctx, m, stage.State{Stage: f.Stage, Share: f.Share})
	cancel()
	if err != nil {
		s.failed(w, err)
		return
	}
	o := Outcome{Plan: plan, Passed: plan.Passed()}
	switch {
	case f.Expect != nil && plan.From.Version != *f.Expect:
		o.Refused = "somebody flipped it in between: it is at " + plan.From.String() + " now"
	case !o.Passed && !f.Force && !f.DryRun:
		o.Refused = "gates do not pass"
	}
	if o.Refused != "" {
		reply(w, http.StatusConflict, o)
		return
	}
	if f.DryRun {
		reply(w, http.StatusOK, o)
		return
	}
	ctx, cancel = context.WithTimeout(r.Context(), flipWait)
	defer cancel()
	done, err := s.cfg.Flips.Flip(ctx, Flip{Plan: plan, Who: f.Who, Reason: f.Reason, Forced: !o.Passed})
	if err != nil {
		s.failed(w, err)
		return
	}
	o.Flipped = &done
	reply(w, http.StatusOK, o)
}
