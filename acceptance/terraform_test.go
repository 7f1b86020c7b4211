package acceptance

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// terraform is the program in a copy of a configuration, with the Vault provider
// that scripts/clients builds from a module.
type terraform struct {
	*engine
	binary, dir string
	env         []string
}

// terraform copies a configuration of examples/ and the module that it may use.
func (e *engine) terraform(provider, configuration string) *terraform {
	e.Helper()
	root := e.TempDir()
	tf := &terraform{engine: e, binary: e.tool("terraform"), dir: filepath.Join(root, "examples", configuration)}
	e.must(errors.Join(
		os.CopyFS(filepath.Join(root, "terraform"), os.DirFS("../terraform")),
		os.CopyFS(tf.dir, os.DirFS("../examples/"+configuration)),
	))
	// It names no other source, so nothing is fetched.
	config := fmt.Sprintf("provider_installation {\n  dev_overrides {\n    \"hashicorp/vault\" = %q\n  }\n}\n", e.clients(provider))
	tf.env = vault.Environ("HOME="+root, "VAULT_TOKEN="+vault.Client.Token(), "CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE="+tf.file("terraform.rc", config),
		"TF_VAR_mount="+e.mount)
	tf.run(0, "fmt", "-check", "-recursive", root)
	tf.run(0, "get")
	return tf
}

// file writes a file beside the configuration, and returns its path.
func (tf *terraform) file(name, text string) string {
	tf.Helper()
	path := filepath.Join(tf.dir, name)
	tf.must(os.WriteFile(path, []byte(text), 0o600))
	return path
}

// example is the configuration that begins with a word in docs/clients.md.
func (e *engine) example(word string) string {
	e.Helper()
	_, block, found := strings.Cut(e.section("Terraform"), "```hcl\n"+word+" ")
	if !found {
		e.Fatalf("docs/clients.md has no %s", word)
	}
	block, _, _ = strings.Cut(block, "```\n")
	return strings.ReplaceAll(word+" "+block, "agentchains/", e.mount+"/")
}

// run runs a command that must exit with the code, and returns what it prints.
func (tf *terraform) run(code int, args ...string) string {
	tf.Helper()
	cmd := exec.CommandContext(tf.Context(), tf.binary, slices.Concat(args[:1], []string{"-no-color"}, args[1:])...)
	cmd.Dir, cmd.Env = tf.dir, tf.env
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) } // so that it ends its provider
	cmd.WaitDelay = patience
	out, err := cmd.CombinedOutput()
	tf.note(string(out))
	state, _ := os.ReadFile(filepath.Join(tf.dir, "terraform.tfstate")) // there is none at first
	tf.note(string(state))
	if cmd.ProcessState.ExitCode() != code {
		tf.Fatalf("terraform %s: %v, want exit code %d\n%s", strings.Join(args, " "), err, code, secrets.censor(string(out)))
	}
	return string(out)
}

func (tf *terraform) apply() {
	tf.Helper()
	tf.run(0, "apply", "-auto-approve")
	tf.run(0, "plan", "-detailed-exitcode")
}

// resources are the ids in the state, by their addresses.
func (tf *terraform) resources() map[string]string {
	tf.Helper()
	type module struct {
		Resources []struct {
			Address string
			Values  struct{ ID string }
		}
		Modules []module `json:"child_modules"`
	}
	var state struct {
		Values struct {
			Root module `json:"root_module"`
		}
	}
	tf.must(json.Unmarshal([]byte(tf.run(0, "show", "-json")), &state))
	ids := map[string]string{}
	for _, m := range append(state.Values.Root.Modules, state.Values.Root) {
		for _, r := range m.Resources {
			ids[r.Address] = r.Values.ID
		}
	}
	return ids
}

// The example is applied at once, and then there is nothing to do: neither after
// secrets have got values, nor after everything was imported into another state.
// What somebody else changed is seen, and put right.
func TestTerraform(t *testing.T) {
	for _, provider := range []string{"terraform-1", "terraform-5"} {
		t.Run(provider, func(t *testing.T) { terraformSetsUp(t, provider) })
	}
}

