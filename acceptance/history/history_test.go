package history_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/history"
)

type operation = history.Operation

// did is an operation on one secret, in milliseconds.
func did(kind history.Kind, call, end int, o operation) operation {
	o.Kind, o.Secret, o.Call, o.Return = kind, "KEY", time.Duration(call)*time.Millisecond, time.Duration(end)*time.Millisecond
	if o.Outcome == "" {
		o.Outcome = history.OK
	}
	return o
}

func write(call, end, value int) operation {
	return did(history.Write, call, end, operation{Value: value, Version: value})
}

func lostWrite(call, end, value int) operation {
	return did(history.Write, call, end, operation{Value: value, Outcome: history.Unknown})
}

func resolve(call, end, value int) operation {
	return did(history.Resolve, call, end, operation{Value: value})
}

func start(call, end, value int, execution string) operation {
	return did(history.Start, call, end, operation{Value: value, Version: value, Execution: execution})
}

func lostStart(call, end int) operation {
	return did(history.Start, call, end, operation{Outcome: history.Unknown})
}

func renew(call, end int, execution, reason string) operation {
	outcome := history.OK
	if reason != "" {
		outcome = history.Refused
	}
	return did(history.Renew, call, end, operation{Execution: execution, Reason: reason, Outcome: outcome})
}

func finish(call, end int, execution string) operation {
	return did(history.Finish, call, end, operation{Execution: execution})
}

func list(call, end int, executions ...string) operation {
	return did(history.List, call, end, operation{Executions: executions})
}

// revoke destroys versions 1 to last.
func revoke(call, end, last, value int) operation {
	versions := []int{}
	for n := range last {
		versions = append(versions, n+1)
	}
	return did(history.Revoke, call, end, operation{Value: value, Versions: versions, Incident: "I"})
}

func incident(executions ...string) operation {
	return did(history.Incident, 900, 901, operation{Incident: "I", Executions: executions})
}

