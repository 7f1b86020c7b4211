package acceptance

import (
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// answer is what vault/api, which all these clients use, makes of a read: a path
// at which there is nothing is nil and no error.
func (e *engine) answer(path string) *api.Secret {
	e.Helper()
	secret, err := e.client.Logical().Read(e.mount + "/" + path)
	e.must(err)
	return secret
}

// handedOn is what a client hands on of a value: a string as it is, and the rest as JSON.
func handedOn(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	encoded, _ := json.Marshal(value) // it was decoded from JSON
	return string(encoded)
}

func texts(values data) data {
	all := data{}
	for name, value := range values {
		all[name] = handedOn(value)
	}
	return all
}

// variables are those of the deployer, as one lists them for clients that want them one by one.
var variables = []string{"OPENAI_API_KEY", "DB_URL", "AWS_ACCESS_KEY_ID", "AWS_REGION"}

// rules are clients that cannot run here: each sends the requests of one, and
// returns what the client would hand on by its documented rule.
var rules = map[string]func(e *engine) data{
	// Strings are variables, and all else is skipped. A value named metadata would
	// have to be an object.
	"envconsul with no_prefix": func(e *engine) data {
		variables := data{}
		for name, value := range e.answer("env/" + deployer).Data {
			if s, ok := value.(string); ok {
				variables[name] = s
			}
		}
		return variables
	},
	// It reads each secretPath, and each file is the value of a secretKey. What lies
	// in a map named data, it would take for all there is.
	"CSI provider with secretKey": func(e *engine) data {
		files := data{}
		for _, key := range variables {
			values := e.answer("env/" + deployer).Data
			if inner, ok := values["data"].(map[string]any); ok {
				values = inner
			}
			files[key] = handedOn(values[key])
		}
		return files
	},
	// The property of a key, which is a path below that of the store.
	"External Secrets, remoteRef": func(e *engine) data {
		values := data{}
		for _, property := range variables {
			values[property] = handedOn(e.answer("env/" + deployer).Data[property])
		}
		return values
	},
	"External Secrets, dataFrom.extract": func(e *engine) data { return texts(e.answer("env/" + deployer).Data) },
	"External Secrets, dataFrom.find": func(e *engine) data {
		found, wanted := data{}, regexp.MustCompile("deploy-pipeline/Deployer$")
		for _, key := range e.walk("env/prod/") {
			if wanted.MatchString(key) {
				maps.Copy(found, texts(e.answer(key).Data))
			}
		}
		return found
	},
	"External Secrets, VaultDynamicSecret": func(e *engine) data {
		values := texts(e.answer("creds/" + deployer).Data)
		for _, times := range []string{"ttl", "rotation_period", "last_vault_rotation"} {
			if values[times] == "" {
				e.Errorf("creds/ answers no %s", times)
			}
			delete(values, times)
		}
		return values
	},
	"Vault Secrets Operator, kv-v1": func(e *engine) data {
		answer := e.answer("env/" + deployer)
		if answer.LeaseID != "" || answer.LeaseDuration != 0 || answer.Renewable {
			e.Error("env/ answers a lease")
		}
		return texts(answer.Data)
	},
	// The time must be after 1970, and the period at least a second, or it never
	// asks again. It may go on asking by the ttl of an earlier answer, so that one
	// must never be long. Another type of one of them makes it fail or crash.
	"Vault Secrets Operator, allowStaticCreds": func(e *engine) data {
		answer := e.answer("creds/" + deployer)
		text, _ := answer.Data["last_vault_rotation"].(string)
		rotated, err := time.Parse(time.RFC3339Nano, text)
		e.must(err)
		period, ttl := e.number(answer, "rotation_period"), e.number(answer, "ttl")
		if answer.Renewable || rotated.Unix() <= 0 || period < 1 || ttl < 1 || ttl > 300 {
			e.Errorf("renewable %t, last_vault_rotation %s, rotation_period %d, ttl %d", answer.Renewable, rotated, period, ttl)
		}
		values := maps.Clone(answer.Data)
		maps.DeleteFunc(values, func(name string, _ any) bool {
			return slices.Contains([]string{"ttl", "rotation_period", "rotation_schedule", "last_vault_rotation"}, name)
		})
		return texts(values)
	},
}

// number is a whole number in an answer.
func (e *engine) number(answer *api.Secret, name string) int64 {
	e.Helper()
	value, ok := answer.Data[name].(json.Number)
	if !ok {
		e.Fatalf("%s is a %T, want a number", name, answer.Data[name])
	}
	n, err := value.Int64()
	e.must(err)
	return n
}

// walk lists a folder and all below, as External Secrets does: an empty folder
// would end its search.
func (e *engine) walk(folder string) (keys []string) {
	e.Helper()
	secret, err := e.client.Logical().List(e.mount + "/" + folder)
	e.must(err)
	if secret == nil {
		e.Fatalf("there is nothing below %s", folder)
	}
	for _, key := range secret.Data["keys"].([]any) {
		path := folder + key.(string)
		if strings.HasSuffix(path, "/") {
			keys = append(keys, e.walk(path)...)
		} else {
			keys = append(keys, path)
		}
	}
	return keys
}

// keyOfSecret is what Kubernetes takes as a key of a Secret.
var keyOfSecret = regexp.MustCompile(`^[-._a-zA-Z0-9]{1,253}$`)

func TestRulesOfClients(t *testing.T) {
	e := newEngine(t)
	env := e.deployPipeline()
	e.chain("deploy-pipeline/rollback", "", "OPENAI_API_KEY")
	as := e.withToken(e.policy(e.read("policy/" + deployer)["policy"].(string)), e.policy(`path "`+e.mount+`/env/*" { capabilities = ["list"] }`))
	for name := range env {
		if !keyOfSecret.MatchString(name) {
			t.Errorf("%s cannot be a key of a Secret", name)
		}
	}
	for client, rule := range rules {
		e.same(client, rule(as), env)
	}
	env["DB_URL"] = e.secret(database, nil)
	for client, rule := range rules {
		e.same(client+" after a rotation", rule(as), env)
	}
}

// The CSI driver writes files anew, and calls what changed a rotation, when the
// content of an object is another one: the whole answer is one each time.
func TestAnswersDifferByRequestOnly(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	first, second := e.answer("env/"+deployer), e.answer("env/"+deployer)
	if first.RequestID == second.RequestID {
		t.Error("two answers have one request_id")
	}
	second.RequestID = first.RequestID
	e.same("the second answer", second, first)
}

// External Secrets deletes what it wrote when a path is not there, which is a
// nil answer to it. What does not resolve, or is held, must be an error instead.
func TestOnlyWhatDoesNotExistIsNotFound(t *testing.T) {
	e := newEngine(t)
	e.chain("c", "", "TOKEN")
	for _, path := range []string{"env/prod/nosuch/Worker", "env/prod/c/Nosuch", "creds/prod/nosuch/Worker"} {
		if e.answer(path) != nil {
			t.Errorf("%s is there", path)
		}
	}
	failing := func(when string) {
		for _, path := range []string{"env/prod/c/Worker", "creds/prod/c/Worker"} {
			if _, status, _ := e.do(read, path, nil); status < 400 || status == http.StatusNotFound {
				t.Errorf("%s %s: %d", path, when, status)
			}
		}
	}
	failing("without the secret")
	e.secret("prod/org/TOKEN", nil)
	e.read("env/prod/c/Worker")
	held := e.write("revoke/agent/prod/c/Worker", data{"reason": "a test", "hold": true})
	failing("under a hold")
	e.ok(remove, "revoke/agent/prod/c/Worker", nil)
	e.read("env/prod/c/Worker")
	e.noteAnswer(held)
	e.write("revoke/secret/prod/org/TOKEN", data{"reason": "a test"})
	failing("after the secret was revoked")
}

// These names in an answer make a client crash, or take something else for the
// secret. Since variables are upper case, none can be one.
func TestNamesThatClientsTakeForTheirOwn(t *testing.T) {
	e := newEngine(t)
	for client, names := range map[string][]string{
		"envconsul":              {"metadata"},
		"consul-template":        {"certificate", "expiration", "secret_id", "secret_id_ttl", "rotation_period", "ttl"},
		"CSI provider":           {"data"},
		"Vault Secrets Operator": {"_raw", "last_vault_rotation", "rotation_schedule"},
	} {
		for _, name := range names {
			for where, r := range map[string]request{
				"a secret": {update, "secrets/prod/org/" + name, data{"value": "harmless"}},
				"a member": {update, "groups/prod/org/pair", data{"values": data{name: "harmless"}}},
				"as":       {update, "scopes/chain/c", data{"agents": []data{{"name": "Worker", "secrets": []data{{"name": "TOKEN", "as": name}}}}}},
				"a name":   {update, "scopes/chain/c", data{"agents": []data{{"name": "Worker", "secrets": []string{name}}}}},
			} {
				if _, status, text := e.do(r.o, r.path, r.body); status != http.StatusBadRequest {
					t.Errorf("%s for %s as %s: %d %s, want a 400", name, client, where, status, text)
				}
			}
		}
	}
	e.same("what is stored", e.stored(), data{"config": e.read("config")})
}
