package agentchains

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// executions is the index of what runs: each execution that has not ended, and
// the versions that it holds. It is in memory, exact, and made anew from storage
// when the engine starts.
type executions struct {
	mu      sync.Mutex // guards all below
	byID    map[string]*execution
	pinned  map[pinsKey]*pinSet
	holding map[string]map[int]map[*pinSet]struct{} // the sets that a version is in, by the path of its entry
	agents  map[string]*agentExecutions             // by <environment>/<chain>/<agent>
	ready   bool                                    // all that is stored is here
	moves   []string                                // ids that have ended and are to be put away
	closed  map[pin]int                             // versions that take no new pins, by so many who asked for it
	orders  int                                     // that may be for executions which are not here yet

	released func([]pin) // called with what an execution held when it has ended
}

// execution is what the index knows of one run. There may be 100,000 of them,
// so what they have in common is shared.
type execution struct {
	id         string
	agent      *agentExecutions
	pins       *pinSet
	leases     []lease // nearly always one
	ttl        time.Duration
	deadline   time.Time
	generation int
	state      executionState
	changed    chan struct{}       // closed at the next change of state; nil: nobody waits
	run        string              // the label
	watched    int64               // when somebody last watched it, in Unix seconds
	order      *stopOrder          // that it was given, and that may not be stored yet
	seen       map[string]sighting // in output, of which its record may count less
}

type lease struct {
	nonce string
	until time.Time
}

// agentExecutions are the executions of one agent.
type agentExecutions struct {
	path, chain string
	ids         map[string]struct{}
}

func newExecutions(released func([]pin)) *executions {
	return &executions{byID: map[string]*execution{}, pinned: map[pinsKey]*pinSet{}, holding: map[string]map[int]map[*pinSet]struct{}{}, agents: map[string]*agentExecutions{}, closed: map[pin]int{}, released: released}
}

// put adds an execution, or brings what is known of it up to date. Leases that
// were renewed since they were stored keep their later end.
func (x *executions) put(e *executionEntry, grace time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.putLocked(e, grace)
}

// begin adds an execution, unless one of its pins is on an entry that is closed.
func (x *executions) begin(e *executionEntry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if slices.ContainsFunc(e.Pins, x.closedLocked) {
		return false
	}
	x.putLocked(e, time.Time{})
	return true
}

func (x *executions) putLocked(e *executionEntry, grace time.Time) {
	run := x.byID[e.ID]
	if run == nil {
		run = &execution{id: e.ID, agent: x.agentLocked(e), pins: x.pinsLocked(e.Pins), ttl: e.TTL, deadline: e.Deadline, run: e.Run}
		run.agent.ids[e.ID] = struct{}{}
		run.pins.held[e.ID] = struct{}{}
		x.byID[e.ID] = run
	}
	leases := make([]lease, 0, len(e.Leases))
	for nonce, until := range e.Leases {
		if until.Before(grace) {
			until = grace
		}
		if i := run.lease(nonce); i >= 0 && run.leases[i].until.After(until) {
			until = run.leases[i].until
		}
		leases = append(leases, lease{nonce, until})
	}
	run.leases = leases
	if run.order != nil && e.State == executionActive {
		return // it was stored before the order
	}
	run.setLocked(e.State, e.Generation)
}

func (run *execution) runner() runner { return runner{run.id, run.run, run.agent.path} }

// agentOf returns the agent of an execution, or nil.
func (x *executions) agentOf(id string) *agentExecutions {
	x.mu.Lock()
	defer x.mu.Unlock()
	if run := x.byID[id]; run != nil {
		return run.agent
	}
	return nil
}

