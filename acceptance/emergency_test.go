package acceptance

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// starter starts a process that leaves its session and its parent. It prints the
// number of that one, and its own.
const starter = `(setsid sh -c 'echo $$; exec sleep 300' &) | { read -r pid; echo "$pid"; }; echo $$; exec sleep 300`

// A guarded agent is one that a runner watches over, with what it has started.
type guarded struct {
	*process
	agent         string
	orphan, child int
}

// guard starts runners of agents, all at the same time, each with the login of
// its agent, and waits until the agents run.
func (e *engine) guard(agents []string, flags ...string) []*guarded {
	e.Helper()
	logins := map[string]*engine{}
	return guard(agents, func(agent string) *process {
		if logins[agent] == nil {
			logins[agent] = e.agent(agent)
		}
		return logins[agent].run(agent, flags, starter)
	})
}

func guard(agents []string, run func(agent string) *process) []*guarded {
	all := make([]*guarded, len(agents))
	for i, agent := range agents {
		all[i] = &guarded{process: run(agent), agent: agent}
	}
	for _, g := range all {
		g.orphan, g.child = g.pid(), g.pid()
	}
	return all
}

// ended reports whether there is neither the agent nor what it has started.
func (g *guarded) ended() bool { return !alive(g.orphan) && !alive(g.child) }

// freeze stops the runner together with its supervisor. Of the two, one that is
// stopped alone is continued after two seconds.
func (g *guarded) freeze() (thaw func()) {
	g.Helper()
	supervisor, err := parent(g.child)
	g.must(err)
	send := func(signal syscall.Signal) {
		g.must(errors.Join(syscall.Kill(supervisor, signal), syscall.Kill(g.cmd.Process.Pid, signal)))
	}
	send(syscall.SIGSTOP)
	thaw = sync.OnceFunc(func() { send(syscall.SIGCONT) })
	g.Cleanup(thaw)
	return thaw
}

// incident reads an incident with all its executions, page by page.
func (e *engine) incident(id string) data {
	e.Helper()
	const page = 20
	var incident data
	executions, after := []any{}, ""
	for {
		incident = e.ok(read, "incidents/"+id, data{"limit": page, "after": after})
		e.noteAnswer(incident)
		found := incident["executions"].([]any)
		executions = append(executions, found...)
		if len(found) < page {
			incident["executions"] = executions
			return incident
		}
		after = fmt.Sprint(found[page-1].(data)["execution_id"])
	}
}

// closed waits until an incident is over, and returns it.
func (e *engine) closed(id any) (incident data) {
	e.Helper()
	err := eventually("the incident is closed", func() (bool, error) {
		incident = e.incident(fmt.Sprint(id))
		return incident["state"] == "closed", nil
	})
	if err != nil {
		e.Fatalf("%v: %s", err, censored(e.T, incident))
	}
	return incident
}

// counts are those of an incident, as it must tell them.
func counts(acknowledged, unacknowledged, lost int) data {
	return data{"acknowledged": acknowledged, "unacknowledged": unacknowledged, "lost": lost, "total": acknowledged + unacknowledged + lost}
}

func (e *engine) at(value any) time.Time {
	e.Helper()
	at, err := time.Parse(time.RFC3339, fmt.Sprint(value))
	e.must(err)
	return at
}

// percentile is the smallest of sorted times that so many percent do not exceed.
func percentile(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)*percent+99)/100-1]
}

