package agentchains

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotation"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// emergency is what an entry says of an incident that has revoked versions of it.
// The incident itself is written from it.
type emergency struct {
	ID        string    `json:"id"`
	Reason    string    `json:"reason"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by"`
	Versions  []int     `json:"versions"`
	Repeat    string    `json:"repeat"` // what tells a repeated request
	Last      int       `json:"last"`   // the newest version that takes their place, or that may
	Listed    bool      `json:"listed"` // who held the versions was told, in storage too
}

// keptEmergencies is how many an entry keeps, beside those that are not listed yet.
const keptEmergencies = 10

func (m *emergency) incident(a scope.Address) incidentEntry {
	return incidentEntry{
		ID: m.ID, Kind: string(stopSecret), Target: a.Path(), Reason: m.Reason,
		CreatedAt: m.CreatedAt, CreatedBy: m.CreatedBy, Versions: m.Versions,
	}
}

func (m *emergency) order(a scope.Address) *stopOrder {
	return &stopOrder{a.Path() + " was revoked: " + m.Reason, m.CreatedBy, m.ID, m.CreatedAt}
}

// earlier returns the incident that a request is answered with because it repeats
// one, or because what it is about was revoked before; nil: there is none. A request
// is not answered so when something is to take the place of what was revoked, and
// nothing does.
func (e *secretEntry) earlier(v *revocation, numbers []int, now time.Time) *emergency {
	replaced := v.values == nil && (!v.rotate || e.RotateNow || e.Rotation != nil)
	for _, m := range slices.Backward(e.Emergencies) {
		if m.Repeat == v.Repeat && now.Sub(m.CreatedAt) < repeatWindow && e.newest().number() <= m.Last {
			return &m
		}
		gone := func(n int) bool { return slices.Contains(m.Versions, n) }
		if len(numbers) > 0 && !slices.ContainsFunc(numbers, func(n int) bool { return !gone(n) }) {
			return &m
		}
		if len(numbers) == 0 && len(e.live()) == 0 && replaced {
			return &m
		}
	}
	return nil
}

// revocation is what a request to revoke/secret/ asks for.
type revocation struct {
	emergency
	values map[string]sensitive.String // that take their place; nil: none
	rotate bool                        // the rotator makes a new one

	holders []string // executions that hold the versions, as far as they are known
}

// revoke destroys versions of the entry, at once and for good.
func (e *secretEntry) revoke(v *revocation, now time.Time) {
	hits := func(of *version) bool { return of != nil && slices.Contains(v.Versions, of.Number) }
	by, reason := v.CreatedBy, "revoked: "+v.Reason
	f := rotation.Facts{Now: now, Counted: true, Force: true}
	switch r := e.Rotation; {
	case r == nil:
	case hits(e.Pending) || e.Pending == nil && r.State != rotation.Finishing && r.Step != rotation.Finishing:
		_ = e.step(rotation.Revoke, f, by, reason) // every state but the last step takes it
	case hits(e.Current) && e.readable(now) == e.Pending:
		_ = e.step(rotation.Promote, f, by, reason) // forced
	case hits(e.Current) && e.Pending != nil:
		r.First = true // what is staged waits for its time, with nothing before it
	}
	if hits(e.Current) {
		e.removeLater(e.Current, now, by)
		e.destroy(e.Current, now, by, reason, true)
		e.Current = nil
	}
	for i := range e.Destroyed {
		if t := &e.Destroyed[i]; slices.Contains(v.Versions, t.Number) && t.Incident == "" {
			t.Incident, t.Stop = v.ID, true
		}
	}
	e.Stopping = true
	if v.values != nil {
		e.Current = e.newVersion(v.values, now, by)
		e.Current.ValidFrom = now
	}
	v.Last = e.LastVersion
	if e.RotateNow = v.rotate; v.rotate {
		v.Last++ // is the rotator's
	}
	told := e.tell(v.ID, "secret.revoked", now, map[string]string{"reason": v.Reason, "created_by": by, "incident_id": v.ID})
	told.Numbers["executions"], told.IDs = len(v.holders), v.holders
	e.Emergencies = append(e.Emergencies, v.emergency)
	for over := len(e.Emergencies) - keptEmergencies; over > 0 && e.Emergencies[0].Listed; over-- {
		e.Emergencies = e.Emergencies[1:]
	}
}

// removeLater has the rotator remove a version from the far side that knows it.
// Where it is busy with another one, it comes after that.
func (e *secretEntry) removeLater(v *version, now time.Time, by string) {
	if !v.FarSide {
		return
	}
	if e.Rotation != nil {
		e.GoneNext = v.shell()
		return
	}
	e.Gone = v.shell()
	e.Rotation = rotation.Remove(newRotationID(), v.Rotator, defaultMaxRetries, now, by)
}

// listEmergencies tells all who hold what was revoked, in storage too, and
// completes the incidents.
func (b *backend) listEmergencies(ctx context.Context, s logical.Storage, a scope.Address, e *secretEntry) error {
	for i := range e.Emergencies {
		m := &e.Emergencies[i]
		if m.Listed {
			continue
		}
		var ids []string
		for _, number := range m.Versions {
			holders, err := b.executions.holders(a, number)
			if err != nil {
				return err
			}
			ids = append(ids, holders...)
		}
		slices.Sort(ids)
		ids = slices.Compact(ids)
		hit, err := b.tellHolders(ctx, s, ids, m.order(a))
		if err == nil {
			err = b.listIncident(ctx, s, m.incident(a), hit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
