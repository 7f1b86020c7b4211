package agentchains

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotation"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// rotationResponse answers what there is to know about the rotation of an entry.
func (b *backend) rotationResponse(ctx context.Context, req *logical.Request, d *framework.FieldData, a scope.Address) (*logical.Response, error) {
	e, err := b.requireSecret(ctx, req.Storage, a)
	if err != nil {
		return respond(err)
	}
	known, err := b.readers.of(ctx, req.Storage, a)
	if err != nil {
		return respond(err)
	}
	data := e.rotationData()
	known.Readers = slices.DeleteFunc(known.Readers, func(r reader) bool { return r.Version != e.Current.number() })
	data["unpinned_readers"] = known.plain()
	data["blocking_executions"], data["blocking_count"], data["broken_executions"] = nil, nil, nil
	if b.executions.isReady() {
		var blocking []string
		if e.Pending != nil && e.Current != nil {
			blocking, _ = b.executions.holders(a, e.Current.Number)
		}
		after, limit := pageOf(d)
		data["blocking_count"], data["blocking_executions"] = len(blocking), pageUnsorted(blocking, after, limit)
		data["broken_executions"] = pageUnsorted(b.broken(a, e), "", mostListed)
	}
	return &logical.Response{Data: data}, nil
}

// pageOf reads which part of a list is asked for, on paths that have such fields.
func pageOf(d *framework.FieldData) (after string, limit int) {
	limit = mostListed
	if _, has := d.Schema["limit"]; has {
		after = d.Get("after").(string)
		if n := d.Get("limit").(int); n > 0 {
			limit = n
		}
	}
	return after, limit
}

// broken returns the executions that hold a version that was destroyed.
func (b *backend) broken(a scope.Address, e *secretEntry) []string {
	ids, _ := b.executions.holdersWhere(a, func(held int) bool { // the caller knows that the index is ready
		return e.liveVersion(held) == nil
	})
	return ids
}

func (e *secretEntry) rotationData() map[string]any {
	data := map[string]any{
		"rotation_id": "", "state": string(rotation.Idle),
		"current_version": e.Current.number(), "pending_version": e.Pending.number(),
	}
	if n := len(e.History); n > 0 {
		data["rotation_id"] = e.History[n-1].ID
	}
	if r := e.Rotation; r != nil {
		maps.Copy(data, map[string]any{
			"rotation_id": r.ID, "state": string(r.State), "trigger": r.Trigger, "started_at": timeString(r.StartedAt), "started_by": r.StartedBy,
			"min_overlap": int64(r.MinOverlap / time.Second), "max_overlap": int64(r.MaxOverlap / time.Second), "on_overdue": r.OnOverdue,
			"require_confirm": r.RequireConfirm, "proof": string(r.Proof), "attempt": r.Attempt,
		})
		addPresent(data, map[string]string{
			"step": string(r.Step), "rotator": r.Rotator, "valid_from": timeString(r.ValidFrom), "serving_since": timeString(r.ServingSince),
			"next_attempt": timeString(r.NextAttempt), "last_error": r.LastError,
		})
	}
	if e.Schedule != nil {
		addPresent(data, map[string]string{"next_rotation_at": timeString(e.Schedule.NextRotationAt)})
	}
	history := make([]any, 0, len(e.History))
	for _, h := range slices.Backward(e.History) {
		history = append(history, map[string]any{
			"rotation_id": h.ID, "trigger": h.Trigger, "started_at": timeString(h.StartedAt), "started_by": h.StartedBy,
			"ended_at": timeString(h.EndedAt), "ended_by": h.EndedBy, "result": string(h.Result), "reason": h.Reason,
			"from_version": h.From, "to_version": h.To, "executions_left": h.Left,
		})
	}
	data["history"] = history
	return data
}

// rotationStatus is what status says of rotations.
func (b *backend) rotationStatus(ctx context.Context, s logical.Storage) (map[string]any, error) {
	due, draining := []any{}, []any{}
	now := b.now()
	isDue := func(item *alarm) bool { return !item.due.IsZero() && !item.due.After(now) }
	for _, item := range b.rotations.noted(mostListed, isDue) {
		due = append(due, map[string]any{"path": item.address.Path(), "due_at": timeString(item.due)})
	}
	in := func(state rotation.State) func(*alarm) bool {
		return func(item *alarm) bool { return item.note == string(state) }
	}
	for _, item := range b.rotations.noted(mostListed, in(rotation.Serving)) {
		holders, _ := b.executions.count(item.drains)
		draining = append(draining, map[string]any{"path": item.address.Path(), "started_at": timeString(item.since), "executions": holders})
	}
	status := map[string]any{"due": due, "draining": draining}
	for _, state := range []rotation.State{rotation.Failed, rotation.Orphaned} {
		stopped := []any{}
		for _, item := range b.rotations.noted(mostListed, in(state)) {
			e, err := b.getSecret(ctx, s, item.address)
			if err != nil {
				return nil, err
			}
			if e != nil && e.Rotation != nil {
				stopped = append(stopped, map[string]any{"path": item.address.Path(), "started_at": timeString(item.since), "last_error": e.Rotation.LastError})
			}
		}
		status[string(state)] = stopped
	}
	var err error
	status["overdue"], err = b.overdue(ctx, s)
	return status, err
}

// overdue returns the versions that were destroyed and that executions still hold.
func (b *backend) overdue(ctx context.Context, s logical.Storage) ([]any, error) {
	overdue := []any{}
	pins := b.executions.pins()
	slices.SortFunc(pins, func(x, y pin) int { return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.Version, y.Version)) })
	for _, p := range pins {
		a, err := scope.ParseAddress(scope.KindOf(p.Path), p.Path)
		if err != nil {
			return nil, err
		}
		e, err := b.getSecret(ctx, s, a)
		if err != nil {
			return nil, err
		}
		if e != nil && e.liveVersion(p.Version) != nil {
			continue
		}
		holders, _ := b.executions.count(p)
		if overdue = append(overdue, map[string]any{"path": p.Path, "version": p.Version, "executions": holders}); len(overdue) == mostListed {
			break
		}
	}
	return overdue, nil
}