func TestJudge(t *testing.T) {
	t.Parallel()
	const noOrder = "no order of its writes explains what was read"
	cut := []history.Deposed{{Node: 0, From: 15 * time.Millisecond, To: 100 * time.Millisecond}}
	for name, c := range map[string]struct {
		operations []operation
		deposed    []history.Deposed
		want       string // in the one thing that is wrong; empty: nothing is
		stale      int
	}{
		"nothing":                              {},
		"a read after a write":                 {operations: []operation{write(0, 10, 1), resolve(20, 30, 1)}},
		"a read during a write":                {operations: []operation{write(0, 10, 1), write(20, 40, 2), resolve(25, 30, 2), resolve(35, 45, 2)}},
		"a lost write":                         {operations: []operation{write(0, 10, 1), write(20, 30, 2), resolve(40, 50, 1), resolve(60, 70, 1)}, want: noOrder},
		"a first write that is lost":           {operations: []operation{write(0, 10, 1), resolve(20, 30, 0)}, want: noOrder},
		"a stale read":                         {operations: []operation{write(0, 10, 1), write(20, 30, 2), resolve(40, 50, 1), resolve(60, 70, 2)}, want: noOrder},
		"a read that goes back":                {operations: []operation{write(0, 10, 1), write(20, 90, 2), resolve(30, 40, 2), resolve(50, 60, 1)}, want: noOrder},
		"a value of nowhere":                   {operations: []operation{write(0, 10, 1), resolve(20, 30, 7)}, want: noOrder},
		"a refused write that is seen":         {operations: []operation{write(0, 10, 1), did(history.Write, 20, 30, operation{Value: 2, Outcome: history.Refused}), resolve(40, 50, 2)}, want: noOrder},
		"a rotation":                           {operations: []operation{write(0, 10, 1), did(history.Rotate, 20, 30, operation{Value: 2}), start(40, 50, 2, "a")}},
		"a rotation without a value":           {operations: []operation{write(0, 10, 1), did(history.Rotate, 20, 40, operation{Value: 2}), resolve(25, 35, 0)}, want: noOrder},
		"a start with what was replaced":       {operations: []operation{write(0, 10, 1), write(20, 30, 2), start(40, 50, 1, "a")}, want: noOrder},
		"an answer lost, and never seen":       {operations: []operation{write(0, 10, 1), lostWrite(20, 30, 2), resolve(40, 50, 1)}},
		"an answer lost, and seen late":        {operations: []operation{write(0, 10, 1), lostWrite(20, 30, 2), resolve(40, 50, 1), resolve(60, 70, 2), resolve(80, 90, 2)}},
		"an answer lost, seen, and gone":       {operations: []operation{write(0, 10, 1), lostWrite(20, 30, 2), resolve(40, 50, 2), resolve(60, 70, 1)}, want: noOrder},
		"an answer lost, replaced, and back":   {operations: []operation{write(0, 10, 1), lostWrite(20, 30, 2), resolve(40, 50, 2), write(60, 70, 3), resolve(80, 90, 2)}, want: noOrder},
		"seen before it was written":           {operations: []operation{resolve(0, 5, 1), write(10, 20, 1)}, want: noOrder},
		"two values of one version":            {operations: []operation{start(0, 10, 1, "a"), write(0, 10, 1), did(history.Write, 20, 30, operation{Value: 2, Version: 1})}, want: "version 1 is that of values 1 and 2"},
		"a stale read of a node that was cut":  {operations: []operation{write(0, 10, 1), write(20, 30, 2), resolve(40, 50, 1)}, deposed: cut, stale: 1},
		"the same of another node":             {operations: []operation{write(0, 10, 1), write(20, 30, 2), did(history.Resolve, 40, 50, operation{Value: 1, Node: 1})}, deposed: cut, want: noOrder},
		"older than the cut":                   {operations: []operation{write(0, 1, 1), write(5, 10, 2), resolve(40, 50, 1)}, deposed: cut, want: noOrder},
		"after the cut":                        {operations: []operation{write(0, 10, 1), write(20, 30, 2), resolve(110, 120, 1)}, deposed: cut, want: noOrder},
		"a stale start of a node that was cut": {operations: []operation{write(0, 10, 1), write(20, 30, 2), start(40, 50, 1, "a")}, deposed: cut, want: noOrder},
		// A node that was cut off still refused to start what has a value again.
		"a stale refusal of a node that was cut": {operations: []operation{write(0, 10, 1), revoke(11, 12, 1, 0), write(20, 30, 2), start(40, 50, 0, ""), resolve(60, 70, 2), incident()}, deposed: cut},
		"the same of a node that was not cut":    {operations: []operation{write(0, 10, 1), revoke(11, 12, 1, 0), write(20, 30, 2), start(40, 50, 0, ""), resolve(60, 70, 2), incident()}, want: noOrder},
		"a revocation with a value":              {operations: []operation{write(0, 10, 1), start(11, 12, 1, "a"), revoke(20, 30, 1, 2), resolve(40, 50, 2), incident("a")}},
		"a revocation without":                   {operations: []operation{write(0, 10, 1), revoke(20, 30, 1, 0), resolve(40, 50, 0), write(60, 70, 2), resolve(80, 90, 2), incident()}},
		// The engine did this: every version was revoked before, so it answered with the first incident.
		"a revocation whose value is dropped":   {operations: []operation{write(0, 10, 1), revoke(20, 30, 1, 0), revoke(40, 50, 1, 2), resolve(60, 70, 0), incident()}, want: noOrder},
		"a read during a revocation":            {operations: []operation{write(0, 10, 1), revoke(20, 40, 1, 0), resolve(30, 50, 1), incident()}},
		"an incident that is missing":           {operations: []operation{write(0, 10, 1), revoke(20, 30, 1, 0)}, want: "there is no incident I"},
		"an incident that misses one":           {operations: []operation{write(0, 10, 1), start(11, 12, 1, "a"), revoke(20, 30, 1, 2), incident()}, want: "does not list execution a"},
		"one that ended before":                 {operations: []operation{write(0, 10, 1), start(11, 12, 1, "a"), finish(13, 14, "a"), revoke(20, 30, 1, 2), incident()}},
		"one that ended before, and is listed":  {operations: []operation{write(0, 10, 1), start(11, 12, 1, "a"), finish(13, 14, "a"), revoke(20, 30, 1, 2), incident("a")}, want: "which had ended before"},
		"one that ended between two, listed":    {operations: []operation{write(0, 10, 1), start(11, 12, 1, "a"), revoke(20, 30, 1, 0), finish(31, 32, "a"), revoke(40, 50, 1, 0), incident("a")}},
		"one that ends meanwhile, listed":       {operations: []operation{write(0, 10, 1), start(11, 12, 1, "a"), finish(13, 25, "a"), revoke(20, 30, 1, 2), incident("a")}},
		"one of another version, listed":        {operations: []operation{write(0, 10, 1), revoke(20, 30, 1, 2), start(31, 32, 2, "a"), incident("a")}, want: "which holds version 2"},
		"one whose answer was lost, listed":     {operations: []operation{write(0, 10, 1), lostStart(11, 12), revoke(20, 30, 1, 2), incident("a")}},
		"a stranger, listed":                    {operations: []operation{write(0, 10, 1), revoke(20, 30, 1, 2), incident("a")}, want: "that nobody started"},
		"renewed":                               {operations: []operation{write(0, 10, 1), start(11, 12, 1, "a"), renew(13, 14, "a", ""), finish(15, 25, "a"), renew(20, 30, "a", "")}},
		"renewed after its end":                 {operations: []operation{write(0, 10, 1), start(11, 12, 1, "a"), finish(15, 25, "a"), renew(26, 30, "a", "")}, want: "had ended by"},
		"renewed with what was revoked":         {operations: []operation{write(0, 10, 1), start(11, 12, 1, "a"), revoke(20, 30, 1, 2), renew(40, 50, "a", ""), incident("a")}, want: "gives version 1, which was revoked"},
		"not renewed":                           {operations: []operation{write(0, 10, 1), start(11, 12, 1, "a"), revoke(20, 30, 1, 2), renew(25, 50, "a", history.Terminated), incident("a")}},
		"not renewed for nothing":               {operations: []operation{write(0, 10, 1), start(11, 12, 1, "a"), renew(25, 50, "a", history.Terminated)}, want: "nobody asked for that"},
		"told that it has ended for nothing":    {operations: []operation{write(0, 10, 1), start(11, 12, 1, "a"), renew(25, 50, "a", history.Ended)}, want: "nobody asked for that"},
		"counted":                               {operations: []operation{write(0, 10, 1), start(11, 15, 1, "a"), list(13, 20, "a"), list(14, 21), list(16, 20, "a"), finish(30, 40, "a"), list(35, 36), list(35, 36, "a"), list(41, 42)}},
		"not counted":                           {operations: []operation{write(0, 10, 1), start(11, 15, 1, "a"), list(16, 20)}, want: "does not count execution a"},
		"counted too long":                      {operations: []operation{write(0, 10, 1), start(11, 15, 1, "a"), finish(16, 17, "a"), list(18, 20, "a")}, want: "which had ended by"},
		"counted too early":                     {operations: []operation{write(0, 10, 1), list(11, 12, "a"), start(13, 15, 1, "a")}, want: "before its start"},
		"counted, the answer to its start lost": {operations: []operation{write(0, 10, 1), lostStart(11, 15), list(16, 20, "a")}},
		"counted twice as often":                {operations: []operation{write(0, 10, 1), lostStart(11, 15), list(16, 20, "a", "b")}, want: "2 executions that nobody started"},
		"counted by a node that was cut":        {operations: []operation{write(0, 10, 1), start(11, 12, 1, "a"), finish(16, 17, "a"), list(18, 20, "a")}, deposed: cut},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := history.History{Operations: c.operations, Deposed: c.deposed}
			got := h.Judge()
			if c.want == "" && len(got.Wrong) > 0 || c.want != "" && (len(got.Wrong) != 1 || !strings.Contains(got.Wrong[0], c.want)) {
				t.Errorf("wrong is %q, want %q", got.Wrong, c.want)
			}
			if got.Stale != c.stale {
				t.Errorf("%d reads are stale, want %d", got.Stale, c.stale)
			}
		})
	}
}

