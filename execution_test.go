package agentchains

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// run is an execution as its runner holds it.
type run struct {
	*env
	id     string
	secret *logical.Secret
	issued time.Time
}

// started starts an execution of the deployer's chain.
func (e *env) started(body data) *run {
	e.Helper()
	status, text, resp := e.send(e.request(update, "executions/"+deployerPath, body))
	if status != 200 {
		e.Fatalf("start: %d %s", status, text)
	}
	return &run{e, fmt.Sprint(resp.Data["execution_id"]), resp.Secret, e.clock.Now()}
}

// renew renews the lease as Vault does, and returns what a client sees.
func (r *run) renew(increment time.Duration) (*logical.Secret, string) {
	r.Helper()
	r.secret.IssueTime, r.secret.Increment = r.issued, increment
	resp, err := r.handler.HandleRequest(r.Context(), &logical.Request{Operation: logical.RenewOperation, Path: "executions/" + deployerPath, Storage: r.s, Secret: r.secret})
	if err != nil {
		return nil, err.Error()
	}
	if resp.Data != nil {
		r.Error("a renewal answers data")
	}
	return resp.Secret, ""
}

// revoke revokes the lease, as Vault also does when it expires.
func (r *run) revoke() {
	r.Helper()
	resp, err := r.handler.HandleRequest(r.Context(), &logical.Request{Operation: logical.RevokeOperation, Path: "executions/" + deployerPath, Storage: r.s, Secret: r.secret})
	if err != nil || resp != nil && resp.IsError() {
		r.Errorf("revoke: %v", err)
	}
}

func (r *run) state() string {
	r.Helper()
	return fmt.Sprint(r.ok(read, "execution/"+r.id, nil)["state"])
}

// settle waits until the worker has read what is stored.
func (e *env) settle() {
	e.Helper()
	if err := errors.Join(e.b.loadExecutions(e.Context(), e.s), e.b.loadIncidents(e.Context(), e.s)); err != nil {
		e.Fatal(err)
	}
}

func TestExecutionLifecycle(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.settle()
		status, _, resp := e.send(e.request(update, "executions/"+deployerPath, data{"workspace": "docker:x", "run": "42", "user": "ann"}))
		e.is(status, 200)
		e.is(resp.Data["env"], "map[AWS_REGION:us-west-2 DB_URL:project-db OPENAI_API_KEY:openai]")
		e.is(resp.Data["versions"], "map[AWS_REGION:1 DB_URL:1 OPENAI_API_KEY:1]")
		e.is(resp.Data["expires_at"], "2030-01-01T02:00:00Z")
		e.is(resp.Secret.TTL, time.Minute)
		e.is(resp.Secret.MaxTTL, 2*time.Hour)
		e.is(resp.Secret.Renewable, true)
		id := fmt.Sprint(resp.Data["execution_id"])

		got := e.ok(read, "execution/"+id, nil)
		e.is(slices.Sorted(maps.Keys(got)), "[ack agent chain ended_at environment execution_id expires_at findings generation incident_id reason redact run started_at started_by state user versions workspace]")
		e.is(got["state"], "active")
		e.is(got["workspace"], "docker:x")
		e.is(got["versions"], "map[all/org/OPENAI_API_KEY:1 prod/org/aws-deploy:1 prod/project/platform/DATABASE_URL:1]")
		e.is(e.ok(read, "executions/"+deployerPath, data{"id": id}), got)
		e.is(e.keys("executions/"+deployerPath+"/", nil), id)
		e.is(e.keys("executions/prod/deploy-pipeline/", nil), "CodeAnalyzer/ Deployer/")
		e.is(e.ok(read, "status", nil)["executions"], "map[deploy-pipeline:1]")
		e.is(e.holders("all/org/OPENAI_API_KEY", 1), id)
		e.is(e.holders("all/org/OPENAI_API_KEY", 2), "")

		e.clock.advance(time.Second)
		got = e.ok(update, "execution/"+id+"/finish", data{"exit_code": 3})
		e.is(got["state"], "finished")
		e.is(got["exit_code"], 3)
		e.is(got["ended_at"], "2030-01-01T00:00:01Z")
		e.is(e.ok(update, "execution/"+id+"/finish", data{"exit_code": 4}), got)
		e.is(e.keys("executions/"+deployerPath+"/", nil), "")
		e.is(e.holders("all/org/OPENAI_API_KEY", 0), "")
		e.fails(409, update, "execution/"+id+"/ack", data{"pid": 1}, "use finish")
	})
}

