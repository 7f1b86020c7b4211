package acceptance

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator/iamtest"
)

// newIAM has a user whose current key manages the user's keys.
func newIAM(e *engine) *farSide {
	const user = "deployer"
	server := iamtest.New()
	e.Cleanup(server.Close)
	key, b := server.AddKey(user, false), &breaker{over: e.Context()}
	server.Hook(func(p iamtest.Point) bool { return b.pass(p.Action, p.Done) })
	return &farSide{
		breaker: b,
		rotator: data{"type": "aws-iam", "username": user, "iam_endpoint": server.URL, "sts_endpoint": server.URL, "propagation": "5s"},
		entry:   "prod/org/aws-deploy", overlaps: true,
		first: data{"values": data{"AWS_ACCESS_KEY_ID": key.ID, "AWS_SECRET_ACCESS_KEY": key.Secret}},
		accepts: func(value any) bool {
			values := value.(data)
			return slices.ContainsFunc(server.Keys(user), func(k iamtest.Key) bool {
				return k.Active && k.ID == values["AWS_ACCESS_KEY_ID"] && k.Secret == values["AWS_SECRET_ACCESS_KEY"]
			})
		},
		count: func() int { return len(server.Keys(user)) },
	}
}

// keyMaker makes keys when it is called, and writes them back with a token
// that can do no more.
type keyMaker struct {
	*breaker
	as     *engine
	chains sync.WaitGroup

	mu   sync.Mutex // guards all below
	made map[string]string
	live map[string]bool
}

func newKeyMaker(e *engine) *farSide {
	const entry = "prod/org/API_KEY"
	as := e.withToken(e.policy(fmt.Sprintf(`
path "%s/rotate/%s" {
  capabilities        = ["update"]
  required_parameters = ["rotation_id", "value"]
  allowed_parameters  = { "rotation_id" = [], "value" = [] }
}`, e.mount, entry)))
	o := &keyMaker{breaker: &breaker{over: e.Context()}, as: as.retrying(), made: map[string]string{}, live: map[string]bool{}}
	server := httptest.NewServer(o.handler(o.event, o.serve))
	e.Cleanup(func() {
		server.Close()
		o.chains.Wait()
	})
	return &farSide{
		breaker: o.breaker, rotator: data{"type": "webhook", "url": server.URL, "hmac_secret": e.value("hmac_secret")}, entry: entry, overlaps: true,
		accepts: func(value any) bool {
			o.mu.Lock()
			defer o.mu.Unlock()
			return o.live[value.(string)]
		},
		count: func() int {
			o.mu.Lock()
			defer o.mu.Unlock()
			return len(o.live)
		},
	}
}

// announced is the body of a call.
type announced struct {
	Event      string
	RotationID string `json:"rotation_id"`
	Path       string
	Promoted   bool
}

// event names a call, whose body it leaves to be read again.
func (*keyMaker) event(r *http.Request) string {
	body, _ := io.ReadAll(r.Body) // what is not complete is not JSON
	r.Body = io.NopCloser(bytes.NewReader(body))
	var c announced
	_ = json.Unmarshal(body, &c)
	return c.Event
}

func (o *keyMaker) serve(w http.ResponseWriter, r *http.Request) {
	var c announced
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	key, known := o.made[c.RotationID]
	switch {
	case c.Event == "rotation.finish" && c.Promoted:
		o.live = map[string]bool{key: true}
	case c.Event == "rotation.finish":
		delete(o.live, key)
	case !known:
		key = rand.Text()
		o.made[c.RotationID], o.live[key] = key, true
		o.chains.Go(func() { o.answer(c, key) })
	}
	w.WriteHeader(http.StatusAccepted)
}

// answer writes a key back. Its client repeats what got no answer: a conflict says
// that an earlier try came through, and the test looks for the key anyway.
func (o *keyMaker) answer(c announced, key string) {
	o.pass("the value is sent", false)
	_, err := o.as.client.Logical().Write(o.as.mount+"/rotate/"+c.Path, data{"rotation_id": c.RotationID, "value": key})
	var refusal *api.ResponseError
	if err != nil && !(errors.As(err, &refusal) && refusal.StatusCode == http.StatusConflict) {
		o.as.Error(secrets.censor(err.Error()))
	}
	o.pass("the value is sent", true)
}

