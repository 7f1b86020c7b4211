package scope_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// choices are what bytes decide; when they are used up, always the first.
type choices []byte

func (c *choices) of(n int) int {
	if len(*c) == 0 {
		return 0
	}
	first := (*c)[0]
	*c = (*c)[1:]
	return int(first) % n
}

func pick[T any](c *choices, from ...T) T { return from[c.of(len(from))] }

// FuzzResolve resolves any references against any store, and compares the outcome
// with that of the rule as it is said to people.
func FuzzResolve(f *testing.F) {
	for _, seed := range []string{"", "\x01\x02\x03\x04\x05\x06\x07\x08", strings.Repeat("\x01\x00\x02", 40), strings.Repeat("\x03\x01\x04\x01\x05", 30)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		c := choices(said)
		r := request(scope.Agent{})
		r.Project, r.ProjectAllows = pick(&c, "platform", "other", ""), c.of(2) == 0
		for range c.of(5) {
			r.Agent.Secrets = append(r.Agent.Secrets, scope.Reference{Name: pick(&c, "A", "B", "C"), As: pick(&c, "", "B", "D"), Optional: c.of(2) == 1})
		}
		for range c.of(3) {
			r.Agent.Groups = append(r.Agent.Groups, scope.Reference{Name: pick(&c, "ab", "cd"), Optional: c.of(2) == 1})
		}
		s := store{}
		for len(c) > 0 {
			at := pick(&c, "prod", "all", "dev") + "/" + pick(&c, "agent/deploy/Deployer", "agent/deploy/Other", "chain/deploy", "chain/other", "project/platform", "project/other", "org") + "/"
			e := scope.Entry{State: scope.State(c.of(4)), Version: 1 + c.of(9), Restricted: c.of(2) == 1, ChainsAllowed: pick(&c, nil, []string{"deploy"}, []string{"deploy/*"}, []string{"other", "deploy"})}
			if c.of(2) == 0 {
				s["secrets/"+at+pick(&c, "A", "B", "C")] = e
			} else {
				e.Variables = pick(&c, []string{"A", "B"}, []string{"C", "D"}, nil)
				s["groups/"+at+pick(&c, "ab", "cd")] = e
			}
		}
		places := r.Places()
		results, err := r.Resolve(places, s.find(places))
		if err != nil {
			t.Fatal(err)
		}
		given, failing, refusals := map[string]string{}, 0, 0
		for i := range results {
			wanted := s.expect(r, &results[i], given)
			if got := outcome(&results[i]); got != wanted {
				t.Errorf("%+v gives %s, not %s\nof %+v", results[i].Reference, got, wanted, s)
			}
			if !results[i].OK() {
				failing++
			}
			if strings.Contains(wanted, "not shared") || strings.Contains(wanted, "not allowed") {
				refusals++
			}
		}
		if len(results) != len(r.Agent.Secrets)+len(r.Agent.Groups) {
			t.Errorf("%d results", len(results))
		}
		sentence, refusal := scope.Failure(results)
		if (sentence == "") != (failing == 0) || refusal != (failing > 0 && failing == refusals) {
			t.Errorf("%q, refusal %v, of %d that fail and %d refusals", sentence, refusal, failing, refusals)
		}
	})
}

// outcome is what became of a reference, in a word and, when it is found, its place.
func outcome(r *scope.Result) string {
	switch r.Cause {
	case scope.Missing:
		return "missing"
	case scope.Dead:
		return "dead at " + r.Looked[len(r.Looked)-1].Path()
	case scope.NotShared:
		return "not shared at " + r.Looked[len(r.Looked)-1].Path()
	case scope.ProjectRefusing:
		return "not allowed"
	case scope.Conflict:
		return "conflict"
	}
	if !r.Found {
		return "absent"
	}
	names := []string{}
	for _, name := range r.Variables {
		names = append(names, r.Variable(name))
	}
	return strings.Join(append(names, "at", r.Looked[r.Index].Path()), " ")
}

// expect is the rule: the narrowest scope first, in it the environment's own entry,
// and the first that exists is the hit. Given is what references before it give.
func (s store) expect(r *scope.Request, of *scope.Result, given map[string]string) string {
	paths := []string{"agent/deploy/Deployer", "chain/deploy", "project/" + r.Project, "org"}
	switch {
	case r.Project == "":
		paths = slices.Delete(paths, 2, 3)
	case !r.ProjectAllows:
		paths = paths[:2]
	}
	for _, path := range paths {
		for _, environment := range []string{"prod", "all"} {
			at := environment + "/" + path
			e, ok := s[string(of.Kind)+"/"+at+"/"+of.Reference.Name]
			if !ok {
				continue
			}
			inShared := path == "org" || strings.HasPrefix(path, "project/")
			switch {
			case inShared && e.Restricted && !slices.Contains(e.ChainsAllowed, "deploy"):
				return "not shared at " + at
			case e.State != scope.Live:
				return "dead at " + at
			}
			names := []string{of.Reference.Variable()}
			if of.Kind == scope.Group {
				names = e.Variables
			}
			for _, name := range names {
				if given[name] != "" {
					return "conflict"
				}
			}
			for _, name := range names {
				given[name] = at
			}
			return strings.Join(append(slices.Clone(names), "at", at), " ")
		}
	}
	switch {
	case r.Project != "" && !r.ProjectAllows:
		return "not allowed"
	case of.Reference.Optional:
		return "absent"
	}
	return "missing"
}
