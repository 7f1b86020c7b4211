package scope_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// store is what is stored, by door and path, as in secrets/prod/org/KEY.
type store map[string]scope.Entry

func (s store) find(places []scope.Place) scope.Finder {
	return func(i int, kind scope.Kind, name string) (*scope.Entry, error) {
		entry, ok := s[string(kind)+"/"+places[i].Path()+"/"+name]
		if !ok {
			return nil, nil
		}
		if kind == scope.Secret {
			entry.Variables = []string{name}
		}
		return &entry, nil
	}
}

// request asks for prod of the agent Deployer of the chain deploy, in project platform.
func request(agent scope.Agent) *scope.Request {
	agent.Name = "Deployer"
	return &scope.Request{Environment: "prod", Chain: "deploy", Project: "platform", ProjectAllows: true, Agent: &agent}
}

func secrets(references ...scope.Reference) scope.Agent { return scope.Agent{Secrets: references} }

// resolve returns one line for each reference: where it was found or why it
// fails, and what it gives.
func resolve(t *testing.T, r *scope.Request, s store) (lines []string, results []scope.Result) {
	t.Helper()
	places := r.Places()
	results, err := r.Resolve(places, s.find(places))
	if err != nil {
		t.Fatal(err)
	}
	for i := range results {
		result := &results[i]
		line := result.Reference.Name
		switch {
		case !result.OK():
			line += " " + result.Reason
		case !result.Found:
			line += " absent"
		default:
			line += " at " + result.Looked[result.Index].Path()
			for _, name := range result.Variables {
				line += " " + result.Variable(name)
			}
		}
		lines = append(lines, line)
	}
	return lines, results
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	var (
		own      = []string{"prod/agent/deploy/Deployer", "all/agent/deploy/Deployer", "prod/chain/deploy", "all/chain/deploy"}
		project  = []string{"prod/project/platform", "all/project/platform"}
		everyone = []string{"prod/org", "all/org"}
	)
	tests := map[string]struct {
		project string
		allows  bool
		want    []string
	}{
		"a project that allows the chain":  {"platform", true, slices.Concat(own, project, everyone)},
		"no project":                       {"", false, slices.Concat(own, everyone)},
		"a project that allows it not yet": {"platform", false, own},
	}
	for name, test := range tests {
		r := request(secrets())
		r.Project, r.ProjectAllows = test.project, test.allows
		var got []string
		for _, place := range r.Places() {
			got = append(got, place.Path())
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestResolution(t *testing.T) {
	t.Parallel()
	key, optional := scope.Reference{Name: "KEY"}, scope.Reference{Name: "KEY", Optional: true}
	live, expired, revoked := scope.Entry{Version: 3}, scope.Entry{Version: 3, State: scope.Expired}, scope.Entry{Version: 3, State: scope.Revoked}
	only := func(chains ...string) scope.Entry {
		return scope.Entry{Version: 3, Restricted: true, ChainsAllowed: chains}
	}
	tests := map[string]struct {
		reference scope.Reference
		store     store
		want      string
		cause     scope.Cause
	}{
		"narrower before wider": {
			key, store{"secrets/all/chain/deploy/KEY": live, "secrets/prod/project/platform/KEY": live, "secrets/prod/org/KEY": live},
			"KEY at all/chain/deploy KEY", scope.None,
		},
		"the environment's own before all, within one scope": {
			key, store{"secrets/prod/org/KEY": live, "secrets/all/org/KEY": live},
			"KEY at prod/org KEY", scope.None,
		},
		"another environment's is not looked at": {
			key, store{"secrets/dev/org/KEY": live, "secrets/staging/chain/deploy/KEY": live, "secrets/dev/agent/deploy/Deployer/KEY": live},
			"KEY is in no scope of environment prod", scope.Missing,
		},
		"another agent's, chain's and project's are not looked at": {
			key, store{"secrets/prod/agent/deploy/Analyzer/KEY": live, "secrets/prod/chain/deploy/x/KEY": live, "secrets/prod/project/other/KEY": live},
			"KEY is in no scope of environment prod", scope.Missing,
		},
		"a group is not a secret": {
			key, store{"groups/prod/org/KEY": live},
			"KEY is in no scope of environment prod", scope.Missing,
		},
		"as names the variable": {
			scope.Reference{Name: "KEY", As: "API_KEY"}, store{"secrets/prod/org/KEY": live},
			"KEY at prod/org API_KEY", scope.None,
		},
		"optional forgives a missing name": {
			optional, store{},
			"KEY absent", scope.None,
		},
		"an expired entry does not fall through": {
			key, store{"secrets/prod/chain/deploy/KEY": expired, "secrets/prod/org/KEY": live},
			"KEY (version 3 in chain:deploy, prod) has expired", scope.Dead,
		},
		"an expired own entry does not fall through to all": {
			key, store{"secrets/prod/org/KEY": expired, "secrets/all/org/KEY": live},
			"KEY (version 3 in org, prod) has expired", scope.Dead,
		},
		"a revoked entry does not fall through": {
			key, store{"secrets/all/agent/deploy/Deployer/KEY": revoked, "secrets/prod/org/KEY": live},
			"KEY (version 3 in agent:deploy/Deployer, all) was revoked", scope.Dead,
		},
		"optional forgives no expired entry": {
			optional, store{"secrets/prod/org/KEY": expired},
			"KEY (version 3 in org, prod) has expired", scope.Dead,
		},
		"an entry that is not shared does not fall through": {
			key, store{"secrets/prod/project/platform/KEY": only("other"), "secrets/prod/org/KEY": live},
			"KEY (version 3 in project:platform, prod) is not shared with chain deploy", scope.NotShared,
		},
		"optional forgives no entry that is not shared": {
			optional, store{"secrets/all/org/KEY": only("deploy/*")},
			"KEY (version 3 in org, all) is not shared with chain deploy", scope.NotShared,
		},
		"an empty list shares with no chain": {
			key, store{"secrets/prod/org/KEY": only()},
			"KEY (version 3 in org, prod) is not shared with chain deploy", scope.NotShared,
		},
		"who may not see it does not learn that it has expired": {
			key, store{"secrets/prod/org/KEY": {Version: 3, State: scope.Expired, Restricted: true}},
			"KEY (version 3 in org, prod) is not shared with chain deploy", scope.NotShared,
		},
		"a list that has the chain": {
			key, store{"secrets/prod/org/KEY": only("other", "deploy")},
			"KEY at prod/org KEY", scope.None,
		},
		"chains_allowed does not count in chain scope": {
			key, store{"secrets/prod/chain/deploy/KEY": only("other")},
			"KEY at prod/chain/deploy KEY", scope.None,
		},
		"chains_allowed does not count in agent scope": {
			key, store{"secrets/prod/agent/deploy/Deployer/KEY": only("other")},
			"KEY at prod/agent/deploy/Deployer KEY", scope.None,
		},
		"a list that is not in force": {
			key, store{"secrets/prod/org/KEY": {Version: 3, ChainsAllowed: []string{"other"}}},
			"KEY at prod/org KEY", scope.None,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines, results := resolve(t, request(secrets(test.reference)), test.store)
			if lines[0] != test.want || results[0].Cause != test.cause {
				t.Errorf("%s (cause %d), want %s (cause %d)", lines[0], results[0].Cause, test.want, test.cause)
			}
			if results[0].Found && results[0].Version != 3 {
				t.Errorf("version %d", results[0].Version)
			}
			if !results[0].OK() && results[0].Variables != nil {
				t.Error("a reference that fails gives variables")
			}
		})
	}
}

func TestProjectThatRefuses(t *testing.T) {
	t.Parallel()
	const refusal = "KEY is not in agent or chain scope, and project platform does not allow chain deploy"
	everywhere := store{"secrets/prod/project/platform/KEY": {}, "secrets/prod/org/KEY": {}}
	for _, reference := range []scope.Reference{{Name: "KEY"}, {Name: "KEY", Optional: true}} {
		r := request(secrets(reference))
		r.ProjectAllows = false
		if lines, results := resolve(t, r, everywhere); lines[0] != refusal || results[0].Cause != scope.ProjectRefusing {
			t.Errorf("%+v: %s", reference, lines[0])
		}
	}
	r := request(secrets(scope.Reference{Name: "KEY"}))
	r.ProjectAllows = false
	if lines, _ := resolve(t, r, store{"secrets/all/chain/deploy/KEY": {}}); lines[0] != "KEY at all/chain/deploy KEY" {
		t.Error("the chain's own entry needs no project:", lines[0])
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	s := store{
		"secrets/prod/org/A": {}, "secrets/prod/org/B": {},
		"groups/prod/org/ab": {Variables: []string{"A", "B"}}, "groups/prod/org/bc": {Variables: []string{"B", "C"}},
	}
	a, b := scope.Reference{Name: "A"}, scope.Reference{Name: "B"}
	ab, bc := scope.Reference{Name: "ab"}, scope.Reference{Name: "bc"}
	tests := map[string]struct {
		agent scope.Agent
		want  []string
	}{
		"secret and secret": {
			scope.Agent{Secrets: []scope.Reference{a, {Name: "B", As: "A"}}},
			[]string{"A at prod/org A", "B gives the variable A, which A gives too"},
		},
		"secret and group": {
			scope.Agent{Secrets: []scope.Reference{b}, Groups: []scope.Reference{ab}},
			[]string{"B at prod/org B", "ab gives the variable B, which B gives too"},
		},
		"a secret under another name, and a group": {
			scope.Agent{Secrets: []scope.Reference{{Name: "A", As: "C"}}, Groups: []scope.Reference{bc}},
			[]string{"A at prod/org C", "bc gives the variable C, which A gives too"},
		},
		"group and group": {
			scope.Agent{Groups: []scope.Reference{bc, ab}},
			[]string{"bc at prod/org B C", "ab gives the variable B, which bc gives too"},
		},
		"a secret that gives way": {
			scope.Agent{Secrets: []scope.Reference{{Name: "A", As: "D"}, {Name: "B", As: "E"}}, Groups: []scope.Reference{ab}},
			[]string{"A at prod/org D", "B at prod/org E", "ab at prod/org A B"},
		},
	}
	for name, test := range tests {
		lines, results := resolve(t, request(test.agent), s)
		if !slices.Equal(lines, test.want) {
			t.Errorf("%s: %v", name, lines)
		}
		conflict := scope.Conflicts(results)
		if last := &results[len(results)-1]; last.OK() && conflict != nil || !last.OK() && (conflict != last || last.Cause != scope.Conflict) {
			t.Errorf("%s: the conflict is %+v", name, conflict)
		}
		if conflict != nil && conflict.Variables != nil {
			t.Errorf("%s: a reference that fails gives variables", name)
		}
	}
}

func TestFailure(t *testing.T) {
	t.Parallel()
	s := store{
		"secrets/prod/org/LIVE": {Version: 1}, "secrets/prod/org/EXPIRED": {Version: 2, State: scope.Expired},
		"secrets/prod/org/OTHERS": {Version: 4, Restricted: true}, "groups/prod/org/theirs": {Version: 5, Restricted: true},
	}
	const (
		missing = "MISSING is in no scope of environment prod"
		expired = "EXPIRED (version 2 in org, prod) has expired"
		others  = "OTHERS (version 4 in org, prod) is not shared with chain deploy"
		theirs  = "theirs (version 5 in org, prod) is not shared with chain deploy"
	)
	tests := []struct {
		references, groups, sentence string
		refusal                      bool
	}{
		{"", "", "", false},
		{"LIVE", "", "", false},
		{"MISSING", "", missing, false},
		{"EXPIRED", "", expired, false},
		{"OTHERS", "", others, true},
		{"LIVE OTHERS", "theirs", others + "; " + theirs, true},
		{"OTHERS MISSING", "theirs", others + "; " + missing + "; " + theirs, false},
		{"OTHERS EXPIRED", "", others + "; " + expired, false},
	}
	for _, test := range tests {
		var agent scope.Agent
		for _, name := range strings.Fields(test.references) {
			agent.Secrets = append(agent.Secrets, scope.Reference{Name: name})
		}
		for _, name := range strings.Fields(test.groups) {
			agent.Groups = append(agent.Groups, scope.Reference{Name: name})
		}
		_, results := resolve(t, request(agent), s)
		sentence, refusal := scope.Failure(results)
		if sentence != test.sentence || refusal != test.refusal {
			t.Errorf("%s %s: %q, refusal %v", test.references, test.groups, sentence, refusal)
		}
	}
	r := request(secrets(scope.Reference{Name: "MISSING"}))
	r.ProjectAllows = false
	if _, results := resolve(t, r, s); !results[0].Cause.Refusal() {
		t.Error("a project that does not allow the chain is not a refusal of scope")
	}
}

func TestErrorOfTheFinder(t *testing.T) {
	t.Parallel()
	broken := errors.New("storage is away")
	r := request(secrets(scope.Reference{Name: "A", Optional: true}, scope.Reference{Name: "B"}))
	calls := 0
	results, err := r.Resolve(r.Places(), func(int, scope.Kind, string) (*scope.Entry, error) {
		calls++
		return nil, broken
	})
	if results != nil || !errors.Is(err, broken) || calls != 1 {
		t.Errorf("%v, %v after %d lookups", results, err, calls)
	}
}

// Whatever is stored, the hit is the first place in order that has an entry,
// and nothing that is added behind it changes the outcome.
func TestFirstEntryIsTheHit(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	r := request(secrets(scope.Reference{Name: "KEY"}))
	places := r.Places()
	at := func(place scope.Place) string { return "secrets/" + place.Path() + "/KEY" }
	entry := func() scope.Entry {
		return scope.Entry{
			State: scope.State(random.IntN(3)), Version: 1 + random.IntN(9), Restricted: random.IntN(2) == 0,
			ChainsAllowed: [][]string{nil, {"deploy"}, {"other"}}[random.IntN(3)],
		}
	}
	for range 2000 {
		s, first := store{}, -1
		for i, place := range places {
			if random.IntN(3) == 0 {
				s[at(place)] = entry()
				if first < 0 {
					first = i
				}
			}
		}
		_, before := resolve(t, r, s)
		if first < 0 {
			if before[0].Found || len(before[0].Looked) != len(places) {
				t.Fatalf("%v: found in %v", s, before[0].Looked)
			}
			continue
		}
		if !before[0].Found || before[0].Index != first || !slices.Equal(before[0].Looked, places[:first+1]) || before[0].Version != s[at(places[first])].Version {
			t.Fatalf("%v: the hit is %+v, not place %d", s, before[0], first)
		}
		for _, wider := range places[first+1:] {
			s[at(wider)] = entry()
		}
		s[fmt.Sprintf("secrets/dev/%s/KEY", places[0].Scope.Path())] = entry()
		if _, after := resolve(t, r, s); !reflect.DeepEqual(after, before) {
			t.Fatalf("%v: a wider entry changes the outcome", s)
		}
	}
}
