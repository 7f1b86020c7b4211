//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"slices"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/sample"
	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/table"
)

// rotationsReport is the outcome of the rotations, as it is written to the JSON file.
type rotationsReport struct {
	Setup       setup           `json:"setup"`
	Rate        int             `json:"reads_per_second"`
	Bursts      []burstResult   `json:"bursts"`
	Waiting     []waitingResult `json:"waiting"`
	Starts      []startResult   `json:"starts"`
	Comparisons []comparison    `json:"comparisons"`
}

// burstResult is what rotations took that were due at one moment, and what an
// agent's reads took before, meanwhile and after.
type burstResult struct {
	Rotations int        `json:"rotations"`
	Seconds   float64    `json:"seconds"` // from that moment until all new versions were served, rounded up
	Before    phase      `json:"before"`
	During    phase      `json:"during"`
	After     phase      `json:"after"`
	Plugin    peakResult `json:"plugin_resident"`
	Vault     peakResult `json:"vault_resident"`
}

// phase is what reads at a fixed rate gave. Each counts from when it was to
// begin: one that had to wait for another is slow, too.
type phase struct {
	Seconds float64 `json:"seconds"`
	Reads   int     `json:"reads"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
	CPUs    float64 `json:"cpus"` // that Vault and its plugins kept busy
}

// peakResult is the memory of a process, and the most that it was in between, in bytes.
type peakResult struct {
	footprint
	Peak int64 `json:"peak"`
}

// measureRotations measures bursts, each in a Vault of its own, and schedules of
// which none is due, in the one that it is given.
func measureRotations(ctx context.Context, v *vault, o options) (any, error) {
	r := &rotationsReport{Rate: o.rate}
	var err error
	if r.Setup, err = v.describe(ctx, o); err != nil {
		return nil, err
	}
	ratios := make([]float64, o.bursts)
	for i := range o.bursts {
		progress("burst %d of %d", i+1, o.bursts)
		b := burstResult{Rotations: o.due}
		if err := inVault(ctx, o, func(v *vault) error { return v.measureBurst(ctx, &b, o) }); err != nil {
			return nil, err
		}
		printBurst(b)
		r.Bursts = append(r.Bursts, b)
		ratios[i] = b.During.P99 / min(b.Before.P99, b.After.P99)
	}
	r.Comparisons = append(r.Comparisons, below("p99 of env/ in a burst vs the better of before and after", median(ratios), 1.5))
	if err := v.measureWaiting(ctx, r, o); err != nil {
		return nil, err
	}
	printWaiting(r.Waiting, r.Starts)
	printComparisons(r.Comparisons)
	return r, nil
}

// measureBurst has schedules come due at one moment.
func (v *vault) measureBurst(ctx context.Context, b *burstResult, o options) error {
	if err := v.loadSecrets(ctx, o.due); err != nil {
		return err
	}
	due := time.Now().Truncate(time.Second).Add(15*time.Second + time.Duration(o.due)*5*time.Millisecond + o.idle)
	if err := v.loadSchedules(ctx, o.due, func(int) time.Time { return due }); err != nil {
		return err
	}
	if err := v.useEngine(ctx); err != nil {
		return err
	}
	left := time.Until(due) - o.idle
	if left < 0 {
		return fmt.Errorf("to store the schedules took %s too long", -left)
	}
	progress("%s to wait", left.Round(time.Second))
	if err := pause(ctx, left); err != nil {
		return err
	}
	clients, err := v.clients(ctx, o.clients, allow("read", "+/env/*", "+/rotate/*"))
	if err != nil {
		return err
	}
	return v.measurePhases(ctx, clients, due, b, o)
}

// measurePhases reads until the schedules are due, while they are rotated, and after.
func (v *vault) measurePhases(ctx context.Context, clients []*client, due time.Time, b *burstResult, o options) error {
	pid, err := v.pluginProcess(engineCommand)
	if err != nil {
		return err
	}
	read := func(ctx context.Context) (phase, error) { return v.readAtRate(ctx, clients, o.rate) }
	processes := map[int]*peakResult{pid: &b.Plugin, v.process.Process.Pid: &b.Vault}

	progress("reading before")
	idle, cancel := context.WithDeadline(ctx, due)
	defer cancel()
	if b.Before, err = read(idle); err != nil {
		return err
	}
	for pid, memory := range processes {
		now, err := memoryOf(pid)
		if err == nil {
			err = resetPeak(pid)
		}
		if err != nil {
			return err
		}
		memory.Before = now.resident
	}
	progress("reading while %s secrets are rotated", table.Thousands(o.due))
	busy, rotated := context.WithCancelCause(ctx)
	go func() { rotated(v.awaitRotations(ctx, o.due)) }()
	if b.During, err = read(busy); err != nil {
		return err
	}
	if err := context.Cause(busy); !errors.Is(err, context.Canceled) {
		return err
	}
	for pid, memory := range processes {
		now, err := memoryOf(pid)
		if err != nil {
			return err
		}
		memory.Peak = now.peak
	}
	last, err := lastServed(ctx, clients, o.due)
	if err != nil {
		return err
	}
	b.Seconds = last.Add(time.Second).Sub(due).Seconds()
	if err := v.quiet(ctx); err != nil {
		return err
	}
	progress("reading after")
	idle, cancel = context.WithTimeout(ctx, o.idle)
	defer cancel()
	if b.After, err = read(idle); err != nil {
		return err
	}
	for pid, memory := range processes {
		now, err := memoryOf(pid)
		if err != nil {
			return err
		}
		memory.After = now.resident
	}
	return nil
}

// readAtRate reads an environment so many times per second, evenly shared among
// the clients, until the context ends.
func (v *vault) readAtRate(ctx context.Context, clients []*client, rate int) (phase, error) {
	if err := os.Truncate(v.audit, 0); err != nil {
		return phase{}, err
	}
	before, _, err := v.cpuTime()
	if err != nil {
		return phase{}, err
	}
	took := make([][]time.Duration, len(clients))
	start := time.Now()
	err = each(clients, func(i int, c *client) error {
		// What was begun is not broken off.
		req, err := c.request(context.WithoutCancel(ctx), http.MethodGet, plugin+environment, nil)
		if err != nil {
			return err
		}
		for n := i; ; n += len(clients) {
			begin := start.Add(time.Duration(n) * time.Second / time.Duration(rate))
			if pause(ctx, time.Until(begin)) != nil {
				return nil
			}
			if _, err := c.send(req); err != nil {
				return err
			}
			took[i] = append(took[i], time.Since(begin))
		}
	})
	elapsed := time.Since(start)
	if err != nil {
		return phase{}, err
	}
	after, _, err := v.cpuTime()
	if err != nil {
		return phase{}, err
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	n := len(all)
	if n == 0 {
		return phase{}, errors.New("there was no time for a read")
	}
	return phase{elapsed.Seconds(), n, milliseconds(all[n/2]), milliseconds(all[n*99/100]), milliseconds(all[n-1]), float64(after-before) / float64(elapsed)}, nil
}

// pause returns an error if the context ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// awaitRotations waits until some of the secrets, from all places, are rotated.
// To ask for all of them would be a load of its own.
func (v *vault) awaitRotations(ctx context.Context, n int) error {
	const step = 97 // without a factor in common with the pattern of the places
	for i := 0; i < n; i += step {
		if _, err := awaitServing(ctx, v.client, i); err != nil {
			return err
		}
	}
	return nil
}

// lastServed waits until all of the secrets are rotated, and returns when the
// last new version was first served, in whole seconds.
func lastServed(ctx context.Context, clients []*client, total int) (time.Time, error) {
	last := make([]time.Time, len(clients))
	err := each(clients, func(i int, c *client) error {
		for n := i; n < total; n += len(clients) {
			since, err := awaitServing(ctx, c, n)
			if err != nil {
				return err
			}
			if since.After(last[i]) {
				last[i] = since
			}
		}
		return nil
	})
	return slices.MaxFunc(last, time.Time.Compare), err
}

// awaitServing waits until a filling secret has a second version that is served,
// and returns since when.
func awaitServing(ctx context.Context, c *client, i int) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	secret, _ := sample.Filling(i)
	for {
		var answer struct {
			Data struct {
				State   string `json:"state"`
				Pending int    `json:"pending_version"`
				Since   string `json:"serving_since"`
			}
		}
		if err := c.get(ctx, path.Join(plugin, "rotate", secret), &answer); err != nil {
			return time.Time{}, err
		}
		switch d := answer.Data; {
		case d.State == "serving" && d.Pending == 2:
			return time.Parse(time.RFC3339, d.Since)
		case d.State != "idle":
			return time.Time{}, fmt.Errorf("%s is %s with a pending version %d", secret, d.State, d.Pending)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return time.Time{}, err
		}
	}
}
