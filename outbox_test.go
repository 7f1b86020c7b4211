package agentchains

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/notify"
)

// happened is something to tell of.
func (e *env) happened(id string) notification {
	return notification{ID: id, Event: "rotation.failed", Time: e.clock.Now(), Fields: map[string]any{
		"path": "prod/org/KEY", "pending_version": 1234567, "rotation_id": "r1", "last_error": "the far side answers 503",
	}}
}

func (e *env) notifies(id string) {
	e.Helper()
	if err := e.b.notify(e.Context(), e.s, e.happened(id)); err != nil {
		e.Fatal(err)
	}
}

// deliver does what the worker does about notifications, until nothing is due.
func (e *env) deliver() {
	e.Helper()
	for range 100 {
		e.b.workOnOutbox(e.Context(), e.s)
		e.b.worker.Load().group.Wait()
		if e.b.outbox.sleep(e.clock.Now()) > 0 {
			return
		}
	}
	e.Fatal("the outbox does not come to rest")
}

// deliverFor delivers for a while.
func (e *env) deliverFor(d time.Duration) {
	e.Helper()
	for end := e.clock.Now().Add(d); e.clock.Now().Before(end); {
		e.deliver()
		e.clock.advance(max(time.Second, e.b.outbox.sleep(e.clock.Now())))
	}
}

func TestNotify(t *testing.T) {
	both(t, func(e *env) {
		r := newReceiver(e)
		r.notifier(e, "all", nil)
		r.notifier(e, "some", data{"events": "secret.*,rotation.promoted"})
		e.notifies("one")
		e.notifies("one")
		e.is(r.called(), 0)
		e.is(e.ok(read, "status", nil)["outbox"].(data)["all"].(data)["waiting"], 1)
		e.deliver()
		e.is(r.called(), 1)
		e.is(r.taken[0], map[string]any{
			"id": "one", "event": "rotation.failed", "time": "2030-01-01T00:00:00Z", "version": 1.0,
			"path": "prod/org/KEY", "pending_version": 1234567.0, "rotation_id": "r1", "last_error": "the far side answers 503",
		})
		e.is(len(e.stored(outboxPrefix)), 0)

		// Told again, it is sent again, and the receiver knows it by its id.
		e.notifies("one")
		e.deliver()
		e.is(r.called(), 2)
		e.is(r.ids(), "one")

		wrong := e.happened("wrong")
		wrong.Fields["value"] = "x"
		if err := e.b.notify(e.Context(), e.s, wrong); err == nil {
			e.Error("a field is told that the event does not have")
		}
	})
}

// TestDeliveryFails goes from the first attempt to the dead letter, and back.
func TestDeliveryFails(t *testing.T) {
	both(t, func(e *env) {
		r := newReceiver(e)
		r.notifier(e, "ops", nil)
		for status, text := range map[int]string{
			http.StatusInternalServerError: "answers 500", http.StatusFound: "answers 302", http.StatusUnauthorized: "answers 401", 0: "cut off",
		} {
			r.set(status, false)
			calls := r.called()
			e.notifies("one")
			begun := e.clock.Now()
			for len(e.stored(deadLetterPrefix)) == 0 {
				e.deliver()
				e.clock.advance(max(time.Second, e.b.outbox.sleep(e.clock.Now())))
			}
			e.is(r.called()-calls, notify.MaxAttempts)
			if took := e.clock.Now().Sub(begun); took < 18*time.Hour || took > 30*time.Hour {
				e.Errorf("it is a dead letter after %s", took)
			}
			e.is(len(e.stored(outboxPrefix)), 0)
			dead := e.ok(read, "status", nil)
			e.is(dead["outbox"], "map[ops:map[dead:1 waiting:0]]")
			letter := dead["dead_letters"].([]any)[0].(data)
			e.is(letter["notifier"], "ops")
			e.is(letter["id"], "one")
			e.is(letter["event"], "rotation.failed")
			e.is(letter["attempts"], notify.MaxAttempts)
			if got := letter["last_error"].(string); !strings.Contains(got, text) || strings.Contains(got, "/hook") || strings.Contains(got, hmacSecret) {
				e.Errorf("last_error is %q, want %q in it", got, text)
			}

			r.set(http.StatusOK, false)
			e.is(e.ok(update, "notifiers/ops/retry", nil)["retried"], 1)
			e.deliver()
			e.is(r.ids(), "one")
			e.is(len(e.stored(outboxPrefix))+len(e.stored(deadLetterPrefix)), 0)
			r.taken = nil
		}
		if strings.Contains(e.log.String(), hmacSecret) {
			e.Error("the log holds the key")
		}
	})
}

