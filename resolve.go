package agentchains

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotation"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

const (
	maxVariables       = 1000
	maxEnvironmentSize = 256 << 10 // as JSON
)

// resolution is the outcome of resolving one agent in one environment at one
// time. It is shared between requests: read, never changed.
type resolution struct {
	environment string
	chain       *scope.Definition
	agent       *scope.Agent
	places      []scope.Place
	results     []scope.Result
	entries     []resolved // those that give variables
	values      map[string]sensitive.String
	size        int   // of the environment as JSON, in bytes
	err         error // why the environment cannot be given out, or nil

	unproven  []resolved    // pending versions that nobody has proved yet
	switching bool          // an entry is between two values, and nobody knows which one works
	period    time.Duration // the shortest of the entries' schedules; 0: there is none

	// generation and until say how long the outcome holds: while nothing is
	// written, and until a version begins or ends by the clock.
	generation uint64
	until      time.Time // zero: the clock changes nothing
}

// resolved is an entry that gives variables to an environment.
type resolved struct {
	address    scope.Address
	readersKey string
	entry      *secretEntry
	version    *version // that a reader gets
}

// resolvePath resolves the agent that the path of a request names, as in
// env/prod/deploy-pipeline/Deployer. That it does not resolve is not an error
// here, but in the resolution.
func (b *backend) resolvePath(ctx context.Context, s logical.Storage, path string) (*resolution, error) {
	key := resolutionKey(path)
	value, ok, generation := b.cache.get(key)
	if ok {
		if r := value.(*resolution); r.holds(generation, b.now()) {
			return r, nil
		}
	}
	environment, chain, agent, err := b.requireAgent(ctx, s, path)
	if err != nil {
		return nil, err
	}
	r, err := b.resolveAgent(ctx, s, environment, chain, agent)
	if err != nil {
		return nil, err
	}
	r.generation = generation // from before anything was read
	// The outcome keeps its entries in memory, so it counts as large as they are.
	b.cache.fill(key, r, r.size+cacheItemOverhead*len(r.results), generation)
	return r, nil
}

