package acceptance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/cluster"
)

// interval is how often the clients of these tests look at what has no lease.
const interval = 2 * time.Second

// section is what docs/clients.md says below a heading.
func (e *engine) section(heading string) string {
	e.Helper()
	text, err := os.ReadFile("../docs/clients.md")
	e.must(err)
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		e.Fatalf("docs/clients.md has no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

// configured writes the configuration that docs/clients.md has below a heading
// to a directory of its own, beside a login for an agent of the mount.
func (e *engine) configured(heading string, replace ...string) (dir string) {
	e.Helper()
	_, config, found := strings.Cut(e.section(heading), "\n```hcl\n")
	if !found {
		e.Fatalf("docs/clients.md has no configuration below %q", heading)
	}
	config, _, _ = strings.Cut(config, "```\n")
	dir = e.TempDir()
	config = strings.NewReplacer(append(replace, `"1m"`, fmt.Sprintf("%q", interval), "agentchains/", e.mount+"/")...).Replace(config)
	files := e.appRoleFiles(deployer, nil)
	e.must(errors.Join(
		os.WriteFile(filepath.Join(dir, "config.hcl"), []byte(config), 0o600),
		os.Symlink(files[3], filepath.Join(dir, "role-id")),
		os.Symlink(files[5], filepath.Join(dir, "secret-id")),
	))
	return dir
}

// daemon runs a client in a directory, until the test ends. What it writes must
// hold no value.
func (e *engine) daemon(dir string, cmd *exec.Cmd) {
	e.Helper()
	log, err := os.Create(filepath.Join(dir, "log"))
	e.must(err)
	defer log.Close()
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(vault.Environ("HOME="+dir), cmd.Env...)
	// Of the two signals that end a program, consul-template ends by this one only.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = patience
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT}
	e.must(cmd.Start())
	e.Cleanup(func() {
		_ = cmd.Wait() // it ends with the context of the test, by a signal
		text, err := os.ReadFile(log.Name())
		e.note(string(text))
		if e.Failed() {
			e.Logf("%s wrote, %v:\n%s", cmd.Path, err, secrets.censor(string(text)))
		}
	})
}

// vaultDaemon runs a command of vault with a configuration of configured.
func (e *engine) vaultDaemon(command, dir string) {
	e.Helper()
	e.daemon(dir, exec.CommandContext(e.Context(), vault.Binary, command, "-config=config.hcl"))
}

// clients returns the directory of what scripts/clients builds from a module.
func (e *engine) clients(module string) string {
	e.Helper()
	script := exec.CommandContext(e.Context(), "../scripts/clients", module)
	var errs strings.Builder
	script.Stderr = &errs
	path, err := script.Output()
	if err != nil {
		e.Fatalf("scripts/clients: %v\n%s", err, errs.String())
	}
	return strings.TrimSpace(string(path))
}

// built runs a client that scripts/clients builds, with a token instead of a login.
func (e *engine) built(name, dir string) {
	e.Helper()
	cmd := exec.CommandContext(e.Context(), filepath.Join(e.clients("clients"), name), "-config=config.hcl")
	cmd.Env = []string{"VAULT_TOKEN=" + e.agent(deployer).client.Token()}
	e.daemon(dir, cmd)
}

// renders waits until a client has written the variables to a file.
func (e *engine) renders(dir, name string, want data) {
	e.Helper()
	var got data
	err := eventually(name+" is written", func() (bool, error) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		got = nil
		_ = json.Unmarshal(text, &got) // not JSON while the file is being written
		for _, times := range []string{"ttl", "rotation_period", "last_vault_rotation"} {
			delete(got, times)
		}
		return reflect.DeepEqual(got, want), err
	})
	if err != nil {
		e.Fatalf("%v:\n got %s\nwant %s", err, censored(e.T, got), censored(e.T, want))
	}
}

