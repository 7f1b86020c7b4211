package agentchains

import "testing"

// TestData writes and reads as a client of KV version 2 does.
func TestData(t *testing.T) {
	both(t, func(e *env) {
		const secret, group = "data/prod/org/KEY", "data/prod/org/pair"
		e.fails(404, read, secret, nil, "")
		got := e.ok(update, secret, data{"data": data{"value": "first"}, "options": data{"cas": 0.0}, "cas": 0.0})
		e.is(got["version"], 1)
		e.is(got["destroyed"], false)
		e.is(got["deletion_time"], "")
		e.is(e.ok(read, "reveal/prod/org/KEY", nil)["value"], "first")

		// The value stays inside.
		got = e.ok(read, secret, nil)
		e.is(got["data"], "map[value:<nil>]")
		e.is(got["metadata"].(data)["version"], 1)
		e.ok(update, group, data{"data": data{"A": "a", "B": "b"}})
		e.is(e.ok(read, group, nil)["data"], "map[A:<nil> B:<nil>]")

		// A write is a rotation, as in secrets/, and cas counts in options only.
		e.fails(409, update, secret, data{"data": data{"value": "second"}, "options": data{"cas": 0.0}}, "cas does not match")
		e.is(e.ok(update, secret, data{"data": data{"value": "second"}, "options": data{"cas": 1.0}, "cas": 0.0})["version"], 2)
		e.is(e.ok(read, "rotate/prod/org/KEY", nil)["state"], "serving")
		e.fails(409, update, secret, data{"data": data{"value": "third"}}, "under way")
		for number, version := range map[int]int{0: 2, 1: 1, 2: 2} {
			got = e.ok(read, secret, data{"version": number})["metadata"].(data)
			e.is(got["version"], version)
			e.is(got["destroyed"], false)
		}
		e.fails(404, read, secret, data{"version": 3}, "no version 3")
		e.is(e.ok(patch, group, data{"data": data{"B": nil, "C": "c"}})["version"], 2)
		e.is(e.ok(read, "reveal/prod/org/pair", nil)["values"], "map[A:a C:c]")

		for text, body := range map[string]data{
			"data is needed":          {"options": data{}},
			"one string, named value": {"data": data{"other": "x"}},
			"an object of strings":    {"data": data{"value": 7.0}},
			"cas, an integer":         {"data": data{"value": "x"}, "options": data{"max": 1.0}},
		} {
			e.fails(400, update, secret, body, text)
		}
		e.ok(remove, group, data{"force": true})
		e.fails(404, read, group, nil, "")
	})
}

// TestDataOfWhatIsRevoked keeps a client that stores anew what is not there from
// doing so with a value that was revoked.
func TestDataOfWhatIsRevoked(t *testing.T) {
	both(t, func(e *env) {
		e.write("prod/org/KEY", "first")
		e.ok(update, "revoke/secret/prod/org/KEY", data{"reason": "leaked"})
		got := e.ok(read, "data/prod/org/KEY", nil)
		e.is(got["data"], "map[]")
		e.is(got["metadata"].(data)["destroyed"], true)
		e.is(e.ok(read, "data/prod/org/KEY", data{"version": 1})["metadata"].(data)["destroyed"], true)
		e.is(e.ok(read, "metadata/prod/org/KEY", nil)["versions"].(data)["1"].(data)["destroyed"], true)
	})
}
