package acceptance

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

// request is one that a policy allows or denies.
type request struct {
	o    op
	path string
	body data
}

// reads returns requests that read the paths.
func reads(paths ...string) []request { return requests(read, paths) }

// lists returns requests that list the paths.
func lists(paths ...string) []request { return requests(list, paths) }

// writes returns requests that write to the paths. They are denied before
// anybody looks for a body.
func writes(paths ...string) []request { return requests(update, paths) }

func requests(o op, paths []string) []request {
	var all []request
	for _, path := range paths {
		all = append(all, request{o: o, path: path})
	}
	return all
}

// changes are requests that an operator of an environment sends.
func changes(environment string) []request {
	return []request{
		{update, "secrets/" + environment + "/org/NEW", data{"value": "harmless"}},
		{patch, "secrets/" + environment + "/org/NEW", data{"description": "new"}},
		{read, "secrets/" + environment + "/org/NEW", nil},
		{remove, "secrets/" + environment + "/org/NEW", nil},
		{update, "groups/" + environment + "/org/new", data{"values": data{"NEW": "harmless"}}},
		{list, "groups/" + environment + "/org", nil},
		{remove, "groups/" + environment + "/org/new", nil},
	}
}

// rotations are requests of whoever may rotate an entry, which end as they began.
func rotations(entry string) []request {
	return []request{
		{update, "schedules/" + entry, data{"rotation_period": "30d", "auto_rotate": false}},
		{read, "schedules/" + entry, nil},
		{remove, "schedules/" + entry, nil},
		{update, "rotate/" + entry, data{"value": "harmless"}},
		{read, "rotate/" + entry, nil},
		{update, "confirm/" + entry, nil},
		{update, "abort/" + entry, nil},
		{update, "rotate/" + entry, data{"value": "harmless too"}},
		{update, "promote/" + entry, data{"force": true}},
	}
}

// harmless has a text redacted for an agent.
func harmless(agent string) request {
	return request{update, "redact/" + agent, data{"text": "harmless"}}
}

const (
	deployer = "prod/deploy-pipeline/Deployer"
	analyzer = "prod/deploy-pipeline/CodeAnalyzer"
	inDev    = "dev/deploy-pipeline/CodeAnalyzer"
	rollback = "prod/deploy-pipeline/rollback/Worker"
	database = "prod/chain/deploy-pipeline/DATABASE_URL"
	openAI   = "prod/org/OPENAI_API_KEY" // as the documents name it
)

var (
	definition = request{update, "scopes/chain/new", data{"agents": []data{{"name": "New"}}}}
	settings   = request{update, "config", data{"on_overdue": "alert"}}
	wouldStop  = data{"reason": "harmless", "dry_run": true}
	strong     = request{update, "rotators/new", data{"type": "password"}}
)

