package agentchains

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// stopEntry is an order to stop by who runs, and the hold that may stay of it. Its
// one Put is what makes it true.
type stopEntry struct {
	ID        string    `json:"id"` // of the incident
	Kind      stopKind  `json:"kind"`
	Target    string    `json:"target"` // as its path names it; empty for all
	Reason    string    `json:"reason"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by"`
	Hold      bool      `json:"hold,omitempty"`
	Told      bool      `json:"told,omitempty"` // all that ran was told, in storage too
	Repeat    string    `json:"repeat"`         // what tells a repeated request
}

// stopKind says by what executions are told to stop.
type stopKind string

const (
	stopSecret    stopKind = "secret" // by what leaked: the entry itself says so
	stopExecution stopKind = "execution"
	stopRun       stopKind = "run"
	stopAgent     stopKind = "agent"
	stopChain     stopKind = "chain"
	stopAll       stopKind = "all"
)

// runner is who is told to stop, or wants to run.
type runner struct{ id, run, agentPath string }

func (e *executionEntry) runner() runner { return runner{e.ID, e.Run, e.agentPath()} }

// matches reports whether the order is for a runner.
func (e *stopEntry) matches(r runner) bool {
	switch e.Kind {
	case stopExecution:
		return r.id == e.Target
	case stopRun:
		return r.run == e.Target
	case stopAgent:
		return r.agentPath == e.Target
	case stopChain:
		chain := r.agentPath[:strings.LastIndexByte(r.agentPath, '/')]
		return chain == e.Target
	}
	return e.Kind == stopAll
}

func (e *stopEntry) incident() incidentEntry {
	return incidentEntry{ID: e.ID, Kind: string(e.Kind), Target: e.Target, Reason: e.Reason, CreatedAt: e.CreatedAt, CreatedBy: e.CreatedBy}
}

func (e *stopEntry) order() *stopOrder { return &stopOrder{e.Reason, e.CreatedBy, e.ID, e.CreatedAt} }

// repeatWindow is for how long the same request gives the same incident.
const repeatWindow = 10 * time.Minute

// repeatKey tells a request from another: who sends it, to where, with what. It
// is keyed, so that nothing can be learned from it about a value that was sent.
func (salt *saltEntry) repeatKey(req *logical.Request) string {
	fields, _ := json.Marshal(req.Data) // what came as JSON goes as JSON
	mac := hmac.New(sha256.New, salt.Key)
	for _, part := range []string{"revoke", identity(req), req.Path, string(fields)} {
		sum := sha256.Sum256([]byte(part))
		_, _ = mac.Write(sum[:])
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// stops are the orders and holds in force. Nothing is served before they are read.
type stops struct {
	mu     sync.Mutex // guards all below
	byID   map[string]*stopEntry
	holds  map[string]*stopEntry // those that keep somebody out, by id
	loaded bool
}

func newStops() *stops {
	return &stops{byID: map[string]*stopEntry{}, holds: map[string]*stopEntry{}}
}

// requireStops reads the orders and holds, if that is still to be done.
func (b *backend) requireStops(ctx context.Context, s logical.Storage) error {
	b.stops.mu.Lock()
	defer b.stops.mu.Unlock()
	if b.stops.loaded {
		return nil
	}
	ids, err := listKeys(ctx, s, stopPrefix)
	if err == nil {
		known := newStops()
		for _, id := range ids {
			var e *stopEntry
			if e, err = getJSON[stopEntry](ctx, s, stopKey(id)); err != nil {
				break
			}
			if e != nil {
				known.put(e)
			}
		}
		if err == nil {
			b.stops.byID, b.stops.holds, b.stops.loaded = known.byID, known.holds, true
			return nil
		}
	}
	b.Logger().Warn("the holds cannot be read, so nothing is served", "error", err)
	return notReady("the engine has not read its holds yet: try again")
}

// forget has the orders read again, because another node has changed them.
func (x *stops) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.loaded = false
}

func (x *stops) get(id string) *stopEntry {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.byID[id]
}

func (x *stops) put(e *stopEntry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.byID[e.ID] = e
	if delete(x.holds, e.ID); e.Hold {
		x.holds[e.ID] = e
	}
}

func (x *stops) remove(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.byID, id)
	delete(x.holds, id)
}

// all returns the orders and holds, the oldest first.
func (x *stops) all() []*stopEntry {
	x.mu.Lock()
	defer x.mu.Unlock()
	list := make([]*stopEntry, 0, len(x.byID))
	for _, e := range x.byID {
		list = append(list, e)
	}
	slices.SortFunc(list, func(p, q *stopEntry) int { return strings.Compare(p.ID, q.ID) })
	return list
}

