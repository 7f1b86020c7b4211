package acceptance

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// agent is a definition of a chain with one agent.
func agent(fields data) data {
	a := data{"name": "Worker"}
	for name, value := range fields {
		a[name] = value
	}
	return data{"agents": []data{a}}
}

// Each is refused in one sentence that says where and what; nothing is stored,
// and what was sent is nowhere repeated.
func TestBadInput(t *testing.T) {
	e := newEngine(t)
	v := e.value("sent")
	openAI, aws, gitHub := "sk-"+e.value("key"), "AKIA"+e.value("key")[:half], "ghp_"+e.value("key")
	large, filler := v+strings.Repeat("x", 64<<10+1-len(v)), strings.Repeat("x", 43<<10)
	chain, secret, group := "scopes/chain/new", "secrets/prod/org/NEW", "groups/prod/org/new"
	for _, row := range []struct {
		name, path string
		body       data
		want       string
	}{
		{"empty value", secret, data{"value": ""}, "must not be empty"},
		{"no value", secret, data{"description": v}, "send its value"},
		{"NUL", secret, data{"value": v + "\x00"}, "NUL"},
		{"large value", secret, data{"value": large}, "65536"},
		{"sensitivity", secret, data{"value": v, "sensitivity": v}, "sensitivity must be one of"},
		{"on_leak", secret, data{"value": v, "on_leak": v}, "on_leak must be one of"},
		{"time", secret, data{"value": v, "expires_at": v}, "expires_at must be a time"},
		{"past", secret, data{"value": v, "expires_at": "2020-01-01T00:00:00Z"}, "expires_at must be in the future"},
		{"chains_allowed", secret, data{"value": v, "chains_allowed": []string{"*"}}, "bare *"},
		{"redact", secret, data{"value": v, "redact": []string{v}}, "redact must be"},
		{"description", secret, data{"value": v, "description": large}, "description must be at most"},
		{"custom_metadata", secret, data{"value": v, "custom_metadata": data{"key": large}}, "custom_metadata must have"},
		{"name in lower case", "secrets/prod/org/new", data{"value": v}, "groups/"},
		{"name of a variable", "groups/prod/org/NEW", data{"values": data{"A": v}}, "secrets/"},
		{"name with a dot", "secrets/prod/org/A.B", data{"value": v}, "the secret in the path"},
		{"PATH", "secrets/prod/org/PATH", data{"value": v}, "choose another name"},
		{"LD_PRELOAD", "secrets/prod/org/LD_PRELOAD", data{"value": v}, "choose another name"},
		{"BASH_ENV", "secrets/prod/chain/c/BASH_ENV", data{"value": v}, "choose another name"},
		{"GIT_CONFIG_COUNT", "secrets/prod/chain/c/GIT_CONFIG_COUNT", data{"value": v}, "choose another name"},
		{"reserved", "secrets/prod/org/AGENTCHAINS_X", data{"value": v}, "reserved"},
		{"unknown environment", "secrets/nosuch/org/NEW", data{"value": v}, "environment"},
		{"unknown scope", "secrets/prod/team/NEW", data{"value": v}, "with a scope of"},
		{"no scope", "secrets/NEW", data{"value": v}, "with a scope of"},
		{"deep chain", "secrets/prod/chain/a/b/c/d/e/NEW", data{"value": v}, "1 to 4 segments"},

		{"empty group", group, data{"values": data{}}, "at least one member"},
		{"empty member", group, data{"values": data{"A": v, "B": ""}}, "value of B must not be empty"},
		{"NUL in a member", group, data{"values": data{"A": v + "\x00"}}, "NUL"},
		{"large member", group, data{"values": data{"A": large}}, "value of A must be at most 65536"},
		{"large group", group, data{"values": data{"A": v + filler, "B": v + filler, "C": v + filler}}, "131072"},
		{"null member", group, data{"values": data{"A": nil}}, "null"},
		{"dangerous member", group, data{"values": data{"NODE_OPTIONS": v}}, "choose another name"},
		{"reserved member", group, data{"values": data{"AGENTCHAINS_X": v}}, "reserved"},
		{"member in lower case", group, data{"values": data{"a": v}}, "a name in values"},

		{"no agents", chain, data{"agents": []data{}}, "at least one agent"},
		{"agents left out", chain, data{"project": "p"}, "at least one agent"},
		{"agent without a name", chain, data{"agents": []data{{"secrets": []string{"A"}}}}, "agents[0].name"},
		{"two agents of a name", chain, data{"agents": []data{{"name": "A"}, {"name": "A"}}}, "agents[1].name"},
		{"other chain", chain, data{"chain": v, "agents": []data{{"name": "A"}}}, "chain must be the name in the path"},
		{"prompt", chain, agent(data{"prompt": v}), "agents[0] has an unknown field"},
		{"value in a reference", chain, agent(data{"secrets": []any{data{"name": "A", "value": v}}}), "agents[0].secrets[0] has an unknown field"},
		{"key as a secret", chain, agent(data{"secrets": []any{"A", openAI}}), "agents[0].secrets[1] looks like a key"},
		{"key as a name", chain, agent(data{"secrets": []any{data{"name": aws}}}), "agents[0].secrets[0].name looks like a key"},
		{"key as as", chain, agent(data{"secrets": []any{data{"name": "A", "as": aws}}}), "agents[0].secrets[0].as looks like a key"},
		{"key as a group", chain, agent(data{"groups": []any{gitHub}}), "agents[0].groups[0] looks like a key"},
		{"key as an agent", chain, data{"agents": []data{{"name": gitHub}}}, "agents[0].name looks like a key"},
		{"key as a project", chain, data{"project": openAI, "agents": []data{{"name": "A"}}}, "project looks like a key"},
		{"dangerous as", chain, agent(data{"secrets": []any{data{"name": "A", "as": "PATH"}}}), "choose another name"},
		{"reserved as", chain, agent(data{"secrets": []any{data{"name": "A", "as": "AGENTCHAINS_A"}}}), "reserved"},
		{"optional", chain, agent(data{"secrets": []any{data{"name": "A", "optional": v}}}), "agents[0].secrets[0].optional must be true or false"},
		{"number as a reference", chain, agent(data{"secrets": []any{12345}}), "agents[0].secrets[0]"},
		{"object as references", chain, agent(data{"secrets": data{"key": v}}), "agents[0].secrets must be a list"},
		{"one secret twice", chain, agent(data{"secrets": []any{"A", "A"}}), "agents[0].secrets[1]"},
		{"one variable twice", chain, agent(data{"secrets": []any{"A", data{"name": "B", "as": "A"}}}), "agents[0].secrets[1]"},
		{"one group twice", chain, agent(data{"groups": []any{"a", "a"}}), "agents[0].groups[1]"},
		{"max_runtime", chain, data{"max_runtime": "-1h", "agents": []data{{"name": "A"}}}, "max_runtime"},
		{"chain with a dot", "scopes/chain/a.b", data{"agents": []data{{"name": "A"}}}, "the chain in the path"},

		{"bare *", "scopes/project/new", data{"chains_allowed": []string{"*"}}, "bare *"},
		{"* in a name", "scopes/project/new", data{"chains_allowed": []string{"bill*"}}, "chains_allowed"},
		{"key as a chain", "scopes/project/new", data{"chains_allowed": []string{openAI}}, "looks like a key"},
		{"project of two segments", "scopes/project/a/b", data{"chains_allowed": []string{"c"}}, "the project in the path"},

		{"environment all", "config", data{"environments": []string{"dev", "staging", "prod", "all"}}, "environments[3]"},
		{"key as an environment", "config", data{"environments": []string{openAI}}, "environments[0]"},
		{"no environment", "config", data{"environments": []string{}}, "environments"},
		{"environment twice", "config", data{"environments": []string{"dev", "staging", "prod", "dev"}}, "environments[3]"},
		{"on_overdue", "config", data{"on_overdue": v}, "on_overdue must be"},
		{"allowed_hosts", "config", data{"allowed_hosts": []string{"http://" + v}}, "allowed_hosts[0]"},
		{"max_overlap", "config", data{"max_overlap": "1s"}, "max_overlap"},
		{"cache_bytes", "config", data{"cache_bytes": 1}, "cache_bytes"},
		{"rotation_webhook", "config", data{"rotation_webhook": "http://" + v}, "rotation_webhook"},
	} {
		t.Run(row.name, func(t *testing.T) {
			(&engine{t, e.mount, e.client}).refused(400, row.want, update, row.path, row.body)
		})
	}
	e.same("what is stored", e.stored(), data{"config": e.read("config")})
}

