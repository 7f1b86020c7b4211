package agentchains

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// work does what the worker does about what runs, and about rotations.
func (e *env) work() {
	e.Helper()
	for _, task := range []func(context.Context, logical.Storage) error{e.b.loadExecutions, e.b.loadIncidents, e.b.tellAll, e.b.tellIncidents, e.b.storeIncidents, e.b.moveExecutions} {
		if err := task(e.Context(), e.s); err != nil {
			e.Fatal(err)
		}
	}
	e.turn()
	e.clock.advance(storeInterval)
	if err := e.b.storeIncidents(e.Context(), e.s); err != nil {
		e.Fatal(err)
	}
}

// states returns the executions of an incident with their states, sorted.
func (e *env) states(incident any) string {
	e.Helper()
	var states []string
	for _, x := range e.ok(read, fmt.Sprint("incidents/", incident), nil)["executions"].([]any) {
		states = append(states, fmt.Sprint(x.(data)["execution_id"], "=", x.(data)["state"]))
	}
	slices.Sort(states)
	return strings.Join(states, " ")
}

func sorted(lines ...string) string {
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

const revokeOpen = "revoke/secret/" + openAI

func (r *run) acknowledge() {
	r.Helper()
	r.ok(update, "execution/"+r.id+"/ack", data{"pid": 7, "signal": "SIGTERM", "exit_code": 143, "time": r.clock.Now().Format(time.RFC3339)})
}

// TestRevokeSecret kills a value and who holds it, and gives the receipt.
func TestRevokeSecret(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		one, two := e.started(nil), e.started(nil)
		e.environment(deployerPath)
		e.fails(400, update, revokeOpen, nil, "reason must say")
		e.fails(404, update, "revoke/secret/prod/org/NOTHING", data{"reason": "x"}, "")
		dry := e.ok(update, revokeOpen, data{"reason": "leaked", "dry_run": true})
		e.is(dry["incident_id"], "")
		e.is(dry["execution_count"], 2)
		e.is(dry["agents"], "["+deployerPath+"]")
		e.is(dry["chains"], "[deploy-pipeline]")
		e.is(len(dry["readers"].([]any)), 1)
		e.is(one.state(), "active")

		got := e.ok(update, revokeOpen, data{"reason": "leaked", "value": "fresh"})
		id := got["incident_id"]
		e.is(got["execution_count"], 2)
		e.is(got["versions"], "[1]")
		e.is(one.state(), "terminating") // before the worker has stored it
		e.is(one.ok(read, "execution/"+one.id+"/watch", nil)["incident_id"], id)
		if _, refusal := two.renew(0); !strings.HasPrefix(refusal, "EXECUTION_TERMINATED") {
			e.Errorf("a renewal answers %q", refusal)
		}
		e.is(strings.Contains(e.environment(deployerPath), "OPENAI_API_KEY:fresh"), true)
		e.is(e.states(id), sorted(one.id+"=unacknowledged", two.id+"=unacknowledged"))
		one.acknowledge()
		e.work()
		e.is(e.states(id), sorted(one.id+"=acknowledged", two.id+"=unacknowledged"))
		e.is(e.ok(read, "status", nil)["unacknowledged"].([]any)[0].(data)["incident_id"], id)
		e.is(e.ok(read, fmt.Sprint("incidents/", id), nil)["counts"], "map[acknowledged:1 lost:0 total:2 unacknowledged:1]")
		e.is(e.ok(update, revokeOpen, data{"reason": "leaked", "value": "fresh"})["incident_id"], id)
		e.is(e.ok(update, revokeOpen, data{"reason": "leaked again", "version": 1})["incident_id"], id)
		if strings.Contains(e.dump(), `"openai"`) {
			e.Error("the value is still stored")
		}

		e.clock.advance(2 * time.Minute)
		e.sweep()
		e.work()
		e.is(e.states(id), sorted(one.id+"=acknowledged", two.id+"=lost"))
		got = e.ok(read, fmt.Sprint("incidents/", id), nil)
		e.is(got["state"], "closed")
		e.is(got["reason"], "leaked")
		e.is(got["target"], openAI)
		e.start()
		e.is(e.states(id), sorted(one.id+"=acknowledged", two.id+"=lost"))
		e.is(e.keys("incidents/", nil), id)
		e.ok(remove, fmt.Sprint("incidents/", id), nil)
		e.fails(404, read, fmt.Sprint("incidents/", id), nil, "")
		e.is(len(e.stored(incidentPartPrefix)), 0)
	})
}

