package agentchains

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// stopOrder is what an execution is told.
type stopOrder struct {
	reason, by, incident string
	at                   time.Time
}

// matching returns the executions of which the runner matches.
func (x *executions) matching(match func(runner) bool) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var ids []string
	for id, run := range x.byID {
		if match(run.runner()) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// active reports whether an execution of which the runner matches was not told to stop.
func (x *executions) active(match func(runner) bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, run := range x.byID {
		if run.state == executionActive && match(run.runner()) {
			return true
		}
	}
	return false
}

// order tells executions to stop, before their records say so: whoever watches
// them is told at once, and their leases are not renewed any more. It returns those
// that had not been told before.
func (x *executions) order(ids []string, o *stopOrder) []killed {
	x.mu.Lock()
	defer x.mu.Unlock()
	var hit []killed
	for _, id := range ids {
		run := x.byID[id]
		if run == nil || run.state != executionActive {
			continue
		}
		run.orderLocked(o)
		environment, rest, _ := strings.Cut(run.agent.path, "/")
		hit = append(hit, killed{
			ID: id, Environment: environment, Chain: run.agent.chain, Agent: strings.TrimPrefix(rest, run.agent.chain+"/"),
			State: unacknowledged, OrderedAt: o.at,
		})
	}
	return hit
}

func (run *execution) orderLocked(o *stopOrder) {
	run.order = o
	run.setLocked(executionTerminating, run.generation+1)
}

// orderOf returns the order that an execution was given, and whether it is here.
func (x *executions) orderOf(id string) (order *stopOrder, known bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	run := x.byID[id]
	if run == nil {
		return nil, false
	}
	return run.order, true
}

// noteOrder is called by who has stored an order, before they look whom it is for:
// those who are being read from storage then are compared with the order anew.
func (x *executions) noteOrder() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.orders++
}

// ordersNoted returns how often noteOrder was called.
func (x *executions) ordersNoted() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.orders
}

// putOrdered adds an execution that was given an order, unless order is nil. It does
// not, and returns false, when orders were noted since there were so many.
func (x *executions) putOrdered(e *executionEntry, grace time.Time, order *stopOrder, noted int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.orders != noted {
		return false
	}
	x.putLocked(e, grace)
	if run := x.byID[e.ID]; order != nil && run.state == executionActive {
		run.orderLocked(order)
	}
	return true
}

// applyOrder makes a record say what its execution was told, by memory or, when
// the engine has not come to it since its start, by what is stored.
func (b *backend) applyOrder(ctx context.Context, s logical.Storage, e *executionEntry) error {
	if e.State != executionActive {
		return nil
	}
	order, known := b.executions.orderOf(e.ID)
	if !known {
		if err := b.requireStops(ctx, s); err != nil {
			return err
		}
		var err error
		if order, err = b.orderStored(ctx, s, e); err != nil {
			return err
		}
	}
	if order != nil {
		e.obey(order, b.now())
	}
	return nil
}

// orderStored returns what an execution was told according to what is stored,
// while its own record may not say so yet.
func (b *backend) orderStored(ctx context.Context, s logical.Storage, e *executionEntry) (*stopOrder, error) {
	if order := b.stops.orderFor(e); order != nil {
		return order, nil
	}
	for _, p := range e.Pins {
		a, err := scope.ParseAddress(scope.KindOf(p.Path), p.Path)
		if err != nil {
			return nil, err
		}
		held, err := b.getSecret(ctx, s, a)
		if err != nil {
			return nil, err
		}
		if held == nil || !held.Stopping {
			continue
		}
		for i := range held.Emergencies { // of which the tombstones may have gone
			if m := &held.Emergencies[i]; !m.Listed && slices.Contains(m.Versions, p.Version) {
				return m.order(a), nil
			}
		}
		for _, t := range held.Destroyed {
			if t.Number == p.Version && t.Stop {
				return &stopOrder{a.Path() + ": " + t.Reason, t.DestroyedBy, t.Incident, t.DestroyedAt}, nil
			}
		}
	}
	return nil, nil
}

// tellHolders gives executions an order: in memory at once, and in their records.
func (b *backend) tellHolders(ctx context.Context, s logical.Storage, ids []string, order *stopOrder) ([]killed, error) {
	b.executions.order(ids, order)
	return b.terminateAll(ctx, s, ids, func(*executionEntry) *stopOrder { return order })
}

// terminateAll stores in the records of executions that they were told to stop.
func (b *backend) terminateAll(ctx context.Context, s logical.Storage, ids []string, orderOf func(*executionEntry) *stopOrder) ([]killed, error) {
	var mu sync.Mutex
	var hit []killed
	err := b.atOnce(ids, func(id string) error {
		k, err := b.terminateOne(ctx, s, id, orderOf)
		if k != nil {
			mu.Lock()
			defer mu.Unlock()
			hit = append(hit, *k)
		}
		return err
	})
	return hit, err
}

// terminateOne tells one execution to stop, unless it has ended or no order is
// for it. It returns what the execution has come to, if an incident is the cause.
func (b *backend) terminateOne(ctx context.Context, s logical.Storage, id string, orderOf func(*executionEntry) *stopOrder) (*killed, error) {
	e, err := b.withExecution(ctx, s, id, func(e *executionEntry) error {
		if order := orderOf(e); order != nil {
			e.obey(order, b.now())
		}
		return nil
	})
	var api *apiError
	switch {
	case errors.As(err, &api):
		return nil, nil // it is gone, or never started
	case err != nil:
		return nil, err
	case e.IncidentID == "":
		return nil, nil
	}
	k := killedOf(e, e.OrderedAt)
	return &k, nil
}

// obey tells the execution to stop, unless it has ended or was told before. One that
// was told without an incident is the first incident's that comes upon it.
func (e *executionEntry) obey(o *stopOrder, now time.Time) {
	switch {
	case e.State == executionActive:
		e.transition(executionTerminating, o.reason+" (by "+o.by+")", now)
		e.OrderedAt = o.at
	case e.State != executionTerminating || e.IncidentID != "":
		return
	}
	e.IncidentID = o.incident
}
