package agentchains

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotation"
)

const (
	openAI     = "all/org/OPENAI_API_KEY"
	rotateOpen = "rotate/" + openAI
)

// turn does what the worker does about rotations, until nothing is left to do.
func (e *env) turn() {
	e.Helper()
	for range 100 {
		if _, err := e.b.advanceRotations(e.Context(), e.s); err != nil {
			e.Fatal(err)
		}
		e.b.worker.Load().group.Wait()
		if e.b.rotations.sleep(e.clock.Now()) > 0 {
			e.checkRotations()
			return
		}
	}
	e.Fatal("the rotations do not come to rest")
}

// checkRotations checks that each stored rotation fits its versions, and that an
// index knows of it.
func (e *env) checkRotations() {
	e.Helper()
	stored := map[string]bool{}
	for _, key := range e.stored("") {
		stored[key] = true
	}
	for key := range stored {
		if !strings.HasPrefix(key, secretPrefix) {
			continue
		}
		entry, err := getJSON[secretEntry](e.Context(), &e.s.InmemStorage, key)
		if err != nil {
			e.Fatal(err)
		}
		if err := rotation.Check(entry.Rotation, entry.Current.number(), entry.Pending.number()); err != nil {
			e.Errorf("%s: %v", entry.Path, err)
		}
		for _, line := range indexLines(entry, address(entry.Path)) {
			if !stored[line] {
				e.Errorf("%s has no line %s", entry.Path, line)
			}
		}
	}
}

func (e *env) rotation(path string) data {
	e.Helper()
	return e.ok(read, "rotate/"+path, nil)
}

// TestRotation is the heart: running executions keep the old version, new ones
// TestBrokenEntryHoldsNobodyUp rotates what can be rotated when another entry cannot
// even be read.
func TestBrokenEntryHoldsNobodyUp(t *testing.T) {
	both(t, func(e *env) {
		for i := range 5 {
			for _, value := range []string{"one", "two"} {
				e.ok(update, fmt.Sprintf("secrets/prod/org/KEY_%d", i), data{"value": value})
			}
		}
		e.clock.advance(48 * time.Hour)
		if err := e.s.InmemStorage.Put(e.Context(), &logical.StorageEntry{Key: secretKey(address("prod/org/KEY_2")), Value: []byte("{")}); err != nil {
			e.Fatal(err)
		}
		e.start()
		if _, err := e.b.advanceRotations(e.Context(), e.s); err == nil {
			e.Error("nobody is told of the broken one")
		}
		for i := range 5 {
			if i != 2 {
				e.is(e.ok(read, fmt.Sprintf("secrets/prod/org/KEY_%d", i), nil)["current_version"], 2)
			}
		}
	})
}

// get the new one, and the old value goes with its last holder.
func TestRotation(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		old := e.started(nil)
		got := e.ok(update, rotateOpen, data{"value": "second"})
		e.is(got["state"], "serving")
		e.is(got["current_version"], 1)
		e.is(got["pending_version"], 2)
		e.is(got["blocking_executions"], "["+old.id+"]")
		id := got["rotation_id"]
		e.fails(409, update, rotateOpen, data{"value": "third"}, "under way")
		e.is(e.ok(update, rotateOpen, data{"value": "second"})["rotation_id"], id)
		e.fails(409, update, "promote/"+openAI, nil, "nobody has used")

		fresh := e.started(nil)
		e.is(fresh.ok(read, "execution/"+fresh.id, nil)["versions"].(data)[openAI], 2)
		e.is(old.ok(read, "execution/"+old.id, nil)["versions"].(data)[openAI], 1)
		e.turn()
		e.is(e.rotation(openAI)["proof"], "used")
		e.clock.advance(10 * time.Minute)
		e.turn()
		e.is(e.rotation(openAI)["state"], "serving")
		e.fails(409, update, "promote/"+openAI, nil, "1 executions hold")

		e.ok(update, "execution/"+old.id+"/finish", nil)
		e.turn()
		got = e.rotation(openAI)
		e.is(got["state"], "idle")
		e.is(got["current_version"], 2)
		e.is(got["pending_version"], 0)
		e.is(got["rotation_id"], id)
		last := got["history"].([]any)[0].(data)
		e.is(last["result"], "promoted")
		e.is(last["from_version"], 1)
		e.is(last["ended_by"], "agentchains")
		if strings.Contains(e.dump(), `"openai"`) {
			e.Error("the old value is still stored")
		}
		e.is(len(e.stored(wakePrefix)), 0)
	})
}