// documented are the policies of docs/policies.md, by heading; a second one
// below the same heading has #2.
var documented = map[string]struct {
	machine bool
	allowed []request
	denied  []request
}{
	"Agent": {true,
		reads("env/"+deployer, "creds/"+deployer),
		slices.Concat(
			reads("env/"+analyzer, "creds/"+analyzer, "env/"+inDev, "reveal/"+database, "secrets/"+database, "explain/"+deployer, "policy/"+deployer, "config", "status"),
			lists("env/prod", "secrets/prod", "scopes/chain", "executions/prod"),
			writes("secrets/"+database, "scopes/chain/new", "executions/"+analyzer, "revoke/execution/any")),
	},
	"Orchestrator, handing out logins": {true,
		slices.Concat(reads("scopes/chain/deploy-pipeline", "explain/"+deployer), lists("scopes/chain", "env", "env/prod/deploy-pipeline")),
		slices.Concat(reads("env/"+deployer, "creds/"+deployer, "reveal/"+database, "secrets/"+database, "explain/"+inDev), writes("scopes/chain/new", "secrets/"+database)),
	},
	"Orchestrator, reading for its agents": {true,
		reads("env/"+deployer, "creds/"+deployer, "env/"+analyzer, "creds/"+analyzer),
		slices.Concat(reads("env/"+rollback, "creds/"+rollback, "env/"+inDev, "reveal/"+database, "secrets/"+database), lists("env/prod"), writes("scopes/chain/new")),
	},
	"Operator": {false,
		slices.Concat(changes("prod"), changes("all"), rotations(openAI), []request{definition},
			reads("secrets/"+database, "explain/"+deployer, "policy/"+deployer, "status"), lists("secrets/prod", "env/prod/deploy-pipeline", "scopes/chain", "executions/prod")),
		slices.Concat(reads("reveal/"+database, "env/"+deployer, "creds/"+deployer, "config"), writes("config", "executions/"+deployer, "rotators/new")),
	},
	"Operator#2": {false,
		slices.Concat(reads("config"), []request{settings, strong, {remove, strong.path, nil}}),
		reads("secrets/"+database, "reveal/"+database, "env/"+deployer),
	},
	"On call": {false,
		slices.Concat([]request{
			{update, "revoke/secret/" + database, wouldStop}, {update, "revoke/agent/" + deployer, wouldStop}, {update, "revoke/chain/prod/deploy-pipeline", wouldStop},
			{update, "revoke/run/42", wouldStop}, {remove, "revoke/run/42", nil},
		}, reads("status")),
		slices.Concat(reads("reveal/"+database, "env/"+deployer, "secrets/"+database, "config"), writes("revoke/all", "executions/"+deployer, "secrets/"+database, "notifiers/new")),
	},
	"On call#2": {false,
		[]request{{update, "revoke/all", wouldStop}, {remove, "revoke/all", nil}},
		writes("revoke/run/42"),
	},
	// What it allows is seen where a rotation waits: in TestRotationChain.
	"Rotation chain": {true, nil,
		slices.Concat(reads("rotate/"+openAI, "secrets/"+openAI, "reveal/"+openAI, "status"), lists("rotate/prod/org"),
			writes("rotate/"+openAI, "rotate/"+database, "secrets/"+openAI, "promote/"+openAI, "abort/"+openAI, "confirm/"+openAI, "schedules/"+openAI, "rotators/new")),
	},
	"Auditor": {false,
		slices.Concat(reads("explain/"+deployer, "status", "scopes/chain/deploy-pipeline", "scopes/project/platform", "rotate/"+database),
			lists("rotate/prod", "secrets/prod", "groups/prod/project/platform", "env/prod/deploy-pipeline", "scopes/chain", "executions/prod")),
		slices.Concat(reads("secrets/"+database, "groups/prod/project/platform/aws-deploy", "reveal/"+database, "env/"+deployer, "creds/"+deployer, "config"),
			writes("secrets/"+database, "scopes/chain/new", "executions/"+deployer, "revoke/execution/any", "rotate/"+database, "promote/"+database, "schedules/"+database)),
	},
	"Redaction on the server": {false,
		[]request{harmless(deployer)},
		slices.Concat(reads("env/"+deployer, "secrets/"+database, "reveal/"+database), writes("redact/"+analyzer, "redact/mount")),
	},
	// What it allows is seen where the mount was read: in TestRedactMount.
	"Redaction on the server#2": {false, nil, slices.Concat(reads("env/"+deployer, "secrets/"+database), writes("redact/"+deployer))},
	"Guarding production": {false,
		reads("env/"+deployer, "env/"+inDev), // the deny has no effect
		reads("secrets/" + database),
	},
	"Do not grant it": {false,
		slices.Concat(changes("dev"), changes("staging"), reads("env/"+inDev, "creds/"+inDev, "explain/"+inDev, "policy/"+inDev, "reveal/dev/chain/deploy-pipeline/DATABASE_URL"), lists("env/dev"), []request{harmless(inDev)}),
		slices.Concat(reads("env/"+deployer, "creds/"+deployer, "reveal/"+database, "secrets/"+database, "reveal/all/org/OPENAI_API_KEY", "config"), lists("secrets/prod", "env/prod"),
			writes("redact/"+deployer, "redact/mount", "secrets/"+database, "secrets/all/org/OPENAI_API_KEY", "scopes/chain/new", "scopes/project/platform")),
	},
	"One deny per door": {false,
		slices.Concat(changes("dev"), reads("env/"+inDev, "creds/"+inDev, "reveal/dev/chain/deploy-pipeline/DATABASE_URL", "status"), []request{harmless(inDev)}),
		slices.Concat(reads("env/"+deployer, "creds/"+deployer, "reveal/"+database, "secrets/"+database, "reveal/all/org/OPENAI_API_KEY", "config"), lists("secrets/prod", "secrets/all", "env/prod"),
			writes("secrets/"+database, "secrets/all/org/OPENAI_API_KEY", "groups/all/org/new", "scopes/chain/new", "scopes/project/platform", "redact/"+deployer, "redact/mount",
				"executions/"+deployer, "revoke/execution/any", "rotate/"+database, "promote/"+database, "schedules/all/org/OPENAI_API_KEY", "rotators/new", "revoke/all", "notifiers/new")),
	},
	"A mount of its own": {false, slices.Concat(changes("dev"), changes("prod"), reads("env/"+deployer)), reads("config")},
}

// policies returns the ```hcl blocks of docs/policies.md, by heading, written
// for a mount.
func policies(t *testing.T, mount string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks, heading, inside := map[string]string{}, "", false
	for line := range strings.Lines(string(text)) {
		switch title, isTitle := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); {
		case line == "```hcl\n":
			inside = true
			if blocks[heading] != "" {
				heading += "#2"
			}
		case line == "```\n":
			inside = false
		case inside:
			blocks[heading] += strings.ReplaceAll(line, `"agentchains/`, `"`+mount+`/`)
		case isTitle && line[0] == '#':
			heading = strings.TrimSpace(title)
		}
	}
	return blocks
}

