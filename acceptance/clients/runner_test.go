package clients

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	compose "github.com/compose-spec/compose-go/v2/types"
	"github.com/rhysd/actionlint"
)

// machine returns the environment of a machine with the agentchains command and
// the command agent of the examples, which says what it was given.
func (w *worker) machine(more ...string) []string {
	w.Helper()
	bin, err := filepath.Abs("../../bin")
	must(w.T, err)
	agents, err := filepath.Abs(examples)
	must(w.T, err)
	return append([]string{"PATH=" + bin + ":" + agents + ":" + os.Getenv("PATH"), "HOME=" + w.TempDir(), "VAULT_ADDR=" + vault.address}, more...)
}

// needs skips a test where a program is not installed.
func (w *worker) needs(programs ...string) {
	w.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			w.Skipf("install %s", program)
		}
	}
}

// gives runs a command under which the agent must be given its environment, and
// nothing of whoever runs it.
func (w *worker) gives(cmd *exec.Cmd, env data) {
	w.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.Fatalf("%v: %s", err, stderr.String())
	}
	for name, value := range env {
		sum := sha256.Sum256([]byte(value.(string)))
		if line := fmt.Sprintf("given %s %x\n", name, sum[:8]); !strings.Contains(string(out), line) {
			w.Errorf("the agent is not given %s as it is", name)
		}
	}
	for _, own := range []string{"VAULT_", "ACTIONS_", "GITHUB_"} {
		if strings.Contains(string(out), "given "+own) {
			w.Errorf("the agent is given what is its runner's:\n%s", out)
		}
	}
}

// A container with the limits of the compose file runs the agent with a wrapped
// token. The namespaces are a container's, and the files those of this machine.
func testCompose(w *worker, env data) {
	if os.Geteuid() != 0 {
		w.Skip("only root can make the namespaces of a container")
	}
	w.needs("unshare", "setpriv")
	dir, err := filepath.Abs(filepath.Join(examples, "docker"))
	must(w.T, err)
	project, err := loader.LoadWithContext(w.Context(), compose.ConfigDetails{
		WorkingDir: dir, ConfigFiles: []compose.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml")}},
	})
	must(w.T, err)
	s := project.Services["deployer"]
	if !s.ReadOnly || !s.StdinOpen || s.Privileged || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 ||
		!slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
		w.Error("the container is not limited")
	}
	if names := slices.Sorted(maps.Keys(s.Environment)); !slices.Equal(names, []string{"VAULT_ADDR"}) {
		w.Errorf("the container has the variables %v", names)
	}
	if len(s.Volumes) != 1 || !s.Volumes[0].ReadOnly || s.Volumes[0].Source != filepath.Join(dir, "../../bin/agentchains") {
		w.Error("the container mounts something else than the command, to be read")
	}

	const policy = "compose"
	must(w.T, vault.client.Sys().PutPolicy(policy, w.read("policy/"+w.agent, nil)["policy"].(string)))
	_, err = vault.client.Logical().Write("auth/token/roles/prod-deployer", data{"allowed_policies": policy, "orphan": true})
	must(w.T, err)
	issue := exec.CommandContext(w.Context(), "../../bin/agentchains", "exec-token", "--role", "prod-deployer")
	issue.Env = w.machine("VAULT_TOKEN=" + vault.client.Token())
	token, err := issue.Output()
	must(w.T, err)

	const container = `mount -o remount,bind,ro / && exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"`
	args := slices.Concat([]string{"--fork", "--kill-child", "--pid", "--mount", "--mount-proc", "--ipc", "--uts", "sh", "-ec", container, "sh"}, s.Entrypoint, s.Command)
	cmd := exec.CommandContext(w.Context(), "unshare", args...)
	cmd.Env, cmd.Stdin = w.machine(), bytes.NewReader(token)
	w.gives(cmd, env)
}

// GitHub signs a token for the job that asks for one, with its own token. A step
// runs in bash as it does there, and vault-action reads each path, of which its
// selector is one field.
func testWorkflow(w *worker, env data) {
	const request, subject, role = "the job's own", "repo:agents/deploy:ref:refs/heads/main", "deploy-pipeline-deployer"
	w.needs("curl", "jq")
	w.allowSubject(jwtAuth, role, subject, "vault")
	github := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "bearer "+request {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(rw).Encode(data{"value": signed(w.T, subject, req.FormValue("audience"))})
	}))
	w.Cleanup(github.Close)

	file := filepath.Join(examples, "github", "deploy.yaml")
	text, err := os.ReadFile(file)
	must(w.T, err)
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{Shellcheck: "shellcheck"})
	must(w.T, err)
	mistakes, err := linter.Lint(file, text, nil)
	must(w.T, err)
	for _, mistake := range mistakes {
		w.Error(mistake)
	}
	workflow, _ := actionlint.Parse(text)
	step := workflow.Jobs["runner"].Steps[0].Exec.(*actionlint.ExecRun)
	cmd := exec.CommandContext(w.Context(), step.Shell.Value, "--noprofile", "--norc", "-eo", "pipefail", "-c", step.Run.Value)
	cmd.Env = w.machine("ACTIONS_ID_TOKEN_REQUEST_TOKEN="+request, "ACTIONS_ID_TOKEN_REQUEST_URL="+github.URL+"/?api-version=2",
		"GITHUB_RUN_ID=42", "GITHUB_REPOSITORY=agents/deploy")
	w.gives(cmd, env)

	action := workflow.Jobs["values"].Steps[0].Exec.(*actionlint.ExecAction)
	input := func(name string) string { return action.Inputs[strings.ToLower(name)].Value.Value }
	client := w.loggedIn(input("method"), input("role"), signed(w.T, subject, input("jwtGithubAudience")))
	outputs := data{}
	for line := range strings.SplitSeq(strings.TrimSpace(input("secrets")), ";") {
		source, output, _ := strings.Cut(line, "|")
		path, selector, _ := strings.Cut(strings.TrimSpace(source), " ")
		if output == "" {
			output = selector
		}
		outputs[strings.TrimSpace(output)] = w.answer(client, path).Data[strings.TrimSpace(selector)]
	}
	given := data{}
	for name, v := range workflow.Jobs["values"].Steps[1].Env.Vars {
		output := strings.TrimSuffix(strings.TrimPrefix(v.Value.Value, "${{ steps.vault.outputs."), " }}")
		given[strings.ToUpper(name)] = outputs[output]
	}
	w.same("the last step", given, data{"DB_URL": env["DB_URL"], "DEPLOY_TOKEN": env["DEPLOY_TOKEN"]})
}
