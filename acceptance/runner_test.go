package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	runnerBinary = "../bin/agentchains"
	mostRuntime  = 3 * patience
)

// agent is the mount seen by a workload that has the policy which the engine
// recommends for an agent, and no other.
func (e *engine) agent(path string) *engine {
	e.Helper()
	return e.appRole(e.policy(e.read("policy/" + path)["policy"].(string)))
}

// agentchains is the command, with a home of its own and nothing else in its
// environment but where Vault is, and the token that the mount is seen with.
func (e *engine) agentchains(args ...string) *exec.Cmd {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), mostRuntime)
	e.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, runnerBinary, append([]string{"--mount", e.mount}, args...)...)
	home, temp := e.TempDir(), e.TempDir()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + temp, "VAULT_ADDR=" + e.client.Address()}
	if token := e.client.Token(); token != "" {
		cmd.Env = append(cmd.Env, "VAULT_TOKEN="+token)
	}
	e.Cleanup(func() { e.must(errors.Join(noteFiles(home), noteFiles(temp))) })
	return cmd
}

// noteFiles keeps every file below a directory, to be searched for values.
func noteFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		secrets.note("a file that a runner left", text)
		return err
	})
}

// runner is agentchains run for an agent.
func (e *engine) runner(agent string, flags []string, command ...string) *exec.Cmd {
	e.Helper()
	environment, path, _ := strings.Cut(agent, "/")
	last := strings.LastIndexByte(path, '/')
	args := append([]string{"run", "--env", environment, "--chain", path[:last], "--agent", path[last+1:]}, flags...)
	return e.agentchains(append(append(args, "--"), command...)...)
}

// A process is a command of agentchains that runs.
type process struct {
	*engine
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr bytes.Buffer
}

func (e *engine) begin(cmd *exec.Cmd) *process {
	e.Helper()
	p := &process{engine: e, cmd: cmd}
	cmd.Stderr = &p.stderr
	cmd.WaitDelay = patience // for an agent that outlives the runner
	var err error
	p.stdin, err = cmd.StdinPipe()
	e.must(err)
	stdout, w, err := os.Pipe()
	e.must(err)
	defer w.Close()
	e.Cleanup(func() { stdout.Close() })
	e.must(stdout.SetReadDeadline(time.Now().Add(mostRuntime)))
	p.stdout, cmd.Stdout = bufio.NewReader(stdout), w
	e.must(cmd.Start())
	e.Cleanup(func() { _ = cmd.Wait() }) // of a test that has failed, and so ended its context
	return p
}

// run starts a runner whose agent is a script for the shell.
func (e *engine) run(agent string, flags []string, script string) *process {
	e.Helper()
	return e.begin(e.runner(agent, flags, "sh", "-c", script))
}

// line reads one line of what the agent prints.
func (p *process) line() string {
	p.Helper()
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		_, _ = p.cmd.Process.Kill(), p.cmd.Wait() // the latter completes stderr
		p.Fatalf("the agent prints %q and no line: %v; standard error: %s", secrets.censor(line), err, secrets.censor(p.stderr.String()))
	}
	return strings.TrimSuffix(line, "\n")
}

// pid reads the number of a process, which the agent prints.
func (p *process) pid() (pid int) {
	p.Helper()
	_, err := fmt.Sscan(p.line(), &pid)
	p.must(err)
	return pid
}

// ends closes the input and waits for the end. It returns what the process
// wrote since, and all of what it wrote on standard error.
func (p *process) ends(code int) (stdout, stderr string) {
	p.Helper()
	p.stdin.Close()
	out, err := io.ReadAll(p.stdout)
	p.must(err)
	err = p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.must(err)
	}
	stderr = p.stderr.String()
	p.note(stderr)
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.Errorf("exit code %d, want %d; standard error: %s", got, code, secrets.censor(stderr))
	}
	return string(out), stderr
}

// silent is ends for what must write nothing more.
func (p *process) silent(code int) {
	p.Helper()
	stdout, stderr := p.ends(code)
	p.same("output", []string{stdout, stderr}, []string{"", ""})
}

// stopped waits until the runner has stopped the agent, and has said why, for one
// of the reasons, in one line and no more.
func (p *process) stopped(code int, reasons ...string) {
	p.Helper()
	_, stderr := p.ends(code)
	for _, reason := range reasons {
		if stderr == "agentchains: the agent was stopped: "+reason+"\n" {
			return
		}
	}
	p.Errorf("standard error is %q, want one line with one of %q", secrets.censor(stderr), reasons)
}

