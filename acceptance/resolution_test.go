package acceptance

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// chain stores a chain of one agent, Worker, that sees the secrets.
func (e *engine) chain(name, project string, secrets ...any) {
	e.Helper()
	e.write("scopes/chain/"+name, data{"project": project, "agents": []data{{"name": "Worker", "secrets": secrets}}})
}

func TestWhatIsMissing(t *testing.T) {
	e := newEngine(t)
	e.chain("c", "", "TOKEN")
	for _, door := range []string{"env", "creds"} {
		e.refused(400, "TOKEN is in no scope", read, door+"/prod/c/Worker", nil)
	}
	for _, door := range []string{"env", "creds", "explain", "policy"} {
		e.refused(404, "there is no chain", read, door+"/prod/nosuch/Worker", nil)
		e.refused(404, "has no agent", read, door+"/prod/c/Nosuch", nil)
		e.refused(400, "environment", read, door+"/nosuch/c/Worker", nil)
		e.refused(400, "all", read, door+"/all/c/Worker", nil)
	}
	for _, path := range []string{"secrets/prod/org/NOSUCH", "groups/prod/org/nosuch", "reveal/prod/org/NOSUCH", "reveal/prod/org/nosuch", "scopes/chain/nosuch", "scopes/project/nosuch"} {
		e.refused(404, "there is no", read, path, nil)
	}
	e.refused(400, "all", list, "env/all", nil)
	e.refused(400, "environment", update, "secrets/nosuch/org/TOKEN", data{"value": e.value("unused")})
	e.same("explain", e.read("explain/prod/c/Worker")["resolves"], false)
}

func TestOrderOfResolution(t *testing.T) {
	e := newEngine(t)
	e.write("scopes/project/p", data{"chains_allowed": []string{"c"}})
	e.chain("c", "p", "TOKEN")
	e.secret("staging/agent/c/Worker/TOKEN", nil)
	// From the last place that is looked at to the first.
	for _, place := range []string{"all/org", "prod/org", "all/project/p", "prod/project/p", "all/chain/c", "prod/chain/c", "all/agent/c/Worker", "prod/agent/c/Worker"} {
		value := e.secret(place+"/TOKEN", nil)
		e.same("env with "+place, e.read("env/prod/c/Worker"), data{"TOKEN": value})
	}
}

func TestRefusalsOfScope(t *testing.T) {
	e := newEngine(t)
	e.secret("prod/org/TOKEN", data{"chains_allowed": []string{"friends/*", "friend"}})
	e.secret("prod/org/OPEN", nil)
	e.chain("friend", "", "TOKEN")
	e.chain("friends/one", "", "TOKEN")
	e.chain("friends", "", "TOKEN")
	e.chain("friendship", "", "TOKEN")
	e.chain("mixed", "", "TOKEN", "NOSUCH")
	for _, chain := range []string{"friend", "friends/one"} {
		e.read("env/prod/" + chain + "/Worker")
	}
	for _, chain := range []string{"friends", "friendship"} {
		e.refused(403, "is not shared with chain "+chain, read, "env/prod/"+chain+"/Worker", nil)
		e.refused(403, "is not shared with chain "+chain, read, "creds/prod/"+chain+"/Worker", nil)
	}
	// One reason that is not a refusal makes it a 400, and all are named.
	e.refused(400, "TOKEN (version 1 in org, prod) is not shared", read, "env/prod/mixed/Worker", nil)
	e.refused(400, "NOSUCH is in no scope", read, "env/prod/mixed/Worker", nil)

	// A project that does not allow the chain hides its entries, and org's.
	e.chain("guest", "p", "OPEN")
	e.refused(403, "project p does not allow chain guest", read, "env/prod/guest/Worker", nil)
	e.write("scopes/project/p", data{"chains_allowed": []string{"other"}})
	e.chain("guest", "p", data{"name": "OPEN", "optional": true})
	e.refused(403, "project p does not allow chain guest", read, "env/prod/guest/Worker", nil)
	e.write("scopes/project/p", data{"chains_allowed": []string{"guest"}})
	e.read("env/prod/guest/Worker")
}

