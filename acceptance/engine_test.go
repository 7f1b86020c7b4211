package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// data is the body of a request or of an answer.
type data = map[string]any

// op is an operation, by the word of Vault's policies.
type op string

const (
	read   op = "read"
	list   op = "list"
	update op = "update"
	patch  op = "patch"
	remove op = "delete"
)

// engine is a mount of the engine, seen with one token. Its verbs fail the test
// when Vault does not do what they say.
type engine struct {
	*testing.T
	mount  string
	client *api.Client
}

// mounts numbers what must have a name of its own in the shared server.
var mounts atomic.Int64

func unique(word string) string { return fmt.Sprintf("%s-%d", word, mounts.Add(1)) }

// newEngine mounts the engine for one test, seen with the root token.
func newEngine(t *testing.T) *engine {
	t.Helper()
	needVault(t)
	e := &engine{T: t, mount: unique("mount"), client: vault.Client}
	e.enable("agentchains", e.mount)
	return e
}

func (e *engine) enable(plugin, mount string) {
	e.Helper()
	e.must(e.client.Sys().Mount(mount, &api.MountInput{Type: plugin}))
}

func (e *engine) must(err error) {
	e.Helper()
	if err != nil {
		e.note(err.Error())
		e.Fatal(secrets.censor(err.Error()))
	}
}

// value returns a new secret value, which must occur in no log and no error.
func (e *engine) value(what string) string { return secrets.value(e.Name() + " " + what) }

// note keeps what Vault told the test, to be searched for values.
func (e *engine) note(text string) { secrets.note("an answer to "+e.Name(), []byte(text)) }

// noteAnswer keeps an answer that must hold no value, or only its first letters.
func (e *engine) noteAnswer(answer data) {
	e.Helper()
	text, err := json.Marshal(answer)
	e.must(err)
	e.note(string(text))
}

// do sends a request to a path of the mount. It returns what Vault answered, or
// the status and the text of its refusal, fit to be printed.
func (e *engine) do(o op, path string, body data) (*api.Secret, int, string) {
	e.Helper()
	path = e.mount + "/" + path
	ctx, cancel := context.WithTimeout(e.Context(), patience)
	defer cancel()
	var secret *api.Secret
	var err error
	switch o {
	case read, list:
		secret, err = e.get(ctx, path, o, body)
	case update:
		secret, err = e.client.Logical().WriteWithContext(ctx, path, body)
	case patch:
		secret, err = e.client.Logical().JSONMergePatch(ctx, path, body)
	case remove:
		secret, err = e.client.Logical().DeleteWithDataWithContext(ctx, path, query(body))
	}
	if secret != nil {
		e.note(strings.Join(secret.Warnings, "\n"))
	}
	var refusal *api.ResponseError
	if !errors.As(err, &refusal) {
		e.must(err)
		return secret, http.StatusOK, ""
	}
	e.note(refusal.Error())
	text := oneError.ReplaceAllString(strings.Join(refusal.Errors, "\n"), "$1")
	return nil, refusal.StatusCode, secrets.censor(text)
}

// get is a raw read, because the client's own hides the status and text of a 404.
func (e *engine) get(ctx context.Context, path string, o op, body data) (*api.Secret, error) {
	params := query(body)
	if o == list {
		params["list"] = []string{"true"}
	}
	resp, err := e.client.Logical().ReadRawWithDataWithContext(ctx, path, params)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return api.ParseSecret(resp.Body)
}

func query(body data) map[string][]string {
	params := map[string][]string{}
	for name, value := range body {
		params[name] = []string{fmt.Sprint(value)}
	}
	return params
}

// ok sends a request that must succeed, and returns the data of the answer.
func (e *engine) ok(o op, path string, body data) data {
	e.Helper()
	secret, status, text := e.do(o, path, body)
	if status != http.StatusOK {
		e.Fatalf("%s %s: %d %s", o, path, status, text)
	}
	if secret == nil {
		return nil
	}
	return secret.Data
}

func (e *engine) read(path string) data { e.Helper(); return e.ok(read, path, nil) }

func (e *engine) write(path string, body data) data { e.Helper(); return e.ok(update, path, body) }

// keys lists a path.
func (e *engine) keys(path string, body data) []string {
	e.Helper()
	var keys []string
	for _, key := range e.ok(list, path, body)["keys"].([]any) {
		keys = append(keys, key.(string))
	}
	return keys
}

// nothing lists a path at which there is nothing.
func (e *engine) nothing(path string, body data) {
	e.Helper()
	if _, status, text := e.do(list, path, body); status != http.StatusNotFound {
		e.Errorf("list %s: %d %s, want a 404", path, status, text)
	}
}

// oneError is how Vault wraps the text of every error but a 400.
var oneError = regexp.MustCompile(`^1 error occurred:\n\t\* (.*)\n\n$`)

