// Package rotation is the way from one version of a secret to the next: which
// state follows which event, and what the clock and the executions that hold a
// version decide by themselves. It does nothing: whoever uses it stores the
// outcome and acts on it.
package rotation

import (
	"errors"
	"fmt"
	"time"
)

// State is where a rotation stands. It is stored and answered by name.
type State string

const (
	Idle      State = "idle"      // there is none
	Creating  State = "creating"  // the rotator makes the new value
	Setting   State = "setting"   // the far side is told of it
	Testing   State = "testing"   // it is tried there
	Staged    State = "staged"    // it waits for valid_from
	Serving   State = "serving"   // new readers get the new version, running executions keep the old one
	Finishing State = "finishing" // one version is gone, and the far side is told so
	Failed    State = "failed"    // a step is tried again at NextAttempt
	Orphaned  State = "orphaned"  // it needs a person
)

// Event is what happens to a rotation.
type Event string

const (
	Done    Event = "done"    // the step is through
	Wait    Event = "wait"    // somebody else makes the new value, and sends it
	Fail    Event = "fail"    // the step is not, and LastError says why
	Retry   Event = "retry"   // of the step that failed
	Serve   Event = "serve"   // valid_from has come
	Use     Event = "use"     // a reader or an execution got the new version
	Confirm Event = "confirm" // somebody says that the new version works
	Promote Event = "promote" // the new version becomes the current one
	Overdue Event = "overdue" // the same at max_overlap, whoever still holds the old one
	Abort   Event = "abort"   // the new version goes
	Revoke  Event = "revoke"  // an emergency took versions away
)

// Proof is why the new version is believed to work. It is stored by name.
type Proof string

const (
	Unproven  Proof = ""
	Used      Proof = "used"
	Tested    Proof = "tested"
	Confirmed Proof = "confirmed"
)

// Result is how a rotation ended.
type Result string

const (
	Promoted Result = "promoted"
	Aborted  Result = "aborted"
	Revoked  Result = "revoked"
)

// What happens to executions that hold the old version at max_overlap.
const (
	Alert = "alert"
	Kill  = "kill"
)

// Policy is what a rotation was asked to obey.
type Policy struct {
	MinOverlap     time.Duration `json:"min_overlap"` // from serving to promotion, at least
	MaxOverlap     time.Duration `json:"max_overlap"`
	OnOverdue      string        `json:"on_overdue"`
	RequireConfirm bool          `json:"require_confirm,omitempty"`
	MaxRetries     int           `json:"max_retries"` // of a step, before the rotation is orphaned
}

// Rotation is one way from a version to the next.
type Rotation struct {
	Policy
	ID           string    `json:"id"`
	State        State     `json:"state"`
	Step         State     `json:"step,omitempty"` // that failed: what Retry goes back to
	Trigger      string    `json:"trigger"`        // write, request or schedule
	StartedAt    time.Time `json:"started_at"`
	StartedBy    string    `json:"started_by"`
	Rotator      string    `json:"rotator,omitempty"`        // its name; empty: the value was sent
	Chain        string    `json:"rotation_chain,omitempty"` // that a webhook runs
	FarSide      bool      `json:"far_side,omitempty"`       // somebody else has to accept the new value
	Untested     bool      `json:"untested,omitempty"`       // the rotator cannot try it
	NoOverlap    bool      `json:"no_overlap,omitempty"`     // and then refuses the old one at once
	First        bool      `json:"first,omitempty"`          // there was no version before
	ValidFrom    time.Time `json:"valid_from"`               // zero: as soon as the value is there
	ServingSince time.Time `json:"serving_since"`
	Proof        Proof     `json:"proof,omitempty"`
	Attempt      int       `json:"attempt"`
	NextAttempt  time.Time `json:"next_attempt"`
	StepSince    time.Time `json:"step_since"`
	Waiting      bool      `json:"waiting,omitempty"` // for a value that somebody else sends
	LastError    string    `json:"last_error,omitempty"`
	Result       Result    `json:"result,omitempty"` // known from Finishing on
}

// Facts are what decides beside the rotation itself.
type Facts struct {
	Now     time.Time
	Counted bool // Holders are known
	Holders int  // executions that hold the version that the event takes away
	Force   bool // a person insists
}

// Effect is what an event does to the versions.
type Effect int

const (
	Nothing    Effect = iota
	PromoteNew        // the new version is the current one, the old one is destroyed
	DropNew           // the new version is destroyed
)

// ErrRefused is the cause of each error of Apply. Its text follows the name of
// what is rotated.
var ErrRefused = errors.New("refused")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w%.0w", fmt.Errorf(format, args...), ErrRefused)
}