// watchedSince tells executions that somebody has watched since a time from the
// others, of which it returns at most so many.
func (x *executions) watchedSince(at time.Time, most int) (watched, unwatched int, ids []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, run := range x.byID {
		if run.watched >= at.Unix() {
			watched++
			continue
		}
		unwatched++
		if len(ids) < most {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return watched, unwatched, ids
}

func (run *execution) lease(nonce string) int {
	return slices.IndexFunc(run.leases, func(l lease) bool { return l.nonce == nonce })
}

// setLocked notes a state and wakes who waits for a change.
func (run *execution) setLocked(state executionState, generation int) {
	if run.generation == generation {
		run.state = state
		return
	}
	run.state, run.generation = state, generation
	if run.changed != nil {
		close(run.changed)
		run.changed = nil
	}
}

func (x *executions) agentLocked(e *executionEntry) *agentExecutions {
	path := e.agentPath()
	agent := x.agents[path]
	if agent == nil {
		agent = &agentExecutions{path, e.Chain, map[string]struct{}{}}
		x.agents[path] = agent
	}
	return agent
}

// remove forgets an execution that has ended, and wakes who watches it.
func (x *executions) remove(id string) {
	if pins := x.forget(id); pins != nil {
		x.released(pins)
	}
}

// forget returns the pins of the execution if nobody else has the same.
func (x *executions) forget(id string) (released []pin) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.moves = append(x.moves, id)
	run := x.byID[id]
	if run == nil {
		return nil
	}
	delete(x.byID, id)
	if delete(run.agent.ids, id); len(run.agent.ids) == 0 {
		delete(x.agents, run.agent.path)
	}
	if run.changed != nil {
		close(run.changed)
	}
	if delete(run.pins.held, id); len(run.pins.held) > 0 {
		return nil
	}
	x.dropLocked(run.pins)
	return run.pins.pins
}

// renew extends a lease by a step, which is the execution's ttl, or less when
// less is asked for or left. It fails with errNotIndexed for an execution that is
// not here.
func (x *executions) renew(id, nonce string, asked time.Duration, now time.Time) (step time.Duration, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	run := x.byID[id]
	if run == nil {
		return 0, errNotIndexed
	}
	i := run.lease(nonce)
	step = min(run.ttl, run.deadline.Sub(now))
	switch {
	case run.state != executionActive:
		return 0, errTerminated
	case i < 0 || step <= 0:
		return 0, errEnded
	case asked > 0:
		step = min(step, max(asked, time.Second))
	}
	run.leases[i].until = now.Add(step)
	return step, nil
}

// errNotIndexed says that storage has to be asked.
var errNotIndexed = errors.New("the execution is not in the index")

// watch returns the state of an execution that has not ended, and a channel that
// is closed when it changes.
func (x *executions) watch(id string, now time.Time) (state executionState, generation int, changed <-chan struct{}, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	run := x.byID[id]
	if run == nil {
		return "", 0, nil, false
	}
	if run.changed == nil {
		run.changed = make(chan struct{})
	}
	run.watched = now.Unix()
	return run.state, run.generation, run.changed, true
}

// overdue returns executions of which every lease has been past its end for the
// grace that Vault's own expiry takes, at most so many.
func (x *executions) overdue(now time.Time, grace time.Duration, most int) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var ids []string
	for id, run := range x.byID {
		if !slices.ContainsFunc(run.leases, func(l lease) bool { return now.Before(l.until.Add(grace)) }) {
			if ids = append(ids, id); len(ids) == most {
				break
			}
		}
	}
	return ids
}

// of returns the ids of an agent's executions that have not ended, sorted. It
// fails until all that runs is known.
func (x *executions) of(agentPath string) ([]string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.ready {
		return nil, errIndexNotReady()
	}
	ids := []string{}
	if agent := x.agents[agentPath]; agent != nil {
		for id := range agent.ids {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// below returns the next segments below a path at which something runs, with
// repetitions. The definition of what runs may have been deleted.
func (x *executions) below(path string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var segments []string
	for agent := range x.agents {
		if rest, ok := strings.CutPrefix("/"+agent, strings.TrimSuffix("/"+path, "/")+"/"); ok {
			segment, _, _ := strings.Cut(rest, "/")
			segments = append(segments, segment)
		}
	}
	return segments
}

func (x *executions) isReady() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ready
}

func (x *executions) setReady() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ready = true
}

// toMove notes executions that have ended and are to be put away.
func (x *executions) toMove(ids ...string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.moves = append(x.moves, ids...)
}

// takeMoves returns what is to be put away, each once.
func (x *executions) takeMoves() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	moves := x.moves
	x.moves = nil
	return moves
}

// live counts the executions that have not ended, by chain.
func (x *executions) live() map[string]any {
	x.mu.Lock()
	defer x.mu.Unlock()
	chains := map[string]any{}
	for _, run := range x.byID {
		chain := run.agent.chain
		count, _ := chains[chain].(int)
		chains[chain] = count + 1
	}
	return chains
}