// gone waits until there is none of the processes.
func (e *engine) gone(pids ...int) {
	e.Helper()
	e.must(eventually("the agent's processes have ended", func() (bool, error) {
		return !slices.ContainsFunc(pids, alive), nil
	}))
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// only waits until one execution of the agent is live, and returns its id.
func (e *engine) only(agent string) string {
	e.Helper()
	var ids []string
	e.must(eventually("one execution is live", func() (bool, error) {
		ids = e.live(agent)
		return len(ids) == 1, nil
	}))
	return ids[0]
}

// inspect reads an execution as an operator.
func (e *engine) inspect(agent, id string) data {
	e.Helper()
	return e.ok(read, "executions/"+agent, data{"id": id})
}

// isIn waits until an execution is in a state.
func (e *engine) isIn(state, agent, id string) {
	e.Helper()
	e.must(eventually("the execution is "+state, func() (bool, error) {
		return e.inspect(agent, id)["state"] == state, nil
	}))
}

// environ reads the environment that a process was started with.
func (e *engine) environ(pid int) data {
	e.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	e.must(err)
	return e.variables(string(text))
}

// variables reads the text of an environment, in which each name must be once.
func (e *engine) variables(text string) data {
	e.Helper()
	env := data{}
	for variable := range strings.SplitSeq(strings.TrimSuffix(text, "\x00"), "\x00") {
		name, value, _ := strings.Cut(variable, "=")
		if _, twice := env[name]; twice {
			e.Errorf("%s is twice in the environment", name)
		}
		env[name] = value
	}
	return env
}

// Three agents of a chain run at the same time, each logged in by itself.
func TestRunnersOfAChain(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	agents := []string{deployer, "prod/deploy-pipeline/CodeAnalyzer", "dev/deploy-pipeline/CodeAnalyzer"}
	runners, ids := make([]*process, len(agents)), make([]string, len(agents))
	for i, agent := range agents {
		flags := append(e.appRoleFiles(agent, nil), "--run", "42", "--workspace", "docker:ci-7", "--user", "ann")
		runners[i] = e.as("").run(agent, flags, `echo $$; read -r _; exit 3`)
	}
	for i, agent := range agents {
		ids[i] = e.only(agent)
		env := e.environ(runners[i].pid())
		for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
			delete(env, name)
		}
		e.same("environment of "+agent, env, e.read("env/"+agent))
		x := e.inspect(agent, ids[i])
		e.same("execution of "+agent, []any{x["state"], x["run"], x["workspace"], x["user"]}, []any{"active", "42", "docker:ci-7", "ann"})
	}
	e.same("live", e.read("status")["executions"], data{"deploy-pipeline": len(agents)})
	for i, agent := range agents {
		runners[i].silent(3)
		x := e.inspect(agent, ids[i])
		e.same("execution of "+agent, []any{x["state"], x["exit_code"], x["ack"]}, []any{"finished", 3, nil})
	}
	e.same("live", e.read("status")["executions"], data{})
}

// The agent gets what is documented of the runner's environment, what --pass
// names, and its secrets, which win.
func TestRunnerEnvironment(t *testing.T) {
	e := newEngine(t)
	secret := e.deployPipeline()
	cmd := e.agent(deployer).runner(deployer, []string{"--pass", "PASSED,OPENAI_API_KEY"}, "sh", "-c", `echo $$; read -r _`)
	kept := []string{"LANG=C.UTF-8", "LC_ALL=C", "LC_TIME=de_DE.UTF-8", "TERM=xterm", "TZ=UTC", "USER=ann", "SHELL=/bin/sh", "PASSED=a = b", "EMPTY="}
	want := e.variables(strings.Join(append(cmd.Env, kept...), "\x00"))
	for _, name := range []string{"VAULT_ADDR", "VAULT_TOKEN", "EMPTY"} {
		delete(want, name)
	}
	maps.Copy(want, secret)
	cmd.Env = append(append(cmd.Env, kept...), "OPENAI_API_KEY=stale", "DB_URL=stale", "LD_LIBRARY_PATH=/nowhere", "AWS_PROFILE=x", "VAULT_FORMAT=json")
	p := e.begin(cmd)
	e.same("environment", e.environ(p.pid()), want)
	p.silent(1) // of read, which meets the end of the input
}

func TestRunnerExitCodes(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	as := e.agent(deployer)
	plain := filepath.Join(t.TempDir(), "plain")
	e.must(os.WriteFile(plain, []byte("no program"), 0o600))
	for want, command := range map[int][]string{
		0:   {"true"},
		7:   {"sh", "-c", "exit 7"},
		143: {"sh", "-c", "kill $$"},
		137: {"sh", "-c", "kill -9 $$"},
	} {
		as.begin(as.runner(deployer, nil, command...)).silent(want)
	}
	for command, want := range map[string]int{"no-such-command": 127, "/no/such/command": 127, plain: 126, filepath.Dir(plain): 126} {
		p := as.begin(as.runner(deployer, nil, command))
		stdout, stderr := p.ends(want)
		if stdout != "" || !strings.HasPrefix(stderr, "agentchains: "+command+": ") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("output %q and %q, want one line on standard error that names %s", stdout, stderr, command)
		}
	}
	stdout, stderr := as.run("prod/deploy-pipeline/Nobody", nil, "echo ran").ends(2)
	if stdout != "" || !strings.HasPrefix(stderr, "agentchains: start "+e.mount+"/executions/prod/deploy-pipeline/Nobody: ") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("output %q and %q, want one line that says what was not started", stdout, stderr)
	}
	e.same("live", e.read("status")["executions"], data{})
}

