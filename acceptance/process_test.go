package acceptance

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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
	e.ended(pid)
}

// ended waits until there is no such process.
func (e *engine) ended(pid int) {
	e.Helper()
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

// counting waits until the engine knows what runs.
func (e *engine) counting() {
	e.Helper()
	e.must(eventually("the engine knows what runs", func() (bool, error) { return e.read("status")["executions"] != nil, nil }))
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

// While executions start and finish the plugin is stopped, and goes on: what was asked
// meanwhile is answered then, and other processes of the engine are served all the time.
func TestPluginStopped(t *testing.T) {
	const agent, clients, each, rounds, lasts = "prod/deploy-pipeline/Deployer", 4, 10, 4, 2 * time.Second
	e, plugin := newOwnProcess(t)
	e.deployPipeline()
	beside := &engine{T: t, mount: unique("mount"), client: vault.Client}
	beside.enable("agentchains", beside.mount)
	hasty := e.as(e.client.Token())
	hasty.client.SetClientTimeout(lasts / 4)
	pid := e.process(plugin, 0)
	var mu sync.Mutex // guards running
	var running []string
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for n := range each {
				id := e.startSurely(agent, fmt.Sprintf("%d/%d", i, n))
				if n%2 == 0 {
					e.surely(update, "execution/"+id+"/finish", data{})
					continue
				}
				mu.Lock()
				running = append(running, id)
				mu.Unlock()
			}
		})
	}
	for range rounds {
		e.must(syscall.Kill(pid, syscall.SIGSTOP))
		_, err := hasty.client.Logical().Read(e.mount + "/status")
		var refusal *api.ResponseError
		if err == nil || errors.As(err, &refusal) {
			t.Errorf("a plugin that is stopped answers: %v", err)
		}
		beside.read("status")
		<-time.After(lasts)
		e.must(syscall.Kill(pid, syscall.SIGCONT))
		e.read("status")
	}
	wg.Wait()
	slices.Sort(running)
	e.same("live", e.live(agent), running)
	if now := e.process(plugin, 0); now != pid {
		t.Errorf("the plugin was started again")
	}
}

// The mount is reloaded again and again while it is read and executions start: what is
// read is right, and what is counted is what runs.
func TestReloadedUnderLoad(t *testing.T) {
	const agent, readers, starters, reloads = "prod/deploy-pipeline/Deployer", 4, 2, 10
	e, _ := newOwnProcess(t)
	want := e.deployPipeline()
	stop := make(chan struct{})
	var reads atomic.Int64
	var longest atomic.Int64 // from one answer to the next
	var wg sync.WaitGroup
	load := func(do func(n int)) {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					do(n)
				}
			}
		})
	}
	for range readers {
		last := time.Now()
		load(func(int) {
			env, status := e.surely(read, "env/"+agent, nil)
			if status != http.StatusOK {
				t.Errorf("env answers %d", status)
				return
			}
			e.same("env", env, want)
			reads.Add(1)
			if gap := int64(time.Since(last)); gap > longest.Load() {
				longest.Store(gap)
			}
			last = time.Now()
		})
	}
	var mu sync.Mutex // guards running
	var running []string
	for i := range starters {
		load(func(n int) {
			id := e.startSurely(agent, fmt.Sprintf("%d/%d", i, n))
			mu.Lock()
			defer mu.Unlock()
			running = append(running, id)
		})
	}
	for range reloads {
		_, err := e.client.Sys().ReloadPlugin(&api.ReloadPluginInput{Mounts: []string{e.mount}})
		e.must(err)
		before := reads.Load()
		e.must(eventually("it is read again", func() (bool, error) { return reads.Load() > before+readers, nil }))
	}
	close(stop)
	wg.Wait()
	slices.Sort(running)
	e.counting()
	e.same("live", e.live(agent), running)
	t.Logf("%d reloads; %d reads, the longest wait for one %s; %d executions started", reloads, reads.Load(), time.Duration(longest.Load()).Round(time.Millisecond), len(running))
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
