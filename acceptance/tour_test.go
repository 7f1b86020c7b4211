package acceptance

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"
)

// deployPipeline is a definition as people write it.
const deployPipeline = `{ "chain": "deploy-pipeline", "project": "platform", "max_runtime": "2h",
  "agents": [
    { "name": "CodeAnalyzer", "secrets": ["OPENAI_API_KEY"] },
    { "name": "Deployer", "secrets": ["OPENAI_API_KEY", {"name": "DATABASE_URL", "as": "DB_URL"},
                                      {"name": "SENTRY_DSN", "optional": true}],
      "groups": ["aws-deploy"] } ] }`

func (e *engine) writeJSON(path, text string) {
	e.Helper()
	var body data
	e.must(json.Unmarshal([]byte(text), &body))
	e.write(path, body)
}

// secret stores a new value for a secret, and returns it.
func (e *engine) secret(path string, fields data) string {
	e.Helper()
	value := e.value(path)
	body := data{"value": value}
	maps.Copy(body, fields)
	e.write("secrets/"+path, body)
	return value
}

// deployPipeline stores the definition with all its secrets, and returns the
// environment of Deployer in prod.
func (e *engine) deployPipeline() data {
	e.Helper()
	e.write("scopes/project/platform", data{"chains_allowed": []string{"deploy-pipeline"}})
	e.writeJSON("scopes/chain/deploy-pipeline", deployPipeline)
	e.secret("all/org/OPENAI_API_KEY", nil)
	e.secret("dev/chain/deploy-pipeline/DATABASE_URL", nil)
	e.secret("prod/org/DATABASE_URL", nil)
	id := e.value("AWS_ACCESS_KEY_ID")
	e.write("groups/prod/project/platform/aws-deploy", data{"values": data{"AWS_ACCESS_KEY_ID": id, "AWS_REGION": "us-west-2"}})
	return data{
		"OPENAI_API_KEY":    e.secret("prod/agent/deploy-pipeline/Deployer/OPENAI_API_KEY", nil),
		"DB_URL":            e.secret("prod/chain/deploy-pipeline/DATABASE_URL", nil),
		"AWS_ACCESS_KEY_ID": id,
		"AWS_REGION":        "us-west-2",
	}
}

func TestTour(t *testing.T) {
	e := newEngine(t)
	want := e.deployPipeline()
	e.same("env", e.read("env/prod/deploy-pipeline/Deployer"), want)

	creds := e.read("creds/prod/deploy-pipeline/Deployer")
	for name, at := range map[string]string{"ttl": "300", "rotation_period": "86400"} {
		if n, ok := creds[name].(json.Number); !ok || n.String() != at {
			t.Errorf("%s is %v, want the number %s", name, creds[name], at)
		}
		delete(creds, name)
	}
	if _, err := time.Parse(time.RFC3339, creds["last_vault_rotation"].(string)); err != nil {
		t.Error(err)
	}
	delete(creds, "last_vault_rotation")
	e.same("creds without times", creds, want)

	explained := e.read("explain/prod/deploy-pipeline/Deployer")
	e.noteAnswer(explained)
	var found []string
	for _, reference := range explained["references"].([]any) {
		r := reference.(data)
		found = append(found, strings.TrimSpace(strings.Join([]string{r["name"].(string), r["scope"].(string), r["environment"].(string), r["reason"].(string)}, " ")))
	}
	e.same("explain", []any{explained["resolves"], explained["error"], found}, []any{true, "", []string{
		"OPENAI_API_KEY agent:deploy-pipeline/Deployer prod",
		"DATABASE_URL chain:deploy-pipeline prod",
		"SENTRY_DSN   is optional and in no scope",
		"aws-deploy project:platform prod",
	}})

	e.same("reveal of a secret", e.read("reveal/prod/chain/deploy-pipeline/DATABASE_URL"), data{"value": want["DB_URL"], "version": 1})
	e.same("reveal of a group", e.read("reveal/prod/project/platform/aws-deploy"), data{
		"values": data{"AWS_ACCESS_KEY_ID": want["AWS_ACCESS_KEY_ID"], "AWS_REGION": "us-west-2"}, "version": 1,
	})
	e.same("definition", e.read("scopes/chain/deploy-pipeline")["max_runtime"], 7200)
}

