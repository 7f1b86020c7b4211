package history

import (
	"fmt"
	"slices"
	"time"
)

// renewals checks that an execution is renewed while it lives, and not after.
func (s *subject) renewals() (wrong []string) {
	for _, o := range s.of(Renew, OK) {
		if f := s.hasEnded(o.Execution, o.Call); f != nil {
			wrong = append(wrong, fmt.Sprintf("%s succeeds, and execution %s had ended by %s", o, o.Execution, f))
		}
	}
	for _, o := range s.of(Renew, Refused) {
		switch {
		case o.Reason == Ended && !s.mayHaveEnded(o.Execution, o.Return),
			o.Reason == Terminated && !s.mayHaveBeenStopped(o):
			wrong = append(wrong, fmt.Sprintf("%s is refused with %s, and nobody asked for that", o, o.Reason))
		}
	}
	return wrong
}

// mayHaveBeenStopped reports whether a revocation may have hit the execution of a renewal.
func (s *subject) mayHaveBeenStopped(renewal *Operation) bool {
	start := s.started[renewal.Execution]
	return slices.ContainsFunc(s.operations, func(r *Operation) bool {
		return r.Kind == Revoke && r.Call <= renewal.Return &&
			(r.Outcome == Unknown || r.Outcome == OK && start != nil && slices.Contains(r.Versions, start.Version))
	})
}

// unanswered returns how many executions there may have been in a time that no client
// was told of: a start whose answer was lost, or that had not been refused yet.
func (s *subject) unanswered(from, to time.Duration) (n int) {
	for _, o := range s.operations {
		if o.Kind == Start && o.Execution == "" && o.Call <= to && (o.Outcome == Unknown || o.Return >= from) {
			n++
		}
	}
	return n
}

// lists checks that an execution is counted from the answer to its start until its end
// is asked for, and not after that was answered.
func (s *subject) lists() (wrong []string) {
	for _, l := range s.of(List, OK) {
		asOf, strangers := s.history.asOf(l), 0
		for _, execution := range l.Executions {
			start := s.started[execution]
			switch f := s.hasEnded(execution, asOf); {
			case start == nil:
				strangers++
			case start.Call > l.Return:
				wrong = append(wrong, fmt.Sprintf("%s counts execution %s before its start", l, execution))
			case f != nil:
				wrong = append(wrong, fmt.Sprintf("%s counts execution %s, which had ended by %s", l, execution, f))
			}
		}
		if most := s.unanswered(asOf, l.Return); strangers > most {
			wrong = append(wrong, fmt.Sprintf("%s counts %d executions that nobody started, and at most %d may be", l, strangers, most))
		}
		for execution, start := range s.started {
			if start.Return < asOf && !slices.Contains(l.Executions, execution) && !s.mayHaveEnded(execution, l.Return) {
				wrong = append(wrong, fmt.Sprintf("%s does not count execution %s of %s", l, execution, start))
			}
		}
	}
	return wrong
}