// renderers are the clients that write a template to a file.
var renderers = map[string]func(e *engine, dir string){
	"Vault Agent":     func(e *engine, dir string) { e.vaultDaemon("agent", dir) },
	"consul-template": func(e *engine, dir string) { e.built("consul-template", dir) },
}

// After a rotation a file is written anew: from env/ when the interval is over,
// from creds/ when its ttl is, however long the interval. It stays as it was
// while there is no value, and is written again when there is one.
func TestTemplatesAreRendered(t *testing.T) {
	for client, run := range renderers {
		t.Run(client, func(t *testing.T) {
			e := newEngine(t)
			env := e.deployPipeline()
			often := e.configured(client)
			run(e, often)
			e.renders(often, "env.json", env)
			env["DB_URL"] = e.secret(database, nil)
			began := time.Now()
			e.renders(often, "env.json", env)
			t.Logf("env/ is rendered %s after the rotation, with an interval of %s", time.Since(began).Round(time.Millisecond), interval)

			e.write("promote/"+database, data{"force": true})
			e.write("config", data{"creds_max_ttl": "2s"})
			seldom := e.configured(client, `"1m"`, `"1h"`)
			run(e, seldom)
			e.renders(seldom, "env.json", env)
			e.renders(seldom, "creds.json", env)
			env["DB_URL"] = e.value("the next DATABASE_URL")
			from := time.Now().Add(3 * time.Second)
			e.write("rotate/"+database, data{"value": env["DB_URL"], "valid_from": from.UTC().Format(time.RFC3339Nano)})
			e.renders(seldom, "creds.json", env)
			t.Logf("creds/ is rendered %s after valid_from, with an interval of an hour", time.Since(from).Round(time.Millisecond))
			for _, name := range []string{"env.json", "creds.json"} {
				info, err := os.Stat(filepath.Join(seldom, name))
				e.must(err)
				e.same("the mode of "+name, info.Mode().String(), "-rw-------")
			}

			e.renders(often, "env.json", env)
			e.write("revoke/secret/"+database, data{"reason": "it leaked"})
			e.must(eventually("the client is refused", func() (bool, error) {
				log, err := os.ReadFile(filepath.Join(often, "log"))
				return strings.Contains(string(log), "Code: 400"), err
			}))
			e.renders(often, "env.json", env)
			env["DB_URL"] = e.secret(database, nil)
			e.renders(often, "env.json", env)
		})
	}
}

// Vault Agent's process supervisor starts a command with its variables, and anew
// with those of after a rotation.
func TestVaultAgentSupervisor(t *testing.T) {
	e := newEngine(t)
	env := e.deployPipeline()
	dir := e.configured("Process supervisor")
	e.must(os.WriteFile(filepath.Join(dir, "agent"), []byte("#!/bin/sh\necho $$ $DB_URL $AWS_REGION >>started\nexec sleep 600\n"), 0o700))
	e.vaultDaemon("agent", dir)
	first := e.started(dir, 1)
	e.same("what the command is started with", first[1:], []any{env["DB_URL"], env["AWS_REGION"]})
	renewed, began := e.secret(database, nil), time.Now()
	second := e.started(dir, 2)
	t.Logf("the command is started %s after the rotation, with an interval of %s", time.Since(began).Round(time.Millisecond), interval)
	e.same("what the command is started with", second[1:], []any{renewed, env["AWS_REGION"]})
	pid, err := strconv.Atoi(first[0])
	e.must(err)
	e.gone(pid)
}

// started waits until a command was started n times, and no more, and returns
// the words that it wrote the last time.
func (e *engine) started(dir string, n int) []string {
	e.Helper()
	var lines []string
	e.must(eventually("the command is started", func() (bool, error) {
		text, err := os.ReadFile(filepath.Join(dir, "started"))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		lines = strings.SplitAfter(string(text), "\n")
		return len(lines) > n, err
	}))
	if len(lines) > n+1 {
		e.Fatalf("the command was started %d times, want %d", len(lines)-1, n)
	}
	return strings.Fields(lines[n-1])
}

