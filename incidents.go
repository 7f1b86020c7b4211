package agentchains

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// incidents are those of which not everything is stored yet.
type incidents struct {
	reading sync.Mutex // held while the records of executions are read
	mu      sync.Mutex // guards all below
	open    map[string]*openIncident
	loaded  bool                // those that were open when the engine ended are here
	early   map[string][]killed // by incidents that are not open yet
	kept    int                 // of early
	forgot  bool                // more than is kept of early
	since   time.Time           // the records of executions that ended since were read; zero: none
}

// mostEarly bounds what is kept for incidents that are not open yet.
const mostEarly = 10_000

// openIncident is an incident while executions may still acknowledge.
type openIncident struct {
	incidentEntry
	executions []killed
	index      map[string]int // by id, in executions
	dirty      map[int]bool   // parts that are to be stored
	storedAt   time.Time
	stale      bool // the entry is to be stored
	doubtful   bool // it is listed, with executions whose records may not say so
}

func newIncidents() *incidents {
	return &incidents{open: map[string]*openIncident{}, early: map[string][]killed{}}
}

// openedLocked returns the incident, which is opened with the given head if it is not.
func (x *incidents) openedLocked(head incidentEntry) *openIncident {
	o := x.open[head.ID]
	if o == nil {
		o = &openIncident{incidentEntry: head, index: map[string]int{}, dirty: map[int]bool{}, stale: true}
		x.open[head.ID] = o
		for _, k := range x.early[head.ID] {
			o.noteLocked(k)
		}
		x.kept -= len(x.early[head.ID])
		delete(x.early, head.ID)
	}
	return o
}

// begin opens an incident, and adds executions that it tells to stop. Once it is
// stored, noteHit is to be called instead, because it may have been closed.
func (x *incidents) begin(head incidentEntry, hit []killed, listed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	o := x.openedLocked(head)
	for _, k := range hit {
		o.noteLocked(k)
	}
	if listed && !o.Listed {
		o.Listed, o.stale = true, true
	}
	o.doubtful = o.Listed
}

// noteHit adds executions to an incident, which is opened if it is not, with what is
// stored of it.
func (b *backend) noteHit(ctx context.Context, s logical.Storage, first incidentEntry, hit []killed, listed bool) error {
	lock := b.lockEntry(incidentKey(first.ID))
	lock.Lock()
	defer lock.Unlock()
	if !b.incidents.has(first.ID) {
		head, known, err := readIncident(ctx, s, first.ID)
		if err != nil {
			return err
		}
		if head != nil {
			b.incidents.begin(*head, known, head.Listed)
		}
	}
	b.incidents.begin(first, hit, listed)
	return nil
}

// listIncident completes an incident: hit is all that is still to be added to what
// it has told to stop.
func (b *backend) listIncident(ctx context.Context, s logical.Storage, head incidentEntry, hit []killed) error {
	if err := b.noteHit(ctx, s, head, hit, false); err != nil {
		return err
	}
	// Who was told by what was stored before the engine was started, and acknowledged
	// then, does not run any more.
	if !head.CreatedAt.After(b.started) {
		if err := b.noteRecords(ctx, s, head.CreatedAt); err != nil {
			return err
		}
	}
	if err := b.noteHit(ctx, s, head, nil, true); err != nil {
		return err
	}
	return b.storeIncident(ctx, s, head.ID)
}

func (x *incidents) has(id string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.open[id] != nil
}

// dropUntold takes executions off an incident that were told to stop in memory, and
// whose records will never say so: their start was refused after all, or they ended
// meanwhile.
func (b *backend) dropUntold(ctx context.Context, s logical.Storage, incident string) error {
	for _, id := range b.incidents.waiting(incident) {
		told, err := b.wasTold(ctx, s, id)
		if err != nil {
			return err
		}
		if !told {
			b.incidents.drop(incident, id)
		}
	}
	return nil
}

// wasTold reports whether the record of an execution says that it was told to stop. A
// start or a finish that is under way is waited for.
func (b *backend) wasTold(ctx context.Context, s logical.Storage, id string) (bool, error) {
	lock := b.lockExecution(id)
	lock.RLock()
	defer lock.RUnlock()
	e, err := getExecution(ctx, s, id)
	return e != nil && e.IncidentID != "", err
}

// waiting returns the executions that have not acknowledged.
func (x *incidents) waiting(incident string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var ids []string
	if o := x.open[incident]; o != nil {
		for i := range o.executions {
			if o.executions[i].State == unacknowledged {
				ids = append(ids, o.executions[i].ID)
			}
		}
	}
	return ids
}

// setDoubtful says whether an incident lists executions that may never have been told,
// and returns what was said before.
func (x *incidents) setDoubtful(incident string, doubtful bool) (before bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if o := x.open[incident]; o != nil {
		before, o.doubtful = o.doubtful, doubtful
	}
	return before
}

