package agentchains

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

const (
	platformDB  = "prod/project/platform/DATABASE_URL" // DB_URL of the deployer
	chainOpenAI = "prod/chain/deploy-pipeline/OPENAI_API_KEY"
)

// found reports a finding of the execution, and returns its record.
func (r *run) found(body data) data {
	r.Helper()
	return r.ok(update, "execution/"+r.id+"/finding", body)
}

// leaks returns what was told of leaks: of each what follows, or why nothing does.
func (r *receiver) leaks() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var told []string
	for _, n := range r.taken {
		if n["event"] != eventLeak {
			continue
		}
		line := fmt.Sprintf("%v %v %v redacted=%v on_leak=%v", n["path"], n["name"], n["leaked_version"], n["redacted"], n["on_leak"])
		for _, field := range []string{"rotation_id", "incident_id"} {
			if n[field] != nil {
				line += fmt.Sprintf(" %s=%v", field, n[field])
			}
		}
		if reason := n["reason"]; reason != nil && n["incident_id"] == nil {
			line += " " + fmt.Sprint(reason)
		}
		told = append(told, line)
	}
	slices.Sort(told)
	return strings.Join(told, "\n")
}

// TestFinding counts what was seen of each variable, and shows it to who started
// the execution and to operators, after a restart too.
func TestFinding(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		r := e.started(data{"run": "42"})
		e.is(r.ok(read, "execution/"+r.id, nil)["findings"], "map[]")
		path := "execution/" + r.id + "/finding"
		for _, bad := range []struct {
			body data
			text string
		}{
			{nil, "name must be that of a variable"},
			{data{"name": "DATABASE_URL"}, "name must be that of a variable"}, // the execution knows it as DB_URL
			{data{"name": "SENTRY_DSN"}, "name must be that of a variable"},
			{data{"name": "DB_URL", "count": 0}, "count must be from 1"},
			{data{"name": "DB_URL", "count": maxFindings + 1}, "count must be from 1"},
			{data{"name": "DB_URL", "encoding": "Base 64"}, "encoding must be at most 32"},
			{data{"name": "DB_URL", "encoding": strings.Repeat("x", 33)}, "encoding must be at most 32"},
			{data{"name": "DB_URL", "redacted": "maybe"}, "redacted must be true or false"},
			{data{"name": "DB_URL", "value": marker}, "there is no field value"},
		} {
			e.fails(400, update, path, bad.body, bad.text)
		}
		stranger := e.request(update, path, data{"name": "DB_URL"})
		stranger.EntityID = "entity-2"
		status, text, _ := e.send(stranger)
		e.is(fmt.Sprint(status, text), "404there is no such execution")
		e.fails(404, update, "execution/"+noExecution+"/finding", data{"name": "DB_URL"}, "no such execution")

		r.found(data{"name": "DB_URL", "encoding": "raw", "count": 2})
		e.clock.advance(time.Hour)
		r.found(data{"name": "DB_URL", "encoding": "base64"})
		r.found(data{"name": "AWS_REGION", "redacted": false})
		want := "map[" +
			"AWS_REGION:map[count:1 encodings:[] first_at:2030-01-01T01:00:00Z last_at:2030-01-01T01:00:00Z path:prod/org/aws-deploy redacted:false version:1] " +
			"DB_URL:map[count:3 encodings:[raw base64] first_at:2030-01-01T00:00:00Z last_at:2030-01-01T01:00:00Z path:" + platformDB + " redacted:true version:1]]"
		e.is(r.ok(read, "execution/"+r.id, nil)["findings"], want)
		e.is(e.ok(read, "executions/"+deployerPath, data{"id": r.id})["findings"], want)
		e.start()
		e.is(r.ok(read, "execution/"+r.id, nil)["findings"], want)

		for i := range 2 * maxEncodings {
			r.found(data{"name": "DB_URL", "encoding": fmt.Sprint("x", i)})
		}
		e.is(r.ok(read, "execution/"+r.id, nil)["findings"].(data)["DB_URL"].(data)["encodings"], "[raw base64 x0 x1]")

		e.ok(update, "revoke/execution/"+r.id, data{"reason": "x"})
		e.is(r.found(data{"name": "OPENAI_API_KEY"})["state"], "terminating")
		e.ok(update, "execution/"+r.id+"/finish", nil)
		e.fails(409, update, path, data{"name": "DB_URL"}, "the execution is terminated: report what is found before it ends")
		e.work()
		e.is(len(r.ok(read, "execution/"+r.id, nil)["findings"].(data)), 3)
	})
}

// TestFindingAfterChanges knows what a name belonged to when the execution was
// started, whatever became of the chain and the entry.
func TestFindingAfterChanges(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		r := newReceiver(e)
		r.notifier(e, "ops", data{"events": "leak.*"})
		x := e.started(nil)
		e.ok(update, "scopes/chain/deploy-pipeline", data{"agents": []any{data{"name": "Deployer"}}})
		e.ok(update, "secrets/"+platformDB, data{"value": "second"})
		e.promote(platformDB)
		e.ok(update, "groups/prod/org/aws-deploy", data{"on_leak": "revoke"})
		e.ok(remove, "groups/prod/org/aws-deploy", data{"force": true})
		e.start()
		x.found(data{"name": "DB_URL"})
		x.found(data{"name": "AWS_REGION", "redacted": false})
		e.work()
		e.deliver()
		e.is(r.leaks(), lines(
			platformDB+" DB_URL 1 redacted=true on_leak=alert",
			"prod/org/aws-deploy AWS_REGION 1 redacted=false on_leak=<nil> it was deleted",
		))
	})
}

