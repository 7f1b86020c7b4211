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
	answer  func([]byte) (variables body, err error) // nil: it gives no variables
	leases  string                                   // the prefix of the leases that it leaves behind
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

func (o *operation) requests(ctx context.Context, c *client) ([]*http.Request, error) {
	requests := make([]*http.Request, len(o.paths))
	for i, path := range o.paths {
		var err error
		if requests[i], err = c.request(ctx, o.method, path, o.content); err != nil {
			return nil, err
		}
	}
	return requests, nil
}

// verify does the operation once, and checks that it gives exactly the 20 variables.
func (o *operation) verify(ctx context.Context, c *client) error {
	requests, err := o.requests(ctx, c)
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
	before, err := v.cpuTime()
	if err != nil {
		return round{}, err
	}
	took := make([][]time.Duration, len(clients))
	start := time.Now()
	err = each(clients, func(i int, c *client) error {
		requests, err := o.requests(ctx, c)
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
	after, err := v.cpuTime()
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

// interleave measures the operations: each is verified and warmed up, and then all
// take turns, so that what else the machine does meets all of them.
func (v *vault) interleave(ctx context.Context, clients []*client, o options, operations ...operation) ([]result, error) {
	results := make([]result, len(operations))
	for i := range operations {
		results[i].Operation = operations[i].name
		if err := operations[i].verify(ctx, clients[0]); err != nil {
			return nil, err
		}
		if _, err := operations[i].do(ctx, v, clients, o.duration/2); err != nil {
			return nil, err
		}
	}
	for n := range o.rounds {
		progress("round %d of %d", n+1, o.rounds)
		for i := range operations {
			got, err := operations[i].do(ctx, v, clients, o.duration)
			if err != nil {
				return nil, err
			}
			results[i].Rounds = append(results[i].Rounds, got)
		}
	}
	for i := range results {
		results[i].summarize()
	}
	return results, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
