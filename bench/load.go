package main

import (
	"context"
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

// read is one way to get the 20 variables: an operation reads all its paths,
// one after the other.
type read struct {
	name   string
	paths  []string
	nested bool // the variables are in data.data, as KV v2 answers
}

// verify checks that an operation gives exactly the 20 variables.
func (r *read) verify(ctx context.Context, c *client) error {
	got := body{}
	for _, path := range r.paths {
		var answer struct{ Data body }
		if err := c.get(ctx, path, &answer); err != nil {
			return err
		}
		if r.nested {
			answer.Data, _ = answer.Data["data"].(body)
		}
		maps.Copy(got, answer.Data)
	}
	if !maps.Equal(got, sample.Variables()) {
		return fmt.Errorf("%s does not give the 20 variables of the sample, but %d", r.name, len(got))
	}
	return nil
}

// do reads for the duration with every client at the same time.
func (r *read) do(ctx context.Context, v *vault, clients []*client, duration time.Duration) (round, error) {
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
		requests := make([]*http.Request, len(r.paths))
		for i, path := range r.paths {
			var err error
			if requests[i], err = c.request(ctx, http.MethodGet, path, nil); err != nil {
				return err
			}
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
	all := slices.Concat(took...)
	slices.Sort(all)
	return round{
		PerSecond: float64(len(all)) / elapsed.Seconds(),
		P50:       milliseconds(all[len(all)/2]),
		P99:       milliseconds(all[len(all)*99/100]),
		CPU:       milliseconds(after-before) / float64(len(all)),
	}, err
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

// interleave measures the reads: each is verified and warmed up, and then all
// take turns, so that what else the machine does meets all of them.
func (v *vault) interleave(ctx context.Context, clients []*client, o options, reads ...read) ([]readResult, error) {
	results := make([]readResult, len(reads))
	for i := range reads {
		results[i].Read = reads[i].name
		if err := reads[i].verify(ctx, clients[0]); err != nil {
			return nil, err
		}
		if _, err := reads[i].do(ctx, v, clients, o.duration/2); err != nil {
			return nil, err
		}
	}
	for n := range o.rounds {
		progress("round %d of %d", n+1, o.rounds)
		for i := range reads {
			got, err := reads[i].do(ctx, v, clients, o.duration)
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