func TestExecutionRefused(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		for _, bad := range []struct {
			status int
			path   string
			body   data
			text   string
		}{
			{404, "prod/deploy-pipeline/Nobody", nil, "has no agent Nobody"},
			{400, "all/deploy-pipeline/Deployer", nil, "must not be all"},
			{400, "staging/deploy-pipeline/Deployer", nil, "does not resolve"},
			{400, deployerPath, data{"run": "a b"}, "run must be"},
			{400, deployerPath, data{"workspace": strings.Repeat("x", 257)}, "workspace must be at most"},
			{400, deployerPath, data{"ttl": "soon"}, "ttl must be a duration"},
		} {
			e.fails(bad.status, update, "executions/"+bad.path, bad.body, bad.text)
		}
		e.is(len(e.stored(livePrefix)), 0)

		nobody := e.request(update, "executions/"+deployerPath, nil)
		nobody.EntityID = ""
		status, _, _ := e.send(nobody)
		e.is(status, 403)

		r := e.started(nil)
		stranger := e.request(read, "execution/"+r.id, nil)
		stranger.EntityID = "entity-2"
		status, _, _ = e.send(stranger)
		e.is(status, 404)
		e.fails(404, read, "execution/"+noExecution, nil, "no such execution")
		e.fails(400, read, "execution/..", nil, "32 hex digits")
		e.fails(404, read, "executions/prod/deploy-pipeline/CodeAnalyzer", data{"id": r.id}, "no such execution")
		e.fails(400, update, "revoke/execution/"+r.id, nil, "reason must say")
		e.fails(404, update, "revoke/execution/"+noExecution, data{"reason": "x"}, "no such execution")
	})
}

// TestIdempotency covers a start of which the answer was lost.
func TestIdempotency(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.settle()
		first := e.started(data{"idempotency_key": "run-42/3", "run": "42"})
		second := e.started(data{"idempotency_key": "run-42/3", "run": "42"})
		e.is(second.id, first.id)
		e.is(len(e.stored(livePrefix)), 1)
		e.fails(409, update, "executions/"+deployerPath, data{"idempotency_key": "run-42/3", "run": "43"}, "with other fields")
		if other := e.started(data{"idempotency_key": "run-42/4"}); other.id == first.id {
			e.Error("another key gives the same execution")
		}
		stranger := e.request(update, "executions/"+deployerPath, data{"idempotency_key": "run-42/3", "run": "42"})
		stranger.EntityID = "entity-2"
		if _, _, resp := e.send(stranger); resp.Data["execution_id"] == first.id {
			e.Error("another identity gives the same execution")
		}

		first.revoke()
		e.is(second.state(), "active")
		if _, refusal := first.renew(0); !strings.HasPrefix(refusal, "EXECUTION_ENDED") {
			e.Errorf("a revoked lease is renewed: %q", refusal)
		}
		second.revoke()
		second.revoke()
		e.is(second.state(), "expired")
		e.fails(409, update, "executions/"+deployerPath, data{"idempotency_key": "run-42/3", "run": "42"}, "is expired")
	})
}

