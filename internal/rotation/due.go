package rotation

import (
	"errors"
	"time"
)

// ErrNotCounted says that it is not known yet what runs.
var ErrNotCounted = errors.New("the engine is still reading what runs: try again")

// Patience is how long a value may take that somebody else makes.
const Patience = 15 * time.Minute

// Due returns what is to happen to the rotation now, without anybody asking.
func (r Rotation) Due(f Facts) (Event, bool) {
	switch r.State {
	case Creating:
		return Fail, r.Waiting && !f.Now.Before(r.StepSince.Add(Patience))
	case Failed:
		return Retry, !f.Now.Before(r.NextAttempt)
	case Staged:
		return Serve, !f.Now.Before(r.ValidFrom)
	case Serving:
		if r.First || r.NoOverlap {
			return Promote, true
		}
		if !f.Now.Before(r.ServingSince.Add(r.MinOverlap)) && promotable(r, f) == nil {
			return Promote, true
		}
		return Overdue, pastMaxOverlap(r, f) == nil
	}
	return "", false
}

// Wake returns when Due may answer otherwise because time has passed; zero: never.
func (r Rotation) Wake(now time.Time) time.Time {
	switch r.State {
	case Creating:
		if r.Waiting {
			return r.StepSince.Add(Patience)
		}
	case Failed:
		return r.NextAttempt
	case Staged:
		return r.ValidFrom
	case Serving:
		if least := r.ServingSince.Add(r.MinOverlap); least.After(now) {
			return least
		}
		return r.ServingSince.Add(r.MaxOverlap)
	}
	return time.Time{}
}

// Running reports whether a step is to be done, by whoever does steps.
func (r Rotation) Running() bool {
	switch r.State {
	case Creating, Setting, Testing, Finishing:
		return !r.Waiting
	}
	return false
}

// Switching reports whether nobody can tell which of the two values the far side
// takes.
func (r Rotation) Switching() bool {
	return r.NoOverlap && !r.Waiting && (r.State == Creating || r.State == Setting || r.State == Testing)
}

// Check reports a rotation that does not fit the live versions, of which 0 is
// none. Nil is no rotation.
func Check(r *Rotation, current, pending int) error {
	switch {
	case r == nil && pending != 0:
		return errors.New("a pending version without a rotation")
	case r == nil:
		return nil
	case pending != 0 && pending <= current:
		return errors.New("the pending version is not newer than the current one")
	case current == 0 && !r.First && r.Result != Revoked:
		return errors.New("the current version is gone")
	}
	state := r.State
	if r.Step != "" {
		state = r.Step
	}
	switch state {
	case Idle:
		return errors.New("a rotation that has ended")
	case Setting, Testing, Staged, Serving, Orphaned:
		if pending == 0 {
			return errors.New("a rotation that is " + string(state) + " without a pending version")
		}
	case Finishing:
		if pending != 0 {
			return errors.New("a rotation that is finishing with a pending version")
		}
	}
	return nil
}