// TestRevokeWithoutValue leaves a secret that says that it was revoked.
func TestRevokeWithoutValue(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.ok(update, revokeOpen, data{"reason": "leaked"})
		e.fails(400, read, "env/"+deployerPath, nil, "was revoked")
		e.fails(400, update, "executions/"+deployerPath, nil, "was revoked")
		e.fails(400, read, "reveal/"+openAI, nil, "no such version")
		// A value is stored, or refused, and never taken for one that is there.
		e.is(e.ok(update, revokeOpen, data{"reason": "leaked too"})["incident_id"], e.keys("incidents/", nil))
		e.fails(400, update, revokeOpen, data{"reason": "leaked too", "value": "next"}, "give it a value by secrets/"+openAI)
		e.fails(400, update, revokeOpen, data{"reason": "leaked too", "rotate": true}, "has no version that could be revoked")
		// Who stores what is not there does not revive it.
		e.fails(409, update, "secrets/"+openAI, data{"value": "next", "cas": 0}, "is 1")
		e.is(e.ok(update, "secrets/"+openAI, data{"value": "next", "cas": 1})["current_version"], 2)
		e.environment(deployerPath)
	})
}

// TestRevokeDuringRotation is about each of two live versions.
func TestRevokeDuringRotation(t *testing.T) {
	both(t, func(e *env) {
		for _, c := range []struct {
			versions any
			serves   string // afterwards; empty: nothing
			stops    string
		}{
			{nil, "", "old new"}, {"1", "second", "old"}, {[]any{2}, "openai", "new"}, {[]any{1, 2}, "", "old new"},
		} {
			e.ok(update, "config", data{"environments": "dev,staging,prod"})
			e.deployer()
			old := e.started(nil)
			e.ok(update, rotateOpen, data{"value": "second"})
			fresh := e.started(nil)
			body := data{"reason": fmt.Sprint("leaked ", c.versions)}
			if c.versions != nil {
				body["version"] = c.versions
			}
			e.ok(update, revokeOpen, body)
			var stopped []string
			for name, r := range map[string]*run{"old": old, "new": fresh} {
				if r.state() == "terminating" {
					stopped = append(stopped, name)
				}
			}
			slices.Sort(stopped)
			slices.Reverse(stopped)
			e.is(strings.Join(stopped, " "), c.stops)
			if c.serves == "" {
				e.fails(400, read, "env/"+deployerPath, nil, "was revoked")
			} else {
				e.is(strings.Contains(e.environment(deployerPath), "OPENAI_API_KEY:"+c.serves), true)
			}
			e.is(e.rotation(openAI)["state"], "idle")
			e.work()
			e.ok(remove, "secrets/"+openAI, data{"force": true})
			e.s.InmemStorage = logical.InmemStorage{}
			e.start()
		}
	})
}