func TestRenew(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		r := e.started(data{"ttl": "2m"})
		e.is(r.secret.TTL, 2*time.Minute)
		e.clock.advance(time.Minute)
		for increment, want := range map[time.Duration]time.Duration{0: 2 * time.Minute, time.Hour: 2 * time.Minute, 30 * time.Second: 30 * time.Second} {
			got, refusal := r.renew(increment)
			e.is(refusal, "")
			e.is(got.TTL, want)
			e.is(got.MaxTTL, time.Minute+want+time.Second)
		}
		e.cold = true
		e.start()
		_, refusal := r.renew(0)
		e.is(refusal, "")
		e.clock.advance(2*time.Hour - 90*time.Second)
		got, _ := r.renew(0)
		e.is(got.TTL, 30*time.Second)
		e.clock.advance(30 * time.Second)
		_, refusal = r.renew(0)
		e.is(refusal, errEnded.Error())
		e.start()
		e.s.arm(0, true)
		_, refusal = r.renew(0)
		e.s.disarm()
		e.is(refusal, errNotReady.Error())
	})
}

func TestStopOrder(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		r := e.started(nil)
		watched := make(chan data)
		go func() { watched <- e.ok(read, "execution/"+r.id+"/watch", data{"generation": "1", "wait": "5"}) }()
		got := e.ok(update, "revoke/execution/"+r.id, data{"reason": "it leaked"})
		e.is(got["executions"], "["+r.id+"]")
		e.is(r.state(), "terminating")
		select {
		case answer := <-watched:
			e.is(answer["state"], "terminating")
			e.is(answer["reason"], "it leaked (by entity-1)")
		case <-time.After(4 * time.Second):
			e.Fatal("the watcher is not told")
		}
		e.ok(update, "revoke/execution/"+r.id, data{"reason": "again"})
		e.is(r.ok(read, "execution/"+r.id, nil)["reason"], "it leaked (by entity-1)")
		_, refusal := r.renew(0)
		e.is(refusal, errTerminated.Error())

		got = e.ok(update, "execution/"+r.id+"/ack", data{"pid": 7, "signal": "SIGKILL", "exit_code": 137, "time": "2030-01-01T00:00:09Z"})
		e.is(got["state"], "terminated")
		e.is(got["ack"], "map[exit_code:137 pid:7 signal:SIGKILL time:2030-01-01T00:00:09Z]")
		e.is(e.ok(update, "execution/"+r.id+"/ack", data{"pid": 8}), got)
		e.is(e.ok(read, "execution/"+r.id+"/watch", data{"generation": 2, "wait": 5})["state"], "terminated")
		r.revoke()
		e.is(r.state(), "terminated")
	})
}

// TestLost covers a runner that is told to stop and never answers, or too late.
func TestLost(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.settle()
		r := e.started(nil)
		e.ok(update, "revoke/execution/"+r.id, data{"reason": "x"})
		r.revoke()
		e.is(r.state(), "lost")
		e.sweep()
		e.is(e.ok(update, "execution/"+r.id+"/ack", data{"pid": 7})["state"], "terminated")
		e.is(len(e.stored(livePrefix)), 0)
	})
}

// holders returns the ids of who holds a version of an entry.
func (e *env) holders(path string, version int) string {
	e.Helper()
	ids, err := e.b.executions.holders(address(path), version)
	if err != nil {
		e.Fatal(err)
	}
	return strings.Join(ids, " ")
}

// TestDeleteHeld refuses to delete what an execution holds.
func TestDeleteHeld(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.cold = true
		e.start()
		e.fails(503, remove, "secrets/all/org/OPENAI_API_KEY", nil, "still reading what runs")
		e.fails(503, lists, "executions/"+deployerPath+"/", nil, "still reading what runs")
		e.settle()
		r := e.started(nil)
		e.fails(409, remove, "secrets/all/org/OPENAI_API_KEY", nil, "all/org/OPENAI_API_KEY is held by 1 executions")
		e.fails(409, remove, "groups/prod/org/aws-deploy", nil, "is held by 1 executions")
		e.ok(remove, "secrets/all/org/OPENAI_API_KEY", data{"force": "true"})
		e.is(r.state(), "terminating")
		e.is(e.ok(read, "execution/"+r.id, nil)["reason"], "all/org/OPENAI_API_KEY was deleted (by entity-1)")
		e.ok(update, "execution/"+r.id+"/finish", nil)
		e.ok(remove, "groups/prod/org/aws-deploy", nil)
	})
}