// What is exactly as large as allowed is stored whole.
func TestLargestValues(t *testing.T) {
	e := newEngine(t)
	v := e.value("large") + "\n\t\"é€😀\\"
	largest := v + strings.Repeat("x", 64<<10-len(v))
	e.write("secrets/prod/org/LARGEST", data{"value": largest})
	if e.read("reveal/prod/org/LARGEST")["value"] != largest {
		t.Error("the largest value comes back changed")
	}
	e.write("groups/prod/org/largest", data{"values": data{"A": largest, "B": largest[2:]}})
	e.refused(400, "131072", patch, "groups/prod/org/largest", data{"values": data{"C": "x"}})
}

// Two references may turn out to give one variable when the chain is written,
// or when a group changes later.
func TestTwoReferencesToOneVariable(t *testing.T) {
	e := newEngine(t)
	value := e.value("TOKEN")
	e.write("secrets/prod/org/TOKEN", data{"value": value})
	e.write("groups/prod/org/pair", data{"values": data{"A": value}})
	definition := agent(data{"secrets": []any{"TOKEN"}, "groups": []any{"pair"}})
	e.write("scopes/chain/c", definition)
	e.read("env/prod/c/Worker")
	e.ok(patch, "groups/prod/org/pair", data{"values": data{"TOKEN": value}})
	e.refused(400, "TOKEN", read, "env/prod/c/Worker", nil)
	e.refused(400, "agents[0] has two references to one variable", update, "scopes/chain/d", definition)
	e.refused(404, "there is no chain", read, "scopes/chain/d", nil)
}

