package rotator_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// oauthServer is the client configuration endpoint of RFC 7592 with one client,
// and a token endpoint. What RFC 7592 leaves to the server are fields.
type oauthServer struct {
	*farSide
	rotatesToken bool // with each answer
	tellsSecret  bool // to who reads the client
	keepsSecret  bool // at an update, as some servers do
	authMethod   string

	mu      sync.Mutex // guards all below
	token   string
	secret  string
	updates int
	wrong   []string // what the client did against the RFC
}

const oauthClient = "client:1/%"

func newOAuthServer(t *testing.T, o *oauthServer) *oauthServer {
	t.Helper()
	o.token, o.secret = rand.Text(), rand.Text()
	mux := http.NewServeMux()
	mux.HandleFunc("/register/1", o.register)
	mux.HandleFunc("POST /token", o.issue)
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"client_id":"`+strings.Repeat("a", 1<<20)+`"}`)
	})
	mux.HandleFunc("/text", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"client_id":"SECRET`) })
	o.farSide = newFarSide(t, mux.ServeHTTP)
	return o
}

func (o *oauthServer) metadata() map[string]any {
	m := map[string]any{
		"client_id": oauthClient, "client_name": "agent", "redirect_uris": []any{"https://agent.example/back"},
		"jwks": map[string]any{"keys": []any{map[string]any{"kty": "EC", "n": 1.5e10}}}, "an_extension": nil,
	}
	if o.authMethod != "" {
		m["token_endpoint_auth_method"] = o.authMethod
	}
	return m
}

