package rotation

import (
	"slices"
	"time"
)

// transition is what an event leads to. A nil guard lets it through.
type transition struct {
	guard func(Rotation, Facts) error
	to    func(*Rotation, Facts) Effect
}

// table holds every event that a state takes. What is not in it is refused.
var table = map[State]map[Event]transition{
	Creating: {
		Done:   {to: step(Setting)},
		Wait:   {to: wait},
		Fail:   {to: fail},
		Abort:  {guard: notSwitching, to: drop(Aborted)},
		Revoke: {to: drop(Revoked)},
	},
	Setting: {
		Done:   {to: step(Testing)},
		Fail:   {to: fail},
		Abort:  {guard: notSwitching, to: drop(Aborted)},
		Revoke: {to: drop(Revoked)},
	},
	Testing: {
		Done:   {to: stage},
		Fail:   {to: fail},
		Abort:  {guard: notSwitching, to: drop(Aborted)},
		Revoke: {to: drop(Revoked)},
	},
	Staged: {
		Serve:   {guard: fromNow, to: serve},
		Confirm: {to: prove(Confirmed)},
		Promote: {guard: forced, to: promote},
		Abort:   {to: drop(Aborted)},
		Revoke:  {to: drop(Revoked)},
	},
	Serving: {
		Use:     {to: prove(Used)},
		Confirm: {to: prove(Confirmed)},
		Promote: {guard: promotable, to: promote},
		Overdue: {guard: pastMaxOverlap, to: overdue},
		Abort:   {guard: released, to: drop(Aborted)},
		Revoke:  {to: drop(Revoked)},
	},
	Finishing: {
		Done:  {to: end},
		Fail:  {to: fail},
		Abort: {guard: forced, to: end},
	},
	Failed: {
		Done:   {guard: creating, to: step(Setting)},
		Retry:  {to: retry},
		Abort:  {guard: droppable, to: dropFailed},
		Revoke: {to: revokeFailed},
	},
	Orphaned: {
		Done:    {guard: creating, to: step(Setting)},
		Retry:   {guard: stepLeft, to: retry},
		Confirm: {guard: served, to: reserve},
		Promote: {guard: servedAndForced, to: promote},
		Use:     {guard: served, to: prove(Used)},
		Abort:   {guard: droppable, to: dropFailed},
		Revoke:  {to: revokeFailed},
	},
}

// Apply returns the rotation after an event, and what the event does to the
// versions. When the rotation has ended, its State is Idle and its Result says how.
func (r Rotation) Apply(event Event, f Facts) (Rotation, Effect, error) {
	t, ok := table[r.State][event]
	if !ok {
		return r, Nothing, refuse("the rotation is %s: it takes no %s now", r.State, event)
	}
	if t.guard != nil {
		if err := t.guard(r, f); err != nil {
			return r, Nothing, err
		}
	}
	effect := t.to(&r, f)
	return r, effect, nil
}

// Begin returns a rotation that was just asked for: with the value at hand, or
// with a rotator that has to make it.
func Begin(r Rotation, now time.Time) Rotation {
	r.StartedAt = now
	if r.Rotator == "" {
		stage(&r, Facts{Now: now})
	} else {
		step(Creating)(&r, Facts{Now: now})
	}
	return r
}

// Remove returns what is left to do about a version that was revoked outside of
// any rotation: its far side has to be told.
func Remove(id, rotator string, maxRetries int, now time.Time, by string) *Rotation {
	return &Rotation{
		Policy: Policy{MaxRetries: maxRetries}, ID: id, State: Finishing, Trigger: "revoke", StartedAt: now, StartedBy: by,
		Rotator: rotator, FarSide: true, StepSince: now, Result: Revoked,
	}
}

func step(to State) func(*Rotation, Facts) Effect {
	return func(r *Rotation, f Facts) Effect {
		if to == Setting && !r.FarSide {
			return stage(r, f) // nobody else has to know
		}
		r.State, r.Step, r.StepSince, r.Waiting, r.Attempt, r.NextAttempt, r.LastError = to, "", f.Now, false, 0, time.Time{}, ""
		return Nothing
	}
}