// requestLine names a request, without the slashes that part the names of tests.
func requestLine(r *http.Request) string {
	return r.Method + strings.ReplaceAll(r.URL.Path, "/", " ")
}

// newAuthorizationServer has a client with one secret, which it tells nobody
// but in the answer to an update.
func newAuthorizationServer(e *engine) *farSide {
	const client = "agent"
	var mu sync.Mutex // guards secret
	secret, token := rand.Text(), e.value("registration_access_token")
	accepts := func(value any) bool {
		mu.Lock()
		defer mu.Unlock()
		return value == secret
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/register", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		metadata := data{"client_id": client, "redirect_uris": []string{"https://agent.example/back"}}
		if r.Method == http.MethodPut {
			mu.Lock()
			defer mu.Unlock()
			secret = rand.Text()
			metadata["client_secret"] = secret
		}
		_ = json.NewEncoder(w).Encode(metadata) // into a recorder
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if id, given, _ := r.BasicAuth(); id != client || !accepts(given) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	b := &breaker{over: e.Context()}
	server := httptest.NewServer(b.handler(requestLine, mux.ServeHTTP))
	e.Cleanup(server.Close)
	return &farSide{
		breaker: b, entry: "prod/org/CLIENT_SECRET", accepts: accepts,
		rotator: data{
			"type": "oauth2-client-secret", "client_configuration_url": server.URL + "/register",
			"registration_access_token": token, "token_endpoint": server.URL + "/token",
		},
	}
}

// newOtherVault has an engine of dynamic credentials and an AppRole that may
// read it. It knows the leases by user from the answers that pass.
func newOtherVault(e *engine) *farSide { return newDynamic(e, nil) }

func newDynamic(e *engine, role data) *farSide {
	e.Helper()
	e.must(dynamicEngine())
	mount := unique("dynamic")
	e.enable("dynamic", mount)
	b, leases := &breaker{over: e.Context()}, sync.Map{}
	to, err := url.Parse(vault.Address)
	e.must(err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ModifyResponse = func(resp *http.Response) error {
		body, err := io.ReadAll(resp.Body)
		resp.Body = io.NopCloser(bytes.NewReader(body))
		var answer struct {
			LeaseID string `json:"lease_id"`
			Data    struct{ Username string }
		}
		if json.Unmarshal(body, &answer) == nil && answer.Data.Username != "" {
			leases.Store(answer.Data.Username, answer.LeaseID)
		}
		return err
	}
	server := httptest.NewServer(b.handler(func(r *http.Request) string {
		return strings.Replace(requestLine(r), mount, "dynamic", 1) // mounts differ from run to run
	}, proxy.ServeHTTP))
	e.Cleanup(server.Close)

	path, secretID := "auth/approle/role/"+unique("role"), e.value("secret_id")
	body := data{"token_policies": e.policy(fmt.Sprintf("path %q { capabilities = [\"read\"] }", mount+"/*"))}
	maps.Copy(body, role)
	e.root(path, body)
	e.root(path+"/custom-secret-id", data{"secret_id": secretID})
	id, err := vault.Client.Logical().Read(path + "/role-id")
	e.must(err)
	prefix := mount + "/creds/renewable/"
	live := func() (ids []string) {
		answer, err := vault.Client.Logical().List("sys/leases/lookup/" + prefix)
		if err != nil {
			e.Error(err)
		}
		if answer == nil {
			return nil
		}
		for _, id := range answer.Data["keys"].([]any) {
			ids = append(ids, prefix+id.(string))
		}
		return ids
	}
	return &farSide{
		breaker: b, entry: "prod/org/DSN", overlaps: true,
		rotator: data{
			"type": "vault", "address": server.URL, "role_id": id.Data["role_id"], "secret_id": secretID,
			"path": mount + "/creds/renewable", "template": data{"value": "{{username}}:{{password}}"},
		},
		accepts: func(value any) bool {
			user, _, _ := strings.Cut(value.(string), ":")
			lease, _ := leases.Load(user)
			id, known := lease.(string)
			return known && slices.Contains(live(), id)
		},
		count: func() int { return len(live()) },
	}
}