// A signal to the runner is for the agent.
func TestRunnerPassesSignals(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	for signal, want := range map[syscall.Signal]int{syscall.SIGTERM: 21, syscall.SIGINT: 22, syscall.SIGHUP: 23, syscall.SIGUSR1: 24} {
		p := e.run(deployer, nil, `trap 'exit 21' TERM; trap 'exit 22' INT; trap 'exit 23' HUP; trap 'exit 24' USR1; echo ready; sleep 300 & wait`)
		p.line()
		e.must(p.cmd.Process.Signal(signal))
		p.silent(want)
	}
}

// Input and output are the agent's, byte for byte and at once.
func TestRunnerStreams(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	as := e.agent(deployer)
	p := as.run(deployer, nil, `printf 'Name: '; read -r name; printf 'Hello %s' "$name"; printf oops >&2; cat`)
	prompt := make([]byte, len("Name: "))
	_, err := io.ReadFull(p.stdout, prompt) // nothing was typed yet
	e.must(err)
	e.same("prompt", string(prompt), "Name: ")
	all := make([]byte, 300_000)
	for i := range all {
		all[i] = byte(i * i >> 3)
	}
	go func() {
		defer p.stdin.Close()
		_, _ = p.stdin.Write(append([]byte("ann\n"), all...)) // what is missing is seen below
	}()
	got := make([]byte, len("Hello ann")+len(all))
	_, err = io.ReadFull(p.stdout, got)
	e.must(err)
	if string(got) != "Hello ann"+string(all) {
		t.Error("what is sent in does not come out")
	}
	stdout, stderr := p.ends(0)
	e.same("the rest", []string{stdout, stderr}, []string{"", "oops"})
}

// A dry run shows names, reads no value and starts nothing.
func TestRunnerShows(t *testing.T) {
	e := newEngine(t)
	env := e.deployPipeline()
	marker := filepath.Join(t.TempDir(), "ran")
	stdout, stderr := e.begin(e.runner(deployer, []string{"--dry-run"}, "touch", marker)).ends(0)
	e.note(stdout)
	e.same("standard error", stderr, "")
	for name := range env {
		if !strings.Contains(stdout, "\n"+name+" ") {
			t.Errorf("%s is not in\n%s", name, secrets.censor(stdout))
		}
	}
	names := slices.Sorted(maps.Keys(env))
	names = append(names, "HOME", "PATH", "TMPDIR")
	slices.Sort(names)
	stdout, stderr = e.begin(e.runner(deployer, []string{"--print-env=names"}, "touch", marker)).ends(0)
	e.same("names", []string{stdout, stderr}, []string{strings.Join(names, "\n") + "\n", ""})
	stdout, stderr = e.begin(e.runner(deployer, []string{"--print-env=values"}, "touch", marker)).ends(2)
	e.same("values", []string{stdout, stderr}, []string{"", "agentchains: --print-env takes names only: values are never printed\n"})
	if _, err := os.Stat(marker); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the command ran: %v", err)
	}
	e.same("executions started", e.read("status")["counters"].(data)["executions_started"], 0)
}

// While an agent runs, its values are in its own environment and nowhere else,
// and no core file will hold them. Files are searched now, and after every run.
func TestRunnerHidesValues(t *testing.T) {
	e := newEngine(t)
	env := e.deployPipeline()
	delete(env, "AWS_REGION") // no secret
	p := e.agent(deployer).run(deployer, nil, `echo $$; read -r _`)
	child := p.pid()
	own := e.environ(child)
	e.must(errors.Join(noteFiles(own["HOME"].(string)), noteFiles(own["TMPDIR"].(string))))
	e.same("processes with a value in their environment", e.holders("environ", env), []int{child})
	e.same("processes with a value in their arguments", e.holders("cmdline", env), []int(nil))
	supervisor, err := parent(child)
	e.must(err)
	for what, pid := range map[string]int{"runner": p.cmd.Process.Pid, "supervisor": supervisor} {
		var core unix.Rlimit
		e.must(unix.Prlimit(pid, unix.RLIMIT_CORE, nil, &core))
		e.same("core limit of the "+what, []uint64{core.Cur, core.Max}, []uint64{0, 0})
	}
	p.silent(1) // of read, which meets the end of the input
}

// holders returns the processes of the machine that have a value in a file
// below /proc.
func (e *engine) holders(file string, values data) (pids []int) {
	e.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/" + file)
	e.must(err)
	for _, path := range files {
		text, _ := os.ReadFile(path) // of a process that may have gone
		for _, value := range values {
			if bytes.Contains(text, []byte(value.(string))) {
				var pid int
				_, err := fmt.Sscanf(path, "/proc/%d/", &pid)
				e.must(err)
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

func parent(pid int) (parent int, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err == nil {
		_, after, _ := strings.Cut(string(status), "\nPPid:")
		_, err = fmt.Sscan(after, &parent)
	}
	return parent, err
}
