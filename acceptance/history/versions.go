package history

import (
	"fmt"
	"slices"
	"time"
)

// versions checks that a number is that of one value only.
func (s *subject) versions() (wrong []string) {
	values := map[int]int{}
	for _, o := range s.operations {
		if o.Outcome != OK || o.Value == 0 || o.Version == 0 {
			continue
		}
		if before, ok := values[o.Version]; ok && before != o.Value {
			wrong = append(wrong, fmt.Sprintf("%s: version %d is that of values %d and %d", s.name, o.Version, before, o.Value))
		}
		values[o.Version] = o.Value
	}
	return wrong
}

// revoked checks that nobody is given what was revoked, once that was acknowledged, and
// that no execution goes on with it.
func (s *subject) revoked() (wrong []string) {
	for _, r := range s.of(Revoke, OK) {
		for _, o := range s.operations {
			version, after := 0, s.history.asOf(o) > r.Return
			switch {
			case o.Outcome != OK || !after:
				continue
			case reads(o):
				version = s.numbers[o.Value]
			case o.Kind == Renew && s.started[o.Execution] != nil:
				version = s.started[o.Execution].Version
			}
			if version != 0 && slices.Contains(r.Versions, version) {
				wrong = append(wrong, fmt.Sprintf("%s gives version %d, which was revoked by %s", o, version, r))
			}
		}
	}
	return wrong
}

// incidents checks that each revocation has an incident, which lists who was given what
// it revoked and runs, and nobody else.
func (s *subject) incidents() (wrong []string) {
	listed := map[string][]string{}
	for _, o := range s.of(Incident, OK) {
		listed[o.Incident] = o.Executions
	}
	for _, r := range s.of(Revoke, OK) {
		hit, ok := listed[r.Incident]
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s: there is no incident %s", r, r.Incident))
			continue
		}
		strangers := 0
		for _, execution := range hit {
			switch start := s.started[execution]; {
			case start == nil:
				strangers++
			case start.Version != 0 && !slices.Contains(r.Versions, start.Version):
				wrong = append(wrong, fmt.Sprintf("incident %s lists execution %s, which holds version %d", r.Incident, execution, start.Version))
			case s.hasEnded(execution, s.opened(r)) != nil:
				wrong = append(wrong, fmt.Sprintf("incident %s lists execution %s, which had ended before", r.Incident, execution))
			}
		}
		if most := s.unanswered(r.Return, r.Return); strangers > most {
			wrong = append(wrong, fmt.Sprintf("incident %s lists %d executions that nobody started, and at most %d may be", r.Incident, strangers, most))
		}
		for execution, start := range s.started {
			if slices.Contains(r.Versions, start.Version) && !slices.Contains(hit, execution) && !s.mayHaveEnded(execution, r.Return) {
				wrong = append(wrong, fmt.Sprintf("incident %s does not list execution %s, which holds version %d", r.Incident, execution, start.Version))
			}
		}
	}
	return wrong
}

// opened returns the earliest time at which the incident of a revocation may have been
// opened: a revocation of what is revoked already is answered with the first one's.
func (s *subject) opened(r *Operation) time.Duration {
	at := r.Call
	for _, o := range s.operations {
		if o.Kind == Revoke && (o.Outcome == Unknown || o.Incident == r.Incident) {
			at = min(at, o.Call)
		}
	}
	return at
}
