package agentchains

import (
	"strings"
	"testing"
	"time"
)

const dbURL = "prod/chain/deploy-pipeline/DATABASE_URL"

func TestSecretLifecycle(t *testing.T) {
	both(t, func(e *env) {
		e.fails(404, read, "secrets/"+dbURL, nil, "there is no "+dbURL)
		e.fails(400, update, "secrets/"+dbURL, data{"description": "no value"}, "send its value to create it")

		got := e.ok(update, "secrets/"+dbURL, data{"value": "postgres://u:first@h/db", "sensitivity": "high", "description": "main database"})
		e.is(got["current_version"], 1)
		e.is(got["masked"], "pos...***...")
		e.is(got["scope"], "chain:deploy-pipeline")
		e.is(got["created_by"], "entity-1")
		e.is(e.ok(read, "reveal/"+dbURL, nil)["value"], "postgres://u:first@h/db")

		e.clock.advance(time.Hour)
		got = e.ok(update, "secrets/"+dbURL, data{"value": "postgres://u:first@h/db"})
		e.is(got["current_version"], 1)
		e.is(got["rotated_at"], "2030-01-01T00:00:00Z")
		e.is(got["description"], "main database")

		got = e.ok(update, "secrets/"+dbURL, data{"value": "second"})
		e.is(got["current_version"], 1)
		e.is(got["pending_version"], 2)
		e.is(got["masked"], "***...***")
		e.is(got["rotated_at"], "2030-01-01T01:00:00Z")
		e.is(got["created_at"], "2030-01-01T00:00:00Z")
		e.is(e.ok(read, "reveal/"+dbURL, nil)["value"], "second")
		e.is(e.ok(read, "reveal/"+dbURL, data{"version": "1"})["value"], "postgres://u:first@h/db")
		e.fails(409, remove, "secrets/"+dbURL, nil, "under way")
		e.promote(dbURL)
		got = e.ok(read, "secrets/"+dbURL, nil)
		e.is(got["current_version"], 2)
		e.is(got["versions"].(data)["1"].(data)["state"], "destroyed")
		e.is(got["versions"].(data)["1"].(data)["destroyed_by"], "entity-1")
		e.is(got["versions"].(data)["2"].(data)["state"], "current")
		e.fails(400, read, "reveal/"+dbURL, data{"version": "1"}, "no such version")
		e.is(e.ok(read, "reveal/"+dbURL, data{"version": "2"})["value"], "second")

		e.ok(remove, "secrets/"+dbURL, nil)
		e.ok(remove, "secrets/"+dbURL, data{"force": "true"})
		e.fails(404, read, "secrets/"+dbURL, nil, "")
		e.is(e.keys("secrets/", nil), "")
		e.is(e.ok(update, "secrets/"+dbURL, data{"value": "third"})["current_version"], 3)
	})
}

func TestSecretCheckAndSet(t *testing.T) {
	both(t, func(e *env) {
		e.fails(409, update, "secrets/"+dbURL, data{"value": "a", "cas": 1}, "the newest version of "+dbURL+" is 0")
		e.ok(update, "secrets/"+dbURL, data{"value": "a", "cas": "0"})
		e.fails(409, update, "secrets/"+dbURL, data{"value": "b", "cas": float64(0)}, "is 1")
		e.ok(update, "secrets/"+dbURL, data{"value": "b", "cas": 1})
		e.fails(409, patch, "secrets/"+dbURL, data{"description": "c", "cas": 1}, "is 2")
		e.is(e.ok(read, "reveal/"+dbURL, nil)["value"], "b")
	})
}

// TestRetriedRequest is what Vault does when the plugin crashes while a request
// is in flight.
func TestRetriedRequest(t *testing.T) {
	both(t, func(e *env) {
		req := e.request(update, "secrets/"+dbURL, data{"value": "a", "cas": 0})
		for range 2 {
			if status, text, resp := e.send(req); status != 200 || resp.Data["current_version"] == nil {
				e.Fatalf("%d %s", status, text)
			}
			req.Operation = update
			e.start()
		}
		e.is(e.ok(read, "secrets/"+dbURL, nil)["current_version"], 1)
	})
}