// sentence is what an error of the engine is: one, without a full stop, and not
// a dump of something.
var sentence = regexp.MustCompile(`^[^\n]{10,400}[^.\n]$`)

// refused sends a request that must be refused with the status, in one sentence
// that holds want.
func (e *engine) refused(status int, want string, o op, path string, body data) {
	e.Helper()
	_, got, text := e.do(o, path, body)
	if got != status || !strings.Contains(text, want) || !sentence.MatchString(text) {
		e.Errorf("%s %s: %d %q, want %d and one sentence with %q", o, path, got, text, status, want)
	}
}

// denied sends a request that Vault's policies must refuse.
func (e *engine) denied(o op, path string) {
	e.Helper()
	_, status, text := e.do(o, path, data{})
	if status != http.StatusForbidden || !strings.Contains(text, "permission denied") {
		e.Errorf("%s %s: %d %q, want Vault to deny it", o, path, status, text)
	}
}

// same compares data. Values in them are not printed.
func (e *engine) same(what string, got, want any) {
	e.Helper()
	if reflect.DeepEqual(plain(e.T, got), plain(e.T, want)) {
		return
	}
	e.Errorf("%s is not as expected:\n got %s\nwant %s", what, censored(e.T, got), censored(e.T, want))
}

// plain turns data into the types of decoded JSON.
func plain(t *testing.T, v any) (p any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// censored prints data with every value of the run replaced by its label.
func censored(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return secrets.censor(string(text))
}

// as returns the mount seen with another token.
func (e *engine) as(token string) *engine {
	e.Helper()
	client, err := vault.NewClient(token)
	e.must(err)
	return &engine{e.T, e.mount, client}
}

// retrying is the mount seen with a client that repeats a request after a 5xx,
// as the clients of users do.
func (e *engine) retrying() *engine {
	e.Helper()
	r := e.as(e.client.Token())
	r.client.SetMaxRetries(api.DefaultConfig().MaxRetries)
	r.client.SetMinRetryWait(100 * time.Millisecond)
	return r
}

// policy writes a policy and returns its name.
func (e *engine) policy(hcl string) string {
	e.Helper()
	name := unique("policy")
	e.must(vault.Client.Sys().PutPolicy(name, hcl))
	return name
}

// appRole logs in as a machine that has the policies.
func (e *engine) appRole(policies ...string) *engine {
	e.Helper()
	role := "auth/approle/role/" + unique("role")
	e.root(role, data{"token_policies": policies})
	return e.roleLogin(role)
}

// roleLogin logs in with the AppRole at a path.
func (e *engine) roleLogin(role string) *engine {
	e.Helper()
	id, err := vault.Client.Logical().Read(role + "/role-id")
	e.must(err)
	secretID := e.root(role+"/secret-id", nil)
	method, _, _ := strings.Cut(role, "/role/")
	return e.login(method+"/login", data{"role_id": id.Data["role_id"], "secret_id": secretID.Data["secret_id"]})
}

// userpass logs in as a person who has the policies.
func (e *engine) userpass(policies ...string) *engine {
	e.Helper()
	user, password := unique("user"), e.value("password")
	e.root("auth/userpass/users/"+user, data{"password": password, "token_policies": policies})
	return e.login("auth/userpass/login/"+user, data{"password": password})
}

// withToken is a token of its own that has the policies.
func (e *engine) withToken(policies ...string) *engine {
	e.Helper()
	secret, err := vault.Client.Auth().Token().Create(&api.TokenCreateRequest{Policies: policies})
	e.must(err)
	return e.as(secret.Auth.ClientToken)
}

// root writes to any path of Vault.
func (e *engine) root(path string, body data) *api.Secret {
	e.Helper()
	secret, err := vault.Client.Logical().Write(path, body)
	e.must(err)
	return secret
}

func (e *engine) login(path string, body data) *engine {
	e.Helper()
	secret, err := e.as("").client.Logical().Write(path, body)
	e.must(err)
	return e.as(secret.Auth.ClientToken)
}

// stored returns everything in the mount but the values and who read them, by path.
func (e *engine) stored() data {
	e.Helper()
	all := data{"config": e.read("config")}
	for _, door := range []string{"secrets", "groups", "scopes/chain", "scopes/project", "schedules", "rotators", "notifiers", "holds", "incidents"} {
		e.collect(all, door)
	}
	return all
}

func (e *engine) collect(all data, path string) {
	e.Helper()
	secret, status, _ := e.do(list, path, nil)
	if status != http.StatusOK {
		return
	}
	for _, key := range secret.Data["keys"].([]any) {
		name, below := strings.CutSuffix(key.(string), "/")
		if below {
			e.collect(all, path+"/"+name)
		} else {
			entry := e.read(path + "/" + name)
			delete(entry, "unpinned_readers")
			all[path+"/"+name] = entry
		}
	}
}
