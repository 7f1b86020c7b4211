package agentchains

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotation"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// rotations knows in memory which entries the worker has to look at: at what
// time, and at once. It is made anew from an index when the engine starts,
// without the entries.
type rotations struct {
	mu       sync.Mutex // guards all below
	alarms   map[scope.Address]*alarm
	queue    alarmQueue
	touched  map[scope.Address]struct{} // to look at now
	draining map[pin]scope.Address      // versions whose last holder is waited for
	used     map[scope.Address]int      // pending versions that somebody got, until that is stored
	switched chan struct{}              // closed when an entry is no longer being switched; nil: nobody waits
	wake     func()                     // ends the worker's sleep
}

// alarm is when the clock may change something about an entry.
type alarm struct {
	address scope.Address
	at      time.Time // zero: the clock changes nothing
	since   time.Time // what the note counts from
	due     time.Time // the next slot of the schedule; zero: not known, or none
	note    string    // the state of the rotation, or scheduled or reminder
	index   int       // in the queue; -1: not there
	drains  pin       // whose last holder is waited for
}

// The notes of entries that have a schedule and no rotation under way.
const (
	noteScheduled = "scheduled"
	noteReminder  = "reminder"
	noteKept      = "kept"     // a rotator has to keep a version alive
	noteTelling   = "telling"  // the outbox is still to get notifications
	noteStopping  = "stopping" // executions are still to be told to stop
)

func newRotations(wake func()) *rotations {
	return &rotations{alarms: map[scope.Address]*alarm{}, touched: map[scope.Address]struct{}{}, draining: map[pin]scope.Address{}, used: map[scope.Address]int{}, wake: wake}
}

// note says why the entry is of interest to the worker, and since or from when.
// It does not change while the entry does not.
func (e *secretEntry) note() (time.Time, string) {
	switch {
	case e.Rotation != nil:
		return e.Rotation.StartedAt, string(e.Rotation.State)
	case e.RotateNow:
		return e.UpdatedAt, noteScheduled
	case len(e.Notices) > 0:
		return e.Notices[0].Time, noteTelling
	case e.Stopping:
		if last := e.lastDestroyed(); last != nil {
			return last.DestroyedAt, noteStopping
		}
		return e.UpdatedAt, noteStopping
	case e.Current != nil && !e.Current.KeepAt.IsZero():
		return e.Current.KeepAt, noteKept
	case e.Schedule == nil || e.Schedule.NextRotationAt.IsZero():
		return time.Time{}, ""
	case e.Schedule.AutoRotate:
		return e.Schedule.lookAt(), noteScheduled
	case e.Schedule.lookAt().IsZero():
		return e.Schedule.NextRotationAt, noteReminder
	}
	return e.Schedule.lookAt(), noteReminder
}

// alarm returns when the clock may change something about the entry.
func (e *secretEntry) alarm(now time.Time) time.Time {
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if e.Rotation != nil {
		sooner(e.Rotation.Wake(now))
	} else if e.Schedule != nil {
		sooner(e.Schedule.lookAt())
	}
	if e.RotateNow {
		sooner(now.Add(stepPause))
	}
	for _, v := range e.live() {
		sooner(v.KeepAt)
	}
	return at
}

// put brings what is known of an entry up to date after it was stored, and has
// the worker look at what may follow at once.
func (rs *rotations) put(a scope.Address, e *secretEntry, now time.Time) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.noteLocked(a, e, now)
	if e.Rotation != nil || e.Stopping || e.RotateNow || len(e.Notices) > 0 {
		rs.touched[a] = struct{}{}
	}
	rs.wake()
}

// rest notes an entry at which nothing can be done now. What is due all the same,
// because it is not known yet what runs, is looked at again soon.
func (rs *rotations) rest(a scope.Address, e *secretEntry, now time.Time, counted bool) {
	const soon = time.Second
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.noteLocked(a, e, now)
	item := rs.alarms[a]
	if item == nil {
		return
	}
	uncounted := !counted && e.Rotation != nil && e.Rotation.State == rotation.Serving
	if uncounted || !item.at.IsZero() && !item.at.After(now) {
		rs.setLocked(a, now.Add(soon), item.since, item.note)
	}
}

func (rs *rotations) noteLocked(a scope.Address, e *secretEntry, now time.Time) {
	since, note := e.note()
	rs.releaseLocked(a)
	if note == "" {
		rs.dropLocked(a)
		return
	}
	rs.setLocked(a, e.alarm(now), since, note)
	rs.alarms[a].due = time.Time{}
	if e.Schedule != nil && e.Rotation == nil {
		rs.alarms[a].due = e.Schedule.NextRotationAt
	}
	if r := e.Rotation; r != nil && r.State == rotation.Serving && e.Current != nil {
		drains := pin{a.Path(), e.Current.Number}
		rs.alarms[a].drains, rs.draining[drains] = drains, a
	}
}

// releaseLocked forgets what was waited for, before it is noted anew.
func (rs *rotations) releaseLocked(a scope.Address) {
	if item := rs.alarms[a]; item != nil {
		delete(rs.draining, item.drains)
		item.drains = pin{}
	}
	if rs.switched != nil {
		close(rs.switched)
		rs.switched = nil
	}
}

func (rs *rotations) setLocked(a scope.Address, at, since time.Time, note string) {
	item := rs.alarms[a]
	if item == nil {
		item = &alarm{address: a, index: -1}
		rs.alarms[a] = item
	}
	item.at, item.since, item.note = at, since, note
	switch {
	case item.index >= 0 && at.IsZero():
		heap.Remove(&rs.queue, item.index)
	case item.index >= 0:
		heap.Fix(&rs.queue, item.index)
	case !at.IsZero():
		heap.Push(&rs.queue, item)
	}
}

