package agentchains

import (
	"fmt"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

// mutations are one request of each kind that writes, on top of seed.
var mutations = []struct {
	name string
	op   logical.Operation
	path string
	body data
}{
	{"create in a new place", update, "secrets/prod/chain/a/b/NEW", data{"value": "new", "expires_at": "2031-01-01T00:00:00Z"}},
	{"create beside others", update, "secrets/prod/org/NEW", data{"value": "new"}},
	{"create again after delete", update, "secrets/prod/org/GONE", data{"value": "new"}},
	{"new version", update, "secrets/prod/org/KEY", data{"value": "new"}},
	{"new version with another expiry", update, "secrets/prod/org/DATED", data{"value": "new", "expires_at": "2032-01-01T00:00:00Z"}},
	{"metadata", patch, "secrets/prod/org/KEY", data{"description": "changed"}},
	{"group", update, "groups/prod/org/pair", data{"values": data{"A": "new", "B": "new"}}},
	{"delete", remove, "secrets/prod/org/DATED", nil},
	{"delete the last of a place", remove, "secrets/prod/project/p/LAST", nil},
	{"chain", update, "scopes/chain/c", data{"agents": []any{data{"name": "A", "secrets": []any{"DATED"}}}}},
	{"delete chain", remove, "scopes/chain/c", nil},
	{"project", update, "scopes/project/p", data{"chains_allowed": "x"}},
	{"delete project", remove, "scopes/project/p", nil},
	{"config", update, "config", data{"environments": "dev,prod", "creds_max_ttl": 60}},
}

func (e *env) seed() {
	e.Helper()
	e.write("prod/org/KEY", "old")
	e.write("prod/project/p/LAST", "old")
	e.ok(update, "secrets/prod/org/DATED", data{"value": "old", "expires_at": "2031-06-01T00:00:00Z"})
	e.ok(update, "groups/prod/org/pair", data{"values": data{"A": "old", "B": "old"}})
	e.ok(update, "scopes/project/p", data{"chains_allowed": "c"})
	e.ok(update, "scopes/chain/c", data{"project": "p", "agents": []any{data{"name": "A", "secrets": []any{"KEY", "LAST"}, "groups": []any{"pair"}}}})
	e.write("prod/org/GONE", "old")
	e.ok(remove, "secrets/prod/org/GONE", nil)
}

// view is all that the engine says about what is stored.
func (e *env) view() string {
	e.Helper()
	var view string
	for _, req := range []struct {
		op   logical.Operation
		path string
	}{
		{read, "config"}, {lists, "scopes/chain/"}, {lists, "scopes/project/"}, {read, "scopes/chain/c"}, {read, "scopes/project/p"},
		{lists, "secrets/prod/"}, {lists, "secrets/prod/org/"}, {lists, "secrets/prod/chain/a/b/"}, {lists, "secrets/prod/project/p/"}, {lists, "groups/prod/org/"},
		{read, "secrets/prod/org/KEY"}, {read, "secrets/prod/org/NEW"}, {read, "secrets/prod/org/GONE"}, {read, "secrets/prod/org/DATED"},
		{read, "secrets/prod/chain/a/b/NEW"}, {read, "secrets/prod/project/p/LAST"}, {read, "groups/prod/org/pair"}, {read, "env/prod/c/A"},
	} {
		status, text, resp := e.send(e.request(req.op, req.path, nil))
		if status == 500 {
			e.Errorf("%s %s: %s", req.op, req.path, text)
		}
		view += fmt.Sprintln(req.op, req.path, status, text)
		if resp != nil {
			delete(resp.Data, "unpinned_readers") // they live in memory for a while
			view += fmt.Sprintln(resp.Data)
		}
	}
	return view
}

// TestStorageFaults fails every storage operation of every request that writes,
// alone and, as a crash would, with all that follow. Afterwards what is served
// from memory is what is stored, every entry can be found by listing, and the
// same request succeeds.
func TestStorageFaults(t *testing.T) {
	t.Parallel()
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for _, crash := range []bool{false, true} {
				for n := 0; ; n++ {
					e := newEnv(t)
					e.seed()
					e.view() // fills the cache
					before := e.view()
					e.s.arm(n, crash)
					status, text, _ := e.send(e.request(m.op, m.path, m.body))
					ops := e.s.disarm()
					if len(ops) <= n {
						break // every operation has failed once
					}
					if status != 200 && status != 500 {
						e.Errorf("%s fails: %d %s", ops[n], status, text)
					}
					after := e.view()
					e.start()
					if restarted := e.view(); restarted != after {
						e.Errorf("%s fails: served\n%s\nstored\n%s", ops[n], after, restarted)
					}
					e.checkIndexes()
					if e.ok(m.op, m.path, m.body); e.view() == before {
						e.Errorf("%s fails: trying again changes nothing", ops[n])
					}
				}
			}
		})
	}
}

// checkIndexes checks that no stored entry is missing from an index. That an
// index has lines without an entry is allowed.
func (e *env) checkIndexes() {
	e.Helper()
	stored := map[string]bool{}
	for _, key := range e.stored("") {
		stored[key] = true
	}
	for key := range stored {
		if len(key) < len(secretPrefix) || key[:len(secretPrefix)] != secretPrefix {
			continue
		}
		entry, err := getJSON[secretEntry](e.Context(), &e.s.InmemStorage, key)
		if err != nil {
			e.Fatal(err)
		}
		a := address(entry.Path)
		if !stored[placeKey(a.Kind, a.Place.Path())] {
			e.Errorf("%s is not in the index of places", entry.Path)
		}
		for _, at := range expiries(entry) {
			if !stored[expiryKey(at, a)] {
				e.Errorf("%s is not in the index of expiries", entry.Path)
			}
		}
	}
}

// TestReadFaults fails every storage operation of the requests that read: each
// answers with an error, and rightly the next time.
func TestReadFaults(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"secrets/prod/org/KEY", "reveal/prod/org/pair", "scopes/chain/c", "scopes/project/p", "env/prod/c/A", "creds/prod/c/A",
		"explain/prod/c/A", "policy/prod/c/A", "status",
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.seed()
			want := fmt.Sprint(e.ok(read, path, nil))
			for n := 0; ; n++ {
				e.start()
				e.s.arm(n, false)
				status, text, _ := e.send(e.request(read, path, nil))
				ops := e.s.disarm()
				if len(ops) <= n {
					if n == 0 {
						e.Error("reads nothing from storage")
					}
					break
				}
				if status != 500 {
					e.Errorf("%s fails: %d %s", ops[n], status, text)
				}
				if path == "status" {
					e.ok(read, path, nil)
				} else {
					e.is(e.ok(read, path, nil), want)
				}
			}
		})
	}
}

func TestListFaults(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.seed()
	for _, path := range []string{"secrets/prod/org/", "groups/", "scopes/chain/", "scopes/project/", "env/prod/", "env/prod/c/"} {
		want := e.keys(path, nil)
		for n := 0; ; n++ {
			e.start()
			e.s.arm(n, false)
			status, text, _ := e.send(e.request(lists, path, nil))
			if ops := e.s.disarm(); len(ops) <= n {
				break
			}
			if status != 500 {
				e.Errorf("list %s: %d %s", path, status, text)
			}
			e.is(e.keys(path, nil), want)
		}
	}
}
