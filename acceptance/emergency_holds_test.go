package acceptance

import (
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"testing"
)

// hold is one that an operator may put in place, with requests that it keeps out
// and requests that it does not.
type hold struct {
	target    string
	out, past []request
}

// doors are the ways to the values of an agent.
func doors(agent string) []request {
	return append(reads("env/"+agent, "creds/"+agent), starts(agent, "43")...)
}

func starts(agent, run string) []request {
	return []request{{update, "executions/" + agent, data{"run": run}}}
}

// answers checks that requests are answered with a status, and ends what they start.
func (e *engine) answers(status int, when string, requests []request) {
	e.Helper()
	for _, r := range requests {
		answer, got := e.surely(r.o, r.path, r.body)
		if got != status {
			e.Errorf("%s: %s %s is answered with %d, want %d", when, r.o, r.path, got, status)
		}
		if id, started := answer["execution_id"]; started {
			e.surely(update, fmt.Sprintf("execution/%s/finish", id), data{})
		}
	}
}

// A hold keeps out whom it is for, and nobody else, until somebody releases it:
// no end of a process does.
func TestHolds(t *testing.T) {
	const apart = "prod/apart/Worker"
	d := newDurable(t)
	d.deployPipeline()
	d.chain("apart", "", "OPENAI_API_KEY")
	some := []hold{
		{"agent/" + deployer, doors(deployer), doors(analyzer)},
		{"chain/dev/deploy-pipeline", doors(inDev), doors(analyzer)},
		{"run/42", starts(apart, "42"), doors(apart)},
	}
	d.areHeld(some)
	d.areHeld([]hold{{"all", slices.Concat(doors(deployer), doors(inDev), doors(apart)), reads("status", "secrets/"+database)}})
}

// areHeld puts holds in place, ends the plugin and Vault, and releases them.
func (d *durable) areHeld(holds []hold) {
	d.Helper()
	check := func(when string) {
		for _, h := range holds {
			d.answers(http.StatusLocked, when+", hold of "+h.target, h.out)
			d.answers(http.StatusOK, when+", hold of "+h.target, h.past)
		}
	}
	var ids []string
	for _, h := range holds {
		d.answers(http.StatusOK, "before", h.out)
		ids = append(ids, fmt.Sprint(d.write("revoke/"+h.target, data{"reason": "to find out", "hold": true})["incident_id"]))
	}
	slices.Sort(ids)
	check("at once")
	pids, err := d.node.Plugins("")
	d.must(err)
	d.kill(pids[0])
	check("after a kill of the plugin")
	d.end(syscall.SIGKILL)
	d.launch()
	d.unseal()
	check("after a restart of Vault")

	d.same("holds", d.keys("holds", nil), ids)
	for _, id := range ids {
		held := d.read("holds/" + id)
		release := fmt.Sprint(held["release"])
		i := slices.IndexFunc(holds, func(h hold) bool { return "revoke/"+h.target == release })
		if i < 0 || held["reason"] != "to find out" {
			d.Fatalf("the hold is for %q because of %q", release, held["reason"])
		}
		d.refused(http.StatusLocked, id, holds[i].out[0].o, holds[i].out[0].path, holds[i].out[0].body)
		d.ok(remove, release, nil)
		d.refused(http.StatusNotFound, "there is no such hold", read, "holds/"+id, nil)
		d.answers(http.StatusOK, "after the release of "+release, holds[i].out)
		d.ok(remove, release, nil)
	}
	d.nothing("holds", nil)
}

// revoke/all needs the sudo capability beside update and delete; the others do not.
func TestRevokeAllNeedsSudo(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	x := e.start(deployer, nil)
	plain := e.userpass(e.policy(`path "` + e.mount + `/revoke/*" { capabilities = ["update", "delete"] }`))
	plain.denied(update, "revoke/all")
	plain.denied(remove, "revoke/all")
	e.same("state", x.state(), "active")
	e.same("executions of a chain", plain.write("revoke/chain/prod/deploy-pipeline", data{"reason": "to find out", "dry_run": true})["execution_count"], 1)
	sudo := e.userpass(e.policy(`path "` + e.mount + `/revoke/all" { capabilities = ["update", "delete", "sudo"] }`))
	e.same("executions", sudo.write("revoke/all", data{"reason": "to find out", "hold": true})["execution_count"], 1)
	e.same("state", x.state(), "terminating")
	e.refused(http.StatusLocked, "is held since", read, "env/"+deployer, nil)
	sudo.ok(remove, "revoke/all", nil)
	e.read("env/" + deployer)
}

// Who revokes by what runs can hold, and releases at the same path.
func TestHoldsAreReleased(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	x := e.start(deployer, nil)
	for _, target := range []string{"agent/" + deployer, "chain/prod/deploy-pipeline", "run/42", "execution/" + x.id} {
		id := e.write("revoke/"+target, data{"reason": "to find out", "hold": true})["incident_id"]
		e.same("holds", e.keys("holds", nil), []any{id})
		e.ok(remove, "revoke/"+target, nil)
		e.nothing("holds", nil)
	}
	e.read("env/" + deployer)
}