// TestRedactModes says how each variable is redacted, the same in a start that is
// repeated, and keeps whether the output is redacted at all.
func TestRedactModes(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.ok(update, "groups/prod/org/aws-deploy", data{"values": data{"AWS_REGION": "us-west-2", "AWS_KEY": "key"}})
		e.promote("prod/org/aws-deploy")
		start := func(body data) (id string, redact any) {
			e.Helper()
			got := e.ok(update, "executions/"+deployerPath, body)
			return fmt.Sprint(got["execution_id"]), got["redact"]
		}
		key := data{"idempotency_key": "one", "redact": "false"}
		id, redact := start(key)
		e.is(redact, "map[AWS_KEY:unless_common AWS_REGION:unless_common DB_URL:always OPENAI_API_KEY:always]")
		e.is(e.ok(read, "execution/"+id, nil)["redact"], false)
		e.fails(409, update, "executions/"+deployerPath, data{"idempotency_key": "one"}, "with other fields")

		e.ok(patch, "groups/prod/org/aws-deploy", data{"redact": []any{"AWS_KEY"}})
		e.ok(patch, "secrets/"+openAI, data{"redact": false})
		e.ok(update, "secrets/"+platformDB, data{"value": "abc"})
		e.promote(platformDB)
		other, redact := start(nil)
		e.is(redact, "map[AWS_KEY:always AWS_REGION:never DB_URL:unless_common OPENAI_API_KEY:never]")
		e.is(e.ok(read, "execution/"+other, nil)["redact"], true)
		e.fails(400, update, "executions/"+deployerPath, data{"redact": []any{"AWS_KEY"}}, "redact must be true or false")
	})
}

// TestRepeatedStartKeepsModes answers a repeated start as the first, and refuses
// it when the variables have other names by now.
func TestRepeatedStartKeepsModes(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		key := data{"idempotency_key": "one"}
		first := e.ok(update, "executions/"+deployerPath, key)
		e.ok(patch, "secrets/"+openAI, data{"redact": false})
		e.is(e.ok(update, "executions/"+deployerPath, key), first)
		e.ok(update, "scopes/chain/deploy-pipeline", decode(e.T, strings.Replace(deployPipeline, "DB_URL", "DB_DSN", 1)))
		e.fails(409, update, "executions/"+deployerPath, key, "no longer given out")
		e.ok(update, "scopes/chain/deploy-pipeline", decode(e.T, strings.Replace(deployPipeline, `"OPENAI_API_KEY", {"name": "DATABASE_URL", "as": "DB_URL"}`, `{"name": "DATABASE_URL", "as": "DB_URL"}, "OPENAI_API_KEY"`, 1)))
		e.is(e.ok(update, "executions/"+deployerPath, key), first) // in another order
	})
}

// TestFindingsInMemory stores what is only counted at most every 10 seconds, and
// with whatever else is stored.
func TestFindingsInMemory(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	r := e.started(nil)
	body := data{"name": "DB_URL", "encoding": "raw", "count": 3}
	puts := func(reports int) (puts int) {
		e.s.arm(1<<30, false)
		for range reports {
			r.found(body)
		}
		for _, op := range e.s.disarm() {
			if strings.HasPrefix(op, "put ") {
				puts++
			}
		}
		return puts
	}
	count := func() any {
		return r.ok(read, "execution/"+r.id, nil)["findings"].(data)["DB_URL"].(data)["count"]
	}
	e.is(puts(1), 1)
	e.is(puts(100), 0)
	e.is(count(), 303)
	e.clock.advance(sightingInterval)
	e.is(puts(100), 1)
	e.is(count(), 603)
	e.start() // as after a crash: what was counted since the last Put is lost
	e.is(count(), 306)
	e.is(puts(1), 0)
	e.is(puts(1), 0)
	body["encoding"] = "base64" // is more than a count
	e.is(puts(1), 1)
	e.is(count(), 315)
	e.is(puts(1), 0)
	e.ok(update, "execution/"+r.id+"/finish", nil)
	e.work()
	e.start()
	e.is(count(), 318)
}

// TestRecordFits fits into storage when as many variables as an execution can have
// were seen in as many encodings as are kept.
func TestRecordFits(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	e := executionEntry{ID: noExecution, Variables: map[string]*variable{}}
	for i := range maxVariables {
		name := fmt.Sprintf("%s_%04d", strings.Repeat("N", 59), i)
		seen := &sighting{First: at, Last: at, Count: maxFindings * maxFindings, Unredacted: true}
		for n := range 2 * maxEncodings {
			seen.see(&leak{encoding: fmt.Sprintf("%s%02d", strings.Repeat("e", 30), n), count: 1}, at)
		}
		e.Pins = append(e.Pins, pin{"prod/agent/" + strings.Repeat("c", 64) + "/" + strings.Repeat("a", 64) + "/" + name, 1000})
		e.Variables[name] = &variable{Pin: i, Redact: redactUnlessCommon, Seen: seen}
	}
	size, err := putJSON(t.Context(), new(logical.InmemStorage), liveExecutionKey(e.ID), e)
	if err != nil || size > maxEntrySize*9/10 {
		t.Errorf("the record takes %d bytes: %v", size, err)
	}
}

// TestFindingsAtOnce counts each of many reports at the same time, and tells once.
func TestFindingsAtOnce(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	r := e.started(nil)
	const each = 50
	var wg sync.WaitGroup
	for _, name := range []string{"DB_URL", "DB_URL", "DB_URL", "OPENAI_API_KEY"} {
		wg.Go(func() {
			for range each {
				r.found(data{"name": name})
				e.clock.advance(time.Second)
			}
		})
	}
	wg.Wait()
	findings := r.ok(read, "execution/"+r.id, nil)["findings"].(data)
	e.is(findings["DB_URL"].(data)["count"], 3*each)
	e.is(findings["OPENAI_API_KEY"].(data)["count"], each)
}