// Every door of an agent, and reading a value, is a plain GET that mints nothing.
func TestReadsMakeNoLease(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	agent := "prod/deploy-pipeline/Deployer"
	for _, path := range []string{"env/" + agent, "creds/" + agent, "explain/" + agent, "policy/" + agent, "reveal/all/org/OPENAI_API_KEY", "secrets/all/org/OPENAI_API_KEY", "status"} {
		secret, status, text := e.do(read, path, nil)
		if status != 200 || secret.LeaseID != "" || secret.Renewable {
			t.Errorf("%s: %d %s, want an answer without a lease", path, status, text)
		}
	}
	leases, err := e.client.Logical().List("sys/leases/lookup/" + e.mount + "/")
	e.must(err)
	if leases != nil {
		t.Errorf("there are leases: %v", leases.Data["keys"])
	}
}

func TestMetadataAndMask(t *testing.T) {
	e := newEngine(t)
	value := e.secret("prod/org/LONG", data{"sensitivity": "high", "description": "of the tests"})
	e.write("secrets/prod/org/SHORT", data{"value": "pÿ7-of-19-character"})
	e.write("groups/prod/org/pair", data{"values": data{"LONG": value, "SHORT": "us-west-2"}})
	long := e.read("secrets/prod/org/LONG")
	e.same("metadata", []any{long["masked"], long["sensitivity"], long["description"], long["scope"], long["environment"], long["current_version"], long["pending_version"]},
		[]any{value[:3] + "...***...", "high", "of the tests", "org", "prod", 1, 0})
	e.same("the masked form of a short value", e.read("secrets/prod/org/SHORT")["masked"], "***...***")
	e.same("the masked form of a group", e.read("groups/prod/org/pair")["masked"], data{"LONG": value[:3] + "...***...", "SHORT": "***...***"})
	for path, answer := range map[string]data{"secrets": long, "groups": e.read("groups/prod/org/pair")} {
		if answer["value"] != nil || answer["values"] != nil {
			t.Errorf("%s answers a value", path)
		}
		e.noteAnswer(answer)
	}
}

func TestChainsWithSlashes(t *testing.T) {
	e := newEngine(t)
	value := e.value("TOKEN")
	for _, chain := range []string{"billing", "billing/invoices", "billing/eu/invoices/monthly"} {
		e.write("scopes/chain/"+chain, data{"agents": []data{{"name": "Sender", "secrets": []string{"TOKEN"}}}})
		e.write("secrets/prod/chain/"+chain+"/TOKEN", data{"value": value + chain})
		e.write("secrets/prod/agent/"+chain+"/Sender/EXTRA", data{"value": value})
	}
	for _, chain := range []string{"billing", "billing/invoices", "billing/eu/invoices/monthly"} {
		want := data{"TOKEN": value + chain}
		e.same(chain, e.read("env/prod/"+chain+"/Sender"), want)
		e.same(chain, e.read("scopes/chain/" + chain)["chain"], chain)
		if got := e.read("policy/prod/" + chain + "/Sender")["policy"].(string); !strings.Contains(got, `"`+e.mount+"/env/prod/"+chain+`/Sender"`) {
			t.Errorf("policy of %s is %s", chain, got)
		}
		e.same(chain, e.read("explain/prod/" + chain + "/Sender")["resolves"], true)
	}
	for path, want := range map[string][]string{
		"scopes/chain":                  {"billing", "billing/"},
		"scopes/chain/billing":          {"eu/", "invoices"},
		"scopes/chain/billing/":         {"eu/", "invoices"},
		"secrets":                       {"prod/"},
		"secrets/prod":                  {"agent/", "chain/"},
		"secrets/prod/chain":            {"billing/"},
		"secrets/prod/chain/billing":    {"TOKEN", "eu/", "invoices/"},
		"secrets/prod/agent/billing":    {"Sender/", "eu/", "invoices/"},
		"secrets/prod/chain/billing/eu": {"invoices/"},
		"env":                           {"dev/", "prod/", "staging/"},
		"env/prod":                      {"billing/"},
		"env/prod/billing":              {"Sender", "eu/", "invoices/"},
		"env/prod/billing/invoices":     {"Sender"},
		"env/dev/billing/eu/invoices":   {"monthly/"},
	} {
		e.same("list of "+path, e.keys(path, nil), want)
	}
	e.nothing("secrets/prod/agent/billing/eu/x", nil)
}