// TestOutboxRestart finds what waits, and when it is due, in storage.
func TestOutboxRestart(t *testing.T) {
	both(t, func(e *env) {
		r := newReceiver(e)
		r.notifier(e, "ops", nil)
		r.set(http.StatusServiceUnavailable, false)
		e.notifies("one")
		e.deliverFor(time.Hour)
		calls := r.called()
		e.start()
		e.deliver()
		e.is(r.called(), calls)
		e.notifies("one")
		e.is(len(e.stored(outboxPrefix)), 1)
		r.set(http.StatusOK, false)
		e.deliverFor(2 * time.Hour)
		e.is(r.called(), calls+1)
		e.is(r.ids(), "one")
	})
}

// TestOutboxFaults fails every storage operation from the notification to its
// delivery, or to the dead letter and back, alone and, as a crash would, with all
// that follow. What notify has taken arrives.
func TestOutboxFaults(t *testing.T) {
	t.Parallel()
	for _, dies := range []bool{false, true} {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprintf("dies=%t,crash=%t", dies, crash), func(t *testing.T) {
				t.Parallel()
				for n := 0; ; n++ {
					e := newEnv(t)
					r := newReceiver(e)
					r.notifier(e, "a", nil)
					r.notifier(e, "b", data{"events": "secret.*"})
					if dies {
						e.ok(update, "config", data{"allowed_hosts": ""})
					}
					e.s.arm(n, crash)
					told := e.b.notify(e.Context(), e.s, e.happened("one")) == nil
					for range 60 {
						e.b.workOnOutbox(e.Context(), e.s)
						e.b.worker.Load().group.Wait()
						e.clock.advance(time.Hour)
					}
					tried := e.tries(update, "notifiers/a/retry", nil)
					ops := e.s.disarm()
					if len(ops) <= n {
						if n < 5 {
							t.Errorf("only %d operations", n)
						}
						return
					}
					e.start()
					if !told {
						e.notifies("one")
					}
					e.deliverFor(80 * time.Hour)
					e.ok(update, "config", data{"allowed_hosts": "127.0.0.1"})
					e.ok(update, "notifiers/a/retry", nil)
					e.deliverFor(2 * time.Hour)
					if left := append(e.stored(outboxPrefix), e.stored(deadLetterPrefix)...); r.ids() != "one" || len(left) > 0 {
						e.Errorf("%s fails (told %t, tried %t): %q arrived, %q left", ops[n], told, tried, r.ids(), left)
					}
				}
			})
		}
	}
}

// TestSlowReceiver hangs one receiver. Nobody waits for it: not the others, not
// a request, and not the end of the engine.
func TestSlowReceiver(t *testing.T) {
	both(t, func(e *env) {
		slow, fast := newReceiver(e), newReceiver(e)
		slow.notifier(e, "slow", nil)
		fast.notifier(e, "fast", nil)
		slow.set(http.StatusOK, true)
		e.b.stopWorker()
		e.b.startWorker(e.s)
		for i := range 20 {
			e.notifies(fmt.Sprint(i))
			fast.await(i + 1)
			e.ok(read, "status", nil)
		}
		slow.await(1)
		w := e.b.worker.Load()
		e.b.stopWorker()
		w.group.Wait()
		e.is(slow.called(), 1)
		e.is(len(e.stored(outboxPrefix+"slow/")), 20)

		slow.set(http.StatusOK, false)
		e.start()
		e.deliver()
		e.is(slow.called(), 21)
	})
}

