package agentchains

import (
	"maps"
	"slices"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// variable is one that an execution was given.
type variable struct {
	Pin    int       `json:"pin"`            // the place in its pins of the entry that gives it
	Redact string    `json:"redact"`         // how it is redacted from output
	Seen   *sighting `json:"seen,omitempty"` // in the output; nil: it was not
}

// How a variable is redacted from output.
const (
	redactAlways       = "always"
	redactUnlessCommon = "unless_common" // not when it is a common word or number
	redactNever        = "never"
)

// sighting is what was seen of a variable in the output of an execution.
type sighting struct {
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`
	Count      int       `json:"count"`
	Encodings  []string  `json:"encodings,omitempty"` // the first ones
	Unredacted bool      `json:"unredacted,omitempty"`
}

const (
	maxEncodings = 4 // that are kept of a variable
	// sightingInterval is between two Puts of a record for one variable that is
	// seen again and again: an agent that writes its secret all the time costs no
	// more. What was counted since the last Put is lost when the engine ends.
	sightingInterval = 10 * time.Second
)

// mode returns how a value of an entry is redacted. Of what a group holds beside
// its secrets, such as a region, an output is full.
func (r redaction) mode(kind scope.Kind, name string, value sensitive.String) string {
	const least = 4 // bytes of what is not found everywhere by chance
	switch {
	case !r.Enabled, len(r.Members) > 0 && !slices.Contains(r.Members, name):
		return redactNever
	case len(r.Members) > 0, kind == scope.Secret && value.Len() >= least:
		return redactAlways
	}
	return redactUnlessCommon
}

// variables returns those of the environment, of which Pin is a place in pins().
func (r *resolution) variables() map[string]*variable {
	variables, place := map[string]*variable{}, 0
	for i := range r.results {
		result := &r.results[i]
		if !result.Found || !result.OK() {
			continue
		}
		hit := r.entries[place]
		for _, name := range result.Variables {
			variables[result.Variable(name)] = &variable{Pin: place, Redact: hit.entry.Redact.mode(result.Kind, name, hit.version.Values[name])}
		}
		place++
	}
	return variables
}

// wasGiven reports whether the environment is that of the execution: the same
// variables of the same versions.
func (e *executionEntry) wasGiven(r *resolution) bool {
	pins := r.pins()
	return len(pins) == len(e.Pins) && maps.EqualFunc(e.Variables, r.variables(), func(v, w *variable) bool { return e.Pins[v.Pin] == pins[w.Pin] })
}

// sightings counts all that was seen.
func (e *executionEntry) sightings() int {
	n := 0
	for _, v := range e.Variables {
		if v.Seen != nil {
			n += v.Seen.Count
		}
	}
	return n
}

// findings is what was seen, as the record is answered.
func (e *executionEntry) findings() map[string]any {
	findings := map[string]any{}
	for name, v := range e.Variables {
		if seen := v.Seen; seen != nil {
			findings[name] = map[string]any{
				"path": e.Pins[v.Pin].Path, "version": e.Pins[v.Pin].Version, "first_at": timeString(seen.First), "last_at": timeString(seen.Last),
				"count": seen.Count, "encodings": append([]string{}, seen.Encodings...), "redacted": !seen.Unredacted,
			}
		}
	}
	return findings
}

// see adds the leak to what is known. It returns whether more than a count has
// changed.
func (s *sighting) see(l *leak, now time.Time) (changed bool) {
	changed = !l.redacted && !s.Unredacted
	s.Last, s.Count, s.Unredacted = now, s.Count+l.count, s.Unredacted || !l.redacted
	if l.encoding != "" && len(s.Encodings) < maxEncodings && !slices.Contains(s.Encodings, l.encoding) {
		s.Encodings, changed = append(s.Encodings, l.encoding), true
	}
	return changed
}

// remember keeps in memory how often a variable was seen, if the execution is here.
func (x *executions) remember(id, name string, seen sighting) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	run := x.byID[id]
	if run == nil {
		return false
	}
	if run.seen == nil {
		run.seen = map[string]sighting{}
	}
	run.seen[name] = seen
	return true
}

// recall makes a record count all that was seen. To do it twice changes nothing.
func (x *executions) recall(e *executionEntry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	run := x.byID[e.ID]
	if run == nil {
		return
	}
	for name, seen := range run.seen {
		if known := e.Variables[name].Seen; known != nil && known.Count < seen.Count {
			known.Count, known.Last = seen.Count, seen.Last
		}
	}
}