func TestListPages(t *testing.T) {
	e := newEngine(t)
	value := e.value("all")
	var names []string
	for _, name := range []string{"A", "B", "C", "D", "E"} {
		e.write("secrets/dev/org/"+name, data{"value": value})
		names = append(names, name)
	}
	e.same("complete list", e.keys("secrets/dev/org", nil), names)
	var paged []string
	for after := ""; len(paged) < len(names); after = paged[len(paged)-1] {
		paged = append(paged, e.keys("secrets/dev/org", data{"limit": 2, "after": after})...)
	}
	e.same("pages", paged, names)
	e.nothing("secrets/dev/org", data{"after": "E"})
	e.same("after what is not there", e.keys("secrets/dev/org", data{"after": "CC"}), []string{"D", "E"})
	e.refused(400, "limit", list, "secrets/dev/org", data{"limit": -1})
}

func TestCheckAndSet(t *testing.T) {
	e := newEngine(t)
	first, second, third := e.value("first"), e.value("second"), e.value("third")
	path := "secrets/prod/org/TOKEN"
	e.refused(409, "cas", update, path, data{"value": first, "cas": 1})
	e.write(path, data{"value": first, "cas": 0})
	e.refused(409, "cas", update, path, data{"value": second, "cas": 0})
	e.refused(409, "cas", patch, path, data{"value": second, "cas": 2})
	e.same("value", e.read("reveal/prod/org/TOKEN"), data{"value": first, "version": 1})
	e.same("version", e.write(path, data{"value": second, "cas": 1})["pending_version"], 2)
	e.same("version of the same value", e.write(path, data{"value": second})["pending_version"], 2)
	e.refused(409, "is under way", update, path, data{"value": third})
	e.refused(409, "cas", update, path, data{"value": third, "cas": 1, "force": true})
	e.same("version that replaces a pending one", e.write(path, data{"value": third, "cas": 2, "force": true})["pending_version"], 3)
	e.same("value of a new reader", e.read("reveal/prod/org/TOKEN"), data{"value": third, "version": 3})
	e.refused(400, "no such version", read, "reveal/prod/org/TOKEN", data{"version": 2})

	e.refused(409, "is under way", remove, path, nil)
	e.ok(remove, path, data{"force": true})
	e.refused(404, "there is no", read, path, nil)
	e.refused(409, "cas", update, path, data{"value": first, "cas": 3})
	e.same("version after a delete", e.write(path, data{"value": first, "cas": 0})["current_version"], 4)
}

func TestPatch(t *testing.T) {
	e := newEngine(t)
	a, b := e.value("A"), e.value("B")
	e.refused(404, "there is no", patch, "groups/prod/org/pair", data{"values": data{"A": a}})
	e.write("groups/prod/org/pair", data{"values": data{"A": a, "B": a}, "sensitivity": "high", "custom_metadata": data{"owner": "ops", "tier": "1"}})
	got := e.ok(patch, "groups/prod/org/pair", data{
		"values": data{"B": b, "A": nil, "C": a}, "sensitivity": nil, "description": "patched", "custom_metadata": data{"tier": nil},
	})
	e.same("metadata", []any{got["sensitivity"], got["description"], got["custom_metadata"], got["pending_version"]}, []any{"medium", "patched", data{"owner": "ops"}, 2})
	e.same("values", e.read("reveal/prod/org/pair")["values"], data{"B": b, "C": a})
	e.same("version of a patch of metadata", e.ok(patch, "groups/prod/org/pair", data{"description": nil})["pending_version"], 2)
	e.refused(400, "null", update, "groups/prod/org/pair", data{"values": data{"A": nil}})
	e.same("values", e.read("reveal/prod/org/pair")["values"], data{"B": b, "C": a})
}