// orderFor returns the order for an execution that was started before it, and
// that may not have been told; nil: there is none.
func (x *stops) orderFor(e *executionEntry) *stopOrder {
	for _, stop := range x.all() {
		if !stop.Told && stop.matches(e.runner()) && !e.StartedAt.After(stop.CreatedAt) {
			return stop.order()
		}
	}
	return nil
}

// repeated returns the order that the same request has given a short while ago, the
// last one, if it is in force: one whose hold was released since is not.
func (x *stops) repeated(again *stopEntry, now time.Time) (last *stopEntry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.byID {
		if e.Repeat == again.Repeat && e.Hold == again.Hold && now.Sub(e.CreatedAt) < repeatWindow && (last == nil || e.CreatedAt.After(last.CreatedAt)) {
			last = e
		}
	}
	return last
}

// checkHolds refuses what is being kept out.
func (b *backend) checkHolds(ctx context.Context, s logical.Storage, r runner) error {
	if err := b.requireStops(ctx, s); err != nil {
		return err
	}
	b.stops.mu.Lock()
	defer b.stops.mu.Unlock()
	for _, e := range b.stops.holds {
		if e.matches(r) {
			return locked("%s is held since %s by incident %s: an operator has to release the hold", r.agentPath, timeString(e.CreatedAt), e.ID)
		}
	}
	return nil
}

// giveOrder stores an order and tells whom it is for, or returns the one that it
// repeats.
func (b *backend) giveOrder(ctx context.Context, s logical.Storage, e *stopEntry) (first *stopEntry, err error) {
	b.stopLock.Lock()
	defer b.stopLock.Unlock()
	if first := b.stops.repeated(e, b.now()); first != nil && !b.executions.active(e.matches) {
		return first, nil
	}
	e.ID = newIncidentID(e.CreatedAt)
	if err := putStop(ctx, s, e); err != nil {
		b.stops.forget() // it may have been stored all the same
		return nil, err
	}
	// Told before the worker hears of it, so that its incident knows who was.
	b.incidents.begin(e.incident(), b.executions.order(b.executions.matching(e.matches), e.order()), false)
	b.stops.put(e)
	return nil, nil
}

// tellAll completes the orders that were given, from what is stored: after a
// crash too. What is done, and holds nothing, goes when it cannot be repeated any more.
func (b *backend) tellAll(ctx context.Context, s logical.Storage) error {
	if err := b.requireStops(ctx, s); err != nil {
		return err
	}
	if !b.executions.isReady() || !b.incidents.isLoaded() {
		return nil
	}
	for _, e := range b.stops.all() {
		switch {
		case !e.Told:
			if err := b.tell(ctx, s, e); err != nil {
				return err
			}
		case !e.Hold && b.now().Sub(e.CreatedAt) >= repeatWindow:
			if err := deleteKey(ctx, s, stopKey(e.ID)); err != nil {
				return err
			}
			b.stops.remove(e.ID)
		}
	}
	return nil
}

// tell stores the order in the record of each execution that it is for.
func (b *backend) tell(ctx context.Context, s logical.Storage, e *stopEntry) error {
	ids := b.executions.matching(e.matches)
	hit, err := b.terminateAll(ctx, s, ids, func(x *executionEntry) *stopOrder {
		if x.StartedAt.After(e.CreatedAt) {
			return nil
		}
		return e.order()
	})
	if err != nil {
		return err
	}
	if err := b.listIncident(ctx, s, e.incident(), hit); err != nil {
		return err
	}
	return b.changeStop(ctx, s, e.ID, func(e *stopEntry) { e.Told = true })
}

// changeStop changes an order that is in force. What else has changed it
// meanwhile, such as the release of its hold, stays.
func (b *backend) changeStop(ctx context.Context, s logical.Storage, id string, change func(*stopEntry)) error {
	b.stopLock.Lock()
	defer b.stopLock.Unlock()
	known := b.stops.get(id)
	if known == nil {
		return nil
	}
	e := *known
	change(&e)
	if err := putStop(ctx, s, &e); err != nil {
		b.stops.forget() // it may have been stored all the same
		return err
	}
	b.stops.put(&e)
	return nil
}

func putStop(ctx context.Context, s logical.Storage, e *stopEntry) error {
	_, err := putJSON(ctx, s, stopKey(e.ID), e)
	return err
}
