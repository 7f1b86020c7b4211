package agentchains

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotation"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// pastRotation is a line in the history of an entry. Nobody else records what
// the engine does by itself.
type pastRotation struct {
	ID        string          `json:"id"`
	Trigger   string          `json:"trigger"`
	StartedAt time.Time       `json:"started_at"`
	StartedBy string          `json:"started_by"`
	EndedAt   time.Time       `json:"ended_at"`
	EndedBy   string          `json:"ended_by"`
	Result    rotation.Result `json:"result"`
	Reason    string          `json:"reason"`
	From      int             `json:"from"` // version numbers; 0: there was none
	To        int             `json:"to"`
	Left      int             `json:"left"` // executions that held the version that went
}

const keptRotations = 20

// engineItself is who did what nobody asked for at the time.
const engineItself = "agentchains"

// The triggers of a rotation.
const (
	triggerWrite    = "write"   // a value sent to secrets/ or groups/
	triggerRequest  = "request" // rotate/
	triggerSchedule = "schedule"
	triggerRevoke   = "revoke" // revoke/secret/ with rotate
	triggerLeak     = "leak"   // on_leak
)

// newRotation returns a rotation that obeys the entry's schedule and the
// settings of the mount, and is yet to begin.
func (e *secretEntry) newRotation(c *config, trigger, by string) *rotation.Rotation {
	return &rotation.Rotation{
		Policy: e.Schedule.policy(c), ID: newRotationID(), Trigger: trigger, StartedBy: by, First: e.Current == nil,
	}
}

func newRotationID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // it never fails
	return hex.EncodeToString(id)
}

// begin starts a rotation: with values, or with a rotator that makes them. The
// schedule counts from then on.
func (e *secretEntry) begin(r *rotation.Rotation, values map[string]sensitive.String, now time.Time) {
	begun := rotation.Begin(*r, now)
	e.Rotation, e.RotateNow = &begun, false
	if values != nil {
		e.take(values, nil, now)
	}
	if e.Schedule != nil {
		e.Schedule.NextRotationAt = e.Schedule.next(now)
	}
	e.settle(now, engineItself, "")
}

// take makes values the pending version of the rotation.
func (e *secretEntry) take(values, memo map[string]sensitive.String, now time.Time) {
	e.Pending, e.Making = e.newVersion(values, now, e.Rotation.StartedBy), nil
	e.Pending.Memo, e.Pending.Rotator, e.Pending.FarSide = memo, e.Rotation.Rotator, e.Rotation.FarSide
}

// settle brings the versions into line with the rotation after each of its
// events: when readers get the pending version, and what is over.
func (e *secretEntry) settle(now time.Time, by, reason string) {
	r := e.Rotation
	switch r.State {
	case rotation.Staged, rotation.Serving:
		if e.Pending.ValidFrom.IsZero() {
			e.Pending.ValidFrom = r.ValidFrom
			told := e.tell(r.ID, "rotation.staged", now, map[string]string{"rotation_id": r.ID, "created_by": r.StartedBy})
			told.Numbers["pending_version"] = e.Pending.Number
		}
	case rotation.Idle:
		e.Rotation, e.Making, e.Gone = nil, nil, nil
		if next := e.GoneNext; next != nil {
			e.Gone, e.GoneNext = next, nil
			e.Rotation = rotation.Remove(newRotationID(), r.Rotator, r.MaxRetries, now, by)
		}
		return
	}
	if r.State == rotation.Serving && r.First {
		// Nobody holds a version before the first.
		_ = e.step(rotation.Promote, rotation.Facts{Now: now, Counted: true}, by, reason)
	}
}

// step applies an event to the rotation and does to the versions what follows.
func (e *secretEntry) step(event rotation.Event, f rotation.Facts, by, reason string) error {
	before := e.Rotation
	next, effect, err := before.Apply(event, f)
	if err != nil {
		return err
	}
	e.Rotation = &next
	// Who is left on a version that goes is told to stop, or is left as on_overdue says.
	stop := effect == rotation.DropNew && f.Force || effect == rotation.PromoteNew && f.Holders > 0 && next.OnOverdue == rotation.Kill
	switch effect {
	case rotation.PromoteNew:
		e.Gone = e.Current.shell()
		e.remember(before, rotation.Promoted, f, by, reason)
		if e.Current != nil {
			e.destroy(e.Current, f.Now, by, orText(reason, "replaced"), stop)
		}
		if e.Pending.ValidFrom.IsZero() || e.Pending.ValidFrom.After(f.Now) {
			e.Pending.ValidFrom = f.Now
		}
		e.Current, e.Pending = e.Pending, nil
	case rotation.DropNew:
		e.Gone = e.Pending.shell()
		if e.Making != nil {
			e.Gone = e.Making.shell()
		}
		e.remember(before, next.Result, f, by, reason)
		if e.Pending != nil {
			e.destroy(e.Pending, f.Now, by, orText(reason, string(next.Result)), stop)
		}
		e.Pending, e.Making = nil, nil
	}
	e.tellStep(&next, event, effect, f, by, reason)
	e.settle(f.Now, by, reason)
	return nil
}

