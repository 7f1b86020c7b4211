package agentchains

import "testing"

func TestConfig(t *testing.T) {
	both(t, func(e *env) {
		got := e.ok(read, "config", nil)
		e.is(got["environments"], "[dev staging prod]")
		e.is(got["execution_ttl"], 60)
		e.is(got["allowed_hosts"], "[]")

		got = e.ok(update, "config", data{"environments": "dev,prod,qa", "creds_max_ttl": "1m", "cache_bytes": "2097152", "allowed_hosts": []any{"example.com", "*.example.com", "10.0.0.0/8", "127.0.0.1:8080"}})
		e.is(got["creds_max_ttl"], 60)
		e.start()
		e.is(e.ok(read, "config", nil), got)
		e.is(e.ok(read, "status", nil)["counters"].(data)["cache_limit_bytes"], 2097152)
		e.fails(400, update, "secrets/staging/org/KEY", data{"value": "x"}, "not one of dev, prod, qa")

		for field, bad := range map[string]any{
			"environments": "dev,all", "max_overlap": "1s", "execution_ttl": "1s", "execution_history": 0, "creds_max_ttl": 0,
			"on_overdue": "explode", "allowed_hosts": "http://example.com", "rotation_webhook": "a b", "cache_bytes": 1,
		} {
			e.fails(400, update, "config", data{field: bad}, field)
		}
		e.fails(400, update, "config", data{"environments": "dev,dev"}, "twice")
		e.fails(400, update, "config", data{"environments": ""}, "1 to 64")
		e.is(e.ok(read, "config", nil), got)
	})
}

func TestEnvironmentInUse(t *testing.T) {
	both(t, func(e *env) {
		e.write("staging/chain/a/b/KEY", "x")
		e.fails(409, update, "config", data{"environments": "dev,prod"}, "environment staging has entries")
		e.ok(remove, "secrets/staging/chain/a/b/KEY", nil)
		e.ok(update, "groups/staging/org/g", data{"values": data{"X": "y"}})
		e.fails(409, update, "config", data{"environments": "dev,prod"}, "environment staging has entries")
		e.ok(remove, "groups/staging/org/g", nil)
		e.ok(update, "config", data{"environments": "dev,prod"})
	})
}
