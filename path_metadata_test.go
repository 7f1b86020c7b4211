package agentchains

import "testing"

func TestMetadata(t *testing.T) {
	both(t, func(e *env) {
		const path = "metadata/prod/org/KEY"
		e.fails(400, update, path, data{"custom_metadata": data{"owner": "ops"}}, "send its value")
		e.write("prod/org/KEY", "first")
		e.ok(update, "groups/prod/org/pair", data{"values": data{"A": "a"}})
		e.ok(update, path, data{"custom_metadata": data{"owner": "ops"}, "max_versions": 0.0, "cas_required": false, "delete_version_after": 0.0})
		got := e.ok(read, path, nil)
		e.is(got["custom_metadata"], "map[owner:ops]")
		e.is(got["delete_version_after"], "0s")
		e.is(got["current_version"], 1)
		e.is(got["versions"].(data)["1"].(data)["destroyed"], false)
		e.fails(400, update, path, data{"max_versions": 5.0}, "two live versions at most")
		e.ok(patch, path, data{"custom_metadata": data{"owner": nil, "team": "web"}})
		e.is(e.ok(read, "secrets/prod/org/KEY", nil)["custom_metadata"], "map[team:web]")
		e.is(e.keys("metadata/prod/org/", nil), "KEY pair")
		e.ok(remove, path, nil)
		e.fails(404, read, path, nil, "")
	})
}