// TestOverlap waits for min_overlap although nobody holds the old version, for
// proof although it has passed, and for nothing at max_overlap.
func TestOverlap(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.ok(update, rotateOpen, data{"value": "second", "min_overlap": "1h", "max_overlap": "3h"})
		e.clock.advance(time.Hour)
		e.turn()
		e.is(e.rotation(openAI)["state"], "serving")
		e.is(e.ok(read, "reveal/"+openAI, data{"version": "1"})["value"], "openai")
		e.ok(update, "confirm/"+openAI, nil)
		e.turn()
		e.is(e.rotation(openAI)["current_version"], 2)

		e.ok(update, rotateOpen, data{"value": "third", "min_overlap": "1h", "max_overlap": "3h"})
		e.clock.advance(3*time.Hour - 1)
		e.turn()
		e.is(e.rotation(openAI)["state"], "serving")
		e.clock.advance(1)
		e.turn()
		e.is(e.rotation(openAI)["current_version"], 3)
		e.is(e.rotation(openAI)["history"].([]any)[0].(data)["reason"], "max_overlap has passed")
	})
}

// TestIdle answers nothing of a rotation where there is none.
func TestIdle(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.settle()
		e.is(slices.Sorted(maps.Keys(e.rotation(openAI))), "[blocking_count blocking_executions broken_executions current_version history pending_version rotation_id state unpinned_readers]")
	})
}

// TestValidFrom is read by the clock: nobody has to come by at that moment.
func TestValidFrom(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.is(e.ok(update, rotateOpen, data{"value": "second", "valid_from": "2030-01-01T01:00:00Z"})["state"], "staged")
		e.is(strings.Contains(e.environment(deployerPath), "OPENAI_API_KEY:openai"), true)
		e.is(e.ok(read, "creds/"+deployerPath, nil)["ttl"], 300)
		e.clock.advance(time.Hour - 10*time.Second)
		e.is(e.ok(read, "creds/"+deployerPath, nil)["ttl"], 10)
		e.clock.advance(10 * time.Second)
		e.is(strings.Contains(e.environment(deployerPath), "OPENAI_API_KEY:second"), true)
		e.turn()
		got := e.rotation(openAI)
		e.is(got["state"], "serving")
		e.is(got["serving_since"], "2030-01-01T01:00:00Z")
	})
}

// TestAbort drops the pending version, unless somebody holds it.
func TestAbort(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.ok(update, rotateOpen, data{"value": "second"})
		r := e.started(nil)
		e.fails(409, update, "abort/"+openAI, nil, "1 executions hold")
		e.fails(409, update, "confirm/"+openAI, data{"ok": false}, "1 executions hold")
		e.fails(409, update, "confirm/"+openAI, data{"rotation_id": "another"}, "another rotation_id")
		got := e.ok(update, "abort/"+openAI, data{"force": true, "reason": "it is wrong"})
		e.is(got["state"], "idle")
		e.is(got["history"].([]any)[0].(data)["reason"], "it is wrong")
		e.is(strings.Contains(e.environment(deployerPath), "OPENAI_API_KEY:openai"), true)
		e.turn()
		e.is(r.state(), "terminating")
		e.is(e.ok(update, rotateOpen, data{"value": "third"})["pending_version"], 3)
		e.is(e.ok(update, "confirm/"+openAI, data{"ok": false})["history"].([]any)[0].(data)["reason"], "it was not confirmed")
		e.fails(409, update, "abort/"+openAI, nil, "no rotation")
	})
}

