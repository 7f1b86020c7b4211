//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/sample"
)

// operation is something to measure: it sends all its requests, one after the other.
type operation struct {
	name    string
	method  string
	paths   []string
	content []byte
	own     func(client int) []step                  // what each client sends, if not all the same
	uneven  bool                                     // it is not meant to cost the same at each size
	answer  func([]byte) (variables body, err error) // nil: it gives no variables
	leases  string                                   // the prefix of the leases that it leaves behind
}

// step is one request of an operation.
type step struct {
	path    string
	content []byte
}

// readOf is an operation that reads the 20 variables.
func readOf(name string, paths ...string) operation {
	return operation{name: name, method: http.MethodGet, paths: paths, answer: flatAnswer}
}

func flatAnswer(raw []byte) (body, error) {
	var answer struct{ Data body }
	err := json.Unmarshal(raw, &answer)
	return answer.Data, err
}

// kvAnswer has the variables one level deeper, as KV v2 answers.
func kvAnswer(raw []byte) (body, error) {
	var answer struct{ Data struct{ Data body } }
	err := json.Unmarshal(raw, &answer)
	return answer.Data.Data, err
}

// requests returns what the i-th client sends.
func (o *operation) requests(ctx context.Context, c *client, i int) ([]*http.Request, error) {
	var steps []step
	if o.own != nil {
		steps = o.own(i)
	}
	for _, path := range o.paths {
		steps = append(steps, step{path, o.content})
	}
	requests := make([]*http.Request, len(steps))
	for i, step := range steps {
		var err error
		if requests[i], err = c.request(ctx, o.method, step.path, step.content); err != nil {
			return nil, err
		}
	}
	return requests, nil
}

// verify does the operation once, and checks that it gives exactly the 20 variables.
func (o *operation) verify(ctx context.Context, c *client) error {
	requests, err := o.requests(ctx, c, 0)
	if err != nil {
		return err
	}
	got := body{}
	for _, req := range requests {
		raw, err := c.send(req)
		if err != nil {
			return err
		}
		if o.answer == nil {
			continue
		}
		variables, err := o.answer(raw)
		if err != nil {
			return err
		}
		maps.Copy(got, variables)
	}
	if o.answer != nil && !maps.Equal(got, sample.Variables()) {
		return fmt.Errorf("%s does not give the 20 variables of the sample, but %d", o.name, len(got))
	}
	return nil
}

// do repeats the operation for the duration with every client at the same time.
func (o *operation) do(ctx context.Context, v *vault, clients []*client, duration time.Duration) (round, error) {
	// The audit file would fill the disk in a long run.
	if err := os.Truncate(v.audit, 0); err != nil {
		return round{}, err
	}
	before, pluginsBefore, err := v.cpuTime()
	if err != nil {
		return round{}, err
	}
	took := make([][]time.Duration, len(clients))
	start := time.Now()
	err = each(clients, func(i int, c *client) error {
		requests, err := o.requests(ctx, c, i)
		if err != nil {
			return err
		}
		for last := start; last.Sub(start) < duration; {
			for _, req := range requests {
				if _, err := c.send(req); err != nil {
					return err
				}
			}
			now := time.Now()
			took[i] = append(took[i], now.Sub(last))
			last = now
		}
		return nil
	})
	elapsed := time.Since(start)
	if err != nil {
		return round{}, err
	}
	after, pluginsAfter, err := v.cpuTime()
	if err != nil {
		return round{}, err
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	got := round{
		PerSecond: float64(len(all)) / elapsed.Seconds(),
		P50:       milliseconds(all[len(all)/2]),
		P99:       milliseconds(all[len(all)*99/100]),
		CPU:       milliseconds(after-before) / float64(len(all)),
		PluginCPU: milliseconds(pluginsAfter-pluginsBefore) / float64(len(all)),
	}
	if o.leases == "" {
		return got, nil
	}
	return got, v.revoke(ctx, o.leases)
}

// each runs f for every client at the same time.
func each(clients []*client, f func(i int, c *client) error) error {
	errs := make([]error, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() { errs[i] = f(i, c) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// turn is an operation, where and by whom it is done.
type turn struct {
	operation
	vault   *vault
	clients []*client
}

// interleave measures operations in one Vault.
func (v *vault) interleave(ctx context.Context, clients []*client, o options, operations ...operation) ([]result, error) {
	turns := make([]turn, len(operations))
	for i := range operations {
		turns[i] = turn{operations[i], v, clients}
	}
	return interleave(ctx, o, turns)
}

// interleave measures operations: each is verified and warmed up, and then all
// take turns, so that what else the machine does meets all of them. When it is
// stopped after a round of all, it returns what it has with the error.
func interleave(ctx context.Context, o options, turns []turn) ([]result, error) {
	results := make([]result, len(turns))
	for i, t := range turns {
		results[i].Operation = t.name
		if err := t.verify(ctx, t.clients[0]); err != nil {
			return nil, err
		}
		if _, err := t.do(ctx, t.vault, t.clients, o.duration/2); err != nil {
			return nil, err
		}
	}
	for n := range o.rounds {
		progress("round %d of %d", n+1, o.rounds)
		rounds := make([]round, len(turns))
		for i, t := range turns {
			var err error
			if rounds[i], err = t.do(ctx, t.vault, t.clients, o.duration); err != nil {
				if n == 0 {
					return nil, err
				}
				return summarized(results), err
			}
		}
		for i := range results {
			results[i].Rounds = append(results[i].Rounds, rounds[i])
		}
	}
	return summarized(results), nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