func TestSecretMetadata(t *testing.T) {
	both(t, func(e *env) {
		e.write("prod/org/KEY", "value")
		e.fails(404, patch, "secrets/prod/org/OTHER", data{"value": "x"}, "there is no")
		e.ok(update, "secrets/prod/org/KEY", data{
			"custom_metadata": data{"team": "billing", "ticket": "T-1"}, "chains_allowed": []any{"billing/*", "deploy"},
			"redact": false, "on_leak": "rotate", "access_log_enabled": "false",
		})
		got := e.ok(patch, "secrets/prod/org/KEY", data{"custom_metadata": data{"ticket": nil, "owner": "ann"}})
		e.is(got["custom_metadata"], "map[owner:ann team:billing]")
		e.is(got["chains_allowed"], "[billing/* deploy]")
		e.is(got["redact"], false)
		e.is(got["access_log_enabled"], false)

		got = e.ok(patch, "secrets/prod/org/KEY", data{
			"chains_allowed": nil, "redact": nil, "on_leak": nil, "access_log_enabled": nil, "custom_metadata": nil, "sensitivity": nil,
		})
		e.is(got["chains_allowed"], nil)
		e.is(got["redact"], true)
		e.is(got["on_leak"], "alert")
		e.is(got["access_log_enabled"], true)
		e.is(got["custom_metadata"], "map[]")
		e.is(e.ok(update, "secrets/prod/org/KEY", data{"chains_allowed": ""})["chains_allowed"], "[]")
		e.is(got["current_version"], 1)

		for field, text := range map[string]string{
			"sensitivity": "one of low, medium, high, critical", "on_leak": "one of alert, rotate, revoke",
			"chains_allowed": "bare *", "expires_at": "RFC 3339", "redact": "members of the group",
		} {
			bad := map[string]any{"sensitivity": "huge", "on_leak": "panic", "chains_allowed": "*", "expires_at": "tomorrow", "redact": "A,B"}
			e.fails(400, update, "secrets/prod/org/KEY", data{field: bad[field]}, text)
		}
		e.fails(400, update, "secrets/prod/org/KEY", data{"description": strings.Repeat("x", 1025)}, "at most 1024 bytes")
		e.fails(400, update, "secrets/prod/org/KEY", data{"custom_metadata": data{"": "x"}}, "keys of 1 to 128 bytes")
		e.fails(400, update, "secrets/prod/org/KEY", data{"custom_metadata": data{"x": nil}}, "null")
	})
}

func TestChainsAllowedWarning(t *testing.T) {
	both(t, func(e *env) {
		_, _, resp := e.send(e.request(update, "secrets/"+dbURL, data{"value": "x", "chains_allowed": "other"}))
		e.is(len(resp.Warnings), 1)
		_, _, resp = e.send(e.request(update, "secrets/prod/org/KEY", data{"value": "x", "chains_allowed": "other"}))
		e.is(len(resp.Warnings), 0)
	})
}

func TestSecretExpiry(t *testing.T) {
	both(t, func(e *env) {
		e.fails(400, update, "secrets/prod/org/KEY", data{"value": "a", "expires_at": "2029-12-31T23:59:59Z"}, "in the future")
		e.ok(update, "secrets/prod/org/KEY", data{"value": "a", "expires_at": "2030-01-01T02:00:00+01:00"})
		got := e.ok(read, "secrets/prod/org/KEY", nil)
		e.is(got["expires_at"], "2030-01-01T01:00:00Z")
		e.is(e.ok(read, "status", nil)["expiring"], "[map[expires_at:2030-01-01T01:00:00Z path:prod/org/KEY]]")

		e.clock.advance(time.Hour)
		e.is(e.ok(read, "status", nil)["expired"], "[map[expires_at:2030-01-01T01:00:00Z path:prod/org/KEY]]")
		e.is(e.ok(read, "reveal/prod/org/KEY", nil)["value"], "a")

		got = e.ok(update, "secrets/prod/org/KEY", data{"value": "b"})
		e.is(got["expires_at"], "")
		e.promote("prod/org/KEY")
		e.is(e.ok(read, "status", nil)["expired"], "[]")
		e.ok(update, "secrets/prod/org/KEY", data{"expires_at": "2031-01-01T00:00:00Z"})
		e.is(e.ok(update, "secrets/prod/org/KEY", data{"expires_at": ""})["expires_at"], "")
		e.is(len(e.stored(expiryPrefix)), 0)
	})
}

