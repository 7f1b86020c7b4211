package agentchains

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// events returns the events that were taken, with the fields that tell them apart.
func (r *receiver) events() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for _, n := range r.taken {
		line := fmt.Sprint(n["event"])
		for _, field := range []string{"path", "pending_version", "current_version", "executions", "execution_id", "due_at", "expires_at"} {
			if value, sent := n[field]; sent {
				line += fmt.Sprint(" ", value)
			}
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func lines(list ...string) string {
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// TestNotices is what the engine tells of rotations, expiries and revocations.
func TestNotices(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	r := newReceiver(e)
	r.notifier(e, "ops", nil)
	e.started(nil)
	e.ok(update, rotateOpen, data{"value": "second", "on_overdue": "alert"})
	e.clock.advance(24 * time.Hour)
	e.turn()
	e.deliver()
	want := []string{
		"rotation.staged " + openAI + " 2 1",
		"rotation.promoted " + openAI + " 2",
		"rotation.overdue " + openAI + " 2 1",
	}
	e.is(r.events(), lines(want...))

	e.ok(update, "schedules/prod/org/aws-deploy", data{"rotate_every_days": 30, "notify_before_days": 7})
	e.ok(patch, "groups/prod/org/aws-deploy", data{"expires_at": e.clock.Now().Add(8 * 24 * time.Hour).Format(time.RFC3339)})
	for range 40 {
		e.clock.advance(24 * time.Hour)
		e.turn()
		if err := e.b.tellExpiries(e.Context(), e.s); err != nil {
			t.Fatal(err)
		}
		e.turn()
		e.deliver()
		e.start() // each is told once all the same
	}
	want = append(want,
		"rotation.due prod/org/aws-deploy 1 2030-02-01T00:00:00Z",
		"secret.expiring prod/org/aws-deploy 1 2030-01-10T00:00:00Z",
		"secret.expired prod/org/aws-deploy 1 2030-01-10T00:00:00Z",
	)
	e.is(r.events(), lines(want...))

	e.ok(patch, "groups/prod/org/aws-deploy", data{"expires_at": ""})
	hit, slow := e.started(nil), e.started(nil)
	got := e.ok(update, revokeOpen, data{"reason": "leaked", "value": "third"})
	hit.acknowledge()
	e.work()
	e.clock.advance(acknowledgeWithin)
	e.work()
	e.deliver()
	want = append(want,
		"secret.revoked "+openAI+" 3 2",
		"execution.terminated "+hit.id,
		"execution.unacknowledged "+slow.id,
	)
	e.is(r.events(), lines(want...))
	var alerts []string
	for _, a := range e.ok(read, fmt.Sprint("incidents/", got["incident_id"]), nil)["alerts"].([]any) {
		alerts = append(alerts, fmt.Sprint(a.(data)["event"], " ", a.(data)["state"]))
	}
	e.is(lines(alerts...), lines("secret.revoked delivered", "execution.terminated delivered", "execution.unacknowledged delivered"))
}

// TestNoticesFaults fails every storage operation after a rotation was stored,
// alone and as a crash: whoever listens is told all the same.
func TestNoticesFaults(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		for n := 0; ; n++ {
			e := newEnv(t)
			e.deployer()
			r := newReceiver(e)
			r.notifier(e, "ops", nil)
			e.ok(update, rotateOpen, data{"value": "second"})
			e.s.arm(n, crash)
			for range 2 {
				_, _ = e.b.advanceRotations(e.Context(), e.s)
			}
			ops := e.s.disarm()
			if len(ops) <= n {
				break
			}
			e.start()
			e.turn()
			e.deliver()
			if got := r.events(); got != "rotation.staged "+openAI+" 2 1" {
				t.Errorf("%s fails (crash %v): told %q", ops[n], crash, got)
			}
		}
	}
}
