package acceptance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// dynamicEngine registers the engine of dynamic/ in the shared server, once.
var dynamicEngine = sync.OnceValue(func() error {
	binary := vault.Plugin("dynamic")
	if out, err := exec.Command("go", "build", "-o", binary, "./dynamic").CombinedOutput(); err != nil {
		return fmt.Errorf("build dynamic: %w: %s", err, out)
	}
	text, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	return vault.Client.Sys().RegisterPlugin(&api.RegisterPluginInput{
		Name: "dynamic", Type: api.PluginTypeSecrets, Command: "dynamic", SHA256: hex.EncodeToString(sum[:]),
	})
})

// source is a mount of it and an AppRole that may read it, behind a proxy that
// can lose an answer of Vault.
type source struct {
	*engine
	settings rotator.Settings
	lose     *atomic.Int64 // how many requests from now; 0: none
}

func newSource(t *testing.T, role data) *source {
	t.Helper()
	needVault(t)
	e := &engine{T: t, mount: unique("dynamic"), client: vault.Client}
	e.must(dynamicEngine())
	e.enable("dynamic", e.mount)

	to, err := url.Parse(vault.Address)
	e.must(err)
	proxy, lose := httputil.NewSingleHostReverseProxy(to), new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if lose.Add(-1) == 0 {
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)

	path, secretID := "auth/approle/role/"+unique("role"), e.value("secret_id")
	body := data{"token_policies": e.policy(fmt.Sprintf("path %q { capabilities = [\"read\"] }", e.mount+"/*")), "token_ttl": "2m"}
	maps.Copy(body, role)
	e.root(path, body)
	id, err := vault.Client.Logical().Read(path + "/role-id")
	e.must(err)
	e.root(path+"/custom-secret-id", data{"secret_id": secretID})
	return &source{e, rotator.Settings{
		"address": server.URL, "mount": "approle", "role_id": id.Data["role_id"], "secret_id": sensitive.New(secretID),
		"path": e.mount + "/creds/renewable", "template": map[string]string{"value": "{{username}}:{{password}}@{{port}}/{{session}}"},
	}, lose}
}

// credential is what the template makes of a credential.
var credential = regexp.MustCompile(`^v-[A-Z2-7]{26}:[A-Z2-7]{26}@5432/$`)

// rotation is a job as the engine stores it, between the steps.
type rotation struct {
	*source
	rotator rotator.Rotator
	job     rotator.Job
}

func (s *source) begin(old rotator.Version) *rotation {
	s.Helper()
	r, err := rotator.Types["vault"].New(s.settings, rotator.Host{Hosts: []string{"127.0.0.1"}})
	s.must(err)
	return &rotation{s, r, rotator.Job{ID: "1", Path: "prod/org/DSN", Variable: "DSN", Old: old}}
}

type step func(rotator.Rotator, context.Context, *rotator.Job) error

// try calls a step with a copy of the job, of which only what is saved stays, and
// what a step that succeeds leaves.
func (r *rotation) try(do step) error {
	r.Helper()
	job := r.job
	job.New.Memo = maps.Clone(job.New.Memo)
	job.Save = func(context.Context) error {
		r.job.New = rotator.Version{Values: job.New.Values, Memo: maps.Clone(job.New.Memo)}
		return nil
	}
	err := do(r.rotator, r.Context(), &job)
	if err == nil {
		r.job.New = job.New
	} else {
		r.note(err.Error())
	}
	return err
}

// twice calls each step, and again as after a crash of the engine.
func (r *rotation) twice(steps ...step) {
	r.Helper()
	for _, step := range steps {
		r.must(r.try(step))
		r.must(r.try(step))
	}
}

// end finishes the rotation and returns the version that stays.
func (r *rotation) end(promoted bool) rotator.Version {
	r.Helper()
	r.job.Promoted = promoted
	r.twice(rotator.Rotator.Finish)
	if promoted {
		return r.job.New
	}
	return r.job.Old
}

// live waits until these versions have the only leases of the mount. Vault
// revokes the leases of a token a moment after the token.
func (s *source) live(versions ...rotator.Version) {
	s.Helper()
	want := map[string]bool{}
	for _, v := range versions {
		want[v.Memo["lease_id"].Reveal()] = true
	}
	prefix := strings.TrimPrefix(s.settings["path"].(string)+"/", "/")
	s.must(eventually(fmt.Sprintf("%d leases are live", len(versions)), func() (bool, error) {
		leases, err := s.client.Logical().List("sys/leases/lookup/" + prefix)
		if err != nil || leases == nil {
			return err == nil && len(want) == 0, err
		}
		got := map[string]bool{}
		for _, id := range leases.Data["keys"].([]any) {
			got[prefix+id.(string)] = true
		}
		return maps.Equal(got, want), nil
	}))
}

func TestVaultRotator(t *testing.T) {
	s := newSource(t, nil)
	var current rotator.Version
	for n, promoted := range []bool{false, true, true, false, true} {
		r := s.begin(current)
		r.twice(rotator.Rotator.Create, rotator.Rotator.Set, rotator.Rotator.Test)
		value := r.job.New.Values["DSN"]
		if !credential.MatchString(value.Reveal()) || value.Equal(current.Values["DSN"]) {
			t.Fatalf("rotation %d: the value is not that of a new credential", n)
		}
		if current.Memo == nil {
			s.live(r.job.New)
		} else {
			s.live(current, r.job.New)
		}
		gone := rotator.Job{New: r.job.New}
		if promoted {
			gone.New = current
		}
		if current = r.end(promoted); current.Memo == nil {
			s.live()
		} else {
			s.live(current)
		}
		if err := r.rotator.Test(t.Context(), &gone); gone.New.Memo != nil && err == nil {
			t.Errorf("rotation %d: a version that was removed passes its test", n)
		}
	}
}

