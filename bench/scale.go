//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"path"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/sample"
	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/table"
)

// scaleReport is the outcome of the scale, as it is written to the JSON file.
type scaleReport struct {
	Setup setup  `json:"setup"`
	Axes  []axis `json:"axes"`
}

// axis is what grows from one Vault to the next, while all else stays the same.
type axis struct {
	What        string       `json:"what"`
	Sizes       []sizeResult `json:"sizes"`
	Comparisons []comparison `json:"comparisons"`
}

// sizeResult is what was measured in one Vault. The memory is in bytes, and is that
// of a fresh process of the plugin that has served reads.
type sizeResult struct {
	Size       int      `json:"size"`
	Load       float64  `json:"load_seconds"`
	Read       float64  `json:"first_read_seconds"` // from a kill of the plugin on
	Index      float64  `json:"index_seconds"`      // from the same, until it knew all that runs
	Heap       int64    `json:"plugin_live_heap"`
	Plugin     int64    `json:"plugin_resident"`
	Vault      int64    `json:"vault_resident"`
	Operations []scaled `json:"operations"`
}

// scaled is an operation beside the same one at the smallest size.
type scaled struct {
	result
	Ratio float64 `json:"ratio"`
}

// site is a Vault of one size.
type site struct {
	*vault
	clients []*client
}

// growth says what grows along an axis, and what is measured of it.
type growth struct {
	what       string
	sizes      []int
	secrets    int // in the mount, when it is the live executions that grow
	operations []operation
}

// holder is where the executions are that stay. They are of an agent of their own,
// so that those of the sample's agent can be ended together.
const holder = plugin + "/executions/prod/held/Holder"

