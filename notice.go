package agentchains

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/notify"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotation"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// notice is a notification about an entry. It is stored in the Put that makes it
// true, and stays there until the outbox has it.
type notice struct {
	ID      string            `json:"id"`
	Event   string            `json:"event"`
	Time    time.Time         `json:"time"`
	Texts   map[string]string `json:"texts,omitempty"`
	Numbers map[string]int    `json:"numbers,omitempty"`
	Flags   map[string]bool   `json:"flags,omitempty"`
	IDs     []string          `json:"ids,omitempty"` // of executions
}

// tell has the notifiers told of something. The id is derived from what happened,
// so that the same is told with the same id after a crash. The caller may add to
// the notice before anything else is told.
func (e *secretEntry) tell(id, event string, at time.Time, texts map[string]string) *notice {
	n := notice{ID: id + "." + event, Event: event, Time: at, Texts: map[string]string{"path": e.Path}, Numbers: map[string]int{}}
	maps.Copy(n.Texts, texts)
	if e.Current != nil {
		n.Numbers["current_version"] = e.Current.Number
	}
	e.Notices = append(e.Notices, n)
	return &e.Notices[len(e.Notices)-1]
}

// tellStep tells what an event has made of a rotation.
func (e *secretEntry) tellStep(r *rotation.Rotation, event rotation.Event, effect rotation.Effect, f rotation.Facts, by, reason string) {
	switch {
	case effect == rotation.PromoteNew:
		e.tell(r.ID, "rotation.promoted", f.Now, map[string]string{"rotation_id": r.ID, "created_by": by, "reason": reason})
		if event == rotation.Overdue && f.Holders > 0 {
			e.tell(r.ID, "rotation.overdue", f.Now, map[string]string{"rotation_id": r.ID}).Numbers["executions"] = f.Holders
		}
	case r.State == rotation.Failed && event == rotation.Fail:
		e.tell(r.ID+"."+f.Now.UTC().Format(time.RFC3339), "rotation.failed", f.Now, map[string]string{"rotation_id": r.ID, "last_error": r.LastError})
	case r.State == rotation.Orphaned && (event == rotation.Fail || event == rotation.Overdue):
		e.tell(r.ID+"."+f.Now.UTC().Format(time.RFC3339), "rotation.orphaned", f.Now, map[string]string{"rotation_id": r.ID, "last_error": r.LastError})
	}
}

func (n *notice) notification() notification {
	fields := map[string]any{}
	for name, text := range n.Texts {
		if text != "" {
			fields[name] = text
		}
	}
	for name, number := range n.Numbers {
		fields[name] = number
	}
	for name, flag := range n.Flags {
		fields[name] = flag
	}
	if len(n.IDs) > 0 {
		fields["execution_ids"] = n.IDs[:min(len(n.IDs), notify.MostIDs)]
	}
	return notification{ID: n.ID, Event: n.Event, Time: n.Time, Fields: fields}
}

// sendNotices puts what is to be told into the outbox, and then takes it off the
// entry: a crash between the two has it put there again, where its id is known.
func (b *backend) sendNotices(ctx context.Context, s logical.Storage, a scope.Address, told *secretEntry) error {
	notices := told.Notices
	for i := range told.Emergencies {
		// An incident lists its alerts, so it is there before the first of them.
		if err := b.storeFirst(ctx, s, told.Emergencies[i].incident(a), told.Emergencies[i].Listed); err != nil {
			return err
		}
	}
	for i := range notices {
		if err := b.notify(ctx, s, notices[i].notification()); err != nil {
			return err
		}
	}
	_, err := b.changeSecret(ctx, s, a, "", nil, func(e *secretEntry) error {
		e.Notices = slices.DeleteFunc(e.Notices, func(n notice) bool {
			return slices.ContainsFunc(notices, func(sent notice) bool { return sent.ID == n.ID })
		})
		return nil
	})
	return err
}

// takeNotices takes off the entry what no notifier wants to be told: only Vault's
// own events say it then.
func (b *backend) takeNotices(ctx context.Context, s logical.Storage, e *secretEntry) ([]notice, error) {
	if len(e.Notices) == 0 {
		return nil, nil
	}
	wanted, err := b.notifying(ctx, s)
	if wanted || err != nil {
		return nil, err
	}
	taken := e.Notices
	e.Notices = nil
	return taken, nil
}

// tellDue tells that a rotation is due, once for each slot.
func (b *backend) tellDue(ctx context.Context, s logical.Storage, a scope.Address, slot time.Time) error {
	_, err := b.changeSecret(ctx, s, a, "", nil, func(e *secretEntry) error {
		if e.Schedule == nil || !e.Schedule.NextRotationAt.Equal(slot) || e.Schedule.NotifiedOf.Equal(slot) {
			return errUnchanged
		}
		e.Schedule.NotifiedOf = slot
		e.tell(slot.UTC().Format(time.RFC3339)+"."+flatPath(a), "rotation.due", b.now(), map[string]string{"due_at": timeString(slot)})
		return nil
	})
	return err
}

// tellExpiries tells of versions that expire soon, and of those that have.
func (b *backend) tellExpiries(ctx context.Context, s logical.Storage) error {
	if wanted, err := b.notifying(ctx, s); err != nil || !wanted {
		return err
	}
	times, err := listKeys(ctx, s, expiryPrefix)
	if err != nil {
		return err
	}
	for _, key := range times {
		at, err := time.Parse(time.RFC3339, strings.TrimSuffix(key, "/"))
		if err != nil || at.After(b.now().Add(expiringWithin)) {
			break
		}
		event := "secret.expiring"
		if !at.After(b.now()) {
			event = "secret.expired"
		}
		found, err := b.expiringAt(ctx, s, at, math.MaxInt)
		if err != nil {
			return err
		}
		for _, line := range found {
			path, _ := line.(map[string]any)["path"].(string)
			// In memory only: after a restart the entries say it.
			if b.expiriesTold[path] == key+event {
				continue
			}
			a, err := scope.ParseAddress(scope.KindOf(path), path)
			if err != nil {
				return err
			}
			if err := b.tellExpiry(ctx, s, a, at, event); err != nil {
				return err
			}
			b.expiriesTold[path] = key + event
		}
	}
	return nil
}

// tellExpiry tells that a version of an entry expires or has, once.
func (b *backend) tellExpiry(ctx context.Context, s logical.Storage, a scope.Address, at time.Time, event string) error {
	_, err := b.changeSecret(ctx, s, a, "", nil, func(e *secretEntry) error {
		for _, v := range e.live() {
			if v.ExpiresAt.Equal(at) && v.Told != event {
				v.Told = event
				e.tell(timeString(at)+"."+flatPath(a), event, b.now(), map[string]string{"expires_at": timeString(at)})
				return nil
			}
		}
		return errUnchanged
	})
	return err
}

// storeFirst stores an incident that is not stored yet, because the worker was
// faster than the request or a crash came between.
func (b *backend) storeFirst(ctx context.Context, s logical.Storage, first incidentEntry, listed bool) error {
	if listed {
		return nil
	}
	if err := b.noteHit(ctx, s, first, nil, false); err != nil {
		return err
	}
	return b.storeIncident(ctx, s, first.ID)
}