// What vault agent generate-config makes of an agent's path, with the token of
// that agent, is a configuration that works.
func TestVaultAgentGenerateConfig(t *testing.T) {
	e := newEngine(t)
	env, dir, token := e.deployPipeline(), t.TempDir(), e.agent(deployer).client.Token()
	e.must(os.WriteFile(filepath.Join(dir, ".vault-token"), []byte(token), 0o600))
	e.must(os.WriteFile(filepath.Join(dir, "agent"), []byte("#!/bin/sh\nenv -0 | grep -z ^DEPLOYER_ >new\nmv new environment\nexec sleep 600\n"), 0o700))
	generate := exec.CommandContext(t.Context(), vault.Binary, "agent", "generate-config", "-type=env-template",
		"-exec=./agent", "-path="+e.mount+"/env/"+deployer, "config.hcl")
	generate.Dir, generate.Env = dir, vault.Environ("HOME="+dir, "VAULT_TOKEN="+token)
	text, err := generate.CombinedOutput()
	e.note(string(text))
	if err != nil {
		t.Fatalf("vault agent generate-config: %v\n%s", err, secrets.censor(string(text)))
	}
	e.vaultDaemon("agent", dir)
	e.must(eventually("the command has run", func() (bool, error) {
		text, err = os.ReadFile(filepath.Join(dir, "environment"))
		return err == nil, nil
	}))
	want := data{}
	for name, value := range env {
		want["DEPLOYER_"+name] = value
	}
	e.same("the environment of the command", e.variables(string(text)), want)
}

// proxy returns the mount seen through a Vault Proxy that adds the token.
func (e *engine) proxy(stanza string) *engine {
	e.Helper()
	address, err := cluster.FreeAddress()
	e.must(err)
	e.vaultDaemon("proxy", e.configured("Vault Proxy", "127.0.0.1:8100", address, "api_proxy", stanza+"api_proxy"))
	behind := e.as("")
	e.must(behind.client.SetAddress("http://" + address))
	e.must(eventually("the proxy serves", func() (bool, error) {
		_, err := behind.client.Logical().Read(e.mount + "/env/" + deployer)
		return err == nil, nil
	}))
	return behind
}

// What has no token reads its environment through a proxy, starts an execution,
// renews and finishes it.
func TestVaultProxy(t *testing.T) {
	e := newEngine(t)
	env := e.deployPipeline()
	behind := e.proxy("")
	e.same("env", behind.read("env/"+deployer), env)
	behind.denied(read, "reveal/"+database)
	x := behind.start(deployer, data{"run": "42"})
	e.same("env of the execution", x.env, env)
	if refusal := x.renew(0); refusal != "" {
		t.Errorf("the second renewal: %s", refusal)
	}
	e.same("what a watch answers", x.read("execution/" + x.id + "/watch")["state"], "active")
	x.write("execution/"+x.id+"/finish", data{"exit_code": 0})
	e.same("state", e.inspect(deployer, x.id)["state"], "finished")
}

// The cache of a proxy holds what has a lease, and so never an old environment;
// but the same start twice is one execution.
func TestVaultProxyWithCache(t *testing.T) {
	e := newEngine(t)
	env := e.deployPipeline()
	behind := e.proxy("cache {}\n")
	e.same("env", behind.read("env/"+deployer), env)
	env["DB_URL"] = e.secret(database, nil)
	e.same("env after a rotation", behind.read("env/"+deployer), env)
	first, again := behind.start(deployer, data{"run": "42"}), behind.start(deployer, data{"run": "42"})
	e.same("the execution of the same start", again.id, first.id)
	other := behind.start(deployer, data{"run": "42", "idempotency_key": "42/deploy/2"})
	live := e.live(deployer)
	slices.Sort(live)
	e.same("live executions", live, slices.Sorted(slices.Values([]string{first.id, other.id})))
}
