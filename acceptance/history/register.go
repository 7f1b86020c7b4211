package history

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// limit is how long to search for an order of what happened to one secret.
const limit = time.Minute

// model is a secret as those see it who are given its value: it has the one that was
// written last, or none.
var model = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, _ any) (bool, any) {
		o := input.(*Operation)
		if reads(o) {
			return state == o.Value, state
		}
		return true, o.Value
	},
	DescribeOperation: func(input, _ any) string {
		o := input.(*Operation)
		return fmt.Sprintf("%s %d (%s)", o.Kind, o.Value, o.Outcome)
	},
}

func reads(o *Operation) bool { return o.Kind == Resolve || o.Kind == Start }

func writes(o *Operation) bool { return o.Kind == Write || o.Kind == Rotate || o.Kind == Revoke }

// steps returns what the model has to explain: each as one moment between call and
// return. What may have happened has no end. When nobody ever saw its value it may as
// well come last, so it is left out; when somebody did, it was before that.
func (s *subject) steps() (steps []porcupine.Operation) {
	seen := map[int]time.Duration{}
	for _, o := range s.operations {
		if reads(o) && o.Outcome == OK {
			if at, ok := seen[o.Value]; !ok || o.Return < at {
				seen[o.Value] = o.Return
			}
		}
	}
	for _, o := range s.operations {
		if !reads(o) && !writes(o) || o.Outcome == Refused || reads(o) && o.Outcome == Unknown {
			continue
		}
		call, end := s.history.asOf(o), o.Return
		if o.Outcome == Unknown {
			at, ok := seen[o.Value]
			switch {
			case !ok:
				continue
			case o.Value == 0: // which more than one may have left
				end = math.MaxInt64
			default:
				end = max(at, call)
			}
		}
		steps = append(steps, porcupine.Operation{ClientId: o.Client, Input: o, Call: int64(call), Return: int64(end)})
	}
	return steps
}

// register checks that one order of all that was written and given out explains what
// each client saw: nothing that was acknowledged is lost, and no read is older than
// what was acknowledged before it.
func (s *subject) register() []string {
	switch porcupine.CheckOperationsTimeout(model, s.steps(), limit) {
	case porcupine.Illegal:
		return []string{s.name + ": no order of its writes explains what was read"}
	case porcupine.Unknown:
		return []string{fmt.Sprintf("%s: no order of its writes was found within %s", s.name, limit)}
	}
	return nil
}

// Draw writes a page that shows the longest order there is of what happened to a
// secret.
func (h *History) Draw(secret string, w io.Writer) error {
	s := newSubject(h, secret, h.bySecret()[secret])
	_, info := porcupine.CheckOperationsVerbose(model, s.steps(), limit)
	return porcupine.Visualize(model, info, w)
}

// stale counts the reads that were older than what was acknowledged before them, and
// not older than the time at which the node that answered had still led.
func (s *subject) stale() (n int) {
	begun := map[int]*Operation{} // what wrote a value
	for _, o := range s.operations {
		if writes(o) && o.Value != 0 {
			begun[o.Value] = o
		}
	}
	for _, o := range s.of(Resolve, OK) {
		saw, asOf := begun[o.Value], s.history.asOf(o)
		if saw != nil && slices.ContainsFunc(s.operations, func(w *Operation) bool {
			return writes(w) && w.Outcome == OK && w.Call > saw.Return && w.Return >= asOf && w.Return < o.Call
		}) {
			n++
		}
	}
	return n
}