func (x *incidents) drop(incident, id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	o := x.open[incident]
	if o == nil {
		return
	}
	o.executions = slices.DeleteFunc(o.executions, func(k killed) bool { return k.ID == id })
	for i := range o.executions {
		o.index[o.executions[i].ID] = i
		o.dirty[i/partSize] = true
	}
	delete(o.index, id)
	o.dirty[len(o.executions)/partSize] = true // which may be empty now
	o.stale = true
}

// noteLocked keeps what became of an execution.
func (o *openIncident) noteLocked(k killed) {
	i, known := o.index[k.ID]
	if !known {
		i = len(o.executions)
		o.index[k.ID] = i
		o.executions = append(o.executions, k)
	} else if was := o.executions[i].State; was == acknowledged && k.State != acknowledged || k.State == unacknowledged {
		return // what came of it was read earlier
	} else {
		k.OrderedAt, k.Told = o.executions[i].OrderedAt, cmp.Or(o.executions[i].Told, k.Told)
		o.executions[i] = k
	}
	o.dirty[i/partSize], o.stale = true, true
}

// note keeps what became of an execution that was told to stop in each open incident
// that lists it: the one that told it, and those that came upon it later. For one that
// may still be opened it is kept aside.
func (x *incidents) note(e *executionEntry, mayOpen bool) {
	if e.IncidentID == "" {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	k := killedOf(e, e.OrderedAt)
	for _, o := range x.open {
		if _, listed := o.index[e.ID]; listed || o.ID == e.IncidentID {
			o.noteLocked(k)
		}
	}
	switch {
	case x.open[e.IncidentID] != nil || !mayOpen:
	case x.kept == mostEarly:
		x.forgot = true
	default:
		x.early[e.IncidentID] = append(x.early[e.IncidentID], k)
		x.kept++
	}
}

func (o *openIncident) counts() map[string]int {
	counts := map[string]int{string(acknowledged): 0, string(unacknowledged): 0, string(lost): 0}
	for i := range o.executions {
		counts[string(o.executions[i].State)]++
	}
	return counts
}

// unacknowledged returns the incidents that wait for executions, the oldest first.
func (x *incidents) unacknowledged() []any {
	x.mu.Lock()
	defer x.mu.Unlock()
	list := []any{}
	for _, id := range slices.Sorted(maps.Keys(x.open)) {
		o := x.open[id]
		if n := o.counts()[string(unacknowledged)]; n > 0 {
			list = append(list, map[string]any{"incident_id": id, "created_at": timeString(o.CreatedAt), "executions": n})
		}
	}
	return list
}

// settled reports whether nothing about the incident will change by itself.
func (o *openIncident) settled() bool {
	return o.Listed && !slices.ContainsFunc(o.executions, func(k killed) bool { return k.State == unacknowledged || k.Told != k.event() })
}

// isOpen reports whether there may be more to note about an incident. One that is
// not here may not have been read yet since the start.
func (b *backend) isOpen(head *incidentEntry) bool {
	b.incidents.mu.Lock()
	defer b.incidents.mu.Unlock()
	if o := b.incidents.open[head.ID]; o != nil {
		return !o.settled()
	}
	return !head.Listed || head.Counts[string(unacknowledged)] > 0
}

// incident returns an incident as it is now, stored or not, or nil.
func (b *backend) incident(ctx context.Context, s logical.Storage, id string) (*incidentEntry, []killed, error) {
	b.incidents.mu.Lock()
	if o := b.incidents.open[id]; o != nil {
		defer b.incidents.mu.Unlock()
		head := o.incidentEntry
		head.Counts = o.counts()
		head.Alerts = slices.Clone(o.Alerts)
		return &head, sortedKilled(slices.Clone(o.executions)), nil
	}
	b.incidents.mu.Unlock()
	head, hit, err := readIncident(ctx, s, id)
	return head, sortedKilled(hit), err
}

func sortedKilled(hit []killed) []killed {
	slices.SortFunc(hit, func(x, y killed) int { return cmp.Compare(x.ID, y.ID) })
	return hit
}

func (b *backend) deleteIncident(ctx context.Context, s logical.Storage, id string) error {
	lock := b.lockEntry(incidentKey(id))
	lock.Lock()
	defer lock.Unlock()
	head, err := getIncident(ctx, s, id)
	if err != nil {
		return err
	}
	if head != nil && b.isOpen(head) {
		return conflict("incident %s is not over: executions may still acknowledge", id)
	}
	b.incidents.mu.Lock()
	delete(b.incidents.open, id)
	b.incidents.mu.Unlock()
	parts := 0
	if head != nil {
		parts = head.Parts
	}
	for n := range parts {
		if err := deleteKey(ctx, s, incidentPartKey(id, n)); err != nil {
			return err
		}
	}
	if err := deleteKey(ctx, s, incidentKey(id)); err != nil {
		return err
	}
	return deleteKey(ctx, s, openIncidentKey(id))
}
