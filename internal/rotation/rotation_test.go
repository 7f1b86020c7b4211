package rotation_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotation"
)

var (
	start    = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	policy   = rotation.Policy{MinOverlap: 10 * time.Minute, MaxOverlap: 24 * time.Hour, OnOverdue: rotation.Alert, MaxRetries: 2}
	states   = []rotation.State{rotation.Idle, rotation.Creating, rotation.Setting, rotation.Testing, rotation.Staged, rotation.Serving, rotation.Finishing, rotation.Failed, rotation.Orphaned}
	events   = []rotation.Event{rotation.Done, rotation.Wait, rotation.Fail, rotation.Retry, rotation.Serve, rotation.Use, rotation.Confirm, rotation.Promote, rotation.Overdue, rotation.Abort, rotation.Revoke}
	insisted = rotation.Facts{Now: start.Add(48 * time.Hour), Counted: true, Holders: 1, Force: true}
)

// at returns a rotation that stands in a state, as one with a far side does.
func at(state rotation.State) rotation.Rotation {
	r := rotation.Rotation{Policy: policy, State: state, Rotator: "r", FarSide: true, StartedAt: start, ValidFrom: start, ServingSince: start}
	switch state {
	case rotation.Failed, rotation.Orphaned:
		r.Step = rotation.Creating
	case rotation.Finishing:
		r.Result = rotation.Promoted
	}
	return r
}

// TestTable is every state with every event, when a person insists and the time
// has come for everything.
func TestTable(t *testing.T) {
	t.Parallel()
	want := map[rotation.State]string{
		rotation.Idle:      "",
		rotation.Creating:  "done:setting wait:creating fail:failed abort:finishing,drop revoke:finishing,drop",
		rotation.Setting:   "done:testing fail:failed abort:finishing,drop revoke:finishing,drop",
		rotation.Testing:   "done:serving fail:failed abort:finishing,drop revoke:finishing,drop",
		rotation.Staged:    "serve:serving confirm:staged promote:finishing,promote abort:finishing,drop revoke:finishing,drop",
		rotation.Serving:   "use:serving confirm:serving promote:finishing,promote overdue:finishing,promote abort:finishing,drop revoke:finishing,drop",
		rotation.Finishing: "done:idle fail:failed abort:idle",
		rotation.Failed:    "done:setting retry:creating abort:finishing,drop revoke:finishing,drop",
		rotation.Orphaned:  "done:setting retry:creating abort:finishing,drop revoke:finishing,drop",
	}
	for _, state := range states {
		var got []string
		for _, event := range events {
			next, effect, err := at(state).Apply(event, insisted)
			if err != nil {
				if !errors.Is(err, rotation.ErrRefused) {
					t.Errorf("%s, %s: %v", state, event, err)
				}
				continue
			}
			word := fmt.Sprintf("%s:%s", event, next.State)
			switch effect {
			case rotation.PromoteNew:
				word += ",promote"
			case rotation.DropNew:
				word += ",drop"
			}
			got = append(got, word)
		}
		if line := strings.Join(got, " "); line != want[state] {
			t.Errorf("%s\n got %s\nwant %s", state, line, want[state])
		}
	}
}