// resolveUsable is resolvePath for who is going to use the values. While an entry
// is switched from one value to the next at a far side that takes only one of
// them, it waits.
func (b *backend) resolveUsable(ctx context.Context, s logical.Storage, path string) (*resolution, error) {
	const longest = 20 * time.Second
	var switched <-chan struct{}
	var tooLong <-chan time.Time
	for {
		r, err := b.resolvePath(ctx, s, path)
		switch {
		case err != nil:
			return nil, err
		case !r.switching:
			return r, r.err
		case switched == nil:
			// Looked at once more: it may have changed before this.
			switched, tooLong = b.rotations.switching(), cmp.Or(tooLong, time.After(longest))
			continue
		}
		select {
		case <-switched:
			switched = nil
		case <-tooLong:
			return nil, notReady("a secret of %s is being switched to its next value: try again", path)
		case <-b.cleaned:
			return nil, notReady("the engine ends: try again")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// noteUse notes that the environment was given to somebody.
func (b *backend) noteUse(r *resolution) {
	for i := range r.unproven {
		b.rotations.use(r.unproven[i].address, r.unproven[i].version.Number)
	}
}

// holds reports whether the outcome is that of resolving once more.
func (r *resolution) holds(generation uint64, now time.Time) bool {
	return r.generation == generation && (r.until.IsZero() || now.Before(r.until))
}

// resolutionKey is a key in the cache only: no key of storage begins like this, and
// none of another kind, whatever the path is.
func resolutionKey(path string) string { return "=" + path }

// parseAgentPath reads <environment>/<chain>/<agent>.
func (b *backend) parseAgentPath(ctx context.Context, s logical.Storage, path string) (environment, chain, agent string, err error) {
	environment, rest, _ := strings.Cut(path, "/")
	settings, err := b.getConfig(ctx, s)
	if err != nil {
		return "", "", "", err
	}
	if err := settings.checkEnvironment(environment); err != nil {
		return "", "", "", err
	}
	if chain, agent, err = scope.ParseAgent(rest); err != nil {
		return "", "", "", badRequest("%s", err)
	}
	return environment, chain, agent, nil
}

// requireAgent reads <environment>/<chain>/<agent> and returns what it names.
func (b *backend) requireAgent(ctx context.Context, s logical.Storage, path string) (environment string, chain *scope.Definition, agent *scope.Agent, err error) {
	environment, chainName, agentName, err := b.parseAgentPath(ctx, s, path)
	if err != nil {
		return "", nil, nil, err
	}
	if chain, err = b.requireChain(ctx, s, chainName); err != nil {
		return "", nil, nil, err
	}
	if agent = chain.Agent(agentName); agent == nil {
		return "", nil, nil, notFound("chain %s has no agent %s", chainName, agentName)
	}
	return environment, chain, agent, nil
}

// resolveAgent resolves an agent of a chain that need not be stored.
func (b *backend) resolveAgent(ctx context.Context, s logical.Storage, environment string, chain *scope.Definition, agent *scope.Agent) (*resolution, error) {
	now := b.now()
	r := &resolution{environment: environment, chain: chain, agent: agent}
	request := scope.Request{Environment: environment, Chain: chain.Chain, Project: chain.Project, Agent: agent}
	if chain.Project != "" {
		project, err := b.getProject(ctx, s, chain.Project)
		if err != nil {
			return nil, err
		}
		request.ProjectAllows = project.Allows(chain.Chain)
	}
	r.places = request.Places()
	folders := map[scope.Kind][]string{scope.Secret: folders(scope.Secret, r.places), scope.Group: folders(scope.Group, r.places)}
	found := map[scope.Address]resolved{}
	find := func(i int, kind scope.Kind, name string) (*scope.Entry, error) {
		a := scope.Address{Place: r.places[i], Kind: kind, Name: name}
		e, err := b.getSecretAt(ctx, s, secretPrefix+folders[kind][i]+name, a)
		if e == nil || err != nil {
			return nil, err
		}
		v := e.readable(now)
		found[a] = resolved{a, readersPrefix + folders[kind][i] + name, e, v}
		r.observe(found[a], now)
		return scopeEntry(e, v, now), nil
	}
	var err error
	if r.results, err = request.Resolve(r.places, find); err != nil {
		return nil, err
	}
	r.collect(found)
	r.err = r.failure()
	return r, nil
}

// folders returns the storage folder of each place.
func folders(kind scope.Kind, places []scope.Place) []string {
	list := make([]string, len(places))
	for i, place := range places {
		list[i] = folder(kind, place)
	}
	return list
}

// scopeEntry gives the rules of resolution what they need to know of an entry,
// of which v is the version that a reader gets.
func scopeEntry(e *secretEntry, v *version, now time.Time) *scope.Entry {
	entry := &scope.Entry{Restricted: e.Restricted, ChainsAllowed: e.ChainsAllowed}
	switch {
	case v == nil && e.Current == nil && len(e.Destroyed) == 0:
		entry.State = scope.Empty
		return entry
	case v == nil:
		entry.State, entry.Version = scope.Revoked, e.LastVersion
		return entry
	case v.expired(now):
		entry.State = scope.Expired
	}
	entry.Version, entry.Variables = v.Number, v.names()
	return entry
}

// observe bounds how long the resolution holds by the next time at which what
// the entry gives changes.
func (r *resolution) observe(hit resolved, now time.Time) {
	e := hit.entry
	sooner := func(at time.Time) {
		if at.After(now) && (r.until.IsZero() || at.Before(r.until)) {
			r.until = at
		}
	}
	for _, v := range e.live() {
		sooner(v.ValidFrom)
		sooner(v.ExpiresAt)
	}
	if e.Schedule != nil {
		if e.Schedule.AutoRotate {
			sooner(e.Schedule.NextRotationAt)
		}
		if period := e.Schedule.period(now); period > 0 && (r.period == 0 || period < r.period) {
			r.period = period
		}
	}
	if e.Rotation != nil {
		r.switching = r.switching || e.Rotation.Switching()
		if hit.version != nil && hit.version == e.Pending && e.Rotation.Proof == rotation.Unproven {
			r.unproven = append(r.unproven, hit)
		}
	}
}

// collect gathers the variables of the results.
func (r *resolution) collect(found map[scope.Address]resolved) {
	r.values = map[string]sensitive.String{}
	for i := range r.results {
		result := &r.results[i]
		if !result.Found || !result.OK() {
			continue
		}
		hit := found[r.addressOf(result)]
		r.entries = append(r.entries, hit)
		for _, name := range result.Variables {
			variable, value := result.Variable(name), hit.version.Values[name]
			r.values[variable] = value
			encoded, _ := json.Marshal(value.Reveal()) // a string always encodes
			r.size += len(variable) + len(encoded) + len(`"":,`)
		}
	}
}

// at returns the outcome with the versions that an execution holds, or nil when
// one of them is gone or the agent gets other entries by now.
func (r *resolution) at(pins []pin) *resolution {
	held := *r
	held.results, held.entries, held.size = slices.Clone(r.results), nil, 0
	found := map[scope.Address]resolved{}
	for _, hit := range r.entries {
		i := slices.IndexFunc(pins, func(p pin) bool { return p.Path == hit.address.Path() })
		if i < 0 {
			return nil
		}
		if hit.version = hit.entry.liveVersion(pins[i].Version); hit.version == nil {
			return nil
		}
		found[hit.address] = hit
	}
	for i := range held.results {
		result := &held.results[i]
		if result.Found && result.OK() {
			v := found[held.addressOf(result)].version
			result.Version, result.Variables = v.Number, v.names()
		}
	}
	held.collect(found)
	return &held
}

func (r *resolution) addressOf(result *scope.Result) scope.Address {
	return scope.Address{Place: r.places[result.Index], Kind: result.Kind, Name: result.Reference.Name}
}

// failure returns the one reason for giving nothing out: there is no partial
// environment.
func (r *resolution) failure() error {
	subject := r.environment + "/" + r.chain.Chain + "/" + r.agent.Name
	if sentence, refusal := scope.Failure(r.results); refusal {
		return forbidden("%s does not resolve: %s", subject, sentence)
	} else if sentence != "" {
		return badRequest("%s does not resolve: %s", subject, sentence)
	}
	if len(r.values) > maxVariables {
		return badRequest("%s has %d variables, more than %d: give the agent fewer", subject, len(r.values), maxVariables)
	}
	if r.size > maxEnvironmentSize {
		return badRequest("%s takes %d bytes as JSON, more than %d: give the agent fewer or smaller values", subject, r.size, maxEnvironmentSize)
	}
	return nil
}

// flat returns the environment as the data of an answer.
func (r *resolution) flat() map[string]any {
	data := make(map[string]any, len(r.values)+3)
	for name, value := range r.values {
		data[name] = value.Reveal()
	}
	return data
}

// pins returns the versions that the environment is made of.
func (r *resolution) pins() []pin {
	pins := make([]pin, len(r.entries))
	for i, hit := range r.entries {
		pins[i] = pin{hit.address.Path(), hit.version.Number}
	}
	return pins
}
