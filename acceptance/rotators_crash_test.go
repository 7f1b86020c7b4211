package acceptance

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// breaker holds a call to a far side at a point, before the call has an effect
// or after, until the process that made it is gone. Its points have names.
type breaker struct {
	over context.Context // of the test

	mu      sync.Mutex // guards all below
	at      string     // the point to hold at; empty: none
	times   map[string]int
	passed  []string
	reached chan struct{}
	resume  chan struct{}
}

// arm begins to count points anew.
func (b *breaker) arm(at string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at, b.times, b.passed = at, map[string]int{}, nil
	b.reached, b.resume = make(chan struct{}), make(chan struct{})
}

// pass is called at a point, and reports whether the call goes on.
func (b *breaker) pass(call string, done bool) bool {
	b.mu.Lock()
	point := "before " + call
	if done {
		point = "after " + call
	}
	if b.times[point]++; b.times[point] > 1 {
		point = fmt.Sprintf("%s, time %d", point, b.times[point])
	}
	b.passed = append(b.passed, point)
	hold, resume := point == b.at, b.resume
	if hold {
		close(b.reached)
	}
	b.mu.Unlock()
	if hold {
		select {
		case <-resume:
		case <-b.over.Done():
		}
	}
	return !hold
}

func (b *breaker) points() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.passed
}

// handler is h with points, named by call.
func (b *breaker) handler(call func(*http.Request) string, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := call(r)
		if !b.pass(name, false) {
			panic(http.ErrAbortHandler)
		}
		answer := httptest.NewRecorder()
		h(answer, r)
		if !b.pass(name, true) {
			panic(http.ErrAbortHandler)
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()) // it fails only when the client has gone
	})
}

// farSide is what a rotator calls, and what is rotated there.
type farSide struct {
	*breaker
	rotator  data   // its settings
	entry    string // the path of a secret or a group
	first    data   // what is written there by hand; nil: the rotator makes it
	overlaps bool   // two values are accepted at a time
	accepts  func(value any) bool
	count    func() int // how many are live; nil: it cannot tell
}

// subject is an entry that a rotator rotates.
type subject struct {
	*engine
	*farSide
	end func(*testing.T) // ends the process that rotates; nil where nothing does
}

const mostKeys = 2

func newSubject(e *engine, far *farSide, end func(*testing.T)) *subject {
	e.Helper()
	s := &subject{e, far, end}
	s.arm("")
	name := unique("rotator")
	e.write("config", data{"allowed_hosts": "127.0.0.1"})
	e.write("rotators/"+name, far.rotator)
	if far.first != nil {
		door := "secrets/"
		if _, group := far.first["values"]; group {
			door = "groups/"
		}
		e.write(door+far.entry, far.first)
	}
	e.write("schedules/"+far.entry, data{"rotator": name, "rotation_period": "365d", "min_overlap": 0})
	if far.first == nil {
		e.write("rotate/"+far.entry, nil)
		s.settle("idle")
	}
	return s
}

// settle waits until the rotation is in a state, and ends the process when it is
// held at the point.
func (s *subject) settle(state string) {
	s.Helper()
	s.mu.Lock()
	reached, resume := s.reached, s.resume
	s.mu.Unlock()
	var last data
	err := eventually("the rotation is "+state, func() (bool, error) {
		select {
		case <-reached:
			s.counted()
			s.end(s.T)
			close(resume)
			if reached = nil; s.overlaps {
				s.usable()
			}
		default:
		}
		last = s.rotation(s.entry)
		switch {
		case last["state"] == "failed", last["state"] == "orphaned":
			return false, fmt.Errorf("it is %s: %s", last["state"], last["last_error"])
		case last["state"] == "serving" && last["proof"] == "" && state == "idle":
			// A person has tried the value that nothing else tests.
			s.do(update, "confirm/"+s.entry, data{"rotation_id": last["rotation_id"]})
		}
		return last["state"] == state, nil
	})
	if err != nil {
		s.Fatalf("%v: %s", err, censored(s.T, last))
	}
}

// revealed is the value that a new reader gets.
func (s *subject) revealed() any {
	s.Helper()
	answer := s.read("reveal/" + s.entry)
	value := answer["value"]
	if value == nil {
		value = answer["values"]
	}
	secrets.know(s.Name()+" a value of a rotator", fmt.Sprint(value))
	return value
}

// usable fails unless the far side accepts what a reader gets.
func (s *subject) usable() {
	s.Helper()
	for value := s.revealed(); !s.accepts(value); {
		again := s.revealed()
		if reflect.DeepEqual(again, value) {
			s.Error("the far side does not accept what reveal/ answers")
			return
		}
		value = again // it was promoted meanwhile
	}
}

// counted fails when too many keys are live, or none.
func (s *subject) counted() {
	s.Helper()
	if s.count == nil {
		return
	}
	if n := s.count(); n < 1 || n > mostKeys {
		s.Errorf("%d keys are live", n)
	}
}

