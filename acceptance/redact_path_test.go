package acceptance

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
)

// mixed begins values that must look random: it has letters of both cases and
// digits. All have it in common, as keys of one issuer have their beginning.
const mixed = "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5bC7d"

// strong stores a secret that looks random, and returns its value.
func (e *engine) strong(path string) string {
	e.Helper()
	value := mixed + e.value(path)
	e.write("secrets/"+path, data{"value": value})
	return value
}

// redacted sends a text, and returns the answer, which must hold no value.
func (e *engine) redacted(path string, body data) data {
	e.Helper()
	answer := e.write("redact/"+path, body)
	e.noteAnswer(answer)
	return answer
}

// An agent has its output redacted: all that it could have read, before and after a
// rotation, and nothing that it has only in common with others.
func TestRedactForAnAgent(t *testing.T) {
	e := newEngine(t)
	values := e.deployPipeline()
	old := values["DB_URL"].(string)
	next := e.secret(database, nil) // it serves, and the old one still lives
	other := e.strong("prod/org/OTHER")
	as := e.appRole(e.policy(policies(t, e.mount)["Redaction on the server"]))
	key := values["AWS_ACCESS_KEY_ID"].(string)
	text := "old " + old + " new " + next + "\nkey " + base64.StdEncoding.EncodeToString([]byte("id:"+key)) + " in us-west-2"
	answer := as.redacted(deployer, data{"text": text})
	out := answer["text"].(string)
	if !strings.HasPrefix(out, "old [REDACTED:DB_URL] new [REDACTED:DB_URL]\nkey ") || !strings.Contains(out, "[REDACTED:AWS_ACCESS_KEY_ID]") || !strings.HasSuffix(out, " in us-west-2") {
		t.Errorf("redacted: %s", secrets.censor(out))
	}
	e.same("count", answer["count"], 3)
	first := answer["findings"].([]any)[0].(data)
	e.same("the first finding", first, data{"name": "DB_URL", "version": 1, "encoding": "raw", "redacted": true, "count": 1, "offset": 4, "length": len(old)})
	e.same("gaps", answer["gaps"], []data{{"name": "AWS_REGION", "version": 1, "reason": "it is the name of a region"}})
	if text := as.write("redact/"+deployer, data{"text": other})["text"]; text != other {
		t.Error("a secret that the agent does not see is redacted")
	}
	e.same("who read the old version", len(e.read("secrets/" + database)["unpinned_readers"].([]any)), 0)

	e.write("promote/"+database, data{"force": true})
	if text := as.write("redact/"+deployer, data{"text": old})["text"]; text != old {
		t.Error("a version that is destroyed is redacted")
	}
	// As much as Vault takes in one string of JSON, in which a line break is two bytes,
	// and no more.
	line := strings.Repeat("x", 1<<20-len(next)-1) + " " + next
	if out := as.redacted(deployer, data{"text": line})["text"].(string); !strings.HasSuffix(out, "x [REDACTED:DB_URL]") {
		t.Error("the longest text is not redacted")
	}
	as.redacted(deployer, data{"text": strings.Repeat("\n", 1<<19)})
	for _, longer := range []string{line + "x", strings.Repeat("\n", 1<<19+1)} {
		if _, status, _ := as.do(update, "redact/"+deployer, data{"text": longer}); status == http.StatusOK {
			t.Errorf("a text of %d bytes is taken", len(longer))
		}
	}
	e.refused(404, "has no agent Nobody", update, "redact/prod/deploy-pipeline/Nobody", data{"text": "any"})
	e.refused(400, "must not be all", update, "redact/all/deploy-pipeline/Deployer", data{"text": "any"})
}

// scope is withheld where docs/policies.md says so.
func TestScopeOfRedactionIsWithheld(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	hcl := policies(t, e.mount)
	for heading, agent := range map[string]string{"Redaction on the server": deployer, "Do not grant it": inDev, "One deny per door": inDev} {
		as := e.userpass(e.policy(hcl[heading]))
		as.ok(update, "redact/"+agent, data{"text": "harmless"})
		for _, body := range []data{{"text": "harmless", "scope": "mount"}, {"text": "harmless", "Scope": "mount"}} {
			if _, status, text := as.do(update, "redact/"+agent, body); status != http.StatusForbidden {
				t.Errorf("%s: %d %s, want scope denied", heading, status, text)
			}
		}
	}
}

