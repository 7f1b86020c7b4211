package agentchains

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// leaking is a mount with a receiver of leak.detected, and the deployer's chain
// with a key of its own.
func leaking(e *env, onLeak string) *receiver {
	e.Helper()
	e.deployer()
	r := newReceiver(e)
	r.notifier(e, "ops", data{"events": "leak.*"})
	e.ok(update, "secrets/"+chainOpenAI, data{"value": "chain-key", "on_leak": onLeak})
	return r
}

// rotator sets up what makes the values of an entry, on request.
func (e *env) rotator(path string) {
	e.Helper()
	e.ok(update, "rotators/keys", data{"type": "api-key", "prefix": "sk-", "length": 40})
	e.ok(update, "schedules/"+path, data{"rotator": "keys", "auto_rotate": false})
}

// settled does all that the worker does, and delivers.
func (e *env) settled() {
	e.Helper()
	e.work()
	e.deliver()
}

func (r *run) incident() string {
	r.Helper()
	return fmt.Sprint(r.ok(read, "execution/"+r.id, nil)["incident_id"])
}

// TestLeakAlert tells of a leak once for each execution and variable, and once
// more when it was not redacted.
func TestLeakAlert(t *testing.T) {
	both(t, func(e *env) {
		r := leaking(e, "alert")
		one, two := e.started(data{"run": "42"}), e.started(nil)
		one.found(data{"name": "OPENAI_API_KEY", "encoding": "hex", "count": 7})
		e.settled()
		e.is(r.taken[0], map[string]any{
			"id": one.id + ".OPENAI_API_KEY.1.leak.detected", "event": "leak.detected", "time": "2030-01-01T00:00:00Z", "version": 1.0,
			"path": chainOpenAI, "name": "OPENAI_API_KEY", "leaked_version": 1.0, "current_version": 1.0, "encoding": "hex", "count": 7.0, "redacted": true,
			"on_leak": "alert", "execution_id": one.id, "environment": "prod", "chain": "deploy-pipeline", "agent": "Deployer", "run": "42",
		})
		for range 3 {
			one.found(data{"name": "OPENAI_API_KEY", "encoding": "raw"})
			two.found(data{"name": "OPENAI_API_KEY"})
			e.settled()
		}
		const told = chainOpenAI + " OPENAI_API_KEY 1 redacted=true on_leak=alert"
		e.is(r.leaks(), lines(told, told))
		for range 2 {
			one.found(data{"name": "OPENAI_API_KEY", "redacted": false})
			one.found(data{"name": "OPENAI_API_KEY"})
			e.settled()
		}
		e.is(r.leaks(), lines(told, told, chainOpenAI+" OPENAI_API_KEY 1 redacted=false on_leak=alert"))
		e.is(e.ok(read, "status", nil)["counters"].(data)["leaks"], 3)
		e.is(one.state(), "active")
	})
}

// TestLeakRotates begins a rotation, once for a version, and says why when it
// does not.
func TestLeakRotates(t *testing.T) {
	both(t, func(e *env) {
		r := leaking(e, "rotate")
		told := chainOpenAI + " OPENAI_API_KEY 1 redacted=true on_leak=rotate"
		e.started(nil).found(data{"name": "OPENAI_API_KEY"})
		e.settled()
		want := []string{told + " it is not rotated: it has no rotator"}
		e.is(r.leaks(), lines(want...))

		e.rotator(chainOpenAI)
		old := e.started(nil)
		old.found(data{"name": "OPENAI_API_KEY"})
		e.settled()
		got := e.rotation(chainOpenAI)
		e.is(got["state"], "serving")
		e.is(got["trigger"], "leak")
		e.is(got["started_by"], "agentchains")
		want = append(want, fmt.Sprint(told, " rotation_id=", got["rotation_id"]))
		e.is(r.leaks(), lines(want...))

		other := e.started(nil) // has version 2
		other.found(data{"name": "OPENAI_API_KEY"})
		e.settled()
		want = append(want, strings.Replace(told, " 1 ", " 2 ", 1)+" it is not rotated: a rotation is under way")
		e.is(r.leaks(), lines(want...))

		e.ok(update, "abort/"+chainOpenAI, data{"force": true})
		old.found(data{"name": "OPENAI_API_KEY", "redacted": false})
		other.found(data{"name": "OPENAI_API_KEY", "redacted": false})
		e.settled()
		want = append(want, strings.Replace(told, "=true", "=false", 1)+" it is not rotated: a rotation was begun for this version before",
			strings.Replace(strings.Replace(told, " 1 ", " 2 ", 1), "=true", "=false", 1)+" the version is not live any more")
		e.is(r.leaks(), lines(want...))
		e.is(e.rotation(chainOpenAI)["state"], "idle")
		e.is(old.state(), "active")

		e.ok(update, "secrets/"+chainOpenAI, data{"value": "third"})
		e.promote(chainOpenAI)
		e.started(nil).found(data{"name": "OPENAI_API_KEY"}) // of a version that was not rotated yet
		e.is(e.rotation(chainOpenAI)["pending_version"], 4)
	})
}