// What was revoked is handed out after that: both the order of the writes and the
// revocation itself are violated.
func TestRevokedIsGivenOut(t *testing.T) {
	t.Parallel()
	for _, last := range []operation{resolve(40, 50, 1), start(40, 50, 1, "a")} {
		h := history.History{Operations: []operation{write(0, 10, 1), revoke(20, 30, 1, 0), last, incident("a")}}
		if wrong := h.Judge().Wrong; !slices.ContainsFunc(wrong, func(w string) bool { return strings.Contains(w, "gives version 1, which was revoked") }) {
			t.Errorf("%s: wrong is %q", last.Kind, wrong)
		}
	}
}

// Histories of a secret that takes effect at some moment between call and answer are
// right, also when some answers are lost; with one read of an older value they are not.
func TestRandomHistories(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			h := random(rand.New(rand.NewPCG(seed, 0)))
			if wrong := h.Judge().Wrong; len(wrong) > 0 {
				t.Fatalf("a right history is wrong: %q", wrong)
			}
			var page bytes.Buffer
			if err := h.Draw("KEY", &page); err != nil || page.Len() == 0 {
				t.Errorf("drawn: %d bytes, %v", page.Len(), err)
			}
			last := h.Operations[len(h.Operations)-1].Return
			h.Operations = append(h.Operations, did(history.Write, 0, 0, operation{Value: 1000, Version: 1000}), resolve(0, 0, 1))
			for i := range 2 {
				o := &h.Operations[len(h.Operations)-2+i]
				o.Call, o.Return = last+time.Duration(2*i+1), last+time.Duration(2*i+2)
			}
			if len(h.Judge().Wrong) == 0 {
				t.Error("a history with a read of an old value is right")
			}
		})
	}
}

// random is what some clients do with one secret at random times, of which no two
// effects are at the same.
func random(rng *rand.Rand) *history.History {
	const effects = 300
	h := &history.History{}
	busy := map[int]time.Duration{} // until when a client waits
	current := 0
	for n := range effects {
		at := time.Duration(n+1) * time.Millisecond
		client := rng.IntN(8)
		call := max(busy[client]+1, at-time.Duration(rng.IntN(5))*time.Millisecond-1)
		if call >= at {
			continue
		}
		end := at + 1 + time.Duration(rng.IntN(5))*time.Millisecond
		busy[client] = end
		o := operation{Client: client, Kind: history.Resolve, Secret: "KEY", Call: call, Return: end, Outcome: history.OK}
		if n == 0 || rng.IntN(3) == 0 {
			o.Kind, o.Value, o.Version = history.Write, n+1, n+1
			current = n + 1
		}
		o.Value = current
		if n > 0 && rng.IntN(6) == 0 {
			o.Outcome, o.Version = history.Unknown, 0
		}
		h.Operations = append(h.Operations, o)
	}
	slices.SortFunc(h.Operations, func(a, b operation) int { return int(a.Return - b.Return) })
	return h
}
