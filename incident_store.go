package agentchains

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

func getIncident(ctx context.Context, s logical.Storage, id string) (*incidentEntry, error) {
	return getJSON[incidentEntry](ctx, s, incidentKey(id))
}

// storeIncidents stores what has changed of the open incidents, and closes those
// that are settled. The parts come first: a crash leaves counts that are a little
// old, which are counted anew at the next start.
func (b *backend) storeIncidents(ctx context.Context, s logical.Storage) error {
	b.incidents.mu.Lock()
	ids := slices.Sorted(maps.Keys(b.incidents.open))
	b.incidents.mu.Unlock()
	for _, id := range ids {
		if !b.incidents.ripe(id, b.now()) {
			b.kickLater(storeInterval)
			continue
		}
		if err := b.storeIncident(ctx, s, id); err != nil {
			return err
		}
	}
	return nil
}

// storeInterval is between two Puts of an incident that changes all the time.
const storeInterval = time.Second

// ripe reports whether the incident may be stored again, or need not be.
func (x *incidents) ripe(id string, now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	o := x.open[id]
	return o == nil || !o.stale || now.Sub(o.storedAt) >= storeInterval
}

func (b *backend) storeIncident(ctx context.Context, s logical.Storage, id string) error {
	if b.incidents.setDoubtful(id, false) {
		if err := b.dropUntold(ctx, s, id); err != nil {
			b.incidents.setDoubtful(id, true)
			return err
		}
	}
	lock := b.lockEntry(incidentKey(id))
	lock.Lock()
	defer lock.Unlock()
	b.incidents.mu.Lock()
	o := b.incidents.open[id]
	if o == nil || !o.stale {
		b.incidents.mu.Unlock()
		return nil
	}
	o.Counts, o.Parts = o.counts(), (len(o.executions)+partSize-1)/partSize
	head, settled := o.incidentEntry, o.settled()
	head.Alerts = slices.Clone(o.Alerts)
	parts := map[int]incidentPart{}
	for n := range o.dirty {
		all := len(o.executions)
		parts[n] = incidentPart{slices.Clone(o.executions[min(n*partSize, all):min((n+1)*partSize, all)])}
	}
	o.dirty, o.stale, o.storedAt = map[int]bool{}, false, b.now()
	b.incidents.mu.Unlock()

	err := putIncident(ctx, s, &head, parts)
	b.incidents.mu.Lock()
	defer b.incidents.mu.Unlock()
	switch {
	case err != nil:
		for n := range parts {
			o.dirty[n] = true
		}
		o.stale = true
		return err
	case settled && !o.stale:
		delete(b.incidents.open, id)
		return deleteKey(ctx, s, openIncidentKey(id))
	}
	return nil
}

func putIncident(ctx context.Context, s logical.Storage, head *incidentEntry, parts map[int]incidentPart) error {
	if _, err := putJSON(ctx, s, openIncidentKey(head.ID), indexLine{}); err != nil {
		return err
	}
	for _, n := range slices.Sorted(maps.Keys(parts)) { // what a part has lost is in one before it
		var err error
		if key := incidentPartKey(head.ID, n); n < head.Parts {
			_, err = putJSON(ctx, s, key, parts[n])
		} else {
			err = deleteKey(ctx, s, key)
		}
		if err != nil {
			return err
		}
	}
	_, err := putJSON(ctx, s, incidentKey(head.ID), head)
	return err
}

// loadIncidents opens the incidents that were not settled when the engine ended,
// and counts anew what became of their executions: the records of those say it.
func (b *backend) loadIncidents(ctx context.Context, s logical.Storage) error {
	if b.incidents.isLoaded() {
		return nil
	}
	ids, err := listKeys(ctx, s, openIncidentPrefix)
	if err != nil {
		return err
	}
	since := b.now()
	for _, id := range ids {
		head, err := getIncident(ctx, s, id)
		if err != nil {
			return err
		}
		if head == nil {
			continue
		}
		if err := b.noteHit(ctx, s, *head, nil, false); err != nil {
			return err
		}
		if head.CreatedAt.Before(since) {
			since = head.CreatedAt
		}
	}
	if len(ids) > 0 {
		if err := b.noteRecords(ctx, s, since); err != nil {
			return err
		}
	}
	b.incidents.mu.Lock()
	defer b.incidents.mu.Unlock()
	b.incidents.loaded = true
	return nil
}

func (x *incidents) isLoaded() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.loaded
}

// readIncident returns a stored incident with its executions.
func readIncident(ctx context.Context, s logical.Storage, id string) (*incidentEntry, []killed, error) {
	head, err := getIncident(ctx, s, id)
	if head == nil || err != nil {
		return nil, nil, err
	}
	var hit []killed
	for n := range head.Parts {
		part, err := getJSON[incidentPart](ctx, s, incidentPartKey(id, n))
		if err != nil {
			return nil, nil, err
		}
		if part != nil {
			hit = append(hit, part.Executions...)
		}
	}
	return head, hit, nil
}

// noteRecords looks at all executions that live or have ended since a time, once. What
// it finds of incidents that are neither open nor listed is kept until they are opened;
// if that is too much, it looks again for each of them.
func (b *backend) noteRecords(ctx context.Context, s logical.Storage, since time.Time) error {
	b.incidents.reading.Lock()
	defer b.incidents.reading.Unlock()
	since = since.UTC().Truncate(time.Hour) // as the history is kept
	if b.incidents.hasRead(since) {
		return nil
	}
	var mu sync.Mutex
	mayOpen := map[string]bool{}
	note := func(id string) error {
		e, err := getExecution(ctx, s, id)
		if e == nil || e.IncidentID == "" || err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if _, known := mayOpen[e.IncidentID]; !known {
			head, err := getIncident(ctx, s, e.IncidentID)
			if err != nil {
				return err
			}
			mayOpen[e.IncidentID] = head == nil || !head.Listed
		}
		b.incidents.note(e, mayOpen[e.IncidentID])
		return nil
	}
	noteAll := func(ids []string) error { return b.atOnce(ids, note) }
	if err := eachShard(ctx, s, livePrefix, noteAll); err != nil {
		return err
	}
	hours, err := listKeys(ctx, s, historyPrefix)
	if err != nil {
		return err
	}
	for _, hour := range hours {
		if hour < since.Format(indexHour) {
			continue
		}
		ids, err := listKeys(ctx, s, historyPrefix+hour)
		if err != nil {
			return err
		}
		if err := noteAll(ids); err != nil {
			return err
		}
	}
	b.incidents.mu.Lock()
	defer b.incidents.mu.Unlock()
	b.incidents.since = since
	return nil
}

// hasRead reports whether all that is known of executions that ended since a time is
// here.
func (x *incidents) hasRead(since time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.since.IsZero() && !since.Before(x.since) && !x.forgot
}