// measureScale measures the same operations in Vaults of growing size, side by
// side. The Vault that it is given only says what it is.
func measureScale(ctx context.Context, v *vault, o options) (any, error) {
	r := &scaleReport{}
	var err error
	if r.Setup, err = v.describe(ctx, o); err != nil {
		return nil, err
	}
	o.rounds = min(o.rounds, 7) // there are 28 turns in one of all sizes
	start := operation{name: "executions/", method: http.MethodPost, paths: []string{executions(plugin)}, answer: startAnswer, leases: executions(plugin)}
	rotate := operation{name: "two rotations", method: http.MethodPost, own: rotateFree}
	abort := operation{name: "rotation of what all hold", method: http.MethodPost, own: rotateHeld, uneven: true}
	operations := []operation{readOf("env/", plugin+environment), start, rotate}
	for _, g := range []growth{
		{"secrets", powers(1000, o.secrets), 0, operations},
		{"live executions", powers(100, o.held), 1000, append(operations, abort)},
	} {
		a, err := g.measure(ctx, o)
		if len(a.Sizes) > 0 {
			printAxis(a)
			printComparisons(a.Comparisons)
			r.Axes = append(r.Axes, a)
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// powers returns the powers of ten from one of them on, and at last the most.
func powers(from, most int) []int {
	var sizes []int
	for n := from; n < most; n *= 10 {
		sizes = append(sizes, n)
	}
	return append(sizes, most)
}

// measure loads a Vault of each size, as far as there is time, and lets them take
// turns. It returns what it has when it fails or is stopped, too.
func (g *growth) measure(ctx context.Context, o options) (a axis, err error) {
	a.What = g.what
	var sites []*site
	defer func() {
		for _, s := range sites {
			err = errors.Join(err, s.stop())
		}
	}()
	loading, cancel := context.WithTimeout(ctx, o.loading)
	defer cancel()
	for _, size := range g.sizes {
		progress("loading %s %s", table.Thousands(size), g.what)
		s, err := newSite(ctx, o)
		if err != nil {
			return a, err
		}
		sites = append(sites, s)
		r := sizeResult{Size: size}
		start := time.Now()
		secrets := cmp.Or(g.secrets, size)
		err = s.load(loading, secrets)
		if err == nil && g.secrets > 0 {
			_, err = startExecutions(loading, s.clients, holder, size, 24*time.Hour)
		}
		if ctx.Err() == nil && loading.Err() != nil {
			progress("LEFT OUT: %s %s, which are not there after the %s of -loading", table.Thousands(size), g.what, o.loading)
			break
		}
		r.Load = time.Since(start).Seconds()
		if err == nil {
			err = s.measureFresh(ctx, &r, min(secrets, o.distinct))
		}
		if err != nil {
			return a, err
		}
		a.Sizes = append(a.Sizes, r)
	}
	return a, g.takeTurns(ctx, &a, sites, o)
}

func newSite(ctx context.Context, o options) (*site, error) {
	v, err := startVault(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &site{vault: v}
	s.clients, err = v.clients(ctx, o.clients, allow("read", "+/env/*", "+/reveal/*")+
		allow("update", "+/executions/*", "+/rotate/*", "+/promote/*", "+/abort/*"))
	if err != nil {
		return nil, errors.Join(err, v.stop())
	}
	return s, nil
}

// load mounts the loader in place of the engine, to tell how much of its
// memory is in use, and stores secrets. The agent of holder gets one for each client.
func (s *site) load(ctx context.Context, size int) error {
	if err := s.register(ctx, plugin, loaderCommand); err != nil {
		return err
	}
	if err := s.mount(ctx, plugin, plugin); err != nil {
		return err
	}
	if err := s.putSample(ctx, plugin); err != nil {
		return err
	}
	if err := s.fill(ctx, plugin, max(size, 10*len(s.clients))); err != nil {
		return err
	}
	names := make([]string, len(s.clients))
	for i := range names {
		_, names[i] = heldSecret(i)
	}
	return s.put(ctx, plugin+"/scopes/chain/held", body{"agents": []body{{"name": "Holder", "secrets": names}}})
}

// heldSecret is the filling secret of the organisation that a client rotates, and
// freeSecret one of a project, which no agent gets.
func heldSecret(client int) (path, name string) { return sample.Filling(10 * client) }
func freeSecret(client int) (path, name string) { return sample.Filling(10*client + 2) }

// rotateFree is two rotations: the same value again would be none.
func rotateFree(client int) []step {
	secret, _ := freeSecret(client)
	promote := step{path.Join(plugin, "promote", secret), []byte(`{"force": true}`)}
	return []step{rotateTo(secret, "first"), promote, rotateTo(secret, "second"), promote}
}

// rotateHeld begins a rotation and breaks it off: to promote it would tell
// executions that they hold a dead value.
func rotateHeld(client int) []step {
	secret, _ := heldSecret(client)
	return []step{rotateTo(secret, "first"), {path.Join(plugin, "abort", secret), nil}}
}

func rotateTo(secret, value string) step {
	return step{path.Join(plugin, "rotate", secret), fmt.Appendf(nil, `{"value": %q}`, sample.Value(value))}
}

// measureFresh measures a fresh process of the plugin: when it has served the first
// read, when it knows all that runs, and its memory after reads of many secrets.
func (s *site) measureFresh(ctx context.Context, r *sizeResult, distinct int) error {
	begin := time.Now()
	took, err := s.restart(ctx, loaderCommand, plugin)
	if err != nil {
		return err
	}
	r.Read = took.Seconds()
	if err := s.knows(ctx); err != nil {
		return err
	}
	r.Index = time.Since(begin).Seconds()
	if err := reveal(ctx, s.clients, plugin, distinct); err != nil {
		return err
	}
	pid, err := s.pluginProcess(loaderCommand)
	if err != nil {
		return err
	}
	r.Heap, r.Plugin, r.Vault, err = s.footprints(ctx, plugin, pid)
	return err
}

// knows waits until the plugin knows all that runs.
func (s *site) knows(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	secret, _ := heldSecret(0)
	for {
		var answer struct {
			Data struct {
				Blocking *int `json:"blocking_count"`
			}
		}
		if err := s.get(ctx, path.Join(plugin, "rotate", secret), &answer); err != nil {
			return err
		}
		if answer.Data.Blocking != nil {
			return nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// takeTurns measures the operations, each at one site after the other, and compares
// the sites with the first.
func (g *growth) takeTurns(ctx context.Context, a *axis, sites []*site, o options) error {
	n := len(a.Sizes)
	var turns []turn
	for _, operation := range g.operations {
		for _, s := range sites[:n] {
			turns = append(turns, turn{operation, s.vault, s.clients})
		}
	}
	results, err := interleave(ctx, o, turns)
	for first := 0; first < len(results); first += n {
		worst := comparison{Value: 1, Met: true}
		for i := range n {
			c := compare(&results[first+i], &results[first], 1/1.20, 1.20)
			a.Sizes[i].Operations = append(a.Sizes[i].Operations, scaled{results[first+i], c.Value})
			if math.Abs(math.Log(c.Value)) >= math.Abs(math.Log(worst.Value)) {
				worst = c
				worst.What = fmt.Sprintf("%s with %s %s vs %s", results[first].Operation, table.Thousands(a.Sizes[i].Size), g.what, table.Thousands(a.Sizes[0].Size))
			}
		}
		if g.operations[first/n].uneven {
			worst.Bar = ""
		}
		a.Comparisons = append(a.Comparisons, worst)
	}
	return err
}
