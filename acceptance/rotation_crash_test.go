package acceptance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// surely sends a request, again while the plugin is away, until it is answered or
// refused for another reason.
func (e *engine) surely(o op, path string, body data) (answer data, status int) {
	err := eventually(path+" is answered", func() (bool, error) {
		var secret *api.Secret
		secret, status, _ = e.do(o, path, body)
		if secret != nil {
			answer = secret.Data
		}
		return status < http.StatusInternalServerError, nil
	})
	if err != nil {
		e.Error(err)
	}
	return answer, status
}

// idle reports whether no rotation of the entry is under way, when the engine
// can tell.
func (e *engine) idle(path string) bool {
	answer, status := e.surely(read, "rotate/"+path, nil)
	return status == http.StatusOK && answer["state"] == "idle"
}

// endRun ends the executions of a run.
func (e *engine) endRun(agent, run string) {
	ids, status := e.surely(list, "executions/"+agent, nil)
	if status != http.StatusOK {
		return // none is live
	}
	for _, id := range ids["keys"].([]any) {
		if x, _ := e.surely(read, "executions/"+agent, data{"id": id}); x["run"] == run {
			e.surely(update, fmt.Sprintf("execution/%s/finish", id), data{})
		}
	}
}

// The plugin is killed again and again while secrets are rotated, by an
// orchestrator and by the engine itself, and executions begin and end. Afterwards
// every rotation ends, at the orchestrator too, and what is counted is what runs.
func TestKilledWhileRotating(t *testing.T) {
	const agent, longest, shortest, clients, enough = "prod/c/Worker", 2 * time.Minute, 100 * time.Millisecond, 3, 40
	byChain := []string{"prod/org/A", "prod/org/B", "prod/chain/c/C"}
	byEngine := []string{"prod/org/D", "all/org/E"}
	all := slices.Concat(byChain, byEngine)
	e, plugin := newOwnProcess(t)
	e = e.retrying()
	e.chain("c", "", "A", "B", "C", "D", "E")
	for _, path := range all {
		e.secret(path, nil)
	}
	e.write("rotators/key", data{"type": "api-key", "prefix": "ac_"})
	for _, path := range byEngine {
		e.write("schedules/"+path, data{"rotation_period": "90d", "rotator": "key", "min_overlap": 0})
	}
	o := e.newOrchestrator(e.policy(fmt.Sprintf(`path "%s/rotate/*" { capabilities = ["update"] required_parameters = ["rotation_id"] }`, e.mount)), byChain...)

	var wg sync.WaitGroup
	e.Cleanup(wg.Wait)
	ctx, stop := context.WithTimeout(e.Context(), longest)
	defer stop()
	for _, path := range all {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, status := e.surely(update, "rotate/"+path, data{}); status != http.StatusOK && status != http.StatusConflict {
					e.Errorf("rotate %s: %d", path, status)
					return
				}
				for ctx.Err() == nil && !e.idle(path) {
				}
			}
		})
	}
	var mu sync.Mutex // guards running and ended
	var running []string
	ended := 0
	for i := range clients {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("%d-%d", i, n)
				answer, status := e.surely(update, "executions/"+agent, data{"idempotency_key": key, "run": key})
				if status == http.StatusConflict { // the answer was lost, and a rotation began
					e.endRun(agent, key)
					continue
				}
				id := fmt.Sprint(answer["execution_id"])
				mu.Lock()
				running = append(running, id)
				first := ""
				if len(running) > clients {
					first, running, ended = running[0], running[1:], ended+1
				}
				mu.Unlock()
				if first != "" {
					e.surely(update, "execution/"+first+"/finish", data{})
				}
			}
		})
	}
	kills, pid := 0, 0
	for ; kills < enough && ctx.Err() == nil; kills++ {
		pid = e.process(plugin, pid)
		// A plugin that dies while Vault starts it may never be started again.
		e.surely(read, "status", nil)
		<-time.After(shortest + rand.N(2*shortest))
		e.kill(pid)
	}
	stop()
	wg.Wait()

	fresh := []string{e.startSurely(agent, "fresh")} // it proves what is pending
	for _, id := range running {
		e.surely(update, "execution/"+id+"/finish", data{})
	}
	for _, path := range all {
		e.reaches(path, "idle")
	}
	promoted := 0
	for _, path := range all {
		promoted += e.consistent(path)
	}
	o.change(func() {
		for _, path := range byChain {
			value := e.read("reveal/" + path)["value"]
			if keys := o.live[path]; len(keys) != 1 || o.made[keys[0]] != value {
				t.Errorf("%d keys of %s work, want the one that is current", len(keys), path)
			}
		}
		if o.most > 2 {
			t.Errorf("%d keys of one secret worked at the same time", o.most)
		}
		t.Logf("%d kills; %d executions ended; %d rotations promoted; %d calls of the orchestrator, of which %d were repeated",
			kills, ended, promoted, len(o.calls), len(o.calls)-len(o.done))
	})
	if kills < enough || promoted < len(all) {
		t.Errorf("%d kills and %d promotions prove little", kills, promoted)
	}
	e.must(eventually("what is counted is what runs", func() (bool, error) { return slices.Equal(e.live(agent), fresh), nil }))
	e.same("live", e.read("status")["executions"], data{"c": 1})
	for _, word := range []string{"draining", "failed", "orphaned", "overdue"} {
		e.same(word, e.listed(word), nil)
	}
}

// consistent checks what is told of an entry between rotations, and returns how
// many were promoted, of the last ones.
func (e *engine) consistent(path string) (promoted int) {
	e.Helper()
	r := e.rotation(path)
	e.same("versions of "+path, []any{r["pending_version"], r["blocking_count"]}, []any{0, 0})
	current, ids := fmt.Sprint(r["current_version"]), map[any]bool{}
	for _, item := range r["history"].([]any) {
		line := item.(data)
		if ids[line["rotation_id"]] {
			e.Errorf("a rotation of %s is twice in its history", path)
		}
		ids[line["rotation_id"]] = true
		if line["result"] != "promoted" {
			e.Errorf("a rotation of %s was %v", path, line["result"])
			continue
		}
		promoted++
		if fmt.Sprint(line["to_version"]) != current {
			e.Errorf("a rotation of %s ends with version %v, and the next begins with %s", path, line["to_version"], current)
		}
		current = fmt.Sprint(line["from_version"])
	}
	return promoted
}