// What has expired fails the read, although wider scopes have the name too.
func TestExpiredDoesNotFallThrough(t *testing.T) {
	e := newEngine(t)
	wide := e.secret("prod/org/TOKEN", nil)
	places := map[string]string{"agent": "agent/agent/Worker", "chain": "chain/chain", "org": "org"}
	for chain := range places {
		e.chain(chain, "", "TOKEN")
		e.same("env of "+chain, e.read("env/prod/"+chain+"/Worker"), data{"TOKEN": wide})
	}
	soon := time.Now().Add(3 * time.Second).Format(time.RFC3339)
	for _, place := range places {
		e.secret("prod/"+place+"/TOKEN", data{"expires_at": soon})
	}
	for chain := range places {
		path := "env/prod/" + chain + "/Worker"
		e.must(eventually(path+" expires", func() (bool, error) {
			_, status, _ := e.do(read, path, nil)
			return status != 200, nil
		}))
		e.refused(400, "has expired", read, path, nil)
		e.refused(400, "has expired", read, "creds/prod/"+chain+"/Worker", nil)
	}
	if expired := e.read("status")["expired"].([]any); len(expired) != len(places) {
		t.Errorf("status lists %d expired entries, want %d", len(expired), len(places))
	}
	value := e.secret("prod/agent/agent/Worker/TOKEN", nil)
	e.same("env with a new value", e.read("env/prod/agent/Worker"), data{"TOKEN": value})
}

func TestEnvironmentInUse(t *testing.T) {
	e := newEngine(t)
	e.secret("staging/chain/a/b/TOKEN", nil)
	e.refused(409, "staging", update, "config", data{"environments": []string{"dev", "prod"}})
	e.ok(remove, "secrets/staging/chain/a/b/TOKEN", nil)
	e.write("groups/staging/org/pair", data{"values": data{"A": e.value("A")}})
	e.refused(409, "staging", update, "config", data{"environments": []string{"dev", "prod"}})
	e.ok(remove, "groups/staging/org/pair", nil)
	e.same("environments", e.write("config", data{"environments": []string{"dev", "prod"}})["environments"], []string{"dev", "prod"})
	e.refused(400, "environment", update, "secrets/staging/org/TOKEN", data{"value": e.value("unused")})
}

// An environment is given whole or not at all.
func TestLimitsOfAnEnvironment(t *testing.T) {
	e := newEngine(t)
	filler := strings.Repeat("x", 50<<10)
	var names []any
	for i := range 6 {
		name := fmt.Sprintf("PART_%d", i)
		e.write("secrets/prod/org/"+name, data{"value": e.value(name) + filler})
		names = append(names, name)
	}
	e.chain("small", "", names[:5]...)
	e.chain("large", "", names...)
	e.read("env/prod/small/Worker")
	e.refused(400, "more than 262144", read, "env/prod/large/Worker", nil)

	members := data{}
	for i := range 600 {
		members[fmt.Sprintf("MEMBER_%d", i)] = "x"
	}
	e.write("groups/prod/org/first", data{"values": members})
	e.write("scopes/chain/many", data{"agents": []data{{"name": "Worker", "groups": []string{"first"}}}})
	e.read("env/prod/many/Worker")
	for i := range 600 {
		delete(members, fmt.Sprintf("MEMBER_%d", i))
		members[fmt.Sprintf("OTHER_%d", i)] = "x"
	}
	e.write("groups/prod/org/second", data{"values": members})
	e.write("scopes/chain/many", data{"agents": []data{{"name": "Worker", "groups": []string{"first", "second"}}}})
	e.refused(400, "more than 1000", read, "env/prod/many/Worker", nil)
}