// TestForce replaces the pending version.
func TestForce(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.ok(update, rotateOpen, data{"value": "second"})
		r := e.started(nil)
		got := e.ok(update, rotateOpen, data{"value": "third", "force": true})
		e.is(got["pending_version"], 3)
		e.turn()
		e.is(r.state(), "terminating")
		e.is(e.ok(update, "secrets/"+openAI, data{"value": "fourth", "force": true})["pending_version"], 4)
		e.is(strings.Contains(e.environment(deployerPath), "OPENAI_API_KEY:fourth"), true)
	})
}

// TestOverdue leaves executions on a dead value, or tells them to stop. The
// order survives a crash right after the promotion.
func TestOverdue(t *testing.T) {
	for _, on := range []string{rotation.Alert, rotation.Kill} {
		t.Run(on, func(t *testing.T) {
			both(t, func(e *env) {
				e.deployer()
				r := e.started(nil)
				e.ok(update, rotateOpen, data{"value": "second", "on_overdue": on})
				e.clock.advance(24 * time.Hour)
				due, _ := e.b.rotations.due(e.clock.Now(), 1)
				_, err := e.b.advanceOnce(e.Context(), e.s, due[0], must(e.b.getSecret(e.Context(), e.s, due[0])))
				if err != nil {
					e.Fatal(err)
				}
				e.is(e.rotation(openAI)["broken_executions"], "["+r.id+"]")
				e.start()
				e.turn()
				e.is(e.rotation(openAI)["current_version"], 2)
				want := map[string]string{rotation.Alert: "active", rotation.Kill: "terminating"}[on]
				e.is(r.state(), want)
				e.is(len(e.stored(wakePrefix)), 0)
			})
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestRequireConfirm leaves what nobody has confirmed to a person.
func TestRequireConfirm(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.ok(update, rotateOpen, data{"value": "second", "require_confirm": true})
		e.environment(deployerPath)
		e.clock.advance(24 * time.Hour)
		e.turn()
		e.is(e.rotation(openAI)["state"], "orphaned")
		e.is(strings.Contains(e.environment(deployerPath), "OPENAI_API_KEY:second"), true)
		e.ok(update, "confirm/"+openAI, nil)
		e.turn()
		e.is(e.rotation(openAI)["current_version"], 2)
	})
}

// TestStartWaitsForASwitch gives nothing while the far side goes from one value to the
// next, and keeps no lock that another execution, or its end, may need.
func TestStartWaitsForASwitch(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	set := func(r *rotation.Rotation) {
		must(e.b.changeSecret(e.Context(), e.s, address(openAI), "", nil, func(e *secretEntry) error {
			e.Rotation = r
			return nil
		}))
	}
	set(&rotation.Rotation{ID: newRotationID(), State: rotation.Setting, NoOverlap: true})
	started := make(chan int)
	go func() {
		status, _, _ := e.send(e.request(update, "executions/"+deployerPath, nil))
		started <- status
	}()
	for waits := false; !waits; runtime.Gosched() {
		e.b.rotations.mu.Lock()
		waits = e.b.rotations.switched != nil
		e.b.rotations.mu.Unlock()
	}
	for _, lock := range e.b.runLocks {
		if !lock.TryLock() {
			t.Fatal("it waits with a lock")
		}
		lock.Unlock()
	}
	select {
	case <-started:
		t.Error("it was started during the switch")
	default:
	}
	set(nil)
	e.is(<-started, 200)
}

// TestRotationWaitsForTheIndex promotes nothing while it is not known what runs.
func TestRotationWaitsForTheIndex(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.started(nil)
		e.ok(update, rotateOpen, data{"value": "second"})
		e.ok(update, "confirm/"+openAI, nil)
		e.clock.advance(time.Hour)
		e.cold = true
		e.start()
		e.turn()
		e.is(e.rotation(openAI)["state"], "serving")
		e.is(e.rotation(openAI)["blocking_executions"], nil)
		e.fails(503, update, "promote/"+openAI, nil, "still reading")
		e.settle()
		e.turn()
		e.is(e.rotation(openAI)["state"], "serving") // it may still be renewed
		e.clock.advance(time.Minute + leaseGrace)
		e.sweep()
		e.turn()
		e.is(e.rotation(openAI)["current_version"], 2)
	})
}

