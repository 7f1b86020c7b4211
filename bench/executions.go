//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/sample"
	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/table"
)

// executionsReport is the outcome of the executions, as it is written to the JSON file.
type executionsReport struct {
	Setup       setup           `json:"setup"`
	Operations  []result        `json:"operations"`
	Comparisons []comparison    `json:"comparisons"`
	Commands    []commandResult `json:"commands"`
	Stops       []stopResult    `json:"stops"`
	Held        heldResult      `json:"held"`
}

// heldResult is what executions that live at the same time take, in bytes.
type heldResult struct {
	Executions int       `json:"executions"`
	Seconds    float64   `json:"seconds"` // to start them
	Heap       footprint `json:"plugin_live_heap"`
	Plugin     footprint `json:"plugin_resident"`
	Vault      footprint `json:"vault_resident"`
}

type footprint struct {
	Before int64 `json:"before"`
	After  int64 `json:"after"`
}

// executions is the path of the agent's executions.
func executions(mount string) string {
	return path.Join(mount, "executions", sample.Environment, sample.Chain, sample.Agent)
}

// measureExecutions measures executions, in a Vault that is empty.
func measureExecutions(ctx context.Context, v *vault, o options) (any, error) {
	r := &executionsReport{}
	var err error
	if r.Setup, err = v.describe(ctx, o); err != nil {
		return nil, err
	}
	if v.token, err = v.createToken(ctx, "root"); err != nil {
		return nil, err
	}
	clients, err := v.clients(ctx, o.clients, allow("read", "floor/leased", "+/execution/*")+
		allow("update", "+/executions/*", "+/execution/*", "auth/token/create", "sys/leases/renew"))
	if err != nil {
		return nil, err
	}
	if err := v.measureRates(ctx, r, clients, o); err != nil {
		return nil, err
	}
	printOperations(r.Setup, r.Operations)
	progress("commands, bare and by the runner")
	if r.Commands, err = v.measureCommands(ctx, clients[0].token, o.runs); err != nil {
		return nil, err
	}
	printCommands(r.Commands)
	if err := v.measureStops(ctx, r, clients, o); err != nil {
		return nil, err
	}
	printStops(r.Stops)
	if r.Held, err = v.measureHeld(ctx, clients, o.held); err != nil {
		return nil, err
	}
	printHeld(r.Held)
	heap := float64(r.Held.Heap.After-r.Held.Heap.Before) / float64(r.Held.Executions)
	r.Comparisons = append(r.Comparisons, below("bytes of the plugin's live heap for an execution", heap, 1024))
	printComparisons(r.Comparisons)
	return r, nil
}

// measureRates measures a start beside the creation of a token, and beside the
// least that an external plugin can do to give a lease.
func (v *vault) measureRates(ctx context.Context, r *executionsReport, clients []*client, o options) error {
	for name, command := range map[string]string{"floor": floorCommand, plugin: engineCommand} {
		if err := v.register(ctx, name, command); err != nil {
			return err
		}
		if err := v.mount(ctx, name, name); err != nil {
			return err
		}
	}
	if err := v.putSample(ctx, plugin); err != nil {
		return err
	}
	start := operation{name: "executions/", method: http.MethodPost, paths: []string{executions(plugin)}, answer: startAnswer, leases: executions(plugin)}
	leased := readOf("floor plugin, leased", "floor/leased")
	leased.leases = "floor/leased"
	token := operation{name: "auth/token/create", method: http.MethodPost, paths: []string{"auth/token/create"},
		content: []byte(`{"ttl": "1m", "no_default_policy": true}`), leases: "auth/token/create"}
	progress("executions/ beside the floor plugin and auth/token/create")
	var err error
	if r.Operations, err = v.interleave(ctx, clients, o, start, leased, token); err != nil {
		return err
	}
	r.Comparisons = append(r.Comparisons, compare(&r.Operations[0], &r.Operations[1], 0.80, 0), compare(&r.Operations[0], &r.Operations[2], 0, 0))
	return nil
}