// One key leaks that 50 agents of three chains hold. One request: every one of
// them ends, with what it has started, and the receipt is complete. Who holds
// another key goes on.
func TestRevokedSecretEndsWhoHoldsIt(t *testing.T) {
	const leaked, many = "all/org/LEAKED_KEY", 50
	e := newEngine(t)
	old := e.secret(leaked, nil)
	e.secret("all/org/OTHER_KEY", nil)
	chains, agents := []string{"billing", "deploy/eu", "support-bot"}, []string{}
	for _, chain := range chains {
		e.chain(chain, "", "LEAKED_KEY")
	}
	e.chain("apart", "", "OTHER_KEY")
	for i := range many {
		agents = append(agents, "prod/"+chains[i%len(chains)]+"/Worker")
	}
	others := e.guard([]string{"prod/apart/Worker", "prod/apart/Worker", "dev/apart/Worker"})
	hit := e.guard(agents)
	e.same("env", e.read("env/prod/billing/Worker"), data{"LEAKED_KEY": old})
	e.same("who could be stopped", e.watched(many+len(others)), data{"watched": many + len(others), "unwatched": 0, "executions": []any{}})

	distinct := slices.Compact(slices.Sorted(slices.Values(agents)))
	dry := e.write("revoke/secret/"+leaked, data{"reason": "a person saw it", "dry_run": true})
	e.same("what a dry run says", []any{dry["incident_id"], dry["execution_count"], dry["agents"], dry["chains"], dry["versions"], len(dry["executions"].([]any))},
		[]any{"", many, distinct, chains, []int{1}, many})
	reader := dry["readers"].([]any)[0].(data)
	e.same("who read it", []any{reader["path"], reader["version"]}, []any{"env/prod/billing/Worker", 1})
	for _, g := range slices.Concat(hit, others) {
		if g.ended() {
			t.Fatalf("after a dry run, an agent of %s has ended", g.agent)
		}
	}

	value, asked := e.value("new"), time.Now()
	answer := e.write("revoke/secret/"+leaked, data{"reason": "a person saw it", "value": value})
	answered := time.Since(asked)
	took := map[*guarded]time.Duration{}
	e.must(eventually("all agents that hold the key have ended", func() (bool, error) {
		for _, g := range hit {
			if _, known := took[g]; !known && g.ended() {
				took[g] = time.Since(asked)
			}
		}
		return len(took) == many, nil
	}))
	sorted := slices.Sorted(maps.Values(took))
	t.Logf("the answer came after %s; from the request to the last process of an agent: p50 %s, p99 %s, the slowest of %d %s",
		answered.Round(time.Millisecond), percentile(sorted, 50).Round(time.Millisecond), percentile(sorted, 99).Round(time.Millisecond),
		many, sorted[many-1].Round(time.Millisecond))
	e.same("env", e.read("env/prod/billing/Worker"), data{"LEAKED_KEY": value})
	e.refused(400, "no such version", read, "reveal/"+leaked, data{"version": 1})

	id := fmt.Sprint(answer["incident_id"])
	for _, g := range hit {
		g.stopped(75, fmt.Sprintf("%s was revoked: a person saw it (by token) (incident %s)", leaked, id))
	}
	incident := e.closed(id)
	e.same("the incident", []any{incident["kind"], incident["target"], incident["reason"], incident["created_by"], incident["versions"], incident["counts"]},
		[]any{"secret", leaked, "a person saw it", "token", []int{1}, counts(many, 0, 0)})
	e.receipts(incident, hit, asked)
	e.same("the executions that were named at once", sortedIDs(answer["executions"]), incidentIDs(incident))
	e.same("incidents", e.keys("incidents", nil), []string{id})

	for _, g := range others {
		if !alive(g.orphan) || !alive(g.child) {
			t.Errorf("an agent of %s has ended, which does not hold the key", g.agent)
		}
		e.must(g.cmd.Process.Signal(syscall.SIGTERM))
		g.silent(143)
	}
	again := e.write("revoke/secret/"+leaked, data{"reason": "a person saw it", "version": 1})
	e.same("the incident of a version that is revoked already", again["incident_id"], id)
	e.must(eventually("the incident can be deleted", func() (bool, error) {
		_, status, _ := e.do(remove, "incidents/"+id, nil) // it waits for the alerts
		return status == http.StatusOK, nil
	}))
	e.refused(404, "there is no such incident", read, "incidents/"+id, nil)
}

// watched waits until so many executions are watched, and returns what status
// says of who could be stopped.
func (e *engine) watched(n int) (stoppable any) {
	e.Helper()
	e.must(eventually("all runners watch", func() (bool, error) {
		stoppable = e.read("status")["stoppable"]
		return fmt.Sprint(stoppable.(data)["watched"]) == fmt.Sprint(n), nil
	}))
	return stoppable
}

// receipts checks what an incident says of agents that ended by SIGTERM.
func (e *engine) receipts(incident data, of []*guarded, asked time.Time) {
	e.Helper()
	agents := map[string]string{} // by the number of the process
	for _, g := range of {
		agents[fmt.Sprint(g.child)] = g.agent
	}
	for _, item := range incident["executions"].([]any) {
		x := item.(data)
		pid := fmt.Sprint(x["pid"])
		e.same("receipt of "+pid, []any{fmt.Sprint(x["environment"], "/", x["chain"], "/", x["agent"]), x["state"], x["signal"], x["exit_code"]},
			[]any{agents[pid], "acknowledged", "SIGTERM", 143})
		delete(agents, pid)
		// The times are in whole seconds.
		ordered, ended := e.at(x["ordered_at"]), e.at(x["acknowledged_at"])
		if ordered.Before(asked.Truncate(time.Second)) || ended.Before(ordered) || ended.After(time.Now()) {
			e.Errorf("asked for at %s, ordered at %s and ended at %s", asked, ordered, ended)
		}
	}
	if len(agents) > 0 {
		e.Errorf("%d agents have no receipt", len(agents))
	}
}

