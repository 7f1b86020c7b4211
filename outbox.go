package agentchains

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/notify"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// notification is something that has happened and that notifiers may tell.
type notification = notify.Notification

// outboxEntry is a notification on its way to one notifier, or one that it gave
// up on. Its body is made anew for each attempt.
type outboxEntry struct {
	notification
	Attempts    int       `json:"attempts"` // that have failed
	NextAttempt time.Time `json:"next_attempt"`
	LastError   string    `json:"last_error,omitempty"`
}

const (
	mostWaiting     = 10_000 // for one notifier; of more, the oldest become dead letters
	mostDeadLetters = 1_000  // of one notifier; of more, the oldest are deleted
)

// itemID is the last part of a notification's key. The id itself may hold
// anything.
func itemID(n notification) string {
	sum := sha256.Sum256([]byte(n.ID))
	return hex.EncodeToString(sum[:16])
}

// itemName sorts by time.
func itemName(n notification) string {
	return n.Time.UTC().Format(time.RFC3339) + "-" + itemID(n)
}

// outbox knows in memory what is stored for each notifier, and when it is to be
// delivered.
type outbox struct {
	mu     sync.Mutex // guards all below, and what a queue says it guards
	queues map[string]*queue
	wake   func() // ends the worker's sleep
}

// queue is what waits for one notifier.
type queue struct {
	notifier string
	store    sync.Mutex // from a look at the queue to the write in storage; before outbox.mu
	loaded   bool       // guarded by store
	// Guarded by outbox.mu.
	waiting map[string]waiting // by itemID
	busy    bool               // something is being delivered
	resume  time.Time          // not before, because storage has failed
}

type waiting struct {
	item string
	due  time.Time
}

func newOutbox(wake func()) *outbox { return &outbox{queues: map[string]*queue{}, wake: wake} }

func (x *outbox) queue(notifier string) *queue {
	x.mu.Lock()
	defer x.mu.Unlock()
	q := x.queues[notifier]
	if q == nil {
		q = &queue{notifier: notifier, waiting: map[string]waiting{}}
		x.queues[notifier] = q
	}
	return q
}

// add has an item delivered at a time.
func (x *outbox) add(q *queue, item string, due time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	q.waiting[item[strings.LastIndexByte(item, '-')+1:]] = waiting{item, due}
}

func (x *outbox) drop(q *queue, item string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(q.waiting, item[strings.LastIndexByte(item, '-')+1:])
}

// has reports whether a notification with the id is waiting.
func (x *outbox) has(q *queue, id string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := q.waiting[id]
	return ok
}

// next returns the item that has been due for longest. If too many wait, it is
// the oldest, and one too many.
func (x *outbox) next(q *queue, now time.Time) (item string, excess, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	excess = len(q.waiting) > mostWaiting
	var first waiting
	for _, w := range q.waiting {
		switch {
		case first.item == "", excess && w.item < first.item, !excess && w.due.Before(first.due):
			first = w
		}
	}
	return first.item, excess, first.item != "" && (excess || !first.due.After(now))
}

// begin returns the queues of which something is due and nothing is being
// delivered. Until end is called, they are the caller's.
func (x *outbox) begin(now time.Time) []*queue {
	x.mu.Lock()
	defer x.mu.Unlock()
	var due []*queue
	for _, q := range x.queues {
		if at, some := q.dueLocked(); some && !q.busy && !at.After(now) {
			q.busy = true
			due = append(due, q)
		}
	}
	return due
}

func (x *outbox) end(q *queue, resume time.Time) {
	x.mu.Lock()
	q.busy, q.resume = false, resume
	x.mu.Unlock()
	x.wake()
}

// dueLocked returns when the first of a queue is due, if there is one.
func (q *queue) dueLocked() (at time.Time, some bool) {
	for _, w := range q.waiting {
		if !some || w.due.Before(at) {
			at, some = w.due, true
		}
	}
	if at.Before(q.resume) {
		at = q.resume
	}
	return at, some
}