func startAnswer(raw []byte) (body, error) {
	var answer struct{ Data struct{ Env body } }
	err := json.Unmarshal(raw, &answer)
	return answer.Data.Env, err
}

// revoke ends all leases below a prefix, and waits until Vault and its plugins
// have put away what that leaves.
func (v *vault) revoke(ctx context.Context, prefix string) error {
	if err := v.put(ctx, "sys/leases/revoke-prefix/"+prefix, nil); err != nil {
		return err
	}
	return v.quiet(ctx)
}

// quiet waits until Vault and its plugins have nothing left to do.
func (v *vault) quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	const step, idle = 200 * time.Millisecond, 2 * tick
	last, _, err := v.cpuTime()
	for err == nil {
		if err := pause(ctx, step); err != nil {
			return fmt.Errorf("wait until nothing is left to do: %w", err)
		}
		before := last
		if last, _, err = v.cpuTime(); last-before <= idle {
			return err
		}
	}
	return err
}

// startExecutions starts n executions of an agent, whose path is given, and returns their ids.
func startExecutions(ctx context.Context, clients []*client, agent string, n int, ttl time.Duration) ([]string, error) {
	ids := make([]string, n)
	return ids, each(clients, func(i int, c *client) error {
		for ; i < n; i += len(clients) {
			var answer struct {
				Data struct {
					ID string `json:"execution_id"`
				}
			}
			if err := c.call(ctx, http.MethodPost, agent, body{"ttl": ttl.Seconds()}, &answer); err != nil {
				return err
			}
			ids[i] = answer.Data.ID
		}
		return nil
	})
}

// measureHeld starts n executions that live for a day. The loader stands in for
// the engine, to tell how much of its memory is in use.
func (v *vault) measureHeld(ctx context.Context, clients []*client, n int) (heldResult, error) {
	held := heldResult{Executions: n}
	const mount, lifetime = "held", 24 * time.Hour
	if err := v.register(ctx, mount, loaderCommand); err != nil {
		return held, err
	}
	if err := v.mount(ctx, mount, mount); err != nil {
		return held, err
	}
	if err := v.putSample(ctx, mount); err != nil {
		return held, err
	}
	// What is made once, by the first requests, is not what an execution takes.
	if _, err := startExecutions(ctx, clients, executions(mount), min(n, 1000), lifetime); err != nil {
		return held, err
	}
	if err := v.revoke(ctx, executions(mount)); err != nil {
		return held, err
	}
	pid, err := v.pluginProcess(loaderCommand)
	if err != nil {
		return held, err
	}
	if held.Heap.Before, held.Plugin.Before, held.Vault.Before, err = v.footprints(ctx, mount, pid); err != nil {
		return held, err
	}
	start := time.Now()
	progress("memory: %s live executions", table.Thousands(n))
	if _, err := startExecutions(ctx, clients, executions(mount), n, lifetime); err != nil {
		return held, err
	}
	held.Seconds = time.Since(start).Seconds()
	if held.Heap.After, held.Plugin.After, held.Vault.After, err = v.footprints(ctx, mount, pid); err != nil {
		return held, err
	}
	return held, nil
}

// footprints returns the live heap of the loader, and what it and Vault have resident.
func (v *vault) footprints(ctx context.Context, mount string, pid int) (heap, plugin, server int64, err error) {
	// What is resident is read first: to ask for the heap collects it.
	ofPlugin, err := memoryOf(pid)
	if err != nil {
		return 0, 0, 0, err
	}
	ofServer, err := memoryOf(v.process.Process.Pid)
	if err != nil {
		return 0, 0, 0, err
	}
	var answer struct{ Data struct{ Bytes int64 } }
	err = v.get(ctx, mount+"/heap", &answer)
	return answer.Data.Bytes, ofPlugin.resident, ofServer.resident, err
}