func TestSecretLimits(t *testing.T) {
	both(t, func(e *env) {
		for value, text := range map[string]string{
			"": "must not be empty", "a\x00b": "NUL", strings.Repeat("x", 64<<10+1): "at most 65536 bytes",
		} {
			e.fails(400, update, "secrets/prod/org/KEY", data{"value": value}, text)
		}
		e.is(len(e.stored("")), 0)
		e.write("prod/org/KEY", strings.Repeat("x", 64<<10))
	})
}

func TestSecretList(t *testing.T) {
	both(t, func(e *env) {
		for _, path := range []string{
			"prod/org/A", "prod/org/B", "prod/org/C", "all/org/A", "prod/project/billing/A", "prod/chain/billing/A",
			"prod/chain/billing/invoice-generator/A", "prod/agent/billing/invoice-generator/Writer/A", "prod/agent/billing/Reader/A",
		} {
			e.write(path, "value")
		}
		e.ok(update, "groups/prod/org/aws", data{"values": data{"AWS_REGION": "us-west-2"}})
		for path, want := range map[string]string{
			"":                                     "all/ prod/",
			"prod":                                 "agent/ chain/ org/ project/",
			"prod/org":                             "A B C",
			"prod/project":                         "billing/",
			"prod/chain":                           "billing/",
			"prod/chain/billing":                   "A invoice-generator/",
			"prod/agent/billing":                   "Reader/ invoice-generator/",
			"prod/agent/billing/Reader":            "A",
			"prod/agent/billing/invoice-generator": "Writer/",
			"dev":                                  "",
		} {
			e.is(e.keys("secrets/"+path+"/", nil), want)
		}
		e.is(e.keys("groups/prod/", nil), "org/")
		e.is(e.keys("groups/prod/org/", nil), "aws")
		e.is(e.keys("secrets/prod/org/", data{"limit": "2"}), "A B")
		e.is(e.keys("secrets/prod/org/", data{"after": "A", "limit": 1}), "B")
		e.is(e.keys("secrets/prod/org/", data{"after": "AA"}), "B C")
		e.is(e.keys("secrets/prod/org/", data{"after": "C"}), "")
		e.fails(400, lists, "secrets/prod/org/", data{"limit": -1}, "must not be negative")
		e.fails(400, lists, "secrets/prod/../org/", nil, "each segment of the path")

		e.ok(remove, "secrets/prod/chain/billing/A", nil)
		e.is(e.keys("secrets/prod/chain/billing/", nil), "invoice-generator/")
		e.ok(remove, "secrets/prod/chain/billing/invoice-generator/A", nil)
		e.is(e.keys("secrets/prod/", nil), "agent/ org/ project/")
	})
}

func TestSecretPath(t *testing.T) {
	both(t, func(e *env) {
		for path, text := range map[string]string{
			"test/org/KEY":             "not one of dev, staging, prod",
			"PROD/org/KEY":             "the environment in the path must be",
			"prod/KEY":                 "the path must be <environment>/<scope>/<name>",
			"prod/team/x/KEY":          "the path must be <environment>/<scope>/<name>",
			"prod/org/x/KEY":           "the path must be <environment>/<scope>/<name>",
			"prod/org/../KEY":          "the path must be <environment>/<scope>/<name>",
			"prod/chain/../KEY":        "the chain in the path must be",
			"prod/chain/a/b/c/d/e/KEY": "1 to 4 segments",
			"prod/agent/a/KEY":         "the path must end in <chain>/<agent>",
			"prod/org/PATH":            "must not be a variable that makes programs load",
			"prod/org/LD_PRELOAD":      "must not be a variable that makes programs load",
			"prod/org/AGENTCHAINS_X":   "reserved",
			"prod/org/aws-deploy":      "use groups/",
			"prod/org/key-1":           "use groups/",
			"prod/org/Key":             "must be an environment variable",
		} {
			e.fails(400, update, "secrets/"+path, data{"value": "x"}, text)
			if path != "test/org/KEY" {
				e.fails(400, read, "secrets/"+path, nil, text)
			}
		}
		e.fails(400, read, "groups/prod/org/KEY", nil, "use secrets/")
		e.fails(405, read, "secrets/prod/org/", nil, "unsupported operation") // it can only be listed
		e.is(len(e.stored("")), 0)
	})
}