func (rs *rotations) dropLocked(a scope.Address) {
	if item := rs.alarms[a]; item != nil {
		if item.index >= 0 {
			heap.Remove(&rs.queue, item.index)
		}
		delete(rs.alarms, a)
	}
	delete(rs.touched, a)
}

// remove forgets an entry that was deleted.
func (rs *rotations) remove(a scope.Address) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.releaseLocked(a)
	rs.dropLocked(a)
}

// touch has the worker look at an entry soon.
func (rs *rotations) touch(a scope.Address) {
	rs.mu.Lock()
	rs.touched[a] = struct{}{}
	rs.mu.Unlock()
	rs.wake()
}

// released is called with versions that an execution does not hold any more.
func (rs *rotations) released(pins []pin) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if len(rs.draining) == 0 {
		return
	}
	for _, p := range pins {
		if a, ok := rs.draining[p]; ok {
			rs.touched[a] = struct{}{}
			rs.wake()
		}
	}
}

// use notes that somebody got a pending version that nobody has proved yet.
func (rs *rotations) use(a scope.Address, number int) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.used[a] != number {
		rs.used[a], rs.touched[a] = number, struct{}{}
		rs.wake()
	}
}

// takeUsed reports whether the pending version of that number was used.
func (rs *rotations) takeUsed(a scope.Address, number int) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	used, ok := rs.used[a]
	delete(rs.used, a)
	return ok && used == number
}

// due returns entries to look at now, at most so many, and whether there are more.
func (rs *rotations) due(now time.Time, most int) (due []scope.Address, more bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for a := range rs.touched {
		if len(due) == most {
			return due, true
		}
		delete(rs.touched, a)
		due = append(due, a)
	}
	for len(rs.queue) > 0 && !rs.queue[0].at.After(now) {
		if len(due) == most {
			return due, true
		}
		item := heap.Pop(&rs.queue).(*alarm)
		due = append(due, item.address)
	}
	return due, false
}

// sleep returns how long nothing is to be done, if nobody asks for anything.
func (rs *rotations) sleep(now time.Time) time.Duration {
	const longest = time.Minute
	rs.mu.Lock()
	defer rs.mu.Unlock()
	switch {
	case len(rs.touched) > 0:
		return 0
	case len(rs.queue) == 0:
		return longest
	}
	return min(longest, max(0, rs.queue[0].at.Sub(now)))
}

// later has the worker look at an entry again at a time.
func (rs *rotations) later(a scope.Address, at time.Time) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if item := rs.alarms[a]; item != nil {
		rs.setLocked(a, at, item.since, item.note)
	}
}

// switching returns a channel that is closed when an entry is no longer being
// switched from one value to the next.
func (rs *rotations) switching() <-chan struct{} {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.switched == nil {
		rs.switched = make(chan struct{})
	}
	return rs.switched
}

// noted returns the alarms that are wanted, the oldest first, at most so many.
func (rs *rotations) noted(most int, wanted func(*alarm) bool) []alarm {
	rs.mu.Lock()
	var found []alarm
	for _, item := range rs.alarms {
		if wanted(item) {
			found = append(found, *item)
		}
	}
	rs.mu.Unlock()
	slices.SortFunc(found, func(x, y alarm) int {
		if c := x.since.Compare(y.since); c != 0 {
			return c
		}
		return cmp.Compare(x.address.Path(), y.address.Path())
	})
	return found[:min(most, len(found))]
}

// loadRotations reads the index of what the worker has to look at. What came due
// while the engine was down is spread over a while, so that it does not all
// happen at once.
func (b *backend) loadRotations(ctx context.Context, s logical.Storage) error {
	if b.rotationsLoaded {
		return nil
	}
	const spread, most = 10 * time.Millisecond, 5 * time.Minute
	late := time.Duration(0)
	load := func(line string) {
		at, note, a, ok := parseWake(line)
		if !ok {
			return
		}
		b.rotations.mu.Lock()
		defer b.rotations.mu.Unlock()
		switch {
		case b.rotations.alarms[a] != nil: // stored since the start
		case note != noteReminder && note != noteScheduled: // the entry says what comes next
			b.rotations.setLocked(a, time.Time{}, at, note)
			b.rotations.touched[a] = struct{}{}
		case at.Before(b.started):
			late = min(late+spread, most)
			b.rotations.setLocked(a, b.now().Add(late), at, note)
		default:
			b.rotations.setLocked(a, at, at, note)
		}
	}
	err := eachShard(ctx, s, wakePrefix, func(lines []string) error {
		for _, line := range lines {
			load(line)
		}
		return nil
	})
	b.rotationsLoaded = err == nil
	return err
}

// parseWake is the inverse of wakeKey, below its hour.
func parseWake(line string) (at time.Time, note string, a scope.Address, ok bool) {
	parts := strings.Split(line, ",")
	if len(parts) != 3 {
		return at, "", a, false
	}
	at, err := time.Parse(time.RFC3339, parts[0])
	if err != nil {
		return at, "", a, false
	}
	a, err = parseFlat(parts[2])
	return at, parts[1], a, err == nil
}

// alarmQueue is a heap, the soonest first.
type alarmQueue []*alarm

func (q alarmQueue) Len() int           { return len(q) }
func (q alarmQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q alarmQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *alarmQueue) Push(x any) {
	item := x.(*alarm)
	item.index = len(*q)
	*q = append(*q, item)
}

func (q *alarmQueue) Pop() any {
	last := len(*q) - 1
	item := (*q)[last]
	(*q)[last], *q, item.index = nil, (*q)[:last], -1
	return item
}
