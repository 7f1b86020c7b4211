// Package rotator makes new values, and removes old ones where they are used. It
// knows what a rotation is to do next from whoever calls it, and stores nothing
// itself.
package rotator

import (
	"context"
	"errors"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/outbound"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// Rotator takes a rotation through its four steps. Each step may be called again
// with the same job, after a failure or when nobody knows how it ended, and then
// finds what it did before instead of doing it twice. A step returns within the
// deadline of its context.
type Rotator interface {
	// Create fills job.New.Values. It returns ErrWaiting when somebody else will.
	Create(ctx context.Context, job *Job) error
	// Set makes the far side accept the new values.
	Set(ctx context.Context, job *Job) error
	// Test uses the new values at the far side, and changes nothing.
	Test(ctx context.Context, job *Job) error
	// Finish removes from the far side what is no longer used: the old values
	// when the rotation was promoted, the new ones when it was not. It no longer
	// gets the values that it removes, only what Memo says of them. What it changes
	// in the Memo of the version that stays is kept.
	Finish(ctx context.Context, job *Job) error
}

// ErrWaiting says that a step was begun and that somebody else will end it.
var ErrWaiting = errors.New("waiting for the far side")

// Job is one rotation of one entry, for as long as it lasts.
type Job struct {
	ID       string  // of the rotation
	Path     string  // of the entry, such as prod/chain/deploy-pipeline/DATABASE_URL
	Variable string  // that the entry is, when it is a secret; empty for a group
	Old      Version // the current version; its Values are nil when there is none
	New      Version
	Chain    string // that the schedule names to run; empty: none
	Promoted bool   // for Finish: the new version stays

	// Save stores New, so that the next try finds it. What is about to happen
	// outside is saved before it does.
	Save func(ctx context.Context) error
}

// Version is a set of values by the names of their variables.
type Version struct {
	Values map[string]sensitive.String
	// Memo is what a rotator has to know of the version later, such as the name
	// of its user or the id of its lease. It stays for as long as the far side
	// may know the version, and nobody is ever shown it.
	Memo map[string]sensitive.String
}

// Host is what a rotator gets from the process that it runs in. It uses nothing
// else of it: no variables of the environment, no files.
type Host struct {
	Hosts    outbound.Hosts                                           // that may be called
	Password func(ctx context.Context, policy string) (string, error) // by a Vault password policy
}

// Type is a type of rotators.
type Type struct {
	Name   string
	Fields []Field // beside type
	// FarSide says that somebody else has to accept a new value before it is of
	// any use. Without one, a value needs no proof.
	FarSide bool
	// Untested says whether Test proves nothing, because somebody else has to. Nil:
	// it proves something.
	Untested func(s Settings) bool
	// New returns a rotator with these settings. It checks them and calls nobody.
	// Its errors are sentences that begin with the name of a field.
	New func(s Settings, h Host) (Rotator, error)
	// Overlaps says whether the far side accepts the old and the new value at the
	// same time. Nil: it does.
	Overlaps func(s Settings) bool
	// Keep keeps a version alive that would end by itself, and returns when to
	// call it again and when the version ends otherwise. Nil: none does.
	Keep func(ctx context.Context, r Rotator, v *Version) (again, end time.Time, err error)
}
