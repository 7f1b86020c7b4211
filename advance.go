package agentchains

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotation"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

const (
	// advanceBatch bounds how many entries are looked at before what has happened
	// meanwhile has a turn, which is to be noticed within a second.
	advanceBatch = 20
	// restRatio is how much longer than it works the worker rests when more than a
	// batch is due: whoever reads meanwhile is to notice little of it.
	restRatio = 3
)

// advanceRotations looks at the entries whose time has come, or that something
// happened to, and reports whether there are more.
func (b *backend) advanceRotations(ctx context.Context, s logical.Storage) (more bool, err error) {
	if err := b.loadRotations(ctx, s); err != nil {
		return false, err
	}
	due, more := b.rotations.due(b.now(), advanceBatch)
	var failure error
	for _, a := range due {
		begun := time.Now()
		if err := b.advance(ctx, s, a); err != nil {
			b.rotations.touch(a) // the others do not wait for it
			failure = err
		}
		if more {
			select {
			case <-ctx.Done():
			case <-time.After(restRatio * time.Since(begun)):
			}
		}
	}
	return more && failure == nil, failure
}

// advance does everything with an entry that is due.
func (b *backend) advance(ctx context.Context, s logical.Storage, a scope.Address) (err error) {
	const most = 10 // changes of state in a row
	defer func() {
		if b.recovered("rotation", recover()) {
			err = fmt.Errorf("%s cannot be worked on: the log says where", a.Path())
		}
	}()
	for range most {
		e, err := b.getSecret(ctx, s, a)
		if err != nil {
			return err
		}
		if e == nil {
			b.rotations.remove(a)
			return nil
		}
		counted := b.executions.isReady() // asked first: it may become true meanwhile
		changed, err := b.advanceOnce(ctx, s, a, e)
		switch api := (*apiError)(nil); {
		case errors.As(err, &api):
			// Something else came between, and it has touched the entry again.
			b.Logger().Debug("a rotation does not advance", "path", a.Path(), "reason", err)
			changed = false
		case err != nil:
			return err
		}
		if !changed {
			b.rotations.rest(a, e, b.now(), counted)
			return b.stopHolders(ctx, s, a, e)
		}
	}
	b.rotations.touch(a)
	return nil
}

// advanceOnce does the first thing that is due, and reports whether the entry
// has changed.
func (b *backend) advanceOnce(ctx context.Context, s logical.Storage, a scope.Address, e *secretEntry) (changed bool, err error) {
	r := e.Rotation
	if len(e.Notices) > 0 {
		return true, b.sendNotices(ctx, s, a, e)
	}
	if e.keepDue(b.now()) != nil {
		b.start(s, a, b.keep)
		return false, nil
	}
	if r == nil {
		return b.advanceIdle(ctx, s, a, e)
	}
	if r.Running() {
		b.start(s, a, b.doStep)
		return false, nil
	}
	event, due := r.Due(b.facts(a, e, rotation.Promote, false))
	if r.State == rotation.Serving && r.Proof == rotation.Unproven && b.used(a, e.Pending) {
		event, due = rotation.Use, true
	}
	if !due {
		return false, nil
	}
	o := order{event: event, by: engineItself, rotationID: r.ID, state: r.State}
	switch event {
	case rotation.Overdue:
		o.reason = "max_overlap has passed"
	case rotation.Fail:
		o.reason = "no value came back in time"
		o.before = noteFailure(o.reason)
	}
	_, err = b.rotate(ctx, s, a, o)
	return true, err
}

// advanceIdle is advanceOnce for an entry without a rotation under way: it begins
// one, or tells that one is due.
func (b *backend) advanceIdle(ctx context.Context, s logical.Storage, a scope.Address, e *secretEntry) (changed bool, err error) {
	if e.RotateNow {
		_, err := b.beginByRotator(ctx, s, a, beginning{trigger: triggerRevoke, by: engineItself})
		return true, err
	}
	if e.Schedule == nil {
		return false, nil
	}
	now := b.now()
	if at := e.Schedule.notifyAt(); !at.IsZero() && !now.Before(at) {
		return true, b.tellDue(ctx, s, a, e.Schedule.NextRotationAt)
	}
	due, inside := e.Schedule.due(now)
	switch {
	case !e.Schedule.AutoRotate || !due:
		return false, nil
	case inside:
		_, err := b.beginByRotator(ctx, s, a, beginning{trigger: triggerSchedule, by: engineItself, due: true})
		return true, err
	}
	_, err = b.changeSecret(ctx, s, a, "", nil, func(e *secretEntry) error {
		if e.Schedule == nil {
			return errUnchanged
		}
		if due, inside := e.Schedule.due(now); !due || inside {
			return errUnchanged
		}
		e.Schedule.NextRotationAt = e.Schedule.next(now)
		return nil
	})
	return true, err
}