// TestRotationFaults fails every storage operation on the way from one version to
// the next, alone and as a crash. After a restart the rotation goes on to its end.
func TestRotationFaults(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		for n := 0; ; n++ {
			e := newEnv(t)
			e.deployer()
			r := e.started(nil)
			e.s.arm(n, crash)
			way := []func() bool{
				func() bool { return e.tries(update, rotateOpen, data{"value": "second"}) },
				func() bool { return e.tries(update, "confirm/"+openAI, nil) },
				func() bool { return e.tries(update, "execution/"+r.id+"/finish", nil) },
				func() bool {
					e.clock.advance(10 * time.Minute)
					_, err := e.b.advanceRotations(e.Context(), e.s)
					return err == nil
				},
			}
			for _, step := range way {
				if !step() {
					break
				}
			}
			ops := e.s.disarm()
			if len(ops) <= n {
				break
			}
			e.start()
			e.checkRotations()
			e.tries(update, rotateOpen, data{"value": "second"})
			e.tries(update, "confirm/"+openAI, nil)
			e.tries(update, "execution/"+r.id+"/finish", nil)
			e.clock.advance(10 * time.Minute)
			e.turn()
			if got := e.rotation(openAI); fmt.Sprint(got["state"], got["current_version"]) != "idle2" {
				t.Errorf("%s fails (crash %v): %v", ops[n], crash, got)
			}
			if strings.Contains(e.dump(), `"openai"`) {
				t.Errorf("%s fails: the old value is still stored", ops[n])
			}
		}
	}
}

// tries sends a request that may fail because storage does.
func (e *env) tries(op logical.Operation, path string, body data) bool {
	e.Helper()
	status, text, _ := e.send(e.request(op, path, body))
	if status != 200 && status != 500 && status != 409 {
		e.Errorf("%s %s: %d %s", op, path, status, text)
	}
	return status == 200
}

// TestReplacedOnlyByWhatIsTaken leaves a rotation alone when what should replace it
// is refused.
func TestReplacedOnlyByWhatIsTaken(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.ok(update, rotateOpen, data{"value": "second"})
		for _, bad := range []data{{"value": "a\x00"}, {"value": "third", "on_overdue": "never"}, {"min_overlap": "10m"}} {
			bad["force"] = true
			before := e.dump()
			e.fails(400, update, rotateOpen, bad, "")
			e.is(e.dump(), before)
		}
		e.is(e.ok(update, rotateOpen, data{"value": "third", "force": true})["pending_version"], 3)
		e.is(e.ok(update, rotateOpen, data{"value": "openai", "force": true})["state"], "idle")
	})
}

// TestRepeatedStartDuringRotation gives the same execution what it holds.
func TestRepeatedStartDuringRotation(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		body := data{"idempotency_key": "one"}
		r := e.started(body)
		e.ok(update, rotateOpen, data{"value": "second"})
		status, _, resp := e.send(e.request(update, "executions/"+deployerPath, body))
		e.is(status, 200)
		e.is(resp.Data["execution_id"], r.id)
		e.is(resp.Data["env"].(data)["OPENAI_API_KEY"], "openai")
		e.is(resp.Data["versions"].(data)["OPENAI_API_KEY"], 1)
		e.ok(update, "promote/"+openAI, data{"force": true})
		e.fails(409, update, "executions/"+deployerPath, body, "no longer given out")
	})
}

// TestManyHolders reads a rotation whose versions 100,000 executions hold, which
// must not be compared with each other: that takes minutes.
func TestManyHolders(t *testing.T) {
	t.Parallel()
	const held = 100_000
	e := newEnv(t)
	e.deployer()
	e.ok(update, rotateOpen, data{"value": "second"})
	for i := range held {
		pins := []pin{{openAI, 1 + i%2}}
		e.b.executions.put(&executionEntry{ID: fmt.Sprintf("%032d", i), Pins: pins, State: executionActive}, time.Time{})
	}
	got := e.rotation(openAI)
	e.is(got["blocking_count"], held/2)
	e.is(got["broken_executions"], "[]")
}