// shell is the version without its values.
func (v *version) shell() *version {
	if v == nil {
		return nil
	}
	return &version{Number: v.Number, CreatedAt: v.CreatedAt, CreatedBy: v.CreatedBy, Memo: v.Memo}
}

func orText(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

// remember adds a line to the history.
func (e *secretEntry) remember(r *rotation.Rotation, result rotation.Result, f rotation.Facts, by, reason string) {
	e.History = append(e.History, pastRotation{
		ID: r.ID, Trigger: r.Trigger, StartedAt: r.StartedAt, StartedBy: r.StartedBy, EndedAt: f.Now, EndedBy: by,
		Result: result, Reason: reason, From: e.Current.number(), To: e.Pending.number(), Left: f.Holders,
	})
	e.History = e.History[max(0, len(e.History)-keptRotations):]
}

// going returns the version that an event takes away; nil: none.
func (e *secretEntry) going(event rotation.Event) *version {
	switch event {
	case rotation.Promote, rotation.Overdue:
		return e.Current
	case rotation.Abort, rotation.Revoke:
		return e.Pending
	}
	return nil
}

// facts counts who holds the version that an event takes away. The caller has
// closed it to new pins if the event is to be applied.
func (b *backend) facts(a scope.Address, e *secretEntry, event rotation.Event, force bool) rotation.Facts {
	f := rotation.Facts{Now: b.now(), Force: force, Counted: true}
	if v := e.going(event); v != nil {
		f.Holders, f.Counted = b.executions.count(pin{a.Path(), v.Number})
	}
	return f
}

// rotate applies an event to the rotation of an entry, because it is due or
// because somebody asks for it. A version that goes is closed to new pins first,
// then who holds it is counted, then it is stored: afterwards nobody is given it.
func (b *backend) rotate(ctx context.Context, s logical.Storage, a scope.Address, o order) (*secretEntry, error) {
	e, err := b.requireSecret(ctx, s, a)
	if err != nil {
		return nil, err
	}
	going := e.going(o.event)
	if going != nil {
		defer b.executions.closePins(pin{a.Path(), going.Number})()
	}
	return b.changeSecret(ctx, s, a, o.requestID, nil, func(e *secretEntry) error {
		switch r := e.Rotation; {
		case r == nil:
			return conflict("no rotation of %s is under way", a.Path())
		case o.rotationID != "" && o.rotationID != r.ID:
			return conflict("the rotation of %s that is under way has another rotation_id", a.Path())
		case o.state != "" && o.state != r.State, e.going(o.event).number() != going.number():
			return conflict("the rotation of %s has moved on meanwhile: read rotate/%s", a.Path(), a.Path())
		}
		if o.before != nil {
			if err := o.before(e); err != nil {
				return err
			}
		}
		return rotationError(a, e.step(o.event, b.facts(a, e, o.event, o.force), o.by, o.reason))
	})
}

// order is an event for the rotation of an entry, and who wants it.
type order struct {
	event      rotation.Event
	force      bool
	by, reason string
	requestID  string                   // of the request that asks for it
	rotationID string                   // that it is for; empty: the one under way
	state      rotation.State           // that it is for; empty: any
	before     func(*secretEntry) error // what comes with it
}

// rotationError makes an error of the rules one for the caller.
func rotationError(a scope.Address, err error) error {
	switch {
	case errors.Is(err, rotation.ErrNotCounted):
		return notReady("%s", err)
	case errors.Is(err, rotation.ErrRefused):
		return conflict("%s: %s", a.Path(), err)
	}
	return err
}

// makeWay drops the pending version of the rotation under way, when it is the one
// that is to be replaced; nil: none is. It reports whether another one can begin now:
// a far side may have to be told first, and then what was done is stored all the same.
func (b *backend) makeWay(e *secretEntry, a scope.Address, replaces *secretEntry, by string) (free bool, err error) {
	switch {
	case e.Rotation == nil:
		return true, nil
	case replaces == nil:
		return false, underWay(a, e.Rotation)
	case e.Pending.number() != replaces.Pending.number():
		return false, conflict("the rotation of %s has moved on meanwhile: read rotate/%s", a.Path(), a.Path())
	}
	err = rotationError(a, e.step(rotation.Abort, b.facts(a, e, rotation.Abort, true), by, "replaced"))
	return e.Rotation == nil, err
}

// finishing is the error of a beginning that makeWay has found no room for.
func finishing(a scope.Address, free bool, err error) error {
	if err == nil && !free {
		return conflict("the last rotation of %s is being finished at its far side: try again", a.Path())
	}
	return err
}

func underWay(a scope.Address, r *rotation.Rotation) error {
	if r.State == rotation.Finishing || r.Step == rotation.Finishing {
		return conflict("the last rotation of %[1]s has ended, but its far side is still to be told: wait, or give that up by abort/%[1]s with force=true", a.Path())
	}
	return conflict("a rotation of %s is under way: wait until it is promoted, abort it, or use force=true to replace the pending version", a.Path())
}