// TestRevokeRunners stops by who runs, and keeps out what is held.
func TestRevokeRunners(t *testing.T) {
	both(t, func(e *env) {
		for path, others := range map[string]bool{
			"revoke/run/42": true, "revoke/agent/" + deployerPath: true, "revoke/chain/prod/deploy-pipeline": true, "revoke/all": true,
		} {
			e.deployer()
			hit := e.started(data{"run": "42"})
			got := e.ok(update, path, data{"reason": "stop", "hold": others})
			e.is(got["executions"], "["+hit.id+"]")
			e.is(hit.state(), "terminating")
			e.fails(423, update, "executions/"+deployerPath, data{"run": "42"}, "is held since")
			flat := 423
			if path == "revoke/run/42" {
				flat = 200
			}
			status, _, _ := e.send(e.request(read, "env/"+deployerPath, nil))
			e.is(status, flat)
			id := fmt.Sprint(got["incident_id"])
			e.is(e.keys("holds/", nil), id)
			e.is(e.ok(read, "holds/"+id, nil)["release"], path)
			e.cold = true
			e.start() // a hold outlives the engine
			e.fails(423, update, "executions/"+deployerPath, data{"run": "42"}, "is held since")
			if _, refusal := hit.renew(0); !strings.HasPrefix(refusal, "EXECUTION_TERMINATED") {
				e.Errorf("a renewal answers %q", refusal)
			}
			e.cold = false
			e.settle()
			e.ok(remove, path, nil)
			e.is(e.keys("holds/", nil), "")
			e.clock.advance(time.Second)
			e.started(data{"run": "42"})
			hit.acknowledge()
			e.work()
			e.is(e.states(id), hit.id+"=acknowledged")
			e.clock.advance(repeatWindow)
			e.work()
			e.is(len(e.stored(stopPrefix)), 0)
			e.s.InmemStorage = logical.InmemStorage{}
			e.start()
		}
	})
}

// TestHoldsAndOddPaths asks, while there are holds, for what no agent can be called.
func TestHoldsAndOddPaths(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		for _, path := range []string{"revoke/all", "revoke/chain/prod/deploy-pipeline"} {
			e.ok(update, path, data{"reason": "stop", "hold": true})
		}
		for _, path := range []string{"mount", "prod", "prod/deploy-pipeline/" + marker + "."} {
			for _, door := range []string{"env/", "creds/"} {
				status, text, _ := e.send(e.request(read, door+path, nil))
				if status != 400 || strings.Contains(text, marker) {
					e.Errorf("%s%s: %d", door, path, status)
				}
			}
		}
	})
}

// TestHoldsFailClosed serves nothing while the holds cannot be read.
func TestHoldsFailClosed(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	r := e.started(nil)
	e.cold = true
	e.s.arm(1, true) // all but the settings
	e.start()
	for op, path := range map[logical.Operation]string{read: "env/" + deployerPath, update: "executions/" + deployerPath} {
		status, text, _ := e.send(e.request(op, path, nil))
		if status != 503 {
			t.Errorf("%s %s: %d %s", op, path, status, text)
		}
	}
	if _, refusal := r.renew(0); !strings.HasPrefix(refusal, "ENGINE_NOT_READY") {
		t.Errorf("a renewal answers %q", refusal)
	}
	e.s.disarm()
	e.environment(deployerPath)
	if _, refusal := r.renew(0); refusal != "" {
		t.Errorf("a renewal answers %q", refusal)
	}
}