// A client cannot climb out of a path. Vault sends some forms on to the path
// they mean, which its policies then check; the client here does not follow.
func TestDotsInPaths(t *testing.T) {
	e := newEngine(t)
	value := e.secret("prod/org/TOKEN", nil)
	e.chain("c", "", "TOKEN")
	before := e.stored()
	body, err := json.Marshal(data{"value": e.value("sent")})
	e.must(err)
	for _, path := range []string{
		"secrets/prod/org/..", "secrets/prod/org/../TOKEN", "secrets/dev/org/../../prod/org/TOKEN", "secrets/prod/org/%2e%2e", "secrets/prod/org/%2e%2e/TOKEN",
		"secrets/dev/org/%2e%2e%2f%2e%2e%2fprod/org/TOKEN", "secrets/dev/org/%2E%2E/%2E%2E/prod/org/TOKEN", "secrets/prod/org/%252e%252e/TOKEN", "secrets/prod/./org/TOKEN", "secrets/prod//org/TOKEN",
		"groups/prod/org/%2e%2e/pair", "reveal/dev/%2e%2e/prod/org/TOKEN", "reveal/dev/../prod/org/TOKEN", "scopes/chain/%2e%2e/new", "scopes/chain/../../config", "scopes/project/%2e%2e",
		"env/dev/%2e%2e/prod/c/Worker", "env/dev/../prod/c/Worker", "creds/prod/x/%2e%2e/c/Worker", "explain/prod/x/%2e%2e/c/Worker", "policy/prod/x/%2e%2e/c/Worker",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPatch, http.MethodDelete, "LIST"} {
			req, err := http.NewRequestWithContext(t.Context(), method, vault.Address+"/v1/"+e.mount+"/"+path, bytes.NewReader(body))
			e.must(err)
			req.Header.Set("X-Vault-Token", vault.Client.Token())
			req.Header.Set("Content-Type", "application/merge-patch+json")
			resp, err := http.DefaultTransport.RoundTrip(req)
			e.must(err)
			var answer bytes.Buffer
			_, err = answer.ReadFrom(resp.Body)
			e.must(err)
			resp.Body.Close()
			e.note(answer.String())
			to := resp.Header.Get("Location")
			switch {
			case resp.StatusCode == http.StatusTemporaryRedirect && !strings.Contains(to, ".."):
			case resp.StatusCode == http.StatusBadRequest, resp.StatusCode == http.StatusMethodNotAllowed:
			default:
				t.Errorf("%s %s: %d to %q, want a redirect or a 400", method, path, resp.StatusCode, to)
			}
		}
	}
	e.same("what is stored", e.stored(), before)
	e.same("value", e.read("reveal/prod/org/TOKEN")["value"], value)
}
