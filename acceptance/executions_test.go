package acceptance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// execution is a started one, as the agent that started it holds it.
type execution struct {
	*engine
	id, lease string
	env       data
}

// start starts an execution and renews it at once, as a runner does.
func (e *engine) start(agent string, body data) *execution {
	e.Helper()
	secret, status, text := e.do(update, "executions/"+agent, body)
	if status != http.StatusOK {
		e.Fatalf("start %s: %d %s", agent, status, text)
	}
	x := &execution{e, fmt.Sprint(secret.Data["execution_id"]), secret.LeaseID, secret.Data["env"].(map[string]any)}
	if refusal := x.renew(0); refusal != "" {
		e.Errorf("the first renewal: %s", refusal)
	}
	return x
}

// renew returns why the lease is not renewed, or nothing.
func (x *execution) renew(increment int) string {
	x.Helper()
	secret, err := x.client.Sys().Renew(x.lease, increment)
	if err != nil {
		x.note(err.Error())
		return secrets.censor(err.Error())
	}
	if len(secret.Data) > 0 {
		x.Error("a renewal answers data")
	}
	return ""
}

func (x *execution) state() string {
	x.Helper()
	return fmt.Sprint(x.read("execution/" + x.id)["state"])
}

// live lists the ids of an agent's executions, of which there may be none.
func (e *engine) live(agent string) []string {
	e.Helper()
	secret, status, text := e.do(list, "executions/"+agent, nil)
	if status == http.StatusNotFound {
		return nil
	}
	if status != http.StatusOK {
		e.Fatalf("list executions/%s: %d %s", agent, status, text)
	}
	var ids []string
	for _, id := range secret.Data["keys"].([]any) {
		ids = append(ids, id.(string))
	}
	return ids
}

func (e *engine) becomes(x *execution, state string) {
	e.Helper()
	e.must(eventually("the execution is "+state, func() (bool, error) { return x.state() == state, nil }))
}

// Three agents of a chain run at the same time, each with a token that has the
// policy the engine recommends.
func TestExecutionsOfAChain(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	agents := []string{"prod/deploy-pipeline/Deployer", "prod/deploy-pipeline/CodeAnalyzer", "dev/deploy-pipeline/CodeAnalyzer"}
	runs := make([]*execution, len(agents))
	for i, agent := range agents {
		as := e.appRole(e.policy(e.read("policy/" + agent)["policy"].(string)))
		runs[i] = as.start(agent, data{"workspace": "docker:ci-7", "run": "42", "user": "ann"})
		e.same("env of "+agent, runs[i].env, as.read("env/"+agent))
	}
	e.same("live", e.read("status")["executions"], data{"deploy-pipeline": 3})
	for i, run := range runs {
		if got := run.read("execution/" + run.id); got["state"] != "active" || got["workspace"] != "docker:ci-7" {
			t.Errorf("%s is %v in %v", agents[i], got["state"], got["workspace"])
		}
		for _, other := range runs {
			if other != run {
				run.refused(404, "there is no such execution", read, "execution/"+other.id, nil)
				run.refused(404, "there is no such execution", update, "execution/"+other.id+"/finish", data{})
			}
		}
		run.denied(update, "revoke/execution/"+run.id)
		e.same("what operators see", e.ok(read, "executions/"+agents[i], data{"id": run.id}), run.read("execution/"+run.id))
		run.write("execution/"+run.id+"/finish", data{"exit_code": 0})
		if refusal := run.renew(0); !strings.Contains(refusal, "EXECUTION_ENDED") {
			t.Errorf("what has finished is renewed: %q", refusal)
		}
	}
	e.same("live", e.read("status")["executions"], data{})
}

// An execution ends with its lease, however that ends.
func TestExecutionEndsWithItsLease(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	const agent = "prod/deploy-pipeline/Deployer"
	as := e.appRole(e.policy(e.read("policy/" + agent)["policy"].(string)))

	expires := as.start(agent, data{"ttl": "2s"})
	e.becomes(expires, "expired")

	revoked := as.start(agent, nil)
	e.must(e.client.Sys().Revoke(revoked.lease))
	e.becomes(revoked, "expired")

	orphaned := as.start(agent, nil)
	e.must(as.client.Auth().Token().RevokeSelf(""))
	e.must(eventually("the execution of a revoked token has ended", func() (bool, error) {
		return e.ok(read, "executions/"+agent, data{"id": orphaned.id})["state"] == "expired", nil
	}))
	if ids := e.live(agent); len(ids) > 0 {
		t.Errorf("%d executions are still live", len(ids))
	}
}