// TestRevokeFaults fails every storage operation of a revocation and of what
// follows, alone and as a crash. After a restart all who held the value are told,
// and the incident is complete.
func TestRevokeFaults(t *testing.T) {
	t.Parallel()
	for _, path := range []string{revokeOpen, "revoke/chain/prod/deploy-pipeline"} {
		for _, crash := range []bool{false, true} {
			for n := 0; ; n++ {
				e := newEnv(t)
				e.deployer()
				runs := []*run{e.started(nil), e.started(nil)}
				e.s.arm(n, crash)
				done := e.tries(update, path, data{"reason": "leaked"})
				if done {
					status, _, _ := runs[0].send(e.request(update, "execution/"+runs[0].id+"/ack", data{"pid": 7}))
					_ = status
					_ = e.b.tellAll(e.Context(), e.s)
					_, _ = e.b.advanceRotations(e.Context(), e.s)
					_ = e.b.storeIncidents(e.Context(), e.s)
				}
				ops := e.s.disarm()
				if len(ops) <= n {
					break
				}
				e.start()
				e.clock.advance(time.Second)
				again := e.ok(update, path, data{"reason": "leaked"})
				e.work()
				for _, r := range runs {
					if state := r.state(); state != "terminating" && state != "terminated" {
						t.Errorf("%s fails (crash %v): an execution is %s", ops[n], crash, state)
					}
				}
				incident := fmt.Sprint(again["incident_id"])
				if got := e.ok(read, "incidents/"+incident, nil)["counts"].(data)["total"]; fmt.Sprint(got) != "2" {
					t.Errorf("%s fails (crash %v): the incident has %v executions", ops[n], crash, got)
				}
				if keys := e.keys("incidents/", nil); keys != incident {
					t.Errorf("%s fails (crash %v): incidents %s, want %s", ops[n], crash, keys, incident)
				}
				for _, r := range runs {
					_, _, _ = r.send(e.request(update, "execution/"+r.id+"/ack", data{"pid": 7}))
				}
				e.work()
				if got := e.ok(read, "incidents/"+incident, nil)["counts"]; fmt.Sprint(got) != "map[acknowledged:2 lost:0 total:2 unacknowledged:0]" {
					t.Errorf("%s fails (crash %v): %v", ops[n], crash, got)
				}
			}
		}
	}
}

// TestRevokeRace starts executions while their secret is revoked: each is refused,
// or is told to stop.
func TestRevokeRace(t *testing.T) {
	t.Parallel()
	for range 50 {
		e := newEnv(t)
		e.deployer()
		var mu sync.Mutex
		var started []string
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 5 {
					resp, err := e.b.HandleRequest(t.Context(), e.request(update, "executions/"+deployerPath, nil))
					if err == nil && !resp.IsError() {
						mu.Lock()
						started = append(started, resp.Data["execution_id"].(string))
						mu.Unlock()
					}
				}
			})
		}
		got := e.ok(update, revokeOpen, data{"reason": "leaked"})
		wg.Wait()
		e.work()
		total := e.ok(read, fmt.Sprint("incidents/", got["incident_id"]), nil)["counts"].(data)["total"]
		for _, id := range started {
			if state := e.ok(read, "execution/"+id, nil)["state"]; state != "terminating" {
				t.Errorf("an execution that holds the value is %v", state)
			}
		}
		if fmt.Sprint(total) != fmt.Sprint(len(started)) {
			t.Errorf("the incident has %v executions of %d", total, len(started))
		}
	}
}

// TestStoppable says before it is needed who could be stopped now.
func TestStoppable(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		one, two := e.started(nil), e.started(nil)
		e.ok(read, "execution/"+one.id+"/watch", nil)
		e.is(e.ok(read, "status", nil)["stoppable"], "map[executions:["+two.id+"] unwatched:1 watched:1]")
		e.clock.advance(watchedWithin + time.Second)
		e.is(e.ok(read, "status", nil)["stoppable"].(data)["unwatched"], 2)
	})
}

// TestRevokeWhileWhatRunsIsRead finds an execution of before the start of the engine that
// becomes known while the revocation is stored.
func TestRevokeWhileWhatRunsIsRead(t *testing.T) {
	t.Parallel()
	for path, stored := range map[string]string{revokeOpen: "put " + secretPrefix, "revoke/agent/" + deployerPath: "put " + stopPrefix} {
		e := newEnv(t)
		e.deployer()
		r := e.started(nil)
		e.cold = true // what runs is not read yet
		e.start()
		var once sync.Once
		e.s.onOp = func(op string) {
			if strings.HasPrefix(op, stored) {
				once.Do(func() {
					record, err := getExecution(e.Context(), e.s, r.id)
					if err == nil {
						err = e.b.index(e.Context(), e.s, record)
					}
					if err != nil {
						e.Error(err)
					}
				})
			}
		}
		got := e.ok(update, path, data{"reason": "leaked"})
		e.is(got["executions"], "["+r.id+"]")
		if _, refusal := r.renew(0); !strings.HasPrefix(refusal, "EXECUTION_TERMINATED") {
			e.Errorf("%s: a renewal answers %q", path, refusal)
		}
		e.work()
		e.is(e.states(got["incident_id"]), r.id+"=unacknowledged")
	}
}