// Each policy of the document is written to Vault and logged in with.
func TestDocumentedPolicies(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	e.chain("deploy-pipeline/rollback", "", "OPENAI_API_KEY")
	e.secret(openAI, nil)
	blocks := policies(t, e.mount)
	for heading := range documented {
		if blocks[heading] == "" {
			t.Errorf("docs/policies.md has no policy %q", heading)
		}
	}
	for heading, hcl := range blocks {
		policy, known := documented[heading]
		if !known {
			t.Errorf("the policy %q of docs/policies.md has no test", heading)
			continue
		}
		login := e.userpass
		if policy.machine {
			login = e.appRole
		}
		as := login(e.policy(hcl))
		for _, r := range policy.allowed {
			if _, status, text := as.do(r.o, r.path, r.body); status != http.StatusOK {
				t.Errorf("%s: %s %s: %d %s, want it allowed", heading, r.o, r.path, status, text)
			}
		}
		for _, r := range policy.denied {
			as.denied(r.o, r.path)
		}
		e.ok(remove, definition.path, nil)
	}
	e.same("the agent's policy", blocks["Agent"], strings.TrimPrefix(e.read("policy/" + deployer)["policy"].(string), "\n"))
}

// What the document says of Vault's wildcards, beside its policies.
func TestWildcardsOfVault(t *testing.T) {
	e := newEngine(t)
	want := e.deployPipeline()
	as := e.withToken(e.policy(`
		path "` + e.mount + `/*" { capabilities = ["read", "list"] }
		path "` + e.mount + `/+/prod/*" { capabilities = ["deny"] }`))
	e.same("env in spite of a deny", as.read("env/"+deployer), want)
	as = e.withToken(e.policy(`
		path "` + e.mount + `/*" { capabilities = ["read", "list"] }
		path "` + e.mount + `/env/prod/*" { capabilities = ["deny"] }`))
	as.denied(read, "env/"+deployer)
	e.same("list in spite of a deny", as.keys("env/prod", nil), []string{"deploy-pipeline/"})
	as = e.withToken(e.policy(`path "` + e.mount + `/+/chain/*" { capabilities = ["create", "update"] }`))
	as.ok(definition.o, definition.path, definition.body)
	// What is stored in all reaches whoever may read any environment.
	developer := e.withToken(e.policy(policies(t, e.mount)["Do not grant it"]))
	all := e.read("reveal/all/org/OPENAI_API_KEY")["value"]
	e.same("env in dev", developer.read("env/"+inDev), data{"OPENAI_API_KEY": all})
	e.same("env in prod", e.read("env/"+analyzer), data{"OPENAI_API_KEY": all})
}

// No door is left out of the denies: a new one in the engine belongs there.
func TestDenyPerDoorIsComplete(t *testing.T) {
	e := newEngine(t)
	as := e.withToken(e.policy(policies(t, e.mount)["One deny per door"]))
	for path := range e.openAPI().Paths {
		door, _, below := strings.Cut(strings.TrimPrefix(path, "/"+e.mount+"/"), "/")
		if !below {
			continue // config needs sudo, status has no values
		}
		if door == "execution" {
			continue // it knows no environments, and answers only who started the execution
		}
		for _, path := range []string{door + "/prod", door + "/prod/any"} {
			capabilities, err := as.client.Sys().CapabilitiesSelf(e.mount + "/" + path)
			e.must(err)
			e.same("capabilities on "+path, capabilities, []string{"deny"})
		}
	}
}

// Nothing that is granted below one mount reaches another.
func TestProductionInAMountOfItsOwn(t *testing.T) {
	e := newEngine(t)
	production := &engine{t, e.mount + "-prod", e.client}
	production.enable("agentchains", production.mount)
	production.deployPipeline()
	as := production.as(e.userpass(e.policy(policies(t, e.mount)["A mount of its own"])).client.Token())
	for _, path := range []string{"env/" + deployer, "reveal/" + database, "secrets/" + database, "explain/" + deployer, "status"} {
		as.denied(read, path)
	}
	as.denied(update, "secrets/"+database)
}

// The orchestrator gets a login for an agent, wrapped, and only so.
func TestOrchestratorHandsOutLogins(t *testing.T) {
	e := newEngine(t)
	want := e.deployPipeline()
	role := "auth/approle/role/prod-deploy-pipeline-Deployer"
	e.root(role, data{"token_policies": e.policy(e.read("policy/" + deployer)["policy"].(string))})
	id, err := e.client.Logical().Read(role + "/role-id")
	e.must(err)

	orchestrator := e.appRole(e.policy(policies(t, e.mount)["Orchestrator, handing out logins"]))
	if _, err := orchestrator.client.Logical().Write(role+"/secret-id", nil); err == nil {
		t.Error("a secret id is given out that is not wrapped")
	}
	orchestrator.client.SetWrappingLookupFunc(func(string, string) string { return "60s" })
	wrapped, err := orchestrator.client.Logical().Write(role+"/secret-id", nil)
	e.must(err)

	secretID, err := e.as(wrapped.WrapInfo.Token).client.Logical().Unwrap("")
	e.must(err)
	agent := e.login("auth/approle/login", data{"role_id": id.Data["role_id"], "secret_id": secretID.Data["secret_id"]})
	e.same("env of the agent", agent.read("env/"+deployer), want)
	if _, err := e.as(wrapped.WrapInfo.Token).client.Logical().Unwrap(""); err == nil {
		t.Error("a wrapped secret id can be opened twice")
	}
}
