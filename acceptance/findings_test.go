package acceptance

import (
	"fmt"
	"strings"
	"testing"
)

// found reports that a variable was seen in the output of the execution.
func (x *execution) found(name string, more data) data {
	x.Helper()
	body := data{"name": name}
	for field, value := range more {
		body[field] = value
	}
	return x.write("execution/"+x.id+"/finding", body)
}

// leak waits until the receiver was told of a leak, and returns the message. It
// was told once.
func (r *receiver) leak(x *execution, name string, redacted bool) (found data) {
	r.Helper()
	count := 0
	err := eventually("the receiver has leak.detected", func() (bool, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		count = 0
		for _, m := range r.taken {
			if m.data["event"] == "leak.detected" && m.data["execution_id"] == x.id && m.data["name"] == name && m.data["redacted"] == redacted {
				found = m.data
				count++
			}
		}
		return count > 0, nil
	})
	if err != nil || count != 1 {
		r.Fatalf("%d messages of a leak of %s: %v", count, name, err)
	}
	return found
}

// What is seen in output is counted and told, and on_leak is done: a rotation, or
// the end of who holds a key of one chain. A key that chains share only alerts, as
// long as it was redacted.
func TestFindings(t *testing.T) {
	const worker = "prod/c/Worker"
	e := newEngine(t)
	r, _ := e.newReceiver()
	e.write("notifiers/ops", data{"events": "leak.*"})
	e.chain("c", "", "SHARED", "ROTATED", "REVOKED")
	e.chain("apart", "", "SHARED")
	e.secret("all/org/SHARED", data{"on_leak": "revoke"})
	e.secret("prod/chain/c/ROTATED", data{"on_leak": "rotate", "redact": false})
	e.secret("prod/chain/c/REVOKED", data{"on_leak": "revoke"})
	e.write("rotators/key", data{"type": "api-key", "prefix": "ac_"})
	e.write("schedules/prod/chain/c/ROTATED", data{"rotator": "key", "auto_rotate": false})

	agent := e.agent(worker)
	holder, other := e.guard([]string{worker})[0], e.guard([]string{"prod/apart/Worker"})[0]
	x := agent.start(worker, data{"run": "42", "idempotency_key": "once", "redact": false})
	again := agent.write("executions/"+worker, data{"run": "42", "idempotency_key": "once", "redact": false})
	e.same("how each is redacted", []any{again["execution_id"], again["redact"]}, []any{x.id, data{"SHARED": "always", "ROTATED": "never", "REVOKED": "always"}})
	e.refused(404, "no such execution", update, "execution/"+x.id+"/finding", data{"name": "SHARED"})
	agent.refused(400, "name must be that of a variable", update, "execution/"+x.id+"/finding", data{"name": "OTHER"})

	x.found("SHARED", data{"encoding": "base64", "count": 3})
	x.found("SHARED", data{"encoding": "hex"})
	told := r.leak(x, "SHARED", true)
	e.same("what is told", []any{told["path"], told["leaked_version"], told["encoding"], told["count"], told["on_leak"], told["environment"], told["chain"], told["agent"], told["run"], told["incident_id"]},
		[]any{"all/org/SHARED", 1, "base64", 3, "revoke", "prod", "c", "Worker", "42", nil})
	if reason := fmt.Sprint(told["reason"]); !strings.Contains(reason, "shared by chains") {
		t.Errorf("why it is not revoked: %q", reason)
	}
	e.nothing("incidents", nil)

	x.found("ROTATED", nil)
	rotation := e.read("rotate/prod/chain/c/ROTATED")
	e.same("the rotation", []any{rotation["state"], rotation["trigger"], rotation["started_by"], rotation["pending_version"]}, []any{"serving", "leak", "agentchains", 2})
	e.same("rotation_id", r.leak(x, "ROTATED", true)["rotation_id"], rotation["rotation_id"])
	e.same("state", x.state(), "active")

	got := x.found("REVOKED", nil)
	id := fmt.Sprint(got["incident_id"])
	e.same("state", got["state"], "terminating")
	e.same("incident_id", r.leak(x, "REVOKED", true)["incident_id"], id)
	if refusal := x.renew(0); !strings.Contains(refusal, "EXECUTION_TERMINATED") {
		t.Errorf("a renewal answers %q", refusal)
	}
	holder.stopped(75, fmt.Sprintf("prod/chain/c/REVOKED was revoked: seen in the output of execution %s (by agentchains) (incident %s)", x.id, id))
	x.write("execution/"+x.id+"/ack", data{"pid": 1})
	incident := e.closed(id)
	e.same("the incident", []any{incident["target"], incident["created_by"], incident["versions"], incident["counts"]}, []any{"prod/chain/c/REVOKED", "agentchains", []int{1}, counts(2, 0, 0)})
	agent.refused(409, "report what is found before it ends", update, "execution/"+x.id+"/finding", data{"name": "SHARED"})

	record := e.ok(read, "executions/"+worker, data{"id": x.id})
	shared := record["findings"].(data)["SHARED"].(data)
	e.same("the record", []any{record["redact"], shared["count"], shared["encodings"], shared["redacted"], len(record["findings"].(data))},
		[]any{false, 4, []string{"base64", "hex"}, true, 3})
	e.same("leaks of status", e.read("status")["counters"].(data)["leaks"], 3)
	if other.ended() {
		t.Error("an agent has ended that holds only the shared key")
	}

	// What was not redacted got out, and so the shared key is revoked too.
	y := e.agent("prod/apart/Worker").start("prod/apart/Worker", nil)
	id = fmt.Sprint(y.found("SHARED", data{"redacted": false})["incident_id"])
	e.same("incident_id", r.leak(y, "SHARED", false)["incident_id"], id)
	other.stopped(75, fmt.Sprintf("all/org/SHARED was revoked: seen in the output of execution %s (by agentchains) (incident %s)", y.id, id))
	e.refused(400, "was revoked", read, "env/prod/apart/Worker", nil)
}