// TestGuards is what is refused when nobody insists.
func TestGuards(t *testing.T) {
	t.Parallel()
	later := start.Add(time.Hour)
	proved := func(r rotation.Rotation) rotation.Rotation { r.Proof = rotation.Used; return r }
	for _, c := range []struct {
		name  string
		r     rotation.Rotation
		event rotation.Event
		facts rotation.Facts
		text  string // of the refusal; empty: it is let through
	}{
		{"promote without proof", at(rotation.Serving), rotation.Promote, rotation.Facts{Now: later, Counted: true}, "nobody has used"},
		{"promote with a holder", proved(at(rotation.Serving)), rotation.Promote, rotation.Facts{Now: later, Counted: true, Holders: 1}, "1 executions hold"},
		{"promote uncounted", proved(at(rotation.Serving)), rotation.Promote, rotation.Facts{Now: later}, "still reading"},
		{"promote", proved(at(rotation.Serving)), rotation.Promote, rotation.Facts{Now: later, Counted: true}, ""},
		{"promote staged", proved(at(rotation.Staged)), rotation.Promote, rotation.Facts{Now: later, Counted: true}, "use force=true"},
		{"overdue early", at(rotation.Serving), rotation.Overdue, rotation.Facts{Now: start.Add(24*time.Hour - 1), Counted: true}, "has not passed"},
		{"overdue", at(rotation.Serving), rotation.Overdue, rotation.Facts{Now: start.Add(24 * time.Hour), Counted: true, Holders: 3}, ""},
		{"abort with a holder", at(rotation.Serving), rotation.Abort, rotation.Facts{Now: later, Counted: true, Holders: 2}, "2 executions hold"},
		{"abort", at(rotation.Serving), rotation.Abort, rotation.Facts{Now: later, Counted: true}, ""},
		{"serve early", func() rotation.Rotation { r := at(rotation.Staged); r.ValidFrom = later; return r }(), rotation.Serve, rotation.Facts{Now: start}, "not valid before"},
		{"give up finishing", at(rotation.Finishing), rotation.Abort, rotation.Facts{Now: later}, "use force=true"},
		{"switch back", func() rotation.Rotation { r := at(rotation.Setting); r.NoOverlap = true; return r }(), rotation.Abort, rotation.Facts{Now: later}, "being switched"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := c.r.Apply(c.event, c.facts)
			if c.text == "" && err != nil || c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)) {
				t.Errorf("%v, want %q", err, c.text)
			}
		})
	}
}

// TestConfirmInTime is require_confirm: without it the rotation is left to a
// person, who can still confirm.
func TestConfirmInTime(t *testing.T) {
	t.Parallel()
	r := rotation.Rotation{Policy: policy}
	r.RequireConfirm = true
	r = rotation.Begin(r, start)
	r, _, _ = r.Apply(rotation.Use, rotation.Facts{Now: start})
	end := rotation.Facts{Now: start.Add(24 * time.Hour), Counted: true}
	if event, due := r.Due(rotation.Facts{Now: start.Add(time.Hour), Counted: true}); due {
		t.Errorf("%s is due", event)
	}
	event, due := r.Due(end)
	if !due || event != rotation.Overdue {
		t.Fatalf("%s %v", event, due)
	}
	r, effect, err := r.Apply(event, end)
	if err != nil || effect != rotation.Nothing || r.State != rotation.Orphaned {
		t.Fatalf("%s %d %v", r.State, effect, err)
	}
	if _, _, err := r.Apply(rotation.Promote, end); err == nil {
		t.Error("promoted unconfirmed")
	}
	r, _, err = r.Apply(rotation.Confirm, end)
	if event, due := r.Due(end); err != nil || !due || event != rotation.Promote {
		t.Errorf("%s %v %v", event, due, err)
	}
}

// TestBackoff fails a step until a person is needed.
func TestBackoff(t *testing.T) {
	t.Parallel()
	r := rotation.Begin(rotation.Rotation{Policy: policy, Rotator: "r", FarSide: true}, start)
	now := start
	for attempt := 1; attempt <= policy.MaxRetries; attempt++ {
		r, _, _ = r.Apply(rotation.Fail, rotation.Facts{Now: now})
		wait := 10 * time.Second << (attempt - 1)
		if r.State != rotation.Failed || r.Attempt != attempt || r.NextAttempt != now.Add(wait) || r.Wake(now) != r.NextAttempt {
			t.Fatalf("attempt %d: %+v", attempt, r)
		}
		if _, due := r.Due(rotation.Facts{Now: r.NextAttempt.Add(-1)}); due {
			t.Error("due too early")
		}
		now = r.NextAttempt
		event, _ := r.Due(rotation.Facts{Now: now})
		r, _, _ = r.Apply(event, rotation.Facts{Now: now})
		if r.State != rotation.Creating || !r.Running() {
			t.Fatalf("%+v", r)
		}
	}
	r, _, _ = r.Apply(rotation.Fail, rotation.Facts{Now: now})
	if r.State != rotation.Orphaned || r.Running() || !r.Wake(now).IsZero() {
		t.Errorf("%+v", r)
	}
}

// TestNothingIsLost follows random rotations.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	ended := map[rotation.Result]int{}
	for range 5_000 {
		ended[follow(t, random.IntN)]++
	}
	if ended[rotation.Promoted] < 100 || ended[rotation.Aborted] < 100 {
		t.Errorf("the events hardly ever end a rotation: %v", ended)
	}
}