// indexed waits until the mount was read, and returns the answer to a text.
func (e *engine) indexed(path string, body data) data {
	e.Helper()
	e.must(eventually("the secrets of the mount are read", func() (bool, error) {
		_, status, text := e.do(update, "redact/"+path, body)
		if status != http.StatusOK && (status != http.StatusServiceUnavailable || !strings.Contains(text, "try again")) {
			e.Errorf("redact/%s: %d %s", path, status, text)
		}
		return status == http.StatusOK, nil
	}))
	return e.redacted(path, body)
}

// A text is checked against all secrets of the mount, and names none that the agent
// does not see; a part of a value finds nothing; the index follows every write, and
// the death of the plugin.
func TestRedactMount(t *testing.T) {
	e, plugin := newOwnProcess(t)
	e.deployPipeline()
	own, other := e.strong("prod/agent/deploy-pipeline/CodeAnalyzer/OPENAI_API_KEY"), e.strong("dev/project/hidden/SECRET_OF_OTHERS")
	checker := e.appRole(e.policy(policies(t, e.mount)["Redaction on the server#2"]))
	agent := e.appRole(e.policy(`path "` + e.mount + `/redact/` + analyzer + `" { capabilities = ["update"] }`))
	whole := func(text string) data { return data{"text": text, "scope": "mount"} }

	answer := agent.indexed(analyzer, whole("own "+own+" other "+other))
	e.same("text", answer["text"], "own [REDACTED:OPENAI_API_KEY] other [REDACTED]")
	e.same("findings", answer["findings"], []data{
		{"name": "OPENAI_API_KEY", "version": 1, "encoding": "raw", "redacted": true, "count": 1, "offset": 4, "length": len(own)},
		{"name": "OPENAI_API_KEY", "version": 1, "encoding": "fragment", "redacted": true, "count": 1, "offset": 4 + len(own) + len(" other "), "length": len(mixed)},
		{"name": "", "version": 0, "encoding": "raw", "redacted": true, "count": 1, "offset": 4 + len(own) + len(" other "), "length": len(other)},
	})
	e.same("for the checker", checker.redacted("mount", data{"text": base64.URLEncoding.EncodeToString([]byte(other)) + " " + own})["text"], "[REDACTED] [REDACTED]")
	for _, guess := range []string{other[:len(other)-1], other[1:], other[:len(other)-1] + "x"} {
		if text := checker.write("redact/mount", data{"text": guess})["text"]; text != guess {
			t.Error("a part of a secret is found")
		}
	}
	is := func(when, value string, found bool) {
		e.Helper()
		if text := checker.write("redact/mount", data{"text": value})["text"]; (text == "[REDACTED]") != found {
			e.Errorf("%s: found is %v", when, !found)
		}
	}
	const path = "dev/project/hidden/SECRET_OF_OTHERS"
	next := e.strong(path)
	is("serving, the new one", next, true)
	is("serving, the old one", other, true)
	e.write("promote/"+path, data{"force": true})
	is("promoted", other, false)
	e.write("revoke/secret/"+path, data{"reason": "test"})
	is("revoked", next, false)
	next = e.strong(path)
	is("written again", next, true)
	e.ok(remove, "secrets/"+path, data{"force": true})
	is("deleted", next, false)

	e.kill(e.process(plugin, 0))
	answer = agent.retrying().indexed(analyzer, whole(own))
	e.same("after the plugin was killed", answer["text"], "[REDACTED:OPENAI_API_KEY]")
}

// Nobody can try many guesses, or ask many times.
func TestRedactMountLimits(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	var leaked []string
	for _, name := range strings.Fields("A B C D E F G H I J K") {
		leaked = append(leaked, e.strong("dev/org/KEY_"+name))
	}
	checker := func() *engine { return e.appRole(e.policy(policies(t, e.mount)["Redaction on the server#2"])) }
	first, second := checker(), checker()
	e.same("ten secrets", first.indexed("mount", data{"text": strings.Join(leaked[:10], " ")})["text"], strings.TrimSpace(strings.Repeat("[REDACTED] ", 10)))
	first.refused(429, "more than 10 secrets", update, "redact/mount", data{"text": leaked[10]})
	first.refused(429, "for an hour", update, "redact/mount", data{"text": "harmless"})
	e.same("to another", second.redacted("mount", data{"text": leaked[10]})["text"], "[REDACTED]")
	limited := 0
	for range 70 {
		if _, status, _ := second.do(update, "redact/mount", data{"text": "harmless"}); status == http.StatusTooManyRequests {
			limited++
		}
	}
	counters := e.read("status")["counters"].(data)
	if limited == 0 {
		t.Error("70 texts at once are checked")
	}
	e.same("what status counts", []any{counters["mount_hits"], counters["mount_refused"]}, []any{11, 2 + limited})
}