// TestClosedPins starts nothing on an entry that is about to go.
func TestClosedPins(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		open := e.b.executions.closePins(pin{Path: "all/org/OPENAI_API_KEY"})
		e.fails(503, update, "executions/"+deployerPath, nil, "try again")
		e.is(len(e.stored(livePrefix)), 0)
		open()
		e.started(nil)
	})
}

// TestStartAgainstDelete starts executions while a secret is deleted and written
// again: none holds what was deleted without being told to stop.
func TestStartAgainstDelete(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 50 {
				req := e.request(update, "executions/"+deployerPath, nil)
				req.EntityID = fmt.Sprint("entity-", i)
				_, _ = e.b.HandleRequest(e.Context(), req) // it may be refused
			}
		})
	}
	const key = "secrets/all/org/OPENAI_API_KEY"
	for i := range 50 {
		_, _ = e.b.HandleRequest(e.Context(), e.request(remove, key, data{"force": i%2 == 0})) // it may be refused
		_, _ = e.b.HandleRequest(e.Context(), e.request(update, key, data{"value": fmt.Sprint("value ", i)}))
	}
	wg.Wait()
	e.started(nil) // all others may have been refused
	e.ok(remove, key, data{"force": true})
	held := e.holders("all/org/OPENAI_API_KEY", 0)
	for _, id := range strings.Fields(held) {
		got, err := getExecution(e.Context(), e.s, id)
		if err != nil {
			t.Fatal(err)
		}
		if got == nil || got.State != executionTerminating {
			t.Errorf("%s holds what was deleted, and was not told to stop", id)
		}
	}
	if held == "" {
		t.Error("no execution was started")
	}
}

func (e *env) sweep() {
	e.Helper()
	for _, task := range []func(context.Context, logical.Storage) error{e.b.expireExecutions, e.b.moveExecutions, e.b.deleteOldExecutions} {
		if err := task(e.Context(), e.s); err != nil {
			e.Error(err)
		}
	}
}

// TestUnregisteredLease ends an execution of which Vault has no lease, because
// it was lost between the engine's answer and Vault's own record.
func TestUnregisteredLease(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		r := e.started(nil)
		e.clock.advance(time.Minute + leaseGrace - time.Second)
		e.sweep()
		e.is(r.state(), "active")
		e.clock.advance(time.Second)
		e.sweep()
		e.is(r.state(), "expired")
		e.is(len(e.stored(livePrefix)), 0)
	})
}

// TestRestart counts what ran as live for one more lease.
func TestRestart(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		r := e.started(nil)
		ended := e.started(nil)
		e.ok(update, "execution/"+ended.id+"/finish", nil)
		for range 10 {
			e.clock.advance(50 * time.Second)
			if _, refusal := r.renew(0); refusal != "" {
				e.Fatal(refusal)
			}
		}
		e.start()
		e.settle()
		e.is(e.keys("executions/"+deployerPath+"/", nil), r.id)
		e.is(e.holders("all/org/OPENAI_API_KEY", 1), r.id)
		e.clock.advance(time.Minute + leaseGrace - time.Second)
		e.sweep()
		e.is(r.state(), "active")
		if _, refusal := r.renew(0); refusal != "" {
			e.Error(refusal)
		}
		e.clock.advance(time.Minute + leaseGrace)
		e.sweep()
		e.is(r.state(), "expired")
		e.is(len(e.stored(livePrefix)), 0)

		e.clock.advance(7*24*time.Hour + 2*time.Hour)
		e.sweep()
		e.is(len(e.stored("execution/")), 0)
		e.fails(404, read, "execution/"+r.id, nil, "no such execution")
	})
}