// FuzzRotation follows what the bytes say.
func FuzzRotation(f *testing.F) {
	for _, seed := range []string{"", "\x00\x01\x02\x03", "rotation with a value", "\x01\x01\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		follow(t, func(n int) int {
			if len(said) == 0 {
				return 0
			}
			first := said[0]
			said = said[1:]
			return int(first) % n
		})
	})
}

// follow applies chosen events at chosen times to a chosen rotation, and returns how
// it ended. A value that somebody could use is always left, the rotation fits the
// versions, and nothing falls due before it was said to.
func follow(t *testing.T, choose func(n int) int) rotation.Result {
	now := start
	r := rotation.Rotation{Policy: policy, FarSide: choose(2) == 0, NoOverlap: choose(4) == 0}
	r.RequireConfirm, r.First, r.Untested = choose(4) == 0, choose(4) == 0, choose(4) == 0
	current, pending, last := 1, 0, 1
	if r.First {
		current, last = 0, 0
	}
	if r.FarSide || choose(2) == 0 {
		r.Rotator = "r"
	}
	if choose(3) == 0 && !r.NoOverlap {
		r.ValidFrom = now.Add(time.Hour)
	}
	r = rotation.Begin(r, now)
	if r.Rotator == "" {
		last++
		pending = last
	}
	for range 40 {
		now = now.Add(time.Duration(choose(120)) * 5 * time.Minute)
		f := rotation.Facts{Now: now, Counted: choose(8) > 0, Holders: choose(3), Force: choose(8) == 0}
		event := events[choose(len(events)-1)] // revocation takes values on purpose
		if due, ok := r.Due(f); !ok {
			sleeps(t, r, f)
		} else if choose(2) == 0 {
			event = due
		}
		was := r
		next, effect, err := r.Apply(event, f)
		if err != nil {
			if next != was || effect != rotation.Nothing {
				t.Fatalf("%s is refused, and changes %+v", event, was)
			}
			continue
		}
		r = next
		if event == rotation.Done && (was.State == rotation.Creating || was.Step == rotation.Creating) {
			last++
			pending = last
		}
		switch effect {
		case rotation.PromoteNew:
			if pending <= current {
				t.Fatalf("%s promotes version %d after %d: %+v", event, pending, current, was)
			}
			current, pending = pending, 0
		case rotation.DropNew:
			pending = 0
		}
		var check *rotation.Rotation
		if r.State != rotation.Idle {
			check = &r
		}
		if err := rotation.Check(check, current, pending); err != nil {
			t.Fatalf("%s: %v\nbefore %+v\nafter %+v", event, err, was, r)
		}
		if r.State == rotation.Idle {
			return r.Result
		}
	}
	return ""
}

// sleeps checks that a rotation of which nothing is due stays so until it is to be
// woken.
func sleeps(t *testing.T, r rotation.Rotation, f rotation.Facts) {
	const long = 1000 * time.Hour
	wake := r.Wake(f.Now)
	if wake.IsZero() {
		wake = f.Now.Add(long)
	}
	for _, before := range []time.Duration{wake.Sub(f.Now) / 2, 1} {
		at := wake.Add(-before)
		if event, due := r.Due(rotation.Facts{Now: at, Counted: f.Counted, Holders: f.Holders}); due && at.After(f.Now) {
			t.Fatalf("%s is due at %s, and it wakes at %s: %+v", event, at, wake, r)
		}
	}
}

// TestDueTerminates applies what is due until nothing is: no rotation goes round.
func TestDueTerminates(t *testing.T) {
	t.Parallel()
	for _, state := range states {
		for _, step := range states {
			r := at(state)
			if state == rotation.Failed || state == rotation.Orphaned {
				r.Step = step
			}
			f := rotation.Facts{Now: start.Add(1000 * time.Hour), Counted: true, Holders: 1}
			for n := 0; ; n++ {
				event, due := r.Due(f)
				if !due {
					break
				}
				next, _, err := r.Apply(event, f)
				if err != nil || n > 10 {
					t.Fatalf("%s, %s: %v after %d events", state, event, err, n)
				}
				r = next
			}
		}
	}
}