// rotate rotates once, and ends the process at a point: of the whole rotation,
// or of its end when that is an abort. It returns the points of that part.
func (s *subject) rotate(promote bool, at string) []string {
	s.Helper()
	stays := s.revealed()
	body, result := data{}, "promoted"
	if promote {
		s.arm(at)
	} else {
		s.arm("")
		body, result = data{"min_overlap": "1h"}, "aborted"
	}
	id := s.write("rotate/"+s.entry, body)["rotation_id"]
	goes := stays
	if !promote {
		s.settle("serving")
		goes = s.revealed()
		s.arm(at)
		s.write("abort/"+s.entry, data{"reason": "a test"})
	}
	s.settle("idle")
	line := s.last(s.entry)
	s.same("the rotation that ended", []any{line["rotation_id"], line["result"]}, []any{id, result})
	now := s.revealed()
	if promote {
		stays = now
	}
	if !reflect.DeepEqual(now, stays) || reflect.DeepEqual(now, goes) {
		s.Error("reveal/ does not answer the value that stays")
	}
	s.usable()
	s.must(eventually("one value is accepted, and only that", func() (bool, error) {
		return !s.accepts(goes) && (s.count == nil || s.count() == 1), nil
	}))
	points := s.points()
	if at != "" && !slices.Contains(points, at) {
		s.Errorf("the rotation never came to %q", at)
	}
	return points
}

// on is the same entry, in another test.
func (s *subject) on(t *testing.T) *subject {
	return &subject{&engine{t, s.mount, s.client}, s.farSide, s.end}
}

// everywhere ends the process at each point of a rotation in turn.
func (s *subject) everywhere() {
	s.Helper()
	started := time.Now()
	points := 0
	for result, promote := range map[string]bool{"promoted": true, "aborted": false} {
		if !promote && !s.overlaps {
			continue // there is no time between the switch and the promotion
		}
		found := s.rotate(promote, "")
		if len(found) == 0 {
			s.Errorf("%s: the far side was never called", result)
		}
		points += len(found)
		for _, at := range found {
			if !s.Run(result+", "+at, func(t *testing.T) { s.on(t).rotate(promote, at) }) {
				return // what follows would only find what this one left
			}
		}
	}
	s.Logf("%d points in %s", points, time.Since(started).Round(time.Second))
}

// random is what of a value is random: nothing else in it is that long.
var random = regexp.MustCompile(`[A-Za-z0-9]{26,}`)

// know has a value searched for that no test made.
func (r *registry) know(label, value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, part := range random.FindAllString(value, -1) {
		r.labels[part[:half]] = label
	}
}

// The far sides of all rotators that have one.
var farSides = map[string]func(*engine) *farSide{
	"aws-iam":                 newIAM,
	"webhook":                 newKeyMaker,
	"oauth2-client-secret":    newAuthorizationServer,
	"vault":                   newOtherVault,
	"postgresql, two users":   func(e *engine) *farSide { return startPostgreSQL(e).farSide("app_a", "app_b") },
	"postgresql, single user": func(e *engine) *farSide { return startPostgreSQL(e).farSide("app") },
	"mysql, two users":        func(e *engine) *farSide { return startMariaDB(e).farSide("app_a", "app_b") },
	"mysql, single user":      func(e *engine) *farSide { return startMariaDB(e).farSide("app") },
}

// The plugin is killed at every point of a rotation at which its far side is
// called. Each rotation ends as it would have, with one key at the far side: at
// no time are there more than two, or none.
func TestRotatorsWhenThePluginIsKilled(t *testing.T) {
	needVault(t)
	for name, open := range farSides {
		t.Run(name, func(t *testing.T) {
			e, plugin := newOwnProcess(t)
			e = e.retrying()
			newSubject(e, open(e), func(t *testing.T) {
				t.Helper()
				on := &engine{t, e.mount, e.client}
				on.kill(on.process(plugin, 0))
			}).everywhere()
		})
	}
}

// The same when Vault is killed with the plugin, at some of the points.
func TestRotatorsWhenVaultIsKilled(t *testing.T) {
	d := newDurable(t)
	client, err := d.node.NewClient(d.client.Token())
	d.must(err)
	client.SetMaxRetries(api.DefaultConfig().MaxRetries)
	end := func(t *testing.T) {
		t.Helper()
		on := &durable{&engine{t, d.mount, client}, d.node}
		on.end(syscall.SIGKILL)
		d.launch() // which outlives the test of one point
		on.unseal()
	}
	for name, points := range map[string][]string{
		"aws-iam":               {"after CreateAccessKey", "after GetCallerIdentity", "before DeleteAccessKey", "after DeleteAccessKey"},
		"oauth2-client-secret":  {"after PUT register"},
		"postgresql, two users": {"after ALTER", "before ALTER, time 2"},
	} {
		e := &engine{t, d.mount, client}
		s := newSubject(e, farSides[name](e), end)
		for _, at := range points {
			t.Run(name+", "+at, func(t *testing.T) { s.on(t).rotate(true, at) })
		}
	}
}