// TestLeakRevokes kills a key of a chain with whoever holds it, once.
func TestLeakRevokes(t *testing.T) {
	both(t, func(e *env) {
		for _, rotates := range []bool{false, true} {
			r := leaking(e, "revoke")
			if rotates {
				e.rotator(chainOpenAI)
			}
			one, two := e.started(nil), e.started(nil)
			got := one.found(data{"name": "OPENAI_API_KEY"})
			incident := fmt.Sprint(got["incident_id"])
			e.is(got["state"], "terminating")
			e.is(got["findings"].(data)["OPENAI_API_KEY"].(data)["count"], 1)
			e.is(two.incident(), incident)
			two.found(data{"name": "OPENAI_API_KEY"})
			e.settled()
			const told = chainOpenAI + " OPENAI_API_KEY 1 redacted=true on_leak=revoke"
			e.is(r.leaks(), lines(told+" incident_id="+incident, told+" the version is not live any more"))
			e.is(e.states(incident), sorted(one.id+"=unacknowledged", two.id+"=unacknowledged"))
			about := e.ok(read, "incidents/"+incident, nil)
			e.is(about["reason"], "seen in the output of execution "+one.id)
			e.is(about["created_by"], "agentchains")
			e.is(about["versions"], "[1]")
			e.is(len(about["alerts"].([]any)), 1)
			e.is(e.keys("incidents/", nil), incident)
			e.is(e.ok(read, "secrets/"+chainOpenAI, nil)["current_version"], map[bool]int{false: 0, true: 2}[rotates])
			e.ok(remove, "secrets/"+chainOpenAI, data{"force": true})
			one.acknowledge()
			two.acknowledge()
			e.work()
			e.ok(remove, "incidents/"+incident, nil)
			e.s = &faultyStorage{}
			e.start()
		}
	})
}

// TestSharedKeyIsNotRevokedWhenRedacted is about an agent that was talked into
// printing what others hold too: as long as it was redacted, nobody is stopped.
func TestSharedKeyIsNotRevokedWhenRedacted(t *testing.T) {
	both(t, func(e *env) {
		r := leaking(e, "alert")
		e.ok(remove, "secrets/"+chainOpenAI, nil)
		names := map[string]string{openAI: "OPENAI_API_KEY", platformDB: "DB_URL", "prod/org/aws-deploy": "AWS_REGION"}
		printing, other := e.started(nil), e.started(nil)
		var want []string
		for path, name := range names {
			door := string(address(path).Kind) + "/"
			e.ok(patch, door+path, data{"on_leak": "revoke"})
			printing.found(data{"name": name, "count": 1000})
			want = append(want, path+" "+name+" 1 redacted=true on_leak=revoke it is not revoked: it is shared by chains, and was redacted")
		}
		e.settled()
		e.is(r.leaks(), lines(want...))
		e.is(printing.state()+other.state(), "activeactive")
		e.is(e.keys("incidents/", nil), "")
		e.is(e.environment(deployerPath), "AWS_REGION:us-west-2 DB_URL:project-db OPENAI_API_KEY:openai")

		// What got out is another matter: of what the execution holds, and once.
		e.ok(update, rotateOpen, data{"value": "second"})
		incident := printing.found(data{"name": "OPENAI_API_KEY", "redacted": false})["incident_id"]
		e.is(other.incident(), incident)
		e.is(e.ok(read, "secrets/"+openAI, nil)["current_version"], 2) // which nobody holds, and it stays
		other.found(data{"name": "OPENAI_API_KEY", "redacted": false})
		e.settled()
		e.is(e.keys("incidents/", nil), incident)
		e.is(strings.Contains(e.environment(deployerPath), "OPENAI_API_KEY:second"), true)

		// Whoever starts again and says so of the next version waits an hour.
		for i, state := range []string{"active", "terminating"} {
			e.clock.advance(time.Duration(i) * sharedRevokeInterval)
			again := e.started(nil)
			e.is(again.found(data{"name": "OPENAI_API_KEY", "redacted": false})["state"], state)
		}
	})
}

