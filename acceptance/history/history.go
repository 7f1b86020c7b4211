// Package history judges what clients of an engine were answered while parts of it
// failed. It knows neither Vault nor clocks: a history is what clients asked, when,
// what came back and when, and what they cannot know.
package history

import (
	"fmt"
	"slices"
	"time"
)

// Kind is what a client asked for.
type Kind string

const (
	Write    Kind = "write"    // a value, by secrets/
	Rotate   Kind = "rotate"   // to a value, by rotate/
	Revoke   Kind = "revoke"   // every live version, with or without a value in their place
	Resolve  Kind = "resolve"  // the environment, by env/
	Start    Kind = "start"    // an execution
	Renew    Kind = "renew"    // its lease
	Finish   Kind = "finish"   // the execution
	List     Kind = "list"     // the executions that are live
	Incident Kind = "incident" // which executions a revocation has told to stop
)

// Outcome is what a client knows of an operation afterwards.
type Outcome string

const (
	OK      Outcome = "ok"
	Refused Outcome = "refused" // nothing happened
	Unknown Outcome = "unknown" // it may have happened, or happen at any later time
)

// The reasons for which a renewal is refused for good.
const (
	Terminated = "EXECUTION_TERMINATED"
	Ended      = "EXECUTION_ENDED"
)

// Operation is one request and its answer. A value is a number: each that is written
// is another one, so that a read tells which write it saw. Each secret is seen by one
// agent, which sees nothing else.
type Operation struct {
	Client  int           `json:"client"`
	Node    int           `json:"node"` // that was asked
	Kind    Kind          `json:"kind"`
	Secret  string        `json:"secret"`
	Call    time.Duration `json:"call"` // since the history began
	Return  time.Duration `json:"return"`
	Outcome Outcome       `json:"outcome"`

	Value      int      `json:"value,omitempty"`   // that is written or given out; 0: none
	Version    int      `json:"version,omitempty"` // that it has; 0: nobody said
	Execution  string   `json:"execution,omitempty"`
	Reason     string   `json:"reason,omitempty"` // of a refused renewal
	Incident   string   `json:"incident,omitempty"`
	Versions   []int    `json:"versions,omitempty"`   // that a revocation destroyed
	Executions []string `json:"executions,omitempty"` // that were listed
}

// String names an operation in a verdict.
func (o *Operation) String() string {
	return fmt.Sprintf("the %s of %s by client %d from %s to %s", o.Kind, o.Secret, o.Client, o.Call.Round(time.Millisecond), o.Return.Round(time.Millisecond))
}

// Deposed is a time in which a node may have led no more without knowing. What it
// answers from memory is as old as the beginning of that time, at most: Vault serves
// it until the node notices.
type Deposed struct {
	Node int           `json:"node"` // -1: whichever was asked, because it may have passed the request on
	From time.Duration `json:"from"`
	To   time.Duration `json:"to"`
}

// History is what is judged.
type History struct {
	Operations []Operation `json:"operations"`
	Deposed    []Deposed   `json:"deposed"`
}

// asOf returns the earliest time at which what an operation was answered may have been
// true.
func (h *History) asOf(o *Operation) time.Duration {
	at := o.Call
	// A start that gives no value is a refusal, which needs no write to Vault's storage.
	if o.Kind != Resolve && o.Kind != List && (o.Kind != Start || o.Value != 0) {
		return at
	}
	for _, d := range h.Deposed {
		if (d.Node < 0 || d.Node == o.Node) && o.Call <= d.To && o.Return >= d.From {
			at = min(at, d.From)
		}
	}
	return at
}

// Verdict is what is wrong with a history. Stale is not: it counts reads that a node
// answered with what had been replaced before, while it may have led no more.
type Verdict struct {
	Wrong []string
	Stale int
}

// Judge checks all that a history must keep to.
func (h *History) Judge() Verdict {
	var v Verdict
	for secret, operations := range h.bySecret() {
		s := newSubject(h, secret, operations)
		v.Wrong = slices.Concat(v.Wrong, s.register(), s.versions(), s.revoked(), s.renewals(), s.lists(), s.incidents())
		v.Stale += s.stale()
	}
	slices.Sort(v.Wrong)
	return v
}

func (h *History) bySecret() map[string][]*Operation {
	secrets := map[string][]*Operation{}
	for i := range h.Operations {
		o := &h.Operations[i]
		secrets[o.Secret] = append(secrets[o.Secret], o)
	}
	return secrets
}

// subject is what happened to one secret and its agent.
type subject struct {
	history    *History
	name       string
	operations []*Operation
	started    map[string]*Operation   // by the execution
	finishes   map[string][]*Operation // that may have happened
	numbers    map[int]int             // of versions, by value
}

func newSubject(h *History, name string, operations []*Operation) *subject {
	s := &subject{h, name, operations, map[string]*Operation{}, map[string][]*Operation{}, map[int]int{}}
	for _, o := range operations {
		switch {
		case o.Kind == Start && o.Outcome == OK && o.Execution != "":
			s.started[o.Execution] = o
		case o.Kind == Finish && o.Outcome != Refused:
			s.finishes[o.Execution] = append(s.finishes[o.Execution], o)
		}
		if o.Outcome == OK && o.Value != 0 && o.Version != 0 {
			s.numbers[o.Value] = o.Version
		}
	}
	return s
}

// of returns the operations of a kind with an outcome.
func (s *subject) of(kind Kind, outcome Outcome) (found []*Operation) {
	for _, o := range s.operations {
		if o.Kind == kind && o.Outcome == outcome {
			found = append(found, o)
		}
	}
	return found
}

// mayHaveEnded reports whether somebody asked for the end of an execution before a time.
func (s *subject) mayHaveEnded(execution string, before time.Duration) bool {
	return slices.ContainsFunc(s.finishes[execution], func(f *Operation) bool { return f.Call <= before })
}

// hasEnded returns the answer by which an execution had ended before a time, or nil.
func (s *subject) hasEnded(execution string, before time.Duration) *Operation {
	i := slices.IndexFunc(s.finishes[execution], func(f *Operation) bool { return f.Outcome == OK && f.Return < before })
	if i < 0 {
		return nil
	}
	return s.finishes[execution][i]
}
