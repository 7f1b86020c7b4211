package scope

import (
	"fmt"
	"slices"
	"strings"
)

// State says whether an entry can be given to anyone.
type State uint8

const (
	Live State = iota
	Expired
	Revoked
	Empty // its first version is still to be made
)

// An Entry is what resolution needs to know of a stored secret or group.
type Entry struct {
	State         State
	Version       int
	Restricted    bool     // ChainsAllowed counts
	ChainsAllowed []string // exact names or prefix/*
	Variables     []string // a group's members, sorted
}

// A Request asks for the environment of one agent.
type Request struct {
	Environment string
	Chain       string
	Project     string // the one that the chain names, or nothing
	Agent       *Agent

	// ProjectAllows says whether the project lets the chain see its entries.
	ProjectAllows bool
}

// Places returns where the references of the request are looked for, in order:
// the narrowest scope first, and in each scope the environment's own entry
// before the one for every environment. When the chain names a project that
// does not allow it, the order ends before the project: see Result.
func (r *Request) Places() []Place {
	scopes := []Scope{{Chain: r.Chain, Agent: r.Agent.Name}, {Chain: r.Chain}}
	switch {
	case r.Project == "":
		scopes = append(scopes, Scope{})
	case r.ProjectAllows:
		scopes = append(scopes, Scope{Project: r.Project}, Scope{})
	}
	places := make([]Place, 0, 2*len(scopes))
	for _, s := range scopes {
		places = append(places, Place{r.Environment, s}, Place{All, s})
	}
	return places
}

// A Finder returns the entry of that kind and name at places[i], or nil.
type Finder func(i int, kind Kind, name string) (*Entry, error)

// A Cause says why a reference does not resolve.
type Cause uint8

const (
	None            Cause = iota
	Missing               // in no scope
	Dead                  // found, but expired or revoked
	Conflict              // another reference gives the same variable
	NotShared             // found, but its chains_allowed refuses the chain
	ProjectRefusing       // the chain's project does not allow it
)

// Refusal reports whether the cause is a refusal of scope, and not a fault of
// the secret or of the definition.
func (c Cause) Refusal() bool { return c == NotShared || c == ProjectRefusing }

// A Result is what became of one reference.
type Result struct {
	Kind      Kind
	Reference Reference
	Looked    []Place  // in this order; the last one is where it was found
	Found     bool     // an entry exists, whatever its state
	Index     int      // of the place where it was found
	Version   int      // of the entry that was found
	Variables []string // that it gives to the environment, as the entry's own names
	Cause     Cause    // why it fails, or None
	Reason    string   // the cause in words, without the reference's name
}

// OK reports whether the reference gives its variables, or is optional and missing.
func (r *Result) OK() bool { return r.Cause == None }

// Variable returns the name in the environment of one of the entry's variables.
func (r *Result) Variable(name string) string {
	if r.Kind == Secret {
		return r.Reference.Variable()
	}
	return name
}

// Resolve looks up every reference of the agent. An entry that exists is the
// hit, whatever its state: it never falls through to a wider scope. The error
// is one of find's own.
func (r *Request) Resolve(places []Place, find Finder) ([]Result, error) {
	results := make([]Result, 0, len(r.Agent.Secrets)+len(r.Agent.Groups))
	for _, reference := range r.Agent.Secrets {
		results = append(results, Result{Kind: Secret, Reference: reference})
	}
	for _, reference := range r.Agent.Groups {
		results = append(results, Result{Kind: Group, Reference: reference})
	}
	for i := range results {
		if err := r.resolve(&results[i], places, find); err != nil {
			return nil, err
		}
	}
	markConflicts(results)
	return results, nil
}

func (r *Request) resolve(result *Result, places []Place, find Finder) error {
	for i := range places {
		entry, err := find(i, result.Kind, result.Reference.Name)
		if err != nil {
			return err
		}
		if entry == nil {
			continue
		}
		result.Looked, result.Found, result.Index, result.Version = places[:i+1], true, i, entry.Version
		result.Cause, result.Reason = r.judge(places[i], entry)
		if result.OK() {
			result.Variables = entry.Variables
		}
		return nil
	}
	result.Looked = places
	if r.Project != "" && !r.ProjectAllows {
		result.Cause = ProjectRefusing
		result.Reason = fmt.Sprintf("is not in agent or chain scope, and project %s does not allow chain %s", r.Project, r.Chain)
	} else if !result.Reference.Optional {
		result.Cause, result.Reason = Missing, "is in no scope of environment "+r.Environment
	}
	return nil
}

func (r *Request) judge(place Place, entry *Entry) (Cause, string) {
	at := fmt.Sprintf("(version %d in %s, %s) ", entry.Version, place.Scope, place.Environment)
	switch {
	case place.Scope.shared() && entry.Restricted && !chainMatches(entry.ChainsAllowed, r.Chain):
		return NotShared, at + "is not shared with chain " + r.Chain
	case entry.State == Expired:
		return Dead, at + "has expired"
	case entry.State == Revoked:
		return Dead, at + "was revoked"
	case entry.State == Empty:
		return Dead, fmt.Sprintf("(in %s, %s) has no version yet", place.Scope, place.Environment)
	}
	return None, ""
}

// markConflicts fails the later of two references that give one variable.
func markConflicts(results []Result) {
	from := map[string]*Result{}
	for i := range results {
		result := &results[i]
		for _, name := range result.Variables {
			variable := result.Variable(name)
			if first, taken := from[variable]; taken {
				result.Cause = Conflict
				result.Reason = fmt.Sprintf("gives the variable %s, which %s gives too", variable, first.Reference.Name)
				result.Variables = nil
				break
			}
			from[variable] = result
		}
	}
}

// Failure returns what is wrong with the results in one sentence, and whether
// every cause is a refusal of scope. It returns nothing when all is well.
func Failure(results []Result) (sentence string, refusal bool) {
	var reasons []string
	refusal = true
	for i := range results {
		if r := &results[i]; !r.OK() {
			reasons = append(reasons, r.Reference.Name+" "+r.Reason)
			refusal = refusal && r.Cause.Refusal()
		}
	}
	return strings.Join(reasons, "; "), refusal && len(reasons) > 0
}

// A Project is a set of chains that share secrets.
type Project struct {
	ChainsAllowed []string `json:"chains_allowed"`
}

// Allows reports whether the chain may see the project's entries. A project
// that does not exist, or has no list, allows none.
func (p *Project) Allows(chain string) bool {
	return p != nil && chainMatches(p.ChainsAllowed, chain)
}

// Conflicts returns the first result that fails because two references give
// one variable, or nil.
func Conflicts(results []Result) *Result {
	i := slices.IndexFunc(results, func(r Result) bool { return r.Cause == Conflict })
	if i < 0 {
		return nil
	}
	return &results[i]
}
