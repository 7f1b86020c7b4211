package agentchains

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// deployer sets up the chain deploy-pipeline and what its Deployer needs.
func (e *env) deployer() {
	e.Helper()
	e.ok(update, "scopes/project/platform", data{"chains_allowed": "deploy-pipeline"})
	e.ok(update, "scopes/chain/deploy-pipeline", decode(e.T, deployPipeline))
	e.write("all/org/OPENAI_API_KEY", "openai")
	e.write("prod/project/platform/DATABASE_URL", "project-db")
	e.ok(update, awsDeploy, data{"values": data{"AWS_REGION": "us-west-2"}})
}

const deployerPath = "prod/deploy-pipeline/Deployer"

func TestEnvRead(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.is(e.environment(deployerPath), "AWS_REGION:us-west-2 DB_URL:project-db OPENAI_API_KEY:openai")
		e.is(e.environment("prod/deploy-pipeline/CodeAnalyzer"), "OPENAI_API_KEY:openai")

		e.write("prod/chain/deploy-pipeline/DATABASE_URL", "chain-db")
		e.write("all/agent/deploy-pipeline/Deployer/OPENAI_API_KEY", "own")
		e.write("prod/org/SENTRY_DSN", "sentry")
		e.is(e.environment(deployerPath), "AWS_REGION:us-west-2 DB_URL:chain-db OPENAI_API_KEY:own SENTRY_DSN:sentry")
		e.is(e.environment("prod/deploy-pipeline/CodeAnalyzer"), "OPENAI_API_KEY:openai")

		e.ok(remove, "secrets/prod/chain/deploy-pipeline/DATABASE_URL", nil)
		e.is(e.environment(deployerPath), "AWS_REGION:us-west-2 DB_URL:project-db OPENAI_API_KEY:own SENTRY_DSN:sentry")
		e.start()
		e.is(e.environment(deployerPath), "AWS_REGION:us-west-2 DB_URL:project-db OPENAI_API_KEY:own SENTRY_DSN:sentry")
	})
}

func TestEnvRefused(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		for path, want := range map[string]struct {
			status int
			text   string
		}{
			"all/deploy-pipeline/Deployer":     {400, "must not be all"},
			"test/deploy-pipeline/Deployer":    {400, "not one of dev, staging, prod"},
			"prod/Deployer":                    {400, "the path must end in <chain>/<agent>"},
			"prod/../deploy-pipeline/Deployer": {400, "the chain in the path must be"},
			"prod/nope/Deployer":               {404, "there is no chain nope"},
			"prod/deploy-pipeline/Nobody":      {404, "chain deploy-pipeline has no agent Nobody"},
			"staging/deploy-pipeline/Deployer": {400, "DATABASE_URL is in no scope of environment staging; aws-deploy is in no scope"},
		} {
			for _, door := range []string{"env/", "creds/"} {
				e.fails(want.status, read, door+path, nil, want.text)
			}
		}
		e.is(e.ok(read, "status", nil)["counters"].(data)["refused_reads"], 14)

		e.ok(update, "secrets/all/org/OPENAI_API_KEY", data{"chains_allowed": "billing/*"})
		e.fails(403, read, "env/"+deployerPath, nil, "OPENAI_API_KEY (version 1 in org, all) is not shared with chain deploy-pipeline")
		e.fails(400, read, "env/staging/deploy-pipeline/Deployer", nil, "is not shared")
		e.ok(remove, "scopes/project/platform", nil)
		e.fails(403, read, "env/"+deployerPath, nil, "project platform does not allow chain deploy-pipeline")
	})
}

func TestEnvExpiry(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.ok(update, "secrets/prod/project/platform/DATABASE_URL", data{"expires_at": "2030-01-01T00:10:00Z"})
		e.is(e.ok(read, "creds/"+deployerPath, nil)["ttl"], 300)
		e.clock.advance(9*time.Minute + 30*time.Second)
		got := e.ok(read, "creds/"+deployerPath, nil)
		e.is(got["ttl"], 30)
		e.is(got["rotation_period"], 86400)
		e.is(got["last_vault_rotation"], "2030-01-01T00:00:00Z")
		e.is(got["DB_URL"], "project-db")

		e.clock.advance(30 * time.Second)
		e.write("prod/org/DATABASE_URL", "wider")
		e.fails(400, read, "env/"+deployerPath, nil, "DATABASE_URL (version 1 in project:platform, prod) has expired")
		e.write("prod/project/platform/DATABASE_URL", "fresh")
		got = e.ok(read, "creds/"+deployerPath, nil)
		e.is(got["DB_URL"], "fresh")
		e.is(got["last_vault_rotation"], "2030-01-01T00:10:00Z")
	})
}

