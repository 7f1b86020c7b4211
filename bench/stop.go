//go:build linux

package main

import (
	"context"
	"fmt"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/table"
)

// stopResult is the time from an order to stop until it has arrived.
type stopResult struct {
	What   string  `json:"what"`
	Size   int     `json:"at_the_same_time"`
	Orders int     `json:"orders"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`
}

// stopBar is what the 99th percentile with the most watchers must be below.
const stopBar = 1000

// measureStops measures how long an order takes to simulated watchers, and to
// the processes of real runners.
func (v *vault) measureStops(ctx context.Context, r *executionsReport, clients []*client, o options) error {
	for _, g := range o.watchers {
		progress("orders to %s watchers, %d times", table.Thousands(g.size), g.times)
		stop, err := v.repeatStops("to its watcher's answer", g, func() ([]time.Duration, error) { return v.stopWatchers(ctx, clients, g.size) })
		if err != nil {
			return err
		}
		r.Stops = append(r.Stops, stop)
	}
	most := r.Stops[len(r.Stops)-1]
	r.Comparisons = append(r.Comparisons, below(fmt.Sprintf("p99 ms from an order to its watcher's answer, of %s", table.Thousands(most.Size)), most.P99, stopBar))
	for _, g := range o.runners {
		progress("orders to %d runners, %d times", g.size, g.times)
		stop, err := v.repeatStops("to the end of the agent's process", g, func() ([]time.Duration, error) { return v.stopRunners(ctx, clients[0].token, g.size) })
		if err != nil {
			return err
		}
		r.Stops = append(r.Stops, stop)
	}
	return nil
}

func (v *vault) repeatStops(what string, g group, stop func() ([]time.Duration, error)) (stopResult, error) {
	var all []time.Duration
	for range g.times {
		took, err := stop()
		if err != nil {
			return stopResult{}, err
		}
		all = append(all, took...)
	}
	slices.Sort(all)
	n := len(all)
	return stopResult{what, g.size, n, milliseconds(all[n/2]), milliseconds(all[n*99/100]), milliseconds(all[n-1])}, nil
}

// stopWatchers starts n executions, each with a watcher, tells all of them to
// stop, and returns how long each order took to its watcher.
func (v *vault) stopWatchers(ctx context.Context, clients []*client, n int) ([]time.Duration, error) {
	ids, err := startExecutions(ctx, clients, executions(plugin), n, 10*time.Minute)
	if err != nil {
		return nil, err
	}
	watchers := make([]*client, n)
	for i := range watchers {
		watchers[i] = newClient(v.address, clients[0].token)
	}
	// A watcher that fails ends all, so that nobody waits for it.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watching, told sync.WaitGroup
	watching.Add(n)
	ended := make([]time.Time, n)
	for i, c := range watchers {
		told.Go(func() {
			defer c.http.CloseIdleConnections()
			once := sync.OnceFunc(watching.Done)
			defer once()
			var err error
			if ended[i], err = watch(ctx, c, ids[i], i%longestPoll, once); err != nil {
				cancel(err)
			}
		})
	}
	watching.Wait()
	sent, err := v.order(ctx, ids)
	if err != nil {
		cancel(err)
	}
	told.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	took := make([]time.Duration, n)
	for i := range took {
		took[i] = ended[i].Sub(sent[i])
	}
	return took, v.revoke(ctx, executions(plugin))
}

// longestPoll is how many seconds a watcher waits for an answer.
const longestPoll = 5

// watch polls as a runner does, and returns when the answer came that says stop.
// The first poll takes so many seconds that not all watchers poll at once; after
// it, the watcher calls watching.
func watch(ctx context.Context, c *client, id string, first int, watching func()) (time.Time, error) {
	for wait := first; ; wait = longestPoll {
		var answer struct{ Data struct{ State string } }
		if err := c.get(ctx, fmt.Sprintf("%s/execution/%s/watch?generation=1&wait=%d", plugin, id, wait), &answer); err != nil {
			return time.Time{}, err
		}
		if answer.Data.State != "active" {
			return time.Now(), nil
		}
		watching()
	}
}

// order tells executions to stop, and returns when it began to tell each.
func (v *vault) order(ctx context.Context, ids []string) ([]time.Time, error) {
	operators := make([]*client, min(4, len(ids)))
	for i := range operators {
		operators[i] = newClient(v.address, v.token)
	}
	sent := make([]time.Time, len(ids))
	return sent, each(operators, func(i int, c *client) error {
		defer c.http.CloseIdleConnections()
		for ; i < len(ids); i += len(operators) {
			sent[i] = time.Now()
			if err := c.put(ctx, path.Join(plugin, "revoke/execution", ids[i]), body{"reason": "the benchmark"}); err != nil {
				return err
			}
		}
		return nil
	})
}