// used reports whether a start or a flat read got the version: an execution that
// holds it tells that after a crash too.
func (b *backend) used(a scope.Address, v *version) bool {
	holders, _ := b.executions.count(pin{a.Path(), v.Number})
	return b.rotations.takeUsed(a, v.Number) || holders > 0
}

// stopHolders tells executions to stop that hold a version of which its
// tombstone says so. After a crash it is done again, because the entry is marked
// until all of them were told.
func (b *backend) stopHolders(ctx context.Context, s logical.Storage, a scope.Address, e *secretEntry) error {
	if !e.Stopping {
		return nil
	}
	if !b.executions.isReady() || !b.incidents.isLoaded() {
		b.rotations.later(a, b.now().Add(time.Second))
		return nil
	}
	for _, t := range e.Destroyed {
		if !t.Stop || t.Incident != "" {
			continue
		}
		holders, err := b.executions.holders(a, t.Number)
		if err != nil {
			return err
		}
		order := &stopOrder{reason: a.Path() + ": " + t.Reason, by: t.DestroyedBy, at: t.DestroyedAt}
		if _, err := b.tellHolders(ctx, s, holders, order); err != nil {
			return err
		}
	}
	if err := b.listEmergencies(ctx, s, a, e); err != nil {
		return err
	}
	_, err := b.changeSecret(ctx, s, a, "", nil, func(now *secretEntry) error {
		if !now.Stopping {
			return errUnchanged
		}
		for i := range now.Emergencies {
			m := &now.Emergencies[i]
			m.Listed = m.Listed || slices.ContainsFunc(e.Emergencies, func(told emergency) bool { return told.ID == m.ID })
		}
		more, told := now.lastDestroyed(), e.lastDestroyed()
		now.Stopping = more != nil && (told == nil || *more != *told) ||
			slices.ContainsFunc(now.Emergencies, func(m emergency) bool { return !m.Listed })
		return nil
	})
	return err
}

// beginning says what a rotation is to begin with.
type beginning struct {
	trigger, by, requestID string
	due                    bool                                         // only if the schedule says so
	ask                    func(*rotation.Rotation) error               // what was asked for, if it was
	with                   func(*secretEntry, *rotation.Rotation) error // what comes with it
	replaces               *secretEntry                                 // whose rotation may be dropped; nil: no one's
}

// beginByRotator begins a rotation whose value the entry's rotator makes. A type
// without a far side makes it at once, so that one Put is all it takes.
func (b *backend) beginByRotator(ctx context.Context, s logical.Storage, a scope.Address, g beginning) (*secretEntry, error) {
	c, err := b.getConfig(ctx, s)
	if err != nil {
		return nil, err
	}
	known, err := b.getSecret(ctx, s, a)
	if err != nil {
		return nil, err
	}
	if known == nil {
		return nil, notFound("there is no %s", a.Path())
	}
	name := ""
	if known.Schedule != nil {
		name = known.Schedule.Rotator
	}
	if name == "" {
		return nil, badRequest("%s has no rotator: send the new value, or name a rotator in schedules/%s", a.Path(), a.Path())
	}
	settings, err := b.requireRotator(ctx, s, name)
	if err != nil {
		return nil, err
	}
	maker, err := b.build(ctx, s, settings)
	if err != nil {
		return nil, badRequest("rotators/%s: %s", name, err)
	}
	kind := rotator.Types[settings.Type]
	free := true
	e, err := b.changeSecret(ctx, s, a, g.requestID, nil, func(e *secretEntry) error {
		now := b.now()
		switch {
		case e.Schedule == nil || e.Schedule.Rotator != name:
			return conflict("the schedule of %s has changed meanwhile: try again", a.Path())
		case e.Rotation != nil && g.replaces == nil:
			return underWay(a, e.Rotation)
		}
		if due, _ := e.Schedule.due(now); g.due && !due {
			return errUnchanged
		}
		r := e.newRotation(c, g.trigger, g.by)
		r.Rotator, r.FarSide, r.NoOverlap, r.Untested = name, kind.FarSide, !settings.overlaps(), settings.untested()
		r.Chain = e.Schedule.RotationChain
		if g.ask != nil {
			if err := g.ask(r); err != nil {
				return err
			}
		}
		var err error
		if free, err = b.makeWay(e, a, g.replaces, g.by); err != nil || !free {
			return err
		}
		if g.with != nil {
			if err := g.with(e, r); err != nil {
				return err
			}
		}
		e.begin(r, nil, now)
		if kind.FarSide {
			return nil
		}
		job := e.job(a)
		if err := maker.Create(ctx, job); err != nil {
			return badRequest("rotators/%s: %s", name, scrub(err.Error(), job, settings.settings()))
		}
		e.take(job.New.Values, nil, now)
		return e.step(rotation.Done, rotation.Facts{Now: now}, g.by, "")
	})
	return e, finishing(a, free, err)
}
