package agentchains

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotation"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

const (
	mostSteps = 8 // that wait for far sides at the same time
	stepLimit = time.Minute
	stepPause = 5 * time.Second // after storage has failed
)

// steps are the rotators' steps that are being done. They may wait for far
// sides, so each has a goroutine of its own, and no lock.
type steps struct {
	mu      sync.Mutex // guards all below
	running map[scope.Address]bool
	waiting []scope.Address
}

func newSteps() *steps { return &steps{running: map[scope.Address]bool{}} }

// begin reports whether a step of the entry may be begun now. If not, the entry
// is touched again when it may.
func (x *steps) begin(a scope.Address) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.running[a]:
		return false // its end looks at the entry again
	case len(x.running) >= mostSteps:
		x.waiting = append(x.waiting, a)
		return false
	}
	x.running[a] = true
	return true
}

// end returns an entry that waits for its turn, if there is one.
func (x *steps) end(a scope.Address) (next []scope.Address) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.running, a)
	if len(x.waiting) > 0 {
		next, x.waiting = x.waiting[:1], x.waiting[1:]
	}
	return next
}

// start does something about an entry that may wait for its far side. Afterwards
// the entry is looked at again.
func (b *backend) start(s logical.Storage, a scope.Address, do func(context.Context, logical.Storage, scope.Address) error) {
	if !b.steps.begin(a) {
		return
	}
	w := b.worker.Load()
	if w == nil {
		b.steps.end(a)
		return
	}
	w.group.Go(func() {
		err := errors.New("it panicked")
		defer func() {
			b.recovered("rotator", recover())
			// Ended first: who looks at the entry before that begins nothing.
			next := b.steps.end(a)
			for _, waiting := range next {
				b.rotations.touch(waiting)
			}
			if err == nil {
				b.rotations.touch(a)
			} else {
				b.rotations.later(a, b.now().Add(stepPause))
			}
		}()
		if err = do(w.ctx, s, a); err != nil && w.ctx.Err() == nil {
			b.Logger().Warn("what a rotator did is not noted, and is done again", "path", a.Path(), "error", err)
		}
	})
}

// doStep calls the rotator and notes the outcome. After a crash between the two
// the same step is done again, with the same job.
func (b *backend) doStep(ctx context.Context, s logical.Storage, a scope.Address) error {
	e, err := b.getSecret(ctx, s, a)
	if err != nil || e == nil || e.Rotation == nil || !e.Rotation.Running() {
		return err
	}
	r := *e.Rotation
	o := order{event: rotation.Done, by: engineItself, rotationID: r.ID, state: r.State}
	job := e.job(a)
	keeps, failure := b.callRotator(ctx, s, a, r, job)
	switch {
	case ctx.Err() != nil:
		return nil // the engine ends: nobody knows how far the step got
	case errors.Is(failure, rotator.ErrWaiting) && r.State == rotation.Creating:
		o.event = rotation.Wait
	case failure != nil:
		o.event, o.reason = rotation.Fail, failure.Error()
		o.before = noteFailure(o.reason)
	case r.State == rotation.Creating:
		o.before = func(e *secretEntry) error {
			e.take(job.New.Values, job.New.Memo, b.now())
			if keeps {
				e.Pending.KeepAt = b.now()
			}
			return nil
		}
	default:
		o.before = func(e *secretEntry) error {
			e.noteMemos(r, job)
			return nil
		}
	}
	_, err = b.rotate(ctx, s, a, o)
	var api *apiError
	if errors.As(err, &api) && api.status == http.StatusBadRequest && o.event == rotation.Done {
		// What the rotator made cannot be taken.
		o.event, o.reason, o.before = rotation.Fail, api.text, noteFailure(api.text)
		_, err = b.rotate(ctx, s, a, o)
	}
	if errors.As(err, &api) {
		return nil // somebody ended the rotation meanwhile
	}
	return err
}

// noteMemos keeps what the rotator has noted of the versions that stay.
func (e *secretEntry) noteMemos(r rotation.Rotation, job *rotator.Job) {
	switch {
	case e.Pending != nil:
		e.Pending.Memo = job.New.Memo
	case r.State == rotation.Finishing && job.Promoted:
		e.Current.Memo = job.New.Memo
	case r.State == rotation.Finishing && e.Current != nil:
		e.Current.Memo = job.Old.Memo
	}
}

// noteFailure is what comes with a step that failed.
func noteFailure(reason string) func(*secretEntry) error {
	return func(e *secretEntry) error {
		e.Rotation.LastError = reason
		return nil
	}
}

// callRotator does one step at the far side, and says whether the rotator has to
// keep the version alive. Its error can be shown.
func (b *backend) callRotator(ctx context.Context, s logical.Storage, a scope.Address, r rotation.Rotation, job *rotator.Job) (keeps bool, err error) {
	settings, err := b.getRotator(ctx, s, r.Rotator)
	if err != nil {
		return false, errors.New("its rotator cannot be read")
	}
	if settings == nil {
		return false, errors.New("its rotator " + r.Rotator + " does not exist any more")
	}
	maker, err := b.build(ctx, s, settings)
	if err != nil {
		return false, err
	}
	keeps = rotator.Types[settings.Type].Keep != nil
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	job.Save = func(ctx context.Context) error { return b.saveJob(ctx, s, a, r, job) }
	do := map[rotation.State]func(context.Context, *rotator.Job) error{
		rotation.Creating: maker.Create, rotation.Setting: maker.Set, rotation.Testing: maker.Test, rotation.Finishing: maker.Finish,
	}[r.State]
	if err = do(ctx, job); err == nil || errors.Is(err, rotator.ErrWaiting) {
		return keeps, err
	}
	return keeps, errors.New(scrub(err.Error(), job, settings.settings()))
}

// saveJob stores what the rotator knows of the version that it makes.
func (b *backend) saveJob(ctx context.Context, s logical.Storage, a scope.Address, r rotation.Rotation, job *rotator.Job) error {
	_, err := b.changeSecret(ctx, s, a, "", nil, func(e *secretEntry) error {
		if e.Rotation == nil || e.Rotation.ID != r.ID || e.Rotation.State != r.State {
			return conflict("the rotation of %s has moved on meanwhile", a.Path())
		}
		if e.Pending != nil {
			e.Pending.Memo = job.New.Memo
		} else {
			e.Making = &version{Values: job.New.Values, Memo: job.New.Memo}
		}
		return nil
	})
	return err
}

// job is what a rotator gets to know of the entry's rotation.
func (e *secretEntry) job(a scope.Address) *rotator.Job {
	r := e.Rotation
	job := &rotator.Job{ID: r.ID, Path: a.Path(), Chain: r.Chain, Promoted: r.Result == rotation.Promoted}
	if a.Kind == scope.Secret {
		job.Variable = a.Name
	}
	old, made := e.Current, e.Pending
	switch {
	case r.State == rotation.Creating:
		made = e.Making
	case r.State == rotation.Finishing && job.Promoted:
		old, made = e.Gone, e.Current
	case r.State == rotation.Finishing:
		made = e.Gone
	}
	job.Old, job.New = old.known(), made.known()
	return job
}

// known is a copy of what a rotator may know and change of a version.
func (v *version) known() rotator.Version {
	if v == nil {
		return rotator.Version{Memo: map[string]sensitive.String{}}
	}
	memo := maps.Clone(v.Memo)
	if memo == nil {
		memo = map[string]sensitive.String{}
	}
	return rotator.Version{Values: v.Values, Memo: memo}
}