func (o *oauthServer) register(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+o.token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.Method == http.MethodPut {
		var m map[string]any
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			o.wrong = append(o.wrong, err.Error())
		}
		// The server's own members, and a client_secret, would make this unequal.
		if !reflect.DeepEqual(m, o.metadata()) {
			o.wrong = append(o.wrong, fmt.Sprintf("the metadata came back as %v", m))
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"invalid_client_metadata"}`)
			return
		}
		o.updates++
		if !o.keepsSecret {
			o.secret = rand.Text()
		}
	}
	if o.rotatesToken {
		o.token = rand.Text()
	}
	m := o.metadata()
	m["client_id_issued_at"], m["registration_client_uri"] = 1767225600, o.URL+"/register/1"
	if o.rotatesToken {
		m["registration_access_token"] = o.token
	}
	if o.tellsSecret || r.Method == http.MethodPut {
		m["client_secret"], m["client_secret_expires_at"] = o.secret, 0
	}
	_ = json.NewEncoder(w).Encode(m)
}

func (o *oauthServer) issue(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	id, secret := r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	if o.authMethod != "client_secret_post" {
		id, secret, _ = r.BasicAuth()
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	}
	w.Header().Set("Content-Type", "application/json")
	if id != oauthClient || secret != o.secret || r.PostFormValue("grant_type") != "client_credentials" {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, `{"error":"invalid_client","error_description":"not %s"}`, secret)
		return
	}
	_, _ = io.WriteString(w, `{"access_token":"a","token_type":"bearer"}`)
}

// settings are those of an operator who has the token that the server now knows.
func (o *oauthServer) settings() rotator.Settings {
	o.mu.Lock()
	defer o.mu.Unlock()
	return rotator.Settings{
		"client_configuration_url": o.URL + "/register/1", "registration_access_token": sensitive.New(o.token),
		"token_endpoint": o.URL + "/token", "ca_pem": o.ca(),
	}
}

// check fails unless the rotation has the one secret that the server accepts.
func (o *oauthServer) check(r *rotation) {
	r.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.value() != o.secret {
		r.Error("the value is not the client's secret")
	}
	if len(o.wrong) > 0 {
		r.Errorf("against the RFC: %s", o.wrong)
	}
}

func (o *oauthServer) checkUpdates(t *testing.T, want int) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.updates != want {
		t.Errorf("%d updates, want %d", o.updates, want)
	}
}

// oauthServers are servers of every kind that the RFC allows.
func oauthServers() map[string]*oauthServer {
	servers := map[string]*oauthServer{}
	for _, method := range []string{"", "client_secret_basic", "client_secret_post"} {
		for i := range 4 {
			o := &oauthServer{rotatesToken: i&1 != 0, tellsSecret: i&2 != 0, authMethod: method}
			servers[fmt.Sprintf("token rotates %v, secret is told %v, method %q", o.rotatesToken, o.tellsSecret, method)] = o
		}
	}
	return servers
}

func TestOAuth2(t *testing.T) {
	t.Parallel()
	for name, o := range oauthServers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newOAuthServer(t, o)
			given := o.settings()
			r := newRotation(t, "oauth2-client-secret", given, rotator.Version{})
			for n := range 3 {
				r.twice(rotator.Rotator.Create, rotator.Rotator.Set, rotator.Rotator.Test)
				r.job.Promoted = true
				r.twice(rotator.Rotator.Finish)
				o.check(r)
				o.checkUpdates(t, n+1)
				// The settings stay as they were, whatever became of their token.
				r = newRotation(t, "oauth2-client-secret", given, r.job.New)
			}
		})
	}
}

// An answer is lost at each call in turn. A server that gives a new token with a
// lost answer has locked its client out, until an operator gives a token.
func TestOAuth2LostAnswers(t *testing.T) {
	t.Parallel()
	for name, kind := range oauthServers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, lost := range []int64{1, 2} {
				o := newOAuthServer(t, &oauthServer{rotatesToken: kind.rotatesToken, tellsSecret: kind.tellsSecret, authMethod: kind.authMethod})
				r := newRotation(t, "oauth2-client-secret", o.settings(), rotator.Version{})
				o.lose.Store(lost)
				if r.do(rotator.Rotator.Create) == nil {
					t.Fatal("Create succeeds without an answer")
				}
				if o.rotatesToken {
					if err := r.do(rotator.Rotator.Create); err == nil || !strings.Contains(err.Error(), "401") {
						t.Fatalf("Create with a token that has ended: %v", err)
					}
					again := newRotation(t, "oauth2-client-secret", o.settings(), rotator.Version{})
					again.job = r.job
					r = again
				}
				r.twice(rotator.Rotator.Create, rotator.Rotator.Set, rotator.Rotator.Test)
				updates := 1
				if lost == 2 && !o.tellsSecret {
					updates = 2 // nobody can tell what the first one gave
				}
				o.check(r)
				o.checkUpdates(t, updates)
			}
		})
	}
}

// The store fails at each Save in turn.
func TestOAuth2LostSaves(t *testing.T) {
	t.Parallel()
	for name, o := range oauthServers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newOAuthServer(t, o)
			r := newRotation(t, "oauth2-client-secret", o.settings(), rotator.Version{})
			saved := 0
			for r.saves = 0; ; saved++ {
				err := r.do(rotator.Rotator.Create)
				if err == nil {
					break
				}
				// A token that could not be stored is lost, and given anew.
				again := newRotation(t, "oauth2-client-secret", o.settings(), rotator.Version{})
				again.job = r.job
				if r = again; !errors.Is(err, errSave) {
					t.Fatal(err)
				}
				r.saves = saved + 1
			}
			if saved == 0 {
				t.Error("nothing was saved before the update")
			}
			r.twice(rotator.Rotator.Test)
			o.check(r)
		})
	}
}

func TestOAuth2Errors(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		change func(rotator.Settings, *oauthServer)
		want   string
	}{
		"a server that issues no new secret":   {func(_ rotator.Settings, o *oauthServer) { o.keepsSecret = true }, "issued no new client_secret"},
		"such a server that rotates the token": {func(_ rotator.Settings, o *oauthServer) { o.keepsSecret, o.rotatesToken = true, true }, "issued no new client_secret"},
		"an endpoint that nobody serves": {func(s rotator.Settings, o *oauthServer) {
			s["client_configuration_url"] = "https://127.0.0.1:1/?key=SECRET"
		}, "connection refused"},
		"an answer without an end":  {func(s rotator.Settings, o *oauthServer) { s["client_configuration_url"] = o.URL + "/large" }, "not the JSON that it should be"},
		"an answer that is no JSON": {func(s rotator.Settings, o *oauthServer) { s["client_configuration_url"] = o.URL + "/text" }, "not the JSON that it should be"},
		"a wrong token":             {func(s rotator.Settings, _ *oauthServer) { s["registration_access_token"] = sensitive.New("wrong") }, "answers 401"},
		"a template with another field": {func(s rotator.Settings, _ *oauthServer) {
			s["template"] = map[string]string{"value": "{{registration_access_token}}"}
		}, "template has"},
		"a template for a group": {func(s rotator.Settings, _ *oauthServer) {
			s["template"] = map[string]string{"KEY": "{{client_secret}}"}
		}, "nothing under value"},
		"an endpoint that is not there": {func(s rotator.Settings, o *oauthServer) { s["client_configuration_url"] = o.URL + "/other?key=SECRET" }, "answers 404"},
		"an unknown certificate":        {func(s rotator.Settings, _ *oauthServer) { s["ca_pem"] = "" }, "certificate"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			o := newOAuthServer(t, &oauthServer{tellsSecret: true})
			secret, given := o.secret, o.settings()
			test.change(given, o)
			r := newRotation(t, "oauth2-client-secret", given, rotator.Version{})
			for range 2 {
				err := r.do(rotator.Rotator.Create)
				if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "SECRET") {
					t.Fatal(err)
				}
			}
			if o.secret != secret || r.job.New.Values != nil {
				t.Error("the secret changed")
			}
		})
	}
}

// What is refused at the token endpoint is reported by its code alone.
func TestOAuth2TestFails(t *testing.T) {
	t.Parallel()
	o := newOAuthServer(t, &oauthServer{})
	r := newRotation(t, "oauth2-client-secret", o.settings(), rotator.Version{})
	r.twice(rotator.Rotator.Create)
	o.secret = rand.Text()
	err := r.do(rotator.Rotator.Test)
	if err == nil || !strings.HasSuffix(err.Error(), "answers 401 (invalid_client)") {
		t.Fatal("the error does not end with the status and the code")
	}
}

func TestOAuth2Settings(t *testing.T) {
	t.Parallel()
	for field, value := range map[string]any{
		"client_configuration_url": "http://as.example/register/1", "token_endpoint": "https://192.0.2.1/token", "ca_pem": "no certificate",
	} {
		given := rotator.Settings{"client_configuration_url": "https://127.0.0.1/register/1", "registration_access_token": sensitive.New("a"), field: value}
		if _, err := rotator.Types["oauth2-client-secret"].New(given, rotator.Host{Hosts: []string{"127.0.0.1"}}); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s %v: %v", field, value, err)
		}
	}
	oauth2 := rotator.Types["oauth2-client-secret"]
	if oauth2.Overlaps(nil) || !oauth2.FarSide || !slices.ContainsFunc(oauth2.Fields, func(f rotator.Field) bool { return f.Name == "registration_access_token" && f.Sensitive }) {
		t.Error("the type says that two secrets are accepted, that none has to be, or shows the token")
	}
}
