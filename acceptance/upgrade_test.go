package acceptance

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	agentchains "github.com/agentchains/vault-plugin-secrets-agentchains"
)

// previous is the commit that stands for the version before this one until there is a
// tag: it knows rotations and emergencies, and nothing that came after.
const (
	previous        = "4f365d036a24"
	previousVersion = "v0.0.9"
)

// buildPrevious builds the plugin of the previous version, which says that it is one.
func buildPrevious(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	git := func(args ...string) []byte {
		out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", ".."}, args...)...).Output()
		if err != nil {
			t.Skipf("NOT TESTED: an upgrade from %s, which this clone does not have: git %s: %s", previous, args[0], err)
		}
		return out
	}
	git("cat-file", "-e", previous+"^{commit}")
	unpack := exec.CommandContext(t.Context(), "tar", "-x", "-C", dir)
	unpack.Stdin = bytes.NewReader(git("archive", previous))
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("tar: %s: %s", err, out)
	}
	file := filepath.Join(dir, "backend.go")
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(source, []byte(agentchains.Version), []byte(previousVersion), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", "plugin", "./cmd/vault-plugin-secrets-agentchains")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build of the previous version: %s: %s", err, out)
	}
	return filepath.Join(dir, "plugin")
}

// The data of the previous version is served by this one, and the other way round:
// secrets, what runs, a rotation that is under way, an incident that is open.
func TestUpgradeAndDowngrade(t *testing.T) {
	needVault(t)
	binary, name := buildPrevious(t), unique("agentchains")
	e := &engine{T: t, mount: unique("mount"), client: vault.Client}
	e.must(vault.Register(name, previousVersion, binary))
	e.must(vault.Register(name, agentchains.Version, pluginBinary))
	e.must(e.client.Sys().Mount(e.mount, &api.MountInput{Type: name, Config: api.MountConfigInput{PluginVersion: previousVersion}}))
	to := func(version string) {
		e.Helper()
		e.must(e.client.Sys().TuneMountAllowNil(e.mount, api.TuneMountConfigInput{PluginVersion: &version}))
		_, err := e.client.Sys().ReloadPlugin(&api.ReloadPluginInput{Mounts: []string{e.mount}})
		e.must(err)
		e.counting()
		e.same("version", e.read("status")["version"], version)
	}
	want := e.deployPipeline()
	e.write("rotators/key", data{"type": "api-key", "prefix": "ac_"})
	e.write("schedules/dev/chain/deploy-pipeline/DATABASE_URL", data{"rotation_period": "90d", "rotator": "key"})
	want["DB_URL"] = e.secret(database, nil)
	var running []*execution
	e.same("version", e.read("status")["version"], previousVersion)
	for step, version := range []string{agentchains.Version, previousVersion, agentchains.Version} {
		holds, hit := e.start(deployer, nil), e.start(analyzer, nil)
		running = append(running, holds)
		path := fmt.Sprintf("prod/org/WRITTEN_%d", step)
		value := e.secret(path, nil)
		incident := e.write("revoke/execution/"+hit.id, data{"reason": "to find out"})["incident_id"]
		before := e.stored()

		to(version)
		if after := e.stored(); version == previousVersion {
			e.contains("what was stored", before, after)
		} else {
			e.contains("what is stored", after, before)
		}
		e.same("value", e.read("reveal/" + path)["value"], value)
		e.same("env", e.read("env/"+deployer), want)
		e.same("rotation", e.state(database), "serving")
		for _, x := range running {
			if refusal := x.renew(0); refusal != "" {
				t.Errorf("step %d: an execution is not renewed: %s", step, refusal)
			}
		}
		var ids []string
		for _, x := range running {
			ids = append(ids, x.id)
		}
		slices.Sort(ids)
		e.same("live", e.live(deployer), ids)
		if refusal := hit.renew(0); !strings.Contains(refusal, "EXECUTION_TERMINATED") {
			t.Errorf("step %d: what was told to stop is renewed: %q", step, refusal)
		}
		hit.write("execution/"+hit.id+"/ack", data{"exit_code": 1})
		e.same("counts", e.closed(incident)["counts"], counts(1, 0, 0))
	}
	for _, x := range running {
		x.write("execution/"+x.id+"/finish", data{})
	}
	e.write("promote/"+database, data{"force": true})
	e.reaches(database, "idle")
	e.same("env", e.read("env/"+deployer), want)
}

// contains checks that data holds all of other data: the later version knows more.
func (e *engine) contains(what string, got, want data) {
	e.Helper()
	for key, value := range want {
		found, ok := got[key]
		outer, both := found.(data)
		inner, nested := value.(data)
		if ok && both && nested {
			e.contains(what+": "+key, outer, inner)
		} else if !ok {
			e.Errorf("%s has no %s", what, key)
		} else {
			e.same(what+": "+key, found, value)
		}
	}
}