// TestStartWhileAValueChanges starts anew with the new value, and the execution is
// counted after a restart too.
func TestStartWhileAValueChanges(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	var once sync.Once
	e.s.onOp = func(op string) {
		if strings.HasPrefix(op, "put "+livePrefix) {
			once.Do(func() { e.ok(update, rotateOpen, data{"value": "second"}) })
		}
	}
	r := e.started(nil)
	e.is(r.ok(read, "execution/"+r.id, nil)["versions"].(data)[openAI], 2)
	e.work()
	e.start()
	e.work()
	e.is(e.keys("executions/"+deployerPath+"/", nil), r.id)
}

func TestStartWarnsOfExpiry(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.ok(update, "secrets/all/org/OPENAI_API_KEY", data{"expires_at": "2030-01-01T01:59:59Z"})
		_, _, resp := e.send(e.request(update, "executions/"+deployerPath, nil))
		e.is(resp.Warnings, "[all/org/OPENAI_API_KEY expires at 2030-01-01T01:59:59Z, before the execution may end]")
	})
}

// TestLocksOfExecutions keeps executions and entries from waiting for each other: they
// share no lock.
func TestLocksOfExecutions(t *testing.T) {
	t.Parallel()
	b := newEnv(t).b
	entries := map[any]bool{}
	for i := range 5000 {
		entries[b.lockEntry(fmt.Sprint(i))] = true
	}
	for i := range 5000 {
		if entries[b.lockExecution(fmt.Sprint(i))] {
			t.Fatal("an execution has the lock of an entry")
		}
	}
}

// TestExecutionFaults fails every storage operation of a start, a finish, an
// order and the sweep, alone and as a crash. Afterwards the index is what is
// stored, and the execution can still be ended and put away.
func TestExecutionFaults(t *testing.T) {
	t.Parallel()
	nothing := func(*env, *run) {}
	for name, steps := range map[string][2]func(e *env, r *run){ // before the faults, and with them
		"start": {nothing, func(e *env, _ *run) {
			e.send(e.request(update, "executions/"+deployerPath, data{"idempotency_key": "k"}))
		}},
		"finish": {nothing, func(e *env, r *run) { e.send(e.request(update, "execution/"+r.id+"/finish", nil)) }},
		"order": {nothing, func(e *env, r *run) {
			e.send(e.request(update, "revoke/execution/"+r.id, data{"reason": "x"}))
		}},
		"sweep": {
			func(e *env, r *run) { e.ok(update, "execution/"+r.id+"/finish", nil) },
			func(e *env, _ *run) { _ = e.b.moveExecutions(e.Context(), e.s) },
		},
		"load": {
			func(e *env, _ *run) { e.cold = true; e.start() },
			func(e *env, _ *run) { _ = e.b.loadExecutions(e.Context(), e.s) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, crash := range []bool{false, true} {
				for n := 0; ; n++ {
					e := newEnv(t)
					e.deployer()
					e.settle()
					r := e.started(nil)
					steps[0](e, r)
					e.s.arm(n, crash)
					steps[1](e, r)
					ops := e.s.disarm()
					if len(ops) <= n {
						break
					}
					e.settle()
					served := e.b.executions.live()
					e.start()
					e.settle()
					if stored := e.b.executions.live(); fmt.Sprint(stored) != fmt.Sprint(served) {
						t.Errorf("%s fails: served %v, stored %v", ops[n], served, stored)
					}
					e.clock.advance(2 * time.Hour)
					e.sweep()
					if left := e.stored(livePrefix); len(left) > 0 {
						t.Errorf("%s fails: %v stays", ops[n], left)
					}
				}
			}
		})
	}
}