// A stop order reaches who watches, and the lease is not renewed any more.
func TestStopOrder(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	const agent = "prod/deploy-pipeline/Deployer"
	as := e.appRole(e.policy(e.read("policy/" + agent)["policy"].(string)))
	x := as.start(agent, nil)
	told := make(chan data, 1)
	go func() {
		secret, err := x.client.Logical().ReadWithDataWithContext(context.Background(), x.mount+"/execution/"+x.id+"/watch",
			map[string][]string{"generation": {"1"}, "wait": {"5"}})
		if err == nil {
			told <- secret.Data
		}
		close(told)
	}()
	ordered := time.Now()
	e.write("revoke/execution/"+x.id, data{"reason": "the key leaked"})
	if answer := <-told; answer["state"] != "terminating" || time.Since(ordered) > 3*time.Second {
		t.Errorf("the watcher is told %v after %s", answer["state"], time.Since(ordered))
	}
	if refusal := x.renew(0); !strings.Contains(refusal, "EXECUTION_TERMINATED") {
		t.Errorf("a stopped execution is renewed: %q", refusal)
	}
	got := x.write("execution/"+x.id+"/ack", data{"pid": 4242, "signal": "SIGTERM", "exit_code": 143})
	e.same("ack", []any{got["state"], got["ack"].(map[string]any)["pid"]}, []any{"terminated", 4242})
}

// A start whose answer was lost is repeated.
func TestRepeatedStart(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	const agent = "prod/deploy-pipeline/Deployer"
	first := e.start(agent, data{"idempotency_key": "run-42/3"})
	second := e.start(agent, data{"idempotency_key": "run-42/3"})
	if first.id != second.id || first.lease == second.lease {
		t.Error("the same key gives another execution, or the same lease")
	}
	e.must(e.client.Sys().Revoke(first.lease))
	e.must(eventually("the first lease is gone", func() (bool, error) { return first.renew(0) != "", nil }))
	e.same("state", second.state(), "active")
	second.write("execution/"+second.id+"/finish", data{})
	e.refused(409, "is finished", update, "executions/"+agent, data{"idempotency_key": "run-42/3"})
}

// The plugin is killed while 200 executions are started and half of them
// finished. Afterwards what is counted is what runs.
func TestKilledWhileStarting(t *testing.T) {
	e, plugin := newOwnProcess(t)
	e = e.retrying()
	e.deployPipeline()
	const agent, clients, each = "prod/deploy-pipeline/Deployer", 20, 10
	var mu sync.Mutex // guards running
	running := map[string]bool{}
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for n := range each {
				id := e.startSurely(agent, fmt.Sprintf("%d/%d", i, n))
				if id == "" {
					return
				}
				if n%2 == 0 {
					e.write("execution/"+id+"/finish", data{})
					continue
				}
				mu.Lock()
				running[id] = true
				mu.Unlock()
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	pid := 0
	for alive := true; alive; {
		pid = e.process(plugin, pid)
		e.kill(pid)
		e.read("status") // starts the next process
		select {
		case <-done:
			alive = false
		default:
		}
		if len(e.live(agent)) > clients*each/4 {
			<-done
			alive = false
		}
	}
	var want []string
	for id := range running {
		want = append(want, id)
	}
	slices.Sort(want)
	e.must(eventually("what is counted is what runs", func() (bool, error) { return slices.Equal(e.live(agent), want), nil }))
	count, err := e.client.Logical().ReadWithData("sys/leases/count", map[string][]string{"type": {"irrevocable"}})
	e.must(err)
	e.same("irrevocable leases", count.Data["lease_count"], 0)
}

// startSurely starts an execution, again while the plugin is away: the answer of
// the first try may be lost.
func (e *engine) startSurely(agent, key string) (id string) {
	err := eventually("the execution is started", func() (bool, error) {
		secret, err := e.client.Logical().Write(e.mount+"/executions/"+agent, data{"idempotency_key": key})
		var refusal *api.ResponseError
		if err != nil {
			if errors.As(err, &refusal) && refusal.StatusCode < http.StatusInternalServerError {
				return false, err
			}
			return false, nil
		}
		id = fmt.Sprint(secret.Data["execution_id"])
		return true, nil
	})
	if err != nil {
		e.Errorf("start %s: %s", key, secrets.censor(err.Error()))
	}
	return id
}