// TestOutboxBounds keeps neither more notifications nor more dead letters than it
// may, and drops the oldest.
func TestOutboxBounds(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	r := newReceiver(e)
	r.notifier(e, "ops", nil)
	const excess = 3
	for i := range mostWaiting + mostDeadLetters + excess {
		e.clock.advance(time.Second)
		e.notifies(fmt.Sprint(i))
	}
	for range mostDeadLetters + excess {
		e.deliverOne("ops")
	}
	e.is(r.called(), 0)
	dead := e.ok(read, "status", nil)
	e.is(dead["outbox"], fmt.Sprintf("map[ops:map[dead:%d waiting:%d]]", mostDeadLetters, mostWaiting))
	e.is(len(dead["dead_letters"].([]any)), mostListed)
	e.is(dead["dead_letters"].([]any)[0].(data)["id"], excess)
	e.is(dead["counters"].(data)["notifications_dropped"], excess)
}

// deliverOne takes one item of a queue.
func (e *env) deliverOne(notifier string) {
	e.Helper()
	q := e.b.outbox.queue(notifier)
	item, excess, _ := e.b.outbox.next(q, e.clock.Now())
	if err := e.b.deliver(e.Context(), e.s, q, item, excess); err != nil {
		e.Fatal(err)
	}
}

// TestAlerts lists in an incident what became of its notifications.
func TestAlerts(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		r := newReceiver(e)
		e.ok(update, "config", data{"allowed_hosts": "127.0.0.1,192.0.2.1"})
		r.notifier(e, "ops", data{"events": "secret.revoked"})
		r.notifier(e, "gone", data{"events": "secret.*", "url": "https://192.0.2.1", "hmac_secret": hmacSecret})
		e.ok(update, "config", data{"allowed_hosts": "127.0.0.1"})
		incident := e.ok(update, revokeOpen, data{"reason": "leaked", "value": "fresh"})["incident_id"]
		e.work()
		e.deliverFor(40 * time.Hour)
		e.work()
		e.is(r.taken[0]["incident_id"], incident)
		e.is(r.taken[0]["path"], openAI)
		states := map[any]any{}
		for _, a := range e.ok(read, fmt.Sprint("incidents/", incident), nil)["alerts"].([]any) {
			e.is(a.(data)["event"], "secret.revoked")
			states[a.(data)["notifier"]] = fmt.Sprintf("%v after %v", a.(data)["state"], a.(data)["attempts"])
		}
		e.is(states, fmt.Sprintf("map[gone:dead after %d ops:delivered after 1]", notify.MaxAttempts))
	})
}

// TestVaultEvents also tells Vault's own event system.
func TestVaultEvents(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	sender := logical.NewMockEventSender()
	if err := e.b.Setup(t.Context(), &logical.BackendConfig{Logger: e.b.Logger(), System: e.b.System(), StorageView: e.s, EventsSender: sender}); err != nil {
		t.Fatal(err)
	}
	e.notifies("one")
	if err := e.b.notify(t.Context(), e.s, notification{ID: "two", Event: "execution.terminated", Time: e.clock.Now(), Fields: map[string]any{
		"execution_id": "x", "environment": "prod", "chain": "c", "agent": "A",
	}}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		event string
		data  data
	}{
		{"agentchains/rotation.failed", data{"id": "one", "time": "2030-01-01T00:00:00Z", "path": "secrets/prod/org/KEY", "pending_version": "1234567", "rotation_id": "r1", "last_error": "the far side answers 503"}},
		{"agentchains/execution.terminated", data{"id": "two", "time": "2030-01-01T00:00:00Z", "path": "executions/prod/c/A", "execution_id": "x", "environment": "prod", "chain": "c", "agent": "A"}},
	} {
		e.is(sender.Events[i].Type, want.event)
		e.is(sender.Events[i].Event.Metadata.AsMap(), want.data)
	}
}