func terraformSetsUp(t *testing.T, provider string) {
	needVault(t)
	e := &engine{T: t, mount: unique("mount"), client: vault.Client}
	tf := e.terraform(provider, "terraform")
	tf.env = append(tf.env, "TF_VAR_approle="+unique("approle"))
	tf.apply()
	var roles map[string]string
	tf.must(json.Unmarshal([]byte(tf.run(0, "output", "-json", "roles")), &roles))
	tf.same("the agents", slices.Sorted(maps.Keys(roles)), []string{
		"prod/deploy-pipeline/CodeAnalyzer", "prod/deploy-pipeline/Deployer", "staging/deploy-pipeline/CodeAnalyzer", "staging/deploy-pipeline/Deployer",
	})
	for agent, role := range roles {
		policy, err := tf.client.Sys().GetPolicy(path.Base(role))
		tf.must(err)
		tf.same("the policy of "+agent, policy, tf.read("policy/" + agent)["policy"])
	}

	// The same chain by its definition is no change, and neither are the values.
	env, agent := tf.deployPipeline(), tf.roleLogin(roles[deployer])
	tf.run(0, "plan", "-detailed-exitcode")
	tf.same("the environment", agent.read("env/"+deployer), env)
	agent.denied(read, "env/staging/deploy-pipeline/Deployer")
	agent.denied(read, "env/prod/deploy-pipeline/CodeAnalyzer")

	tf.write("scopes/chain/deploy-pipeline", data{"agents": []data{{"name": "Deployer"}}})
	tf.write("scopes/project/platform", data{"chains_allowed": []string{"billing/*"}})
	tf.write("schedules/prod/chain/deploy-pipeline/DATABASE_URL", data{"min_overlap": "1h"})
	tf.write("rotators/password", data{"length": 20})
	tf.write("config", data{"allowed_hosts": []string{}})
	tf.root(roles[deployer], data{"token_policies": "default"})
	tf.must(tf.client.Sys().DeletePolicy(path.Base(roles["staging/deploy-pipeline/Deployer"])))
	plan := tf.run(2, "plan", "-detailed-exitcode")
	changed := []string{
		"module.deploy_pipeline.vault_generic_endpoint.chain", "vault_generic_endpoint.platform", "vault_generic_endpoint.schedule",
		"vault_generic_endpoint.password", "vault_generic_endpoint.config",
		fmt.Sprintf("module.deploy_pipeline.vault_generic_endpoint.role[%q]", path.Base(roles[deployer])),
		fmt.Sprintf("module.deploy_pipeline.vault_policy.agent[%q]", path.Base(roles["staging/deploy-pipeline/Deployer"])),
	}
	for _, address := range changed {
		if !strings.Contains(plan, address+" will be updated in-place") {
			t.Errorf("the plan does not change %s:\n%s", address, secrets.censor(plan))
		}
	}
	if want := fmt.Sprintf("Plan: 0 to add, %d to change, 0 to destroy", len(changed)); !strings.Contains(plan, want) {
		t.Errorf("the plan does not say %q:\n%s", want, secrets.censor(plan))
	}
	tf.apply()
	tf.same("the environment", agent.read("env/"+deployer), env)

	tf.imports()
	tf.importsNotifier()
	tf.destroys(roles)
}

// imports puts into an empty state what is there already. The first apply writes
// it once more, as it is.
func (tf *terraform) imports() {
	tf.Helper()
	resources := tf.resources()
	var blocks strings.Builder
	for address, id := range resources {
		fmt.Fprintf(&blocks, "import {\n  to = %s\n  id = %q\n}\n", address, id)
	}
	tf.must(os.Remove(filepath.Join(tf.dir, "terraform.tfstate")))
	imports := tf.file("imports.tf", blocks.String())
	out := tf.run(0, "apply", "-auto-approve")
	if want := fmt.Sprintf("%d imported, 0 added", len(resources)); !strings.Contains(out, want) || !strings.Contains(out, "0 destroyed") {
		tf.Errorf("apply does not say %q and 0 destroyed:\n%s", want, secrets.censor(out))
	}
	tf.must(os.Remove(imports))
	tf.run(0, "plan", "-detailed-exitcode")
	tf.same("the resources", tf.resources(), resources)
}

// importsNotifier manages a notifier that was made by hand, because of its secret,
// as docs/clients.md says.
func (tf *terraform) importsNotifier() {
	tf.Helper()
	tf.write("notifiers/ops", data{"url": "https://hooks.example.com/agentchains", "hmac_secret": tf.value("hmac_secret")})
	tf.file("notifier.tf", tf.example("import"))
	tf.apply()
	tf.same("the events", tf.read("notifiers/ops")["events"], []string{"rotation.*", "secret.revoked"})
	tf.write("notifiers/ops", data{"events": "*"})
	tf.run(2, "plan", "-detailed-exitcode")
}

// destroys takes the chain away, with all that the module made, and then the rest.
func (tf *terraform) destroys(roles map[string]string) {
	tf.Helper()
	tf.run(0, "destroy", "-auto-approve", "-target=module.deploy_pipeline")
	tf.refused(http.StatusNotFound, "", read, "scopes/chain/deploy-pipeline", nil)
	tf.read("scopes/project/platform")
	for _, role := range roles {
		left, err := tf.client.Logical().Read(role)
		tf.must(err)
		policy, err := tf.client.Sys().GetPolicy(path.Base(role))
		tf.must(err)
		if left != nil || policy != "" {
			tf.Errorf("%s or its policy is left", role)
		}
	}
	tf.run(0, "destroy", "-auto-approve")
	tf.same("the resources", tf.resources(), map[string]string{})
	mounts, err := tf.client.Sys().ListMounts()
	tf.must(err)
	if mounts[tf.mount+"/"] != nil {
		tf.Error("the mount is left")
	}
}
