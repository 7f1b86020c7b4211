package acceptance

import (
	"bytes"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// orchestrators are the programs of examples/orchestrators: how each is made
// ready in a directory, and what then runs it.
var orchestrators = map[string]func(e *engine, dir string) []string{
	"python": func(e *engine, _ string) []string {
		return []string{e.tool("python3"), "../examples/orchestrators/python/orchestrator.py"}
	},
	"typescript": func(e *engine, dir string) []string {
		const source = "../examples/orchestrators/typescript/orchestrator.mts"
		node := e.tool("node")
		if exec.CommandContext(e.Context(), node, "--check", source).Run() == nil {
			return []string{node, source}
		}
		plain := filepath.Join(dir, "orchestrator.mjs") // this node knows no types
		e.tooled(e.tool("esbuild"), "--log-level=warning", "--outfile="+plain, source)
		return []string{node, plain}
	},
	"go": func(e *engine, dir string) []string {
		binary := filepath.Join(dir, "orchestrator")
		e.tooled(e.tool("go"), "build", "-o", binary, "../examples/orchestrators/go")
		return []string{binary}
	},
}

// tool finds a program that the examples need and the engine does not.
func (e *engine) tool(name string) string {
	e.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		e.Skipf("this example is not tested: %v", err)
	}
	return path
}

func (e *engine) tooled(name string, args ...string) {
	e.Helper()
	if out, err := exec.CommandContext(e.Context(), name, args...).CombinedOutput(); err != nil {
		e.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// showNames is an agent that tells which variables it was given, not the values,
// after the lease that it was started with is over.
const showNames = `sleep 8; env | cut -d= -f1 | sort | grep -vxE 'HOME|PATH|PWD|OLDPWD|SHLVL|_'; exit 3`

// Each example gives an agent its environment, renews its lease, finishes the
// execution, starts nothing twice, and obeys an order to stop.
func TestOrchestrators(t *testing.T) {
	for language, prepare := range orchestrators {
		t.Run(language, func(t *testing.T) {
			e := newEngine(t)
			command := prepare(e, t.TempDir())
			e.write("config", data{"execution_ttl": "5s"})
			want := slices.Sorted(maps.Keys(e.deployPipeline()))
			const agent = "prod/deploy-pipeline/Deployer"
			as := e.appRole(e.policy(e.read("policy/" + agent)["policy"].(string)))
			orchestrate := func(key string, args ...string) (*exec.Cmd, *bytes.Buffer) {
				cmd := exec.CommandContext(t.Context(), command[0], slices.Concat(command[1:], []string{agent, key}, args)...)
				cmd.Env = append(vault.Environ(), "VAULT_TOKEN="+as.client.Token(), "AGENTCHAINS_MOUNT="+e.mount)
				out := new(bytes.Buffer)
				cmd.Stdout, cmd.Stderr = out, out
				return cmd, out
			}
			exits := func(code int, cmd *exec.Cmd, err error, out *bytes.Buffer) {
				t.Helper()
				e.note(out.String())
				if got := cmd.ProcessState.ExitCode(); got != code {
					t.Errorf("exit code %d, want %d: %v\n%s", got, code, err, secrets.censor(out.String()))
				}
			}

			cmd, out := orchestrate("run-1/deploy/1", "sh", "-c", showNames)
			exits(3, cmd, cmd.Run(), out)
			e.same("names", strings.Fields(out.String()), want)
			cmd, out = orchestrate("run-1/deploy/1", "true")
			exits(1, cmd, cmd.Run(), out)
			if !strings.Contains(out.String(), "is finished: use another key") {
				t.Errorf("the same attempt twice:\n%s", secrets.censor(out.String()))
			}
			cmd, out = orchestrate("run-1/deploy/2", "/nonexistent")
			exits(127, cmd, cmd.Run(), out)
			if ids := e.live(agent); len(ids) > 0 {
				t.Errorf("%d executions have not ended", len(ids))
			}

			// The shell waits for a child of its own: the order is for both.
			cmd, out = orchestrate("run-2/deploy/1", "sh", "-c", "sleep 600; true")
			e.must(cmd.Start())
			var id string
			e.must(eventually("the agent runs", func() (bool, error) {
				if ids := e.live(agent); len(ids) == 1 {
					id = ids[0]
				}
				return id != "", nil
			}))
			e.write("revoke/execution/"+id, data{"reason": "the key leaked"})
			exits(75, cmd, cmd.Wait(), out)
			if !strings.Contains(out.String(), "stopped: the key leaked") {
				t.Errorf("what is said of the order:\n%s", secrets.censor(out.String()))
			}
			stopped := e.ok(read, "executions/"+agent, data{"id": id})
			receipt, _ := stopped["ack"].(map[string]any)
			e.same("the receipt", []any{stopped["state"], stopped["run"], receipt["signal"], receipt["exit_code"]},
				[]any{"terminated", "run-2", "SIGTERM", 143})
		})
	}
}
