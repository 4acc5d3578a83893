package admin

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/stage"
)

// Errors that implementations of the interfaces wrap, so that the API answers with the right status.
var (
	ErrNotFound = errors.New("not found")                // 404
	ErrInvalid  = errors.New("invalid")                  // 400
	ErrConflict = errors.New("another change was first") // 409
	ErrMissing  = errors.New("a dependency is missing")  // 503: Kafka, a database
)

// Stages reads where migrations stand.
type Stages interface {
	// Stages lists every configured migration, sorted by name.
	Stages(ctx context.Context) ([]StageInfo, error)
	// History is every flip of a migration, void ones included, oldest first.
	History(ctx context.Context, m event.Migration) ([]stage.Entry, error)
}

// StageInfo is one migration's stage and who made it so.
type StageInfo struct {
	Migration event.Migration `json:"migration"`
	stage.State
	Since   time.Time `json:"since,omitzero"` // of the last flip that counted
	Who     string    `json:"who,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Forced  bool      `json:"forced,omitempty"`
	Proxies []Proxy   `json:"proxies,omitempty"` // live ones
}

// Proxy is one live proxy and what it obeys.
type Proxy struct {
	Replica event.Replica `json:"replica"`
	Listen  string        `json:"listen,omitempty"`
	Version uint64        `json:"version"` // of the migration's state
}

// Flipper changes stages.
type Flipper interface {
	// Plan says what a flip would change and whether its gates let it. It changes nothing. A flip that is not allowed
	// whatever the evidence says is an ErrInvalid with the rule.
	Plan(ctx context.Context, m event.Migration, to stage.State) (Plan, error)
	// Flip appends the change and waits until every live proxy obeys it, or ctx ends: then Flipped.Late says who is
	// missing. It is an ErrConflict if the migration is no longer at Plan.From.
	Flip(ctx context.Context, f Flip) (Flipped, error)
}

// Plan is what a flip would do.
type Plan struct {
	Migration event.Migration `json:"migration"`
	From      stage.State     `json:"from"`
	To        stage.State     `json:"to"`
	Forward   bool            `json:"forward"`         // it gives the candidate more, so its gates are asked
	Gates     []Gate          `json:"gates,omitempty"` // of a flip forward
	// Evidence is what the gates judged; it goes into the control log.
	Evidence json.RawMessage `json:"evidence,omitempty"`
}

// Passed says whether the gates let the flip go ahead: back always, forward only if all pass and there is one.
func (p *Plan) Passed() bool {
	if !p.Forward {
		return true
	}
	for _, g := range p.Gates {
		if g.Result != Pass {
			return false
		}
	}
	return len(p.Gates) > 0
}

// Gate is one gate's answer.
type Gate struct {
	Name   string `json:"name"`
	Result string `json:"result"` // Pass, Fail or Inconclusive
	Have   string `json:"have"`
	Want   string `json:"want"`
	Why    string `json:"why,omitempty"`
}

// Results of a gate. Inconclusive is not a pass: data are missing.
const (
	Pass         = "pass"
	Fail         = "fail"
	Inconclusive = "inconclusive"
)

// Flip is a plan that somebody answers for.
type Flip struct {
	Plan
	Who, Reason string
	Forced      bool // gates were not passed
}

// Flipped is what became of a flip.
type Flipped struct {
	Entry  stage.Entry     `json:"entry"`
	Obeyed []Proxy         `json:"obeyed"`         // live proxies that said so
	Late   []event.Replica `json:"late,omitempty"` // live proxies that did not, yet
	TookMS int64           `json:"took_ms"`        // until all obeyed, or the wait ended
}

// Ledger keeps findings.
type Ledger interface {
	// Findings lists those of a migration, of all for "", in one of the states, in all for none.
	Findings(ctx context.Context, m event.Migration, states []string) ([]Finding, error)
	// Finding gives one with keys and examples.
	Finding(ctx context.Context, id string) (*Finding, error)
	// Accept lets one stay until the acceptance expires.
	Accept(ctx context.Context, id string, a Acceptance) error
}

// Finding is differences grouped by cause.
type Finding struct {
	ID         string          `json:"id"`
	Migration  event.Migration `json:"migration"`
	Comparison string          `json:"comparison"`
	Cause      string          `json:"cause"`
	Class      string          `json:"class"`
	Place      string          `json:"place"`
	Why        string          `json:"why"`
	State      string          `json:"state"`
	Count      int64           `json:"count"`
	FirstSeen  time.Time       `json:"first_seen"`
	LastSeen   time.Time       `json:"last_seen"`
	FixedAt    *time.Time      `json:"fixed_at,omitempty"`
	ReopenedAt *time.Time      `json:"reopened_at,omitempty"`
	Acceptance *Acceptance     `json:"acceptance,omitempty"`
	Differ     int             `json:"differ"`
	More       bool            `json:"more,omitempty"`
	Keys       []DifferingKey  `json:"keys,omitempty"`
	Examples   []Example       `json:"examples,omitempty"`
}

// DifferingKey is a place that still differs.
type DifferingKey struct {
	Key      event.OrderingKey `json:"key"`
	Entity   event.Entity      `json:"entity,omitempty"`
	Subject  string            `json:"subject,omitempty"`
	Path     string            `json:"path"`
	Since    time.Time         `json:"since"`
	LastSeen time.Time         `json:"last_seen"`
	Count    int64             `json:"count"`
	Position event.Position    `json:"position"`
}

// Example is one sighting of a difference.
type Example struct {
	At        time.Time         `json:"at"`
	Key       event.OrderingKey `json:"key"`
	Entity    event.Entity      `json:"entity,omitempty"`
	Path      string            `json:"path"`
	Legacy    json.RawMessage   `json:"legacy,omitempty"` // absent: not there
	Candidate json.RawMessage   `json:"candidate,omitempty"`
	Why       string            `json:"why,omitempty"`
	Writes    []event.WriteID   `json:"writes,omitempty"`
	Pair      string            `json:"pair,omitempty"`
	Target    string            `json:"target,omitempty"`
	Low       event.Position    `json:"low"`
	High      event.Position    `json:"high"`
}

// Acceptance says that a finding is known and may stay until it expires.
type Acceptance struct {
	Reason  string    `json:"reason"`
	Owner   string    `json:"owner"`
	At      time.Time `json:"at,omitzero"` // set when it is accepted
	Expires time.Time `json:"expires"`
}

// Backfiller imports legacy's rows.
type Backfiller interface {
	// Backfill starts one, or continues the one that runs.
	Backfill(ctx context.Context, r BackfillRequest) (BackfillStatus, error)
	// Backfills tells how far they are.
	Backfills(ctx context.Context) ([]BackfillStatus, error)
}

// BackfillRequest asks for a migration's rows.
type BackfillRequest struct {
	Migration event.Migration `json:"migration"`
	Restart   bool            `json:"restart,omitempty"` // from the first row, not from where it stopped
}

// BackfillStatus is how far a backfill is.
type BackfillStatus struct {
	Migration event.Migration `json:"migration"`
	State     string          `json:"state"` // running, done or failed
	Table     string          `json:"table,omitempty"`
	Rows      int64           `json:"rows"`
	Started   time.Time       `json:"started,omitzero"`
	Ended     time.Time       `json:"ended,omitzero"`
	Position  event.Position  `json:"position,omitzero"` // of the change log, up to which it holds everything
	Error     string          `json:"error,omitempty"`
}

// States of a backfill, and of a retranslation. Refused is an answer of no, Failed that something needed was away.
const (
	Running = "running"
	Done    = "done"
	Failed  = "failed"
	Refused = "refused"
)

// Retranslator makes the next generation of a migration's events and read model.
type Retranslator interface {
	// Retranslate starts one, or goes on with the one that was begun; with Abandon it ends it.
	Retranslate(ctx context.Context, r RetranslateRequest) (RetranslateStatus, error)
	// Retranslations tells how far those are that this process does, or did last.
	Retranslations(ctx context.Context) ([]RetranslateStatus, error)
}

// RetranslateRequest asks for a new generation.
type RetranslateRequest struct {
	Migration event.Migration `json:"migration"`
	Reason    string          `json:"reason"`
	Who       string          `json:"who"`
	NoSwap    bool            `json:"no_swap,omitempty"` // build and verify, and leave it at that
	Abandon   bool            `json:"abandon,omitempty"` // end the build that was begun
	Force     bool            `json:"force,omitempty"`   // swap although it is not equal to legacy: marked for ever
}

// RetranslateStatus is how far a retranslation is.
type RetranslateStatus struct {
	Migration   event.Migration `json:"migration"`
	State       string          `json:"state"` // Running, Done, Refused or Failed
	Phase       string          `json:"phase"` // for people
	From        int             `json:"from"`  // generation that readers had
	To          int             `json:"to,omitempty"`
	CaughtUp    int             `json:"caught_up"` // partitions that have reached Head
	Partitions  int             `json:"partitions"`
	Head        event.Position  `json:"head,omitzero"` // of legacy's change log
	Comparisons int             `json:"comparisons"`   // of rows, done
	Compared    int64           `json:"compared"`      // rows
	Different   int64           `json:"different"`
	Unverified  int64           `json:"unverified,omitempty"` // rows that could not be compared fairly
	Examples    []Example       `json:"examples,omitempty"`
	Parked      []ParkedKey     `json:"parked,omitempty"`
	Verified    bool            `json:"verified"` // every row was compared and is equal
	Swapped     bool            `json:"swapped"`
	Forced      bool            `json:"forced,omitempty"`
	Late        string          `json:"late,omitempty"` // which proxies did not say that they obey, yet
	Started     time.Time       `json:"started,omitzero"`
	Ended       time.Time       `json:"ended,omitzero"`
	Error       string          `json:"error,omitempty"` // why it was refused, or failed
}

// ParkedKey is a key that a generation has stopped at.
type ParkedKey struct {
	Key    event.OrderingKey `json:"key"`
	Stage  string            `json:"stage"` // translate, dispatch or project
	Reason string            `json:"reason"`
}

// Part is one member of the status: journal, mirror, progress, replicas, account.
type Part struct {
	Name string
	Read func(ctx context.Context) (any, error) // what is told as JSON
}

// Check is one condition of readiness.
type Check struct {
	Name string
	Ask  func(ctx context.Context) error // nil: ready
}