// TestLeakReportedTwiceAtOnce does and tells once what is reported twice at the
// same time, as by a client that has not waited for the answer.
func TestLeakReportedTwiceAtOnce(t *testing.T) {
	t.Parallel()
	for _, onLeak := range []string{onLeakRotate, onLeakRevoke} {
		for range 5 {
			e := newEnv(t)
			r := leaking(e, onLeak)
			e.rotator(chainOpenAI)
			x := e.started(nil)
			const reports = 3
			var reading, wg sync.WaitGroup
			reading.Add(reports)
			var reads atomic.Int32
			key := secretKey(address(chainOpenAI))
			e.b.cache.drop(key)
			e.s.onOp = func(op string) { // all look at the entry before one of them changes it
				if op == "get "+key && reads.Add(1) <= reports {
					reading.Done()
					reading.Wait()
				}
			}
			for range reports {
				wg.Go(func() { x.found(data{"name": "OPENAI_API_KEY"}) })
			}
			wg.Wait()
			e.settled()
			if got := r.leaks(); strings.Contains(got, "\n") || !strings.Contains(got, "_id=") {
				t.Errorf("told %q", got)
			}
			e.is(len(strings.Fields(e.keys("incidents/", nil))), map[string]int{onLeakRotate: 0, onLeakRevoke: 1}[onLeak])
			e.is(x.ok(read, "execution/"+x.id, nil)["findings"].(data)["OPENAI_API_KEY"].(data)["count"], reports)
		}
	}
}

// TestLeakOfWhatHasChanged does nothing that on_leak does not say any more when the
// entry's lock is held.
func TestLeakOfWhatHasChanged(t *testing.T) {
	t.Parallel()
	for _, onLeak := range []string{onLeakRotate, onLeakRevoke} {
		e := newEnv(t)
		r := leaking(e, onLeakAlert)
		e.rotator(chainOpenAI)
		key := secretKey(address(chainOpenAI))
		alerts, err := e.s.InmemStorage.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		e.ok(patch, "secrets/"+chainOpenAI, data{"on_leak": onLeak})
		x := e.started(nil)
		change := sync.OnceFunc(func() {
			if err := e.s.InmemStorage.Put(t.Context(), alerts); err != nil {
				t.Error(err)
			}
		})
		e.s.onOp = func(op string) {
			if op == "get "+key { // the first look is at the cache
				change()
			}
		}
		x.found(data{"name": "OPENAI_API_KEY"})
		e.settled()
		e.is(strings.Count(r.leaks(), "OPENAI_API_KEY 1 "), 1)
		e.is(x.state(), "active")
		e.is(e.rotation(chainOpenAI)["state"], "idle")
	}
}

// TestLeakFaults fails every storage operation of a report and of what follows,
// alone and as a crash. When the report comes again, the leak is told once, what
// on_leak says is done once, and the record counts it.
func TestLeakFaults(t *testing.T) {
	t.Parallel()
	for _, onLeak := range leakActions {
		for _, crash := range []bool{false, true} {
			for n := 0; ; n++ {
				e := newEnv(t)
				r := leaking(e, onLeak)
				e.rotator(chainOpenAI)
				x, other := e.started(nil), e.started(nil)
				body := data{"name": "OPENAI_API_KEY"}
				req := e.request(update, "execution/"+x.id+"/finding", body)
				e.s.arm(n, crash)
				status, text, _ := e.send(req)
				_, _ = e.b.advanceRotations(e.Context(), e.s)
				_ = e.b.storeIncidents(e.Context(), e.s)
				ops := e.s.disarm()
				if len(ops) <= n {
					break
				}
				where := fmt.Sprintf("on_leak %s, %s fails (crash %v)", onLeak, ops[n], crash)
				if status != 200 && status != 500 {
					t.Errorf("%s: %d %s", where, status, text)
				}
				e.start()
				e.clock.advance(time.Second)
				x.found(body)
				e.settled()
				e.clock.advance(time.Second)
				x.found(body)
				e.settled()
				// A step of the rotator may still run, and its end has the entry looked at.
				for late := time.Now().Add(time.Minute); r.leaks() == "" && time.Now().Before(late); {
					e.clock.advance(time.Second)
					e.settled()
				}
				if got := r.leaks(); strings.Count(got, "\n") != 0 || !strings.Contains(got, "on_leak="+onLeak) || strings.Contains(got, " it ") {
					t.Errorf("%s: told %q", where, got)
				}
				want := map[string]string{onLeakAlert: "1 0 active active", onLeakRotate: "2 0 active active", onLeakRevoke: "2 1 terminating terminating"}[onLeak]
				entry, err := getJSON[secretEntry](t.Context(), &e.s.InmemStorage, secretKey(address(chainOpenAI)))
				if err != nil {
					t.Fatal(err)
				}
				incidents := len(strings.Fields(e.keys("incidents/", nil)))
				if got := fmt.Sprintf("%d %d %s %s", entry.LastVersion, incidents, x.state(), other.state()); got != want {
					t.Errorf("%s: versions, incidents and executions are %s, want %s", where, got, want)
				}
				e.start()
				if count := x.ok(read, "execution/"+x.id, nil)["findings"].(data)["OPENAI_API_KEY"].(data)["count"].(int); count < 1 || count > 3 {
					t.Errorf("%s: the record counts %d", where, count)
				}
			}
		}
	}
}