func wait(r *Rotation, _ Facts) Effect {
	r.Waiting = true
	return Nothing
}

// stage ends the steps before the new version is given out. A rotator has tested
// it, or nobody else has to accept it.
func stage(r *Rotation, f Facts) Effect {
	r.State, r.Step, r.Waiting, r.Attempt, r.NextAttempt, r.LastError = Staged, "", false, 0, time.Time{}, ""
	if r.Rotator != "" && !r.Untested {
		r.Proof = Tested
	}
	if r.ValidFrom.IsZero() {
		r.ValidFrom = f.Now
	}
	if !r.ValidFrom.After(f.Now) {
		serve(r, f)
	}
	return Nothing
}

func serve(r *Rotation, _ Facts) Effect {
	// Readers get it by the clock: it has been served from then on.
	r.State, r.ServingSince = Serving, r.ValidFrom
	return Nothing
}

// reserve takes up a rotation again that nobody had confirmed in time.
func reserve(r *Rotation, f Facts) Effect {
	r.State, r.Step = Serving, ""
	return prove(Confirmed)(r, f)
}

func prove(p Proof) func(*Rotation, Facts) Effect {
	rank := []Proof{Unproven, Used, Tested, Confirmed}
	return func(r *Rotation, _ Facts) Effect {
		if slices.Index(rank, p) > slices.Index(rank, r.Proof) {
			r.Proof = p
		}
		return Nothing
	}
}

func promote(r *Rotation, f Facts) Effect {
	finish(r, Promoted, f)
	return PromoteNew
}

// overdue promotes, or leaves to a person what nobody has confirmed.
func overdue(r *Rotation, f Facts) Effect {
	if r.RequireConfirm && r.Proof != Confirmed {
		r.State, r.Step, r.LastError = Orphaned, "", "nobody confirmed the new version before max_overlap"
		return Nothing
	}
	return promote(r, f)
}

func drop(result Result) func(*Rotation, Facts) Effect {
	return func(r *Rotation, f Facts) Effect {
		finish(r, result, f)
		return DropNew
	}
}

// dropFailed drops the new version of a rotation that stopped on its way. The
// last step comes after both versions are settled: a person may give it up.
func dropFailed(r *Rotation, f Facts) Effect {
	if r.Step == Finishing {
		return end(r, f)
	}
	return drop(Aborted)(r, f)
}

// revokeFailed is Revoke for a rotation that stopped on its way. The last step
// still has to be done.
func revokeFailed(r *Rotation, f Facts) Effect {
	if r.Step == Finishing {
		return Nothing
	}
	return drop(Revoked)(r, f)
}

// finish tells the far side, where there is one that knows of this rotation.
func finish(r *Rotation, result Result, f Facts) {
	r.Result = result
	if !r.FarSide {
		end(r, f)
		return
	}
	step(Finishing)(r, f)
}

func end(r *Rotation, _ Facts) Effect {
	r.State = Idle
	return Nothing
}

func fail(r *Rotation, f Facts) Effect {
	r.Step, r.Waiting = r.State, false
	r.Attempt++
	if r.Attempt > r.MaxRetries {
		r.State, r.NextAttempt = Orphaned, time.Time{}
		return Nothing
	}
	r.State, r.NextAttempt = Failed, f.Now.Add(backoff(r.Attempt))
	return Nothing
}

// backoff is how long to wait after the nth attempt.
func backoff(n int) time.Duration {
	const first, most = 10 * time.Second, time.Hour
	return min(first<<min(n-1, 10), most)
}

func retry(r *Rotation, f Facts) Effect {
	if r.State == Orphaned {
		r.Attempt = 0
	}
	r.State, r.Step, r.StepSince, r.NextAttempt = r.Step, "", f.Now, time.Time{}
	return Nothing
}
