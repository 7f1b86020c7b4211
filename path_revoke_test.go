package agentchains

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	revokeDeployer = "revoke/agent/" + deployerPath
	chainOfIt      = "prod/deploy-pipeline"
)

// TestRevokeOnceMore answers a request that is repeated with the first incident, but
// only while what it asks for is so: who asks for it later gets it.
func TestRevokeOnceMore(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		revoke := func(path string, body data) string {
			e.Helper()
			return fmt.Sprint(e.ok(update, path, body)["incident_id"])
		}

		hold := data{"reason": "it misbehaves", "hold": true}
		first := revoke("revoke/chain/"+chainOfIt, hold)
		e.is(revoke("revoke/chain/"+chainOfIt, hold), first)
		e.is(e.ok(read, "explain/"+deployerPath, nil)["resolves"], false)
		e.ok(remove, "revoke/chain/"+chainOfIt, nil)
		e.environment(deployerPath)
		second := revoke("revoke/chain/"+chainOfIt, hold)
		e.is(second != first, true)
		e.fails(423, read, "env/"+deployerPath, nil, second)
		e.is(e.keys("holds/", nil), second)
		e.ok(remove, "revoke/chain/"+chainOfIt, nil)

		e.started(nil)
		first = revoke(revokeDeployer, data{"reason": "it loops"})
		e.is(revoke(revokeDeployer, data{"reason": "it loops"}), first)
		again := e.started(nil)
		e.clock.advance(time.Second)
		second = revoke(revokeDeployer, data{"reason": "it loops"})
		e.is(second != first, true)
		e.is(again.state(), "terminating")
		e.is(revoke(revokeDeployer, data{"reason": "it loops"}), second)

		first = revoke(revokeOpen, data{"reason": "leaked"})
		e.is(revoke(revokeOpen, data{"reason": "leaked"}), first)
		e.write(openAI, "next")
		second = revoke(revokeOpen, data{"reason": "leaked"})
		e.is(second != first, true)
		e.fails(400, read, "env/"+deployerPath, nil, "was revoked")
	})
}

// TestRevokeTells answers with everybody whom its incident will list: who was told to
// stop before, by another one or by none, too.
func TestRevokeTells(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		two := e.started(nil)
		e.ok(remove, "secrets/"+openAI, data{"force": true})
		e.is(two.state(), "terminating")
		e.write(openAI, "openai")
		one, three := e.started(nil), e.started(nil)
		e.ok(update, "revoke/execution/"+one.id, data{"reason": "it loops"})
		dry := e.ok(update, revokeDeployer, data{"reason": "all of it", "dry_run": true})
		got := e.ok(update, revokeDeployer, data{"reason": "all of it"})
		for _, answer := range []data{dry, got} {
			e.is(answer["execution_count"], 3)
			e.is(len(strings.Fields(fmt.Sprint(answer["executions"]))), 3)
		}
		e.work()
		e.is(e.states(got["incident_id"]), sorted(one.id+"=unacknowledged", two.id+"=unacknowledged", three.id+"=unacknowledged"))
		two.acknowledge()
		e.work()
		e.is(e.states(got["incident_id"]), sorted(one.id+"=unacknowledged", two.id+"=acknowledged", three.id+"=unacknowledged"))
	})
}

// TestRevokeNobody fails for what is mistyped, and not for what runs without a
// definition.
func TestRevokeNobody(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		r := e.started(nil)
		for path, text := range map[string]string{
			"chain/prod/deploy-pipelin":                  "there is no chain",
			"agent/prod/deploy-pipeline/Deploye":         "has no agent",
			"agent/prod/nothing/Deployer":                "there is no chain",
			"execution/0123456789abcdef0123456789abcdef": "no such execution",
		} {
			for _, dry := range []bool{true, false} {
				e.fails(404, update, "revoke/"+path, data{"reason": "x", "dry_run": dry}, text)
			}
		}
		e.fails(400, update, "revoke/agent/prod/Deployer", data{"reason": "x"}, "the path must end in <chain>/<agent>")
		e.fails(400, update, "revoke/chain/prod", data{"reason": "x"}, "the path must be <environment>/<chain>")
		e.is(len(e.stored(stopPrefix)), 0)

		e.ok(remove, "scopes/chain/deploy-pipeline", nil)
		e.is(e.keys("executions/prod/", nil), "deploy-pipeline/")
		e.is(e.keys("executions/prod/deploy-pipeline/", nil), "Deployer/")
		e.ok(update, "revoke/chain/"+chainOfIt, data{"reason": "x"})
		e.is(r.state(), "terminating")
	})
}

// TestRevokeDryRun refuses what the request would be refused for, and stores nothing.
func TestRevokeDryRun(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.ok(update, revokeOpen, data{"reason": "leaked", "dry_run": true}) // makes the salt
		before := e.dump()
		for text, body := range map[string]data{
			"version must name live versions": {"version": 99},
			"must not be empty":               {"value": ""},
			"has no rotator":                  {"rotate": true},
			"is the one that is revoked":      {"value": "openai"},
		} {
			for _, dry := range []bool{true, false} {
				body["reason"], body["dry_run"] = "leaked", dry
				e.fails(400, update, revokeOpen, body, text)
			}
		}
		dry := e.ok(update, revokeOpen, data{"reason": "leaked", "value": "next", "dry_run": true})
		e.is(dry["versions"], "[1]")
		e.is(e.dump() == before, true)
		e.ok(update, revokeOpen, data{"reason": "leaked"})
		e.is(e.ok(update, revokeOpen, data{"reason": "leaked", "dry_run": true})["versions"], "[]")
	})
}

// TestRevokeWithRotator does not take the new version for one that came later.
func TestRevokeWithRotator(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.keysEvery("30d")
		body := data{"reason": "leaked", "rotate": true}
		first := fmt.Sprint(e.ok(update, revokeOpen, body)["incident_id"])
		e.turn()
		e.clock.advance(time.Second)
		e.is(e.ok(update, revokeOpen, body)["incident_id"], first)
	})
}