// The Vault Secrets Operator never asks again after an answer without a time at
// which something changed.
func TestCredsOfNothing(t *testing.T) {
	both(t, func(e *env) {
		e.ok(update, "scopes/chain/c", data{"agents": []any{data{"name": "A", "secrets": []any{data{"name": "TOKEN", "optional": true}}}}})
		e.clock.advance(time.Minute)
		e.is(e.ok(read, "creds/prod/c/A", nil)["last_vault_rotation"], "2030-01-01T00:00:00Z")
		e.write("prod/org/TOKEN", "late")
		e.is(e.ok(read, "creds/prod/c/A", nil)["last_vault_rotation"], "2030-01-01T00:01:00Z")
	})
}

func TestEnvLimits(t *testing.T) {
	both(t, func(e *env) {
		var names []any
		for i := range 5 {
			name := fmt.Sprintf("LARGE_%d", i)
			e.write("prod/org/"+name, strings.Repeat("x", 60<<10))
			names = append(names, name)
		}
		e.ok(update, "scopes/chain/c", data{"agents": []any{data{"name": "A", "secrets": names}}})
		e.fails(400, read, "env/prod/c/A", nil, "bytes as JSON, more than 262144")

		for _, group := range []string{"a", "b"} {
			values := data{}
			for i := range 501 {
				values[fmt.Sprintf("%s_%d", strings.ToUpper(group), i)] = "x"
			}
			e.ok(update, "groups/prod/org/"+group, data{"values": values})
		}
		e.ok(update, "scopes/chain/c", data{"agents": []any{data{"name": "A", "groups": []any{"a", "b"}}}})
		e.fails(400, read, "env/prod/c/A", nil, "has 1002 variables, more than 1000")
	})
}

func TestExplain(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		got := e.ok(read, "explain/"+deployerPath, nil)
		e.is(got["resolves"], true)
		db := got["references"].([]any)[1].(data)
		e.is(db["scope"], "project:platform")
		e.is(db["environment"], "prod")
		e.is(db["version"], 1)
		e.is(db["variables"], "[DB_URL]")
		e.is(db["looked"], "[prod agent:deploy-pipeline/Deployer all agent:deploy-pipeline/Deployer prod chain:deploy-pipeline all chain:deploy-pipeline prod project:platform]")
		e.is(got["references"].([]any)[2].(data)["reason"], "is optional and in no scope")
		e.is(got["references"].([]any)[3].(data)["kind"], "group")

		e.ok(remove, "secrets/prod/project/platform/DATABASE_URL", nil)
		got = e.ok(read, "explain/"+deployerPath, nil)
		e.is(got["resolves"], false)
		e.is(got["error"], "prod/deploy-pipeline/Deployer does not resolve: DATABASE_URL is in no scope of environment prod")
		e.fails(404, read, "explain/prod/nope/A", nil, "there is no chain nope")
	})
}

func TestPolicy(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		policy := fmt.Sprint(e.ok(read, "policy/"+deployerPath, nil)["policy"])
		for _, path := range []string{
			`path "agentchains/env/prod/deploy-pipeline/Deployer"`, `path "agentchains/creds/prod/deploy-pipeline/Deployer"`,
			`path "agentchains/executions/prod/deploy-pipeline/Deployer"`, `path "agentchains/execution/*"`, `path "sys/leases/renew"`,
		} {
			if !strings.Contains(policy, path) {
				e.Errorf("no %s in the policy", path)
			}
		}
		e.fails(404, read, "policy/prod/deploy-pipeline/Nobody", nil, "has no agent Nobody")
	})
}
