package acceptance

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// keep writes a secret to a file, and returns the path.
func (e *engine) keep(text string) string {
	e.Helper()
	path := filepath.Join(e.TempDir(), "secret")
	e.must(os.WriteFile(path, []byte(text+"\n"), 0o600))
	return path
}

// appRoleFiles are the flags with which a runner logs in as a machine that may
// run the agent. The fields are added to those of its role.
func (e *engine) appRoleFiles(agent string, fields data) []string {
	e.Helper()
	role := "auth/approle/role/" + unique("role")
	body := data{"token_policies": e.policy(e.read("policy/" + agent)["policy"].(string))}
	maps.Copy(body, fields)
	e.root(role, body)
	id, err := vault.Client.Logical().Read(role + "/role-id")
	e.must(err)
	return []string{
		"--auth", "approle",
		"--role-id-file", e.keep(id.Data["role_id"].(string)),
		"--secret-id-file", e.keep(e.root(role+"/secret-id", nil).Data["secret_id"].(string)),
	}
}

// A token that ends before the agent does is renewed.
func TestRunnerRenewsItsToken(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	const ttl = 4 * time.Second
	p := e.as("").run(deployer, e.appRoleFiles(deployer, data{"token_ttl": ttl.String()}), `echo $$; read -r _; exit 4`)
	child, id, since := p.pid(), e.only(deployer), time.Now()
	e.must(eventually("the token of before is over", func() (bool, error) { return time.Since(since) > ttl+2*time.Second, nil }))
	e.same("state", e.inspect(deployer, id)["state"], "active")
	if !alive(child) {
		t.Error("the agent has ended")
	}
	p.silent(4)
	e.same("state", e.inspect(deployer, id)["state"], "finished")
}

// A workload shows a token that its platform has signed. The kubernetes method
// takes the same request as jwt, and only asks the cluster what that makes of the
// token; there is no cluster here, so both are sent to the one that knows the key.
func TestRunnerWithJWT(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	mount := unique("jwt")
	e.must(e.client.Sys().EnableAuthWithOptions(mount, &api.EnableAuthOptions{Type: "jwt"}))
	public, private, err := ed25519.GenerateKey(rand.Reader)
	e.must(err)
	der, err := x509.MarshalPKIXPublicKey(public)
	e.must(err)
	e.root("auth/"+mount+"/config", data{"jwt_validation_pubkeys": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))})
	e.root("auth/"+mount+"/role/deployer", data{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": "vault", "bound_subject": "ci",
		"token_policies": e.policy(e.read("policy/" + deployer)["policy"].(string)),
	})
	run := func(method, subject string) *process {
		flags := []string{"--auth", method, "--auth-mount", mount, "--auth-role", "deployer", "--jwt-file", e.keep(e.signed(private, subject))}
		return e.as("").run(deployer, flags, "exit 5")
	}
	run("jwt", "ci").silent(5)
	run("kubernetes", "ci").silent(5)
	stdout, stderr := run("jwt", "somebody else").ends(2)
	if stdout != "" || !strings.HasPrefix(stderr, "agentchains: log in at auth/"+mount+": ") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("output %q and %q, want one line on standard error", stdout, stderr)
	}
}

// signed returns a JWT for the subject.
func (e *engine) signed(key ed25519.PrivateKey, subject string) string {
	e.Helper()
	encode := func(part data) string {
		text, err := json.Marshal(part)
		e.must(err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	now := time.Now().Unix()
	signed := encode(data{"alg": "EdDSA", "typ": "JWT"}) + "." + encode(data{"sub": subject, "aud": "vault", "iat": now, "exp": now + 300})
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(signed)))
}

// A token in a file works, but the agent could read it too.
func TestRunnerWithTokenFile(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	token := e.agent(deployer).client.Token()
	file := e.keep(token)
	warning := func(file string) []string {
		return []string{"", "agentchains: the runner's token lies in " + file + ", where the agent can read it: use --auth or VAULT_TOKEN\n"}
	}
	stdout, stderr := e.as("").run(deployer, []string{"--auth", "token-file", "--token-file", file}, "exit 5").ends(5)
	e.same("output with Vault Agent's sink", []string{stdout, stderr}, warning(file))

	cmd := e.as("").runner(deployer, nil, "true")
	home := e.variables(strings.Join(cmd.Env, "\x00"))["HOME"].(string)
	file = filepath.Join(home, ".vault-token") // as vault login leaves it
	e.must(os.WriteFile(file, []byte(token), 0o600))
	stdout, stderr = e.begin(cmd).ends(0)
	e.same("output after vault login", []string{stdout, stderr}, warning(file))

	stdout, stderr = e.as("").run(deployer, nil, "echo ran").ends(2)
	e.same("output without a token", []string{stdout, stderr}, []string{"", "agentchains: there is no token: run vault login, or set VAULT_TOKEN\n"})
}

// An orchestrator makes a token that it hands to a runner elsewhere, which may
// use it once.
func TestRunnerWithWrappedToken(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	role := unique("role")
	e.root("auth/token/roles/"+role, data{"allowed_policies": e.policy(e.read("policy/" + deployer)["policy"].(string)), "token_explicit_max_ttl": "2h"})
	orchestrator := e.appRole(e.policy(`path "auth/token/create/` + role + `" { capabilities = ["update"] }`))
	orchestrator.denied(read, "env/"+deployer)

	wrapped, stderr := orchestrator.begin(orchestrator.agentchains("exec-token", "--role", role)).ends(0)
	e.same("standard error of exec-token", stderr, "")
	flags := []string{"--wrapped-token", "-"}
	first := e.as("").run(deployer, flags, "cat; exit 5")
	_, err := first.stdin.Write([]byte(wrapped + "the rest\nis the agent's"))
	e.must(err)
	stdout, stderr := first.ends(5)
	e.same("output of the first use", []string{stdout, stderr}, []string{"the rest\nis the agent's", ""})

	second := e.as("").run(deployer, flags, "echo ran")
	_, err = second.stdin.Write([]byte(wrapped))
	e.must(err)
	stdout, stderr = second.ends(2)
	if stdout != "" || !strings.HasPrefix(stderr, "agentchains: unwrap the token: ") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("output of the second use %q and %q, want one line on standard error", stdout, stderr)
	}
	if strings.Contains(stderr, strings.TrimSpace(wrapped)) {
		t.Error("the wrapping token is on standard error")
	}
	stdout, stderr = e.as("").run(deployer, []string{"--wrapped-token", "hvs.x"}, "echo ran").ends(2)
	e.same("output for a token as an argument", []string{stdout, stderr}, []string{"", "agentchains: --wrapped-token takes - only: a token in an argument can be read by everybody\n"})
}