// In each row, one try after the other loses the answer to that request. The
// first try logs in and reads; the second also revokes, before.
func TestVaultRotatorLostAnswers(t *testing.T) {
	for _, lost := range [][]int64{{1}, {2}, {2, 1}, {2, 2}, {2, 3}, {2, 3, 3}} {
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			s := newSource(t, nil)
			current := s.begin(rotator.Version{})
			current.twice(rotator.Rotator.Create)

			r := s.begin(current.job.New)
			for _, request := range lost {
				s.lose.Store(request)
				if r.try(rotator.Rotator.Create) == nil {
					t.Fatal("Create succeeds without an answer")
				}
			}
			r.twice(rotator.Rotator.Create, rotator.Rotator.Test)
			s.live(current.job.New, r.job.New)
			s.lose.Store(1)
			r.job.Promoted = true
			if r.try(rotator.Rotator.Finish) == nil {
				t.Fatal("Finish succeeds without an answer")
			}
			s.live(r.end(true))
		})
	}
}

func TestVaultRotatorKeeps(t *testing.T) {
	for path, renewed := range map[string]bool{"renewable": true, "fixed": false} {
		t.Run(path, func(t *testing.T) {
			s := newSource(t, nil)
			s.settings["path"] = s.mount + "/creds/" + path
			r := s.begin(rotator.Version{})
			r.twice(rotator.Rotator.Create)
			left := func() int64 {
				answer := s.root("sys/leases/lookup", data{"lease_id": r.job.New.Memo["lease_id"].Reveal()})
				ttl, err := answer.Data["ttl"].(json.Number).Int64()
				s.must(err)
				return ttl
			}
			s.must(eventually("some of the lease is over", func() (bool, error) { return left() < 58, nil }))
			before := time.Now()
			again, end, err := rotator.Types["vault"].Keep(t.Context(), r.rotator, &r.job.New)
			s.must(err)
			if lasts := end.Sub(before); (lasts > 58*time.Second) != renewed || lasts > 62*time.Second || lasts < 30*time.Second {
				t.Errorf("the version ends after %s, renewed: %v", lasts, renewed)
			}
			if half := end.Sub(before) / 2; again.Sub(before) < half-2*time.Second || again.Sub(before) > half+2*time.Second {
				t.Errorf("again after %s, want about %s", again.Sub(before), half)
			}
			if (left() > 57) != renewed {
				t.Errorf("the lease has %d s left, renewed: %v", left(), renewed)
			}
			r.end(false)
			if _, _, err := rotator.Types["vault"].Keep(t.Context(), r.rotator, &r.job.New); err == nil {
				t.Error("a version that was removed is kept")
			}
		})
	}
}

// A value that somebody wrote has no lease, and no end.
func TestVaultRotatorKeepsNothing(t *testing.T) {
	s := newSource(t, nil)
	again, end, err := rotator.Types["vault"].Keep(t.Context(), s.begin(rotator.Version{}).rotator, &rotator.Version{})
	s.must(err)
	if !again.IsZero() || !end.IsZero() {
		t.Errorf("again at %s, ends at %s", again, end)
	}
}

// A token that ends before the lease takes it along.
func TestVaultRotatorKeepsTheToken(t *testing.T) {
	s := newSource(t, data{"token_ttl": "30s", "token_max_ttl": "40s"})
	r := s.begin(rotator.Version{})
	r.twice(rotator.Rotator.Create)
	before := time.Now()
	_, end, err := rotator.Types["vault"].Keep(t.Context(), r.rotator, &r.job.New)
	s.must(err)
	if lasts := end.Sub(before); lasts > 31*time.Second || lasts < 25*time.Second {
		t.Errorf("the version ends after %s, want what the token has", lasts)
	}
}

func TestVaultRotatorRefuses(t *testing.T) {
	for what, test := range map[string]struct {
		role   data
		change rotator.Settings
		want   string
	}{
		"a wrong secret_id":          {nil, rotator.Settings{"secret_id": sensitive.New("wrong")}, "auth/approle/login: .* answers 400$"},
		"a path without a lease":     {nil, rotator.Settings{"path": "%s/creds/unleased"}, "creds/unleased gives no lease"},
		"a path that is not there":   {nil, rotator.Settings{"path": "%s/other"}, "other: .* answers 404$"},
		"a path that is not allowed": {nil, rotator.Settings{"path": "sys/mounts"}, "sys/mounts: .* answers 403$"},
		"batch tokens":               {data{"token_type": "batch"}, nil, "^role_id"},
		"tokens with few uses":       {data{"token_num_uses": 5}, nil, "^role_id"},
		"a field that is not there":  {nil, rotator.Settings{"template": map[string]string{"value": "{{user}}"}}, "password, port, session, username$"},
		"tokens that stay":           {data{"token_no_default_policy": true}, rotator.Settings{"path": "%s/creds/unleased"}, "gives no lease|revoke-self: .* answers 403$"},
	} {
		t.Run(what, func(t *testing.T) {
			s := newSource(t, test.role)
			maps.Copy(s.settings, test.change)
			s.settings["path"] = strings.ReplaceAll(s.settings["path"].(string), "%s", s.mount)
			r := s.begin(rotator.Version{})
			var err error
			for range 2 {
				if err = r.try(rotator.Rotator.Create); err == nil || !regexp.MustCompile(test.want).MatchString(err.Error()) {
					t.Fatal(err)
				}
			}
			if what == "tokens that stay" {
				if !strings.Contains(err.Error(), "revoke-self") {
					t.Error("a token that cannot be revoked is forgotten")
				}
				return
			}
			r.end(false)
			s.live()
		})
	}
}
