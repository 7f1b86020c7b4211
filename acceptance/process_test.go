package acceptance

import (
	"errors"
	"slices"
	"syscall"
	"testing"

	"github.com/hashicorp/vault/api"
)

// newOwnProcess mounts the engine with a process of its own, of which it
// returns the plugin's name: other mounts share one.
func newOwnProcess(t *testing.T) (e *engine, plugin string) {
	t.Helper()
	needVault(t)
	e, plugin = &engine{T: t, mount: unique("mount"), client: vault.Client}, unique("agentchains")
	e.must(vault.Register(plugin, "", pluginBinary))
	e.enable(plugin, e.mount)
	return e, plugin
}

// process waits until the plugin has one process, other than before.
func (e *engine) process(plugin string, before int) int {
	e.Helper()
	var pids []int
	e.must(eventually("the plugin has one process", func() (_ bool, err error) {
		pids, err = vault.Plugins(plugin)
		return len(pids) == 1 && pids[0] != before, err
	}))
	return pids[0]
}

// kill ends a process that leaves no time to do anything.
func (e *engine) kill(pid int) {
	e.Helper()
	e.must(syscall.Kill(pid, syscall.SIGKILL))
	e.must(eventually("the process is gone", func() (bool, error) {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH), nil
	}))
}

// After the plugin was killed, the next request is served, whether it reads or
// writes, and what was acknowledged is there. Vault takes some milliseconds to
// notice, and answers 500 meanwhile.
func TestPluginKilled(t *testing.T) {
	e, plugin := newOwnProcess(t)
	e = e.retrying()
	want, pid := e.deployPipeline(), 0
	for i := range 3 {
		pid = e.process(plugin, pid)
		e.kill(pid)
		e.same("env after a kill", e.read("env/prod/deploy-pipeline/Deployer"), want)

		pid = e.process(plugin, pid)
		e.kill(pid)
		want["DB_URL"] = e.secret("prod/chain/deploy-pipeline/DATABASE_URL", data{"cas": i + 1, "force": true})
		e.same("env after a write", e.read("env/prod/deploy-pipeline/Deployer"), want)
	}
	entry := e.read("secrets/" + database)
	e.same("versions, of which each write makes one", []any{entry["current_version"], entry["pending_version"]}, []any{1, 4})
}

func TestPluginReloaded(t *testing.T) {
	e, plugin := newOwnProcess(t)
	want := e.deployPipeline()
	before := e.stored()
	pid := e.process(plugin, 0)
	for _, reload := range []api.ReloadPluginInput{{Plugin: plugin}, {Mounts: []string{e.mount}}} {
		_, err := e.client.Sys().ReloadPlugin(&reload)
		e.must(err)
		e.same("env after a reload", e.read("env/prod/deploy-pipeline/Deployer"), want)
		e.same("what is stored", e.stored(), before)
		pid = e.process(plugin, pid)
	}
}

// The mounts that share a process share nothing else.
func TestMountsAreApart(t *testing.T) {
	one, two := newEngine(t), &engine{T: t, mount: unique("mount"), client: vault.Client}
	two.enable("agentchains", two.mount)
	one.deployPipeline()
	one.write("config", data{"environments": []string{"dev", "prod", "staging", "test"}})
	two.refused(404, "there is no", read, "secrets/all/org/OPENAI_API_KEY", nil)
	two.refused(404, "there is no", read, "env/prod/deploy-pipeline/Deployer", nil)
	if environments := two.read("config")["environments"].([]any); slices.Contains(environments, any("test")) {
		t.Errorf("the environments are %v", environments)
	}
	one.must(one.client.Sys().Unmount(one.mount))
	two.chain("c", "", "TOKEN")
	value := two.secret("prod/org/TOKEN", nil)
	two.same("env beside a mount that went", two.read("env/prod/c/Worker"), data{"TOKEN": value})
}
