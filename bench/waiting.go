//go:build linux

package main

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/sample"
	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/table"
)

// waitingResult is what the plugin's process takes while nothing is due and
// nobody asks.
type waitingResult struct {
	Schedules int     `json:"schedules"`
	Seconds   float64 `json:"seconds"`
	CPU       float64 `json:"cpu_ms"`
	Resident  int64   `json:"resident"`
}

// startResult is what the plugin took from a kill on, in seconds.
type startResult struct {
	Read     float64 `json:"first_read"`
	Rotation float64 `json:"first_rotation"` // of what came due after the kill
}

// measureWaiting measures a mount of secrets before and after all of them have
// schedules, and starts with them.
func (v *vault) measureWaiting(ctx context.Context, r *rotationsReport, o options) error {
	if err := v.loadSecrets(ctx, o.waiting); err != nil {
		return err
	}
	if err := v.measureIdle(ctx, r, 0, o.idle); err != nil {
		return err
	}
	if err := v.use(ctx, loaderCommand); err != nil {
		return err
	}
	// As if each had been written at another time.
	first := time.Now().Add(24 * time.Hour)
	at := func(i int) time.Time { return first.Add(period / time.Duration(o.waiting) * time.Duration(i)) }
	if err := v.loadSchedules(ctx, o.waiting, at); err != nil {
		return err
	}
	if err := v.measureIdle(ctx, r, o.waiting, o.idle); err != nil {
		return err
	}
	var reads []float64
	for i := range o.starts {
		progress("start %d of %d with %s schedules", i+1, o.starts, table.Thousands(o.waiting))
		took, err := v.startLate(ctx, i)
		if err != nil {
			return err
		}
		r.Starts = append(r.Starts, took)
		reads = append(reads, took.Read)
	}
	r.Comparisons = append(r.Comparisons, below("seconds from a kill to the first env/", median(reads), 2))
	return nil
}

// measureIdle measures a fresh process of the engine.
func (v *vault) measureIdle(ctx context.Context, r *rotationsReport, schedules int, duration time.Duration) error {
	if err := v.useEngine(ctx); err != nil {
		return err
	}
	progress("nothing is due of %s schedules", table.Thousands(schedules))
	pid, err := v.pluginProcess(engineCommand)
	if err != nil {
		return err
	}
	before, err := cpuTimeOf(pid)
	if err != nil {
		return err
	}
	if err := pause(ctx, duration); err != nil {
		return err
	}
	after, err := cpuTimeOf(pid)
	if err != nil {
		return err
	}
	memory, err := memoryOf(pid)
	r.Waiting = append(r.Waiting, waitingResult{schedules, duration.Seconds(), milliseconds(after - before), memory.resident})
	return err
}

// startLate kills the engine just before a secret is due, and returns how long it
// takes until an environment can be read, and until that secret is rotated.
func (v *vault) startLate(ctx context.Context, i int) (startResult, error) {
	secret, _ := sample.Filling(i)
	due := time.Now().Truncate(time.Second).Add(2 * time.Second)
	if err := v.put(ctx, path.Join(plugin, "schedules", secret), body{"next_rotation_at": due.UTC().Format(time.RFC3339)}); err != nil {
		return startResult{}, err
	}
	// Late enough that the next process finds it due.
	if err := pause(ctx, time.Until(due.Add(-50*time.Millisecond))); err != nil {
		return startResult{}, err
	}
	start := time.Now()
	read, err := v.restart(ctx, engineCommand, plugin)
	if err != nil {
		return startResult{}, err
	}
	_, err = awaitServing(ctx, v.client, i)
	return startResult{read.Seconds(), time.Since(start).Seconds()}, err
}

const (
	keys   = "keys" // a rotator
	period = 90 * 24 * time.Hour
)

// loadSecrets stores filling secrets in a new mount, beside the sample.
func (v *vault) loadSecrets(ctx context.Context, n int) error {
	if err := v.register(ctx, plugin, loaderCommand); err != nil {
		return err
	}
	if err := v.mount(ctx, plugin, plugin); err != nil {
		return err
	}
	if err := v.putSample(ctx, plugin); err != nil {
		return err
	}
	if err := v.put(ctx, path.Join(plugin, "rotators", keys), body{"type": "api-key"}); err != nil {
		return err
	}
	return v.fill(ctx, plugin, n)
}

// loadSchedules gives the first n filling secrets schedules, and each hundred of
// them their own time.
func (v *vault) loadSchedules(ctx context.Context, n int, at func(i int) time.Time) error {
	const batch = 100
	for from := 0; from < n; from += batch {
		if from%10_000 == 0 {
			progress("schedules: %s of %s", table.Thousands(from), table.Thousands(n))
		}
		// The first versions stay until the benchmark is over.
		fields := body{"rotator": keys, "rotation_period": period.Seconds(), "min_overlap": (12 * time.Hour).Seconds(),
			"next_rotation_at": at(from).UTC().Format(time.RFC3339)}
		if err := v.put(ctx, fmt.Sprintf("%s/schedule/%d/%d", plugin, from, min(from+batch, n)), fields); err != nil {
			return err
		}
	}
	return nil
}

// useEngine has a fresh process of the engine serve the mount.
func (v *vault) useEngine(ctx context.Context) error {
	if err := v.use(ctx, engineCommand); err != nil {
		return err
	}
	first := readOf("the first env/", plugin+environment)
	if err := first.verify(ctx, v.client); err != nil {
		return err
	}
	return v.quiet(ctx)
}

// use replaces the processes of the engine, or of the loader in its place.
func (v *vault) use(ctx context.Context, command string) error {
	if err := v.register(ctx, plugin, command); err != nil {
		return err
	}
	return v.put(ctx, "sys/plugins/reload/backend", body{"plugin": plugin})
}