// TestReadWhileItIsRevoked orders an execution of before the start of the engine that
// is being read when the order is stored: at no moment it is known without the order.
func TestReadWhileItIsRevoked(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	r := e.started(nil)
	e.cold = true // what runs is not read yet
	e.start()
	record, err := getExecution(e.Context(), e.s, r.id)
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	e.s.onOp = func(op string) {
		if strings.HasPrefix(op, "get "+secretPrefix) {
			once.Do(func() {
				noted := e.b.executions.ordersNoted()
				e.ok(update, "revoke/agent/"+deployerPath, data{"reason": "strange"})
				if e.b.executions.putOrdered(record, e.clock.Now(), nil, noted) {
					e.Error("it is known without the order")
				}
			})
		}
	}
	if err := e.b.index(e.Context(), e.s, record); err != nil {
		t.Fatal(err)
	}
	if order, known := e.b.executions.orderOf(r.id); !known || order == nil {
		t.Errorf("it is known: %v, with the order %v", known, order)
	}
}

// TestRevocationSentAgain answers a request that Vault sends again after a crash of the
// plugin with the incident of the first.
func TestRevocationSentAgain(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		r := e.started(nil)
		req := e.request(update, revokeOpen, data{"reason": "leaked", "value": "fresh"})
		var first any
		for range 2 {
			status, text, resp := e.send(req)
			if status != 200 {
				e.Fatal(text)
			}
			e.is(resp.Data["executions"], "["+r.id+"]")
			e.is(resp.Data["versions"], "[1]")
			if first != nil {
				e.is(resp.Data["incident_id"], first)
			}
			first = resp.Data["incident_id"]
			e.start()
		}
		r.acknowledge()
		e.work()
		e.is(e.keys("incidents/", nil), first)
		e.is(len(e.stored(openIncidentPrefix)), 0)
	})
}

// TestRevokedBeforeItsFirstValue closes the incident of what never had a value.
func TestRevokedBeforeItsFirstValue(t *testing.T) {
	both(t, func(e *env) {
		const path = "prod/org/SIGNING_KEY"
		e.ok(update, "config", data{"allowed_hosts": "127.0.0.1"})
		e.ok(update, "rotators/hook", data{"type": "webhook", "url": "http://127.0.0.1:1", "hmac_secret": "hmac-key-of-the-webhook"})
		e.ok(update, "schedules/"+path, data{"rotator": "hook", "rotate_every_days": 30})
		e.ok(update, "rotate/"+path, nil)
		id := e.ok(update, "revoke/secret/"+path, data{"reason": "strange"})["incident_id"]
		e.work()
		e.is(e.ok(read, fmt.Sprint("incidents/", id), nil)["state"], "closed")
	})
}

// TestManyRevocations revokes more often than an entry keeps, before the worker comes to any.
func TestManyRevocations(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		incidents := map[string]*run{}
		for i := range keptTombstones + 3 {
			r := e.started(nil)
			id := e.ok(update, revokeOpen, data{"reason": fmt.Sprint("leak ", i), "value": fmt.Sprint("value ", i)})["incident_id"]
			incidents[fmt.Sprint(id)] = r
		}
		e.cold = true
		e.start() // what was told in memory is gone
		for _, r := range incidents {
			if _, refusal := r.renew(0); !strings.HasPrefix(refusal, "EXECUTION_TERMINATED") {
				e.Errorf("a renewal answers %q", refusal)
			}
		}
		e.work()
		for _, r := range incidents {
			r.ok(update, "execution/"+r.id+"/finish", nil)
		}
		e.work()
		for id, r := range incidents {
			e.is(e.states(id), r.id+"=acknowledged")
		}
	})
}