// sleep returns how long nothing is to be delivered.
func (x *outbox) sleep(now time.Time) time.Duration {
	const longest = time.Minute
	x.mu.Lock()
	defer x.mu.Unlock()
	sleep := longest
	for _, q := range x.queues {
		if at, some := q.dueLocked(); some && !q.busy {
			sleep = min(sleep, max(0, at.Sub(now)))
		}
	}
	return sleep
}

// withQueue calls do while nobody else changes what is stored for the notifier,
// and when the queue says what that is.
func (b *backend) withQueue(ctx context.Context, s logical.Storage, notifier string, do func(q *queue) error) error {
	q := b.outbox.queue(notifier)
	q.store.Lock()
	defer q.store.Unlock()
	if !q.loaded {
		items, err := listKeys(ctx, s, outboxPrefix+notifier+"/")
		if err != nil {
			return err
		}
		for _, item := range items {
			b.outbox.add(q, item, b.now()) // when it is read, it says when it is due
		}
		q.loaded = true
	}
	err := do(q)
	q.loaded = err == nil // a Put that fails may still have happened
	return err
}

// loadOutbox reads the keys of what was to be delivered when the engine ended.
func (b *backend) loadOutbox(ctx context.Context, s logical.Storage) error {
	if b.outboxLoaded {
		return nil
	}
	names, err := listKeys(ctx, s, outboxPrefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := b.withQueue(ctx, s, strings.TrimSuffix(name, "/"), func(*queue) error { return nil }); err != nil {
			return err
		}
	}
	b.outboxLoaded = true
	return nil
}

// notify stores a notification for each notifier that wants it, and returns when
// it will be delivered whatever happens. The same id is stored once, so that the
// caller can do it again; a receiver may still get it more than once.
func (b *backend) notify(ctx context.Context, s logical.Storage, n notification) error {
	if err := n.Check(); err != nil {
		return err
	}
	names, err := listKeys(ctx, s, notifierPrefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := b.withQueue(ctx, s, name, func(q *queue) error {
			e, err := b.getNotifier(ctx, s, name)
			if err != nil || e == nil || !notify.Subscribes(e.Events, e.Template, n.Event) || b.outbox.has(q, itemID(n)) {
				return err
			}
			return b.putOutbox(ctx, s, q, &outboxEntry{notification: n})
		})
		if err != nil {
			return err
		}
	}
	b.sendEvent(ctx, n)
	return nil
}

// notifying reports whether there is anybody to tell.
func (b *backend) notifying(ctx context.Context, s logical.Storage) (bool, error) {
	if known := b.anyNotifier.Load(); known != nil {
		return *known, nil
	}
	b.notifierLock.Lock()
	defer b.notifierLock.Unlock()
	names, err := listKeys(ctx, s, notifierPrefix)
	if err != nil {
		return false, err
	}
	any := len(names) > 0
	b.anyNotifier.Store(&any)
	return any, nil
}

// putOutbox stores an entry and has it delivered. The caller holds q.store.
func (b *backend) putOutbox(ctx context.Context, s logical.Storage, q *queue, e *outboxEntry) error {
	item := itemName(e.notification)
	if _, err := putJSON(ctx, s, outboxKey(q.notifier, item), e); err != nil {
		return err
	}
	due := e.NextAttempt
	if due.IsZero() {
		due = b.now()
	}
	b.outbox.add(q, item, due)
	b.outbox.wake()
	return nil
}

// sendEvent tells Vault's own event system, if there is one that listens.
func (b *backend) sendEvent(ctx context.Context, n notification) {
	path := "incidents/" + n.Text("incident_id")
	if entry := n.Text("path"); entry != "" {
		path = string(scope.KindOf(entry)) + "/" + entry
	} else if n.Text("execution_id") != "" {
		path = "executions/" + n.Subject()
	}
	pairs := []string{logical.EventMetadataPath, path, "id", n.ID, "time", timeString(n.Time)}
	for name := range n.Fields {
		if name != "path" {
			pairs = append(pairs, name, n.Text(name))
		}
	}
	if err := logical.SendEvent(ctx, b, "agentchains/"+n.Event, pairs...); err != nil {
		b.Logger().Trace("no event was sent to Vault", "event", n.Event, "error", err)
	}
}
