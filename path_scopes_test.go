package agentchains

import (
	"encoding/json"
	"testing"
)

// deployPipeline is a definition as people write it.
const deployPipeline = `{ "chain": "deploy-pipeline", "project": "platform", "max_runtime": "2h",
  "agents": [
    { "name": "CodeAnalyzer", "secrets": ["OPENAI_API_KEY"] },
    { "name": "Deployer", "secrets": ["OPENAI_API_KEY", {"name": "DATABASE_URL", "as": "DB_URL"},
                                      {"name": "SENTRY_DSN", "optional": true}],
      "groups": ["aws-deploy"] } ] }`

func decode(t *testing.T, text string) data {
	t.Helper()
	var body data
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatal(err)
	}
	return body
}

func TestChainLifecycle(t *testing.T) {
	both(t, func(e *env) {
		e.fails(404, read, "scopes/chain/deploy-pipeline", nil, "there is no chain deploy-pipeline")
		e.ok(update, "scopes/chain/deploy-pipeline", decode(t, deployPipeline))
		got := e.ok(read, "scopes/chain/deploy-pipeline", nil)
		e.is(got["max_runtime"], 7200)
		e.is(got["agents"], decode(t, deployPipeline)["agents"])

		e.ok(update, "scopes/chain/deploy-pipeline", got)
		e.is(e.ok(read, "scopes/chain/deploy-pipeline", nil), got)

		e.ok(update, "scopes/chain/deploy-pipeline", data{"agents": []any{data{"name": "Only"}}})
		got = e.ok(read, "scopes/chain/deploy-pipeline", nil)
		e.is(got["project"], "")
		e.is(got["max_runtime"], 0)

		for _, chain := range []string{"billing", "billing/invoice-generator", "billing/eu/dunning"} {
			e.ok(update, "scopes/chain/"+chain, data{"agents": []any{data{"name": "A"}, data{"name": "B"}}})
		}
		e.is(e.keys("scopes/chain/", nil), "billing billing/ deploy-pipeline")
		e.is(e.keys("scopes/chain/billing/", nil), "eu/ invoice-generator")
		e.is(e.keys("env/", nil), "dev/ prod/ staging/")
		e.is(e.keys("env/prod/", nil), "billing/ deploy-pipeline/")
		e.is(e.keys("env/prod/billing/", nil), "A B eu/ invoice-generator/")
		e.is(e.keys("env/prod/billing/", data{"after": "A", "limit": 2}), "B eu/")
		e.is(e.keys("env/prod/billing/eu/", nil), "dunning/")
		e.fails(400, lists, "env/all/", nil, "a place to store")
		e.fails(400, lists, "env/prod/../", nil, "the chain in the path must")

		e.ok(remove, "scopes/chain/billing", nil)
		e.ok(remove, "scopes/chain/billing", nil)
		e.is(e.keys("env/prod/billing/", nil), "eu/ invoice-generator/")
	})
}

func TestChainRefused(t *testing.T) {
	both(t, func(e *env) {
		agent := func(fields data) data { return data{"agents": []any{fields}} }
		for _, bad := range []struct {
			body data
			text string
		}{
			{data{}, "agents must be a list of at least one agent"},
			{data{"agents": []any{}}, "agents must be a list of at least one agent"},
			{data{"chain": "other", "agents": []any{data{"name": "A"}}}, "chain must be the name in the path"},
			{data{"project": "a/b", "agents": []any{data{"name": "A"}}}, "project must be"},
			{data{"prompt": "do it", "agents": []any{data{"name": "A"}}}, "there is no field prompt here"},
			{data{"max_runtime": "soon", "agents": []any{data{"name": "A"}}}, "max_runtime must be a duration"},
			{agent(data{"name": "A", "model": "gpt"}), "agents[0] has an unknown field"},
			{agent(data{"name": "A", "secrets": []any{"GOOD", "sk-proj-0123456789abcdef"}}), "agents[0].secrets[1] looks like a key"},
			{agent(data{"name": "A", "secrets": []any{"AKIA0123456789ABCDEF"}}), "agents[0].secrets[0] looks like a key"},
			{agent(data{"name": "ghp_0123456789abcdefghijklmnopqrstuvwxyz"}), "agents[0].name looks like a key"},
			{agent(data{"name": "A", "secrets": []any{"X", data{"name": "Y", "as": "X"}}}), "agents[0].secrets[1] gives the same variable or group as agents[0].secrets[0]"},
			{agent(data{"name": "A", "secrets": []any{data{"name": "Y", "as": "LD_PRELOAD"}}}), "agents[0].secrets[0].as must not be"},
			{data{"agents": []any{data{"name": "A"}, data{"name": "A"}}}, "agents[1].name is the name of agents[0] too"},
		} {
			e.fails(400, update, "scopes/chain/c", bad.body, bad.text)
		}
		e.fails(400, update, "scopes/chain/a/b/c/d/e", agent(data{"name": "A"}), "1 to 4 segments")
		e.is(len(e.stored("")), 0)
	})
}

// TestChainConflict covers two references that give one variable through a
// group, which only what is stored can tell.
func TestChainConflict(t *testing.T) {
	both(t, func(e *env) {
		e.write("prod/org/AWS_REGION", "a")
		e.ok(update, "groups/staging/org/aws", data{"values": data{"AWS_REGION": "b"}})
		body := data{"agents": []any{data{"name": "A", "secrets": []any{"AWS_REGION"}, "groups": []any{"aws"}}}}
		e.ok(update, "scopes/chain/c", body)
		e.ok(update, "groups/prod/org/aws", data{"values": data{"AWS_REGION": "b"}})
		e.fails(400, read, "env/prod/c/A", nil, "aws gives the variable AWS_REGION, which AWS_REGION gives too")
		e.fails(400, update, "scopes/chain/d", body, "agents[0] has two references to one variable: in environment prod, aws gives the variable AWS_REGION")
		e.is(e.keys("scopes/chain/", nil), "c")
	})
}

func TestProjectLifecycle(t *testing.T) {
	both(t, func(e *env) {
		e.fails(404, read, "scopes/project/billing", nil, "there is no project billing")
		e.ok(update, "scopes/project/billing", data{"chains_allowed": []any{"billing/*", "finance"}})
		e.is(e.ok(read, "scopes/project/billing", nil)["chains_allowed"], "[billing/* finance]")
		e.ok(update, "scopes/project/billing", data{})
		e.is(e.ok(read, "scopes/project/billing", nil)["chains_allowed"], "[]")
		e.fails(400, update, "scopes/project/billing", data{"chains_allowed": "*"}, "bare *")
		e.fails(400, update, "scopes/project/billing", data{"chains_allowed": "billing*"}, "chains_allowed must hold names of chains or prefix/*")
		e.fails(400, update, "scopes/project/a/b", data{}, "the project in the path must be")
		e.is(e.keys("scopes/project/", nil), "billing")
		e.ok(remove, "scopes/project/billing", nil)
		e.is(e.keys("scopes/project/", nil), "")
	})
}
