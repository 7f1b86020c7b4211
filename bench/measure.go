//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/sample"
	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/table"
)

// plugin is the engine's name in the catalog.
const plugin = "agentchains"

// environment is the path of the measured read, below a mount.
const environment = "/env/" + sample.Environment + "/" + sample.Chain + "/" + sample.Agent

// measureReads measures env/, in a Vault that is empty.
func measureReads(ctx context.Context, v *vault, o options) (any, error) {
	r := &report{}
	var err error
	if r.Setup, err = v.describe(ctx, o); err != nil {
		return nil, err
	}
	clients, err := v.clients(ctx, o.clients, allow("read", "+/env/*", "+/reveal/*", "floor/constant", "secret/data/*"))
	if err != nil {
		return nil, err
	}
	if err := v.measurePeers(ctx, r, clients, o); err != nil {
		return nil, err
	}
	if err := v.measureSizes(ctx, r, clients, o); err != nil {
		return nil, err
	}
	printOperations(r.Setup, r.Reads)
	largest := mountOf(o.sizes[len(o.sizes)-1])
	for n := range o.starts {
		progress("start %d of %d", n+1, o.starts)
		took, err := v.restart(ctx, engineCommand, largest)
		if err != nil {
			return nil, err
		}
		r.Starts = append(r.Starts, took.Seconds())
	}
	r.Comparisons = append(r.Comparisons, below("seconds from a kill to the first env/", median(r.Starts), 2))
	printComparisons(r.Comparisons)
	for _, limit := range o.caches {
		progress("memory: reading %s secrets with a cache of %d MiB", table.Thousands(o.reveals), limit>>20)
		m, err := v.measureMemory(ctx, clients, largest, o, limit)
		if err != nil {
			return nil, err
		}
		r.Memory = append(r.Memory, m)
	}
	printMemory(r.Memory)
	return r, nil
}

// measurePeers measures env/ beside what else could give the same variables.
func (v *vault) measurePeers(ctx context.Context, r *report, clients []*client, o options) error {
	if err := v.register(ctx, "floor", floorCommand); err != nil {
		return err
	}
	if err := v.mount(ctx, "floor", "floor"); err != nil {
		return err
	}
	if err := v.register(ctx, plugin, engineCommand); err != nil {
		return err
	}
	if err := v.mount(ctx, plugin, plugin); err != nil {
		return err
	}
	if err := v.putSample(ctx, plugin); err != nil {
		return err
	}
	// Vault in dev mode has KV v2 at secret/.
	together := readOf("KV v2, one read of all 20", "secret/data/together")
	single := readOf("KV v2, 20 reads of one each")
	together.answer, single.answer = kvAnswer, kvAnswer
	variables := sample.Variables()
	if err := v.put(ctx, together.paths[0], body{"data": variables}); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		one := "secret/data/single/" + name
		if err := v.put(ctx, one, body{"data": body{name: variables[name]}}); err != nil {
			return err
		}
		single.paths = append(single.paths, one)
	}
	progress("env/ beside the floor plugin and KV v2")
	results, err := v.interleave(ctx, clients, o,
		readOf("env/", plugin+environment),
		readOf("floor plugin", "floor/constant"),
		together,
		single,
	)
	if err != nil {
		return err
	}
	r.Reads = append(r.Reads, results...)
	env := &results[0]
	r.Comparisons = append(r.Comparisons,
		compare(env, &results[1], 0.90, 0),
		compare(env, &results[2], 0.60, 0),
		compare(env, &results[3], 12, 0),
	)
	return nil
}

func mountOf(size int) string { return fmt.Sprintf("%s-%d", plugin, size) }

// measureSizes measures the same read in mounts that hold more and more secrets.
func (v *vault) measureSizes(ctx context.Context, r *report, clients []*client, o options) error {
	// The loader stands in for the engine until the mounts are full.
	if err := v.register(ctx, plugin, loaderCommand); err != nil {
		return err
	}
	var reads []operation
	for _, size := range o.sizes {
		mount := mountOf(size)
		if err := v.mount(ctx, mount, plugin); err != nil {
			return err
		}
		if err := v.putSample(ctx, mount); err != nil {
			return err
		}
		if err := v.fill(ctx, mount, size); err != nil {
			return err
		}
		reads = append(reads, readOf(fmt.Sprintf("env/ with %s secrets", table.Thousands(size)), mount+environment))
	}
	if err := v.register(ctx, plugin, engineCommand); err != nil {
		return err
	}
	if err := v.put(ctx, "sys/plugins/reload/backend", body{"plugin": plugin}); err != nil {
		return err
	}
	progress("env/ in mounts of growing size")
	results, err := v.interleave(ctx, clients, o, reads...)
	if err != nil {
		return err
	}
	r.Reads = append(r.Reads, results...)
	for i := range results {
		for j := range i {
			r.Comparisons = append(r.Comparisons, compare(&results[i], &results[j], 0.90, 1/0.90))
		}
	}
	return nil
}

// restart kills the process of a plugin and returns the time until it has served a read.
func (v *vault) restart(ctx context.Context, command, mount string) (time.Duration, error) {
	before, err := v.pluginProcess(command)
	if err != nil {
		return 0, err
	}
	first := readOf("the first env/", mount+environment)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	start := time.Now()
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		return 0, err
	}
	// A request that meets the engine's end fails, and nothing repeats it.
	for {
		err := first.verify(ctx, v.client)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return 0, err
		}
	}
	took := time.Since(start)
	after, err := v.pluginProcess(command)
	if err == nil && after == before {
		err = errors.New("the engine was not ended by a kill")
	}
	return took, err
}

// measureMemory reads more distinct secrets than the cache holds, with a fresh engine.
func (v *vault) measureMemory(ctx context.Context, clients []*client, mount string, o options, limit int64) (memoryResult, error) {
	m := memoryResult{CacheLimit: limit, Read: o.reveals}
	if err := v.put(ctx, mount+"/config", body{"cache_bytes": limit}); err != nil {
		return m, err
	}
	if _, err := v.restart(ctx, engineCommand, mount); err != nil {
		return m, err
	}
	pid, err := v.pluginProcess(engineCommand)
	if err != nil {
		return m, err
	}
	before, err := memoryOf(pid)
	if err != nil {
		return m, err
	}
	if err := reveal(ctx, clients, mount, o.reveals); err != nil {
		return m, err
	}
	after, err := memoryOf(pid)
	if err != nil {
		return m, err
	}
	m.Before, m.After, m.Peak = before.resident, after.resident, after.peak
	var status struct {
		Data struct{ Counters json.RawMessage }
	}
	if err := v.get(ctx, mount+"/status", &status); err != nil {
		return m, err
	}
	return m, json.Unmarshal(status.Data.Counters, &m)
}

// reveal reads the first n of the filling secrets, each once.
func reveal(ctx context.Context, clients []*client, mount string, n int) error {
	return each(clients, func(i int, c *client) error {
		for ; i < n; i += len(clients) {
			secret, name := sample.Filling(i)
			var answer struct{ Data struct{ Value string } }
			if err := c.get(ctx, path.Join(mount, "reveal", secret), &answer); err != nil {
				return err
			}
			if answer.Data.Value != sample.Value(name) {
				return fmt.Errorf("reveal/%s does not give the value of the sample", secret)
			}
		}
		return nil
	})
}