func incidentIDs(incident data) (ids []string) {
	for _, x := range incident["executions"].([]any) {
		ids = append(ids, fmt.Sprint(x.(data)["execution_id"]))
	}
	return ids
}

func sortedIDs(list any) (ids []string) {
	for _, id := range list.([]any) {
		ids = append(ids, fmt.Sprint(id))
	}
	slices.Sort(ids)
	return ids
}

// By whom runs: an agent, a chain, a run, one execution, all. Whoever is not
// meant goes on.
func TestRevokedByWhoRuns(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	e.chain("apart", "", "OPENAI_API_KEY")
	for _, test := range []struct {
		target string // %s: the id of the first execution
		hits   int    // how many of the runners below, the first ones
	}{
		{"execution/%s", 1},
		{"agent/" + deployer, 2},
		{"chain/prod/deploy-pipeline", 3},
		{"run/42", 3},
		{"all", 4},
	} {
		runners := e.guard([]string{deployer}, "--run", "42")
		target := test.target
		if strings.Contains(target, "%s") {
			target = fmt.Sprintf(target, e.only(deployer))
		}
		runners = append(runners, e.guard([]string{deployer, analyzer}, "--run", "42")...)
		runners = append(runners, e.guard([]string{"dev/apart/Worker"})...)
		asked := time.Now()
		answer := e.write("revoke/"+target, data{"reason": "for " + target})
		e.same("executions of "+target, answer["execution_count"], test.hits)
		for _, g := range runners[:test.hits] {
			g.stopped(75, fmt.Sprintf("for %s (by token) (incident %s)", target, answer["incident_id"]))
			e.gone(g.orphan, g.child)
		}
		incident := e.closed(answer["incident_id"])
		e.same("counts of "+target, incident["counts"], counts(test.hits, 0, 0))
		e.receipts(incident, runners[:test.hits], asked)
		for _, g := range runners[test.hits:] {
			if g.ended() {
				t.Errorf("revoke/%s has ended an agent of %s", target, g.agent)
			}
			e.must(g.cmd.Process.Signal(syscall.SIGTERM))
			g.silent(143)
		}
	}
	ids := e.keys("incidents", nil)
	e.same("incidents, the newest first", ids, slices.SortedFunc(slices.Values(ids), func(x, y string) int { return strings.Compare(y, x) }))
	e.same("pages of them", slices.Concat(e.keys("incidents", data{"limit": 3}), e.keys("incidents", data{"limit": 3, "after": ids[2]})), ids)
}

// A runner that cannot hear, because it was stopped together with its supervisor,
// is not counted as dead: it is unacknowledged, and lost when its lease is over.
// What it runs ends when it can hear again.
func TestFrozenRunnerIsLost(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	all := e.guard([]string{deployer, deployer}, "--ttl", "4s")
	frozen, other := all[0], all[1]
	thaw := frozen.freeze()
	answer := e.write("revoke/agent/"+deployer, data{"reason": "the host is not trusted"})
	other.stopped(75, fmt.Sprintf("the host is not trusted (by token) (incident %s)", answer["incident_id"]))
	incident := e.incident(fmt.Sprint(answer["incident_id"]))
	e.same("the incident", []any{incident["state"], incident["counts"]}, []any{"open", counts(1, 1, 0)})
	waiting := e.read("status")["unacknowledged"].([]any)[0].(data)
	e.same("what status says", []any{waiting["incident_id"], waiting["executions"]}, []any{answer["incident_id"], 1})
	e.refused(409, "is not over", remove, fmt.Sprintf("incidents/%s", answer["incident_id"]), nil)

	incident = e.closed(answer["incident_id"])
	e.same("counts", incident["counts"], counts(1, 0, 1))
	if frozen.ended() {
		t.Error("the agent has ended, and so its runner was not frozen")
	}
	e.same("what status says", e.read("status")["unacknowledged"], []any{})
	thaw()
	e.gone(frozen.orphan, frozen.child)
}
