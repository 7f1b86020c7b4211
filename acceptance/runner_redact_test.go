package acceptance

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

// leaks are ways in which real programs print a variable, by the program.
var leaks = []struct{ tool, script string }{
	{"bash", `echo "$KEY"`},
	{"bash", `echo -n "$KEY"`},
	{"bash", `bash -xc ': "$KEY"' 2>&1`},
	{"bash", `printf '%q\n' "$KEY"`},
	{"bash", `set | grep ^KEY=`},
	{"bash", `declare -p KEY`},
	{"bash", `echo "${KEY@Q} ${KEY@A}"`},
	{"bash", `printf '\033[1;31m%s\033[0m%s\n' "${KEY:0:15}" "${KEY:15}"`},
	{"env", `env`},
	{"fold", `echo "$KEY" | fold -w 20`},
	{"base64", `printf %s "$KEY" | base64 -w 0`},
	{"base64", `echo "$KEY" | base64 -w 20`},
	{"base64", `printf 'user:%s@host' "$KEY" | base64`},
	{"openssl", `printf %s "$KEY" | openssl base64`},
	{"xxd", `printf %s "$KEY" | xxd -p`},
	{"xxd", `printf %s "$KEY" | xxd | cut -c 1-49`},
	{"od", `printf %s "$KEY" | od -An -tx1`},
	{"jq", `jq -n env`},
	{"jq", `jq -nr 'env.KEY | @json, @uri, @sh, @html, @base64, ([.] | @csv)'`},
	{"python3", `python3 -c 'import os, json, urllib.parse; k = os.environ["KEY"]; print(repr(k), json.dumps(k), ascii(k), urllib.parse.quote_plus(k), k.encode().hex())'`},
	{"node", `node -e 'const k = process.env.KEY; console.log(k, JSON.stringify({k}), encodeURIComponent(k), Buffer.from(k).toString("base64url"))'`},
	{"curl", `curl -sv --max-time 1 -H "Authorization: Bearer $KEY" --unix-socket /dev/null http://localhost/ 2>&1; echo "Authorization: Bearer $KEY"`},
}

// script is a program for bash that leaks in each way that this machine knows, on
// standard output and on standard error.
func (e *engine) script() (script string, ways []string) {
	e.Helper()
	for _, leak := range leaks {
		if _, err := exec.LookPath(leak.tool); err != nil {
			e.Logf("NOT TRIED: %s: %v", leak.script, err)
			continue
		}
		script += fmt.Sprintf("echo =%d=; echo =%d= >&2\n{ %s\n}; { %s\n} >&2\n", len(ways), len(ways), leak.script, leak.script)
		ways = append(ways, leak.script)
	}
	return script, ways
}

// sections cuts the output of a script by the ways. On a terminal each comes
// twice, since the streams are one.
func sections(output string, ways []string) []string {
	parts := make([]string, len(ways))
	for i := range ways {
		_, after, _ := strings.Cut(output, fmt.Sprintf("=%d=", i))
		parts[i], _, _ = strings.Cut(after, fmt.Sprintf("=%d=", i+1))
	}
	return parts
}

// printed is what a script prints outside of a runner.
func (e *engine) printed(script, key string, ways []string) []string {
	e.Helper()
	cmd := exec.CommandContext(e.Context(), "bash", "-c", script)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + e.TempDir(), "KEY=" + key}
	out, err := cmd.Output()
	e.must(err)
	return sections(string(out), ways)
}

// hides checks that an output holds nothing of the value that the bare output of
// each way holds. What is the same with another value is nothing of it.
func (e *engine) hides(what, output string, ways, bare, other []string) {
	e.Helper()
	const long = 12
	for i, section := range sections(output, ways) {
		if !strings.Contains(section, "[REDACTED:KEY") {
			e.Errorf("%s, %s: there is no marker in %q", what, ways[i], secrets.censor(section))
		}
		for at := 0; at+long <= len(bare[i]); at++ {
			if window := bare[i][at : at+long]; strings.Contains(section, window) && !strings.Contains(other[i], window) {
				e.Errorf("%s, %s: bytes %d to %d get out", what, ways[i], at, at+long)
				break
			}
		}
	}
}

// odd is the end of a value that every program has to quote.
const odd = ` é\/& s$s"a'p`

// What real programs print of a secret is redacted, with a terminal and without,
// and the record says what was found.
func TestRunnerRedacts(t *testing.T) {
	const worker = "prod/c/Worker"
	e := newEngine(t)
	key := e.value("KEY") + odd
	e.chain("c", "", "KEY")
	e.secret("prod/chain/c/KEY", data{"value": key})
	script, ways := e.script()
	bare, other := e.printed(script, key, ways), e.printed(script, e.value("another")+odd, ways)
	as := e.agent(worker)

	p := as.begin(as.runner(worker, nil, "bash", "-c", script+"read -r _; exit 3"))
	id := e.only(worker)
	stdout, stderr := p.ends(3)
	e.hides("standard output", stdout, ways, bare, other)
	e.hides("standard error", stderr, ways, bare, other)
	if at := strings.LastIndex(stderr, "\nagentchains: redacted KEY "); at < 0 || strings.Count(stderr[at:], "\n") != 2 {
		t.Errorf("standard error ends with %q", secrets.censor(stderr[max(0, len(stderr)-200):]))
	}
	x := e.inspect(worker, id)
	e.noteAnswer(x)
	found := x["findings"].(data)["KEY"].(data)
	e.same("execution", []any{x["state"], x["redact"], found["path"], found["version"], found["redacted"]}, []any{"finished", true, "prod/chain/c/KEY", 1, true})
	var said int
	_, counted, _ := strings.Cut(stderr, "agentchains: redacted KEY ")
	_, err := fmt.Sscanf(counted, "%d times", &said)
	e.must(err)
	e.same("count", found["count"], said)

	cmd := as.runner(worker, nil, "bash", "-c", script)
	screen, err := pty.Start(cmd)
	e.must(err)
	defer screen.Close()
	shown, _ := io.ReadAll(screen) // ends with an error when nobody has the terminal any more
	e.must(cmd.Wait())
	e.note(string(shown))
	e.hides("terminal", string(shown), ways, bare, other)
}

// On a terminal a prompt is there at once, in its colours, and so is what follows
// a secret. The agent's terminal has the size of the user's.
func TestRunnerRedactsOnATerminal(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	as := e.agent(deployer)
	const script = `stty size; printf '\033[1m%s\033[0m? ' "$DB_URL"; read -r name; printf '\033[32mHello %s\n' "$name"; exit 4`
	cmd := as.runner(deployer, nil, "sh", "-c", script)
	screen, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 77})
	e.must(err)
	defer screen.Close()
	in := bufio.NewReader(screen)
	prompt := "33 77\r\n\x1b[1m[REDACTED:DB_URL]\x1b[0m? "
	shown := make([]byte, len(prompt))
	_, err = io.ReadFull(in, shown) // nothing was typed yet
	e.must(err)
	e.same("prompt", string(shown), prompt)
	_, err = screen.WriteString("ann\r")
	e.must(err)
	rest, _ := io.ReadAll(in)
	e.must(ignoreExit(cmd.Wait()))
	e.same("the rest", string(rest), "ann\r\n\x1b[32mHello ann\r\nagentchains: redacted DB_URL once (raw)\r\n")
	e.same("exit code", cmd.ProcessState.ExitCode(), 4)
}

// ignoreExit drops the error that an exit code is.
func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// Both streams into one keep their order, and what an agent prints and leaves when
// it is told to stop is redacted too.
func TestRunnerRedactsToTheEnd(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	as := e.agent(deployer)
	const script = `for i in 1 2 3 4 5; do echo "out $i $DB_URL"; echo "err $i" >&2; done
trap 'echo "bye $DB_URL" >&2; echo "$DB_URL" >"$AGENTCHAINS_EVENTS_DIR/last.txt"; printf %s "$OPENAI_API_KEY"; exit 1' TERM; echo ready; sleep 300 & wait`
	dir := t.TempDir()
	cmd := as.runner(deployer, []string{"--events-dir", dir}, "sh", "-c", script)
	r, w, err := os.Pipe()
	e.must(err)
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	e.must(cmd.Start())
	w.Close()
	e.Cleanup(func() { _ = cmd.Wait() })
	var got bytes.Buffer
	in := bufio.NewReader(io.TeeReader(r, &got))
	for line := ""; line != "ready\n"; {
		line, err = in.ReadString('\n')
		e.must(err)
	}
	id := e.only(deployer)
	e.write("revoke/execution/"+id, data{"reason": "the key leaked"})
	_, err = io.Copy(io.Discard, in)
	e.must(err)
	e.must(ignoreExit(cmd.Wait()))
	e.note(got.String())
	e.same("exit code", cmd.ProcessState.ExitCode(), 75)
	var want strings.Builder
	for i := range 5 {
		fmt.Fprintf(&want, "out %d [REDACTED:DB_URL]\nerr %d\n", i+1, i+1)
	}
	want.WriteString("ready\nbye [REDACTED:DB_URL]\n[REDACTED:OPENAI_API_KEY]" +
		"agentchains: redacted DB_URL 7 times (raw) in its output, last.txt\nagentchains: redacted OPENAI_API_KEY once (raw)\nagentchains: the agent was stopped: the key leaked (by token) (incident ")
	if !strings.HasPrefix(got.String(), want.String()) {
		t.Errorf("output is %q, want %q", secrets.censor(got.String()), want.String())
	}
	x := e.inspect(deployer, id)
	found := x["findings"].(data)
	e.same("execution", []any{x["state"], found["DB_URL"].(data)["count"], found["OPENAI_API_KEY"].(data)["count"]}, []any{"terminated", 7, 1})
	e.published(dir, map[string]string{"last.txt": "[REDACTED:DB_URL]\n"})
}

// When nobody reads any more, the agent's writes fail, and its end is told all the
// same. What is lost otherwise is said.
func TestRunnerWithoutReaders(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	as := e.agent(deployer)
	cmd := as.runner(deployer, nil, "sh", "-c", `trap '' PIPE; while echo "$DB_URL" 2>/dev/null; do :; done; exit 4`)
	r, w, err := os.Pipe()
	e.must(err)
	cmd.Stdout, cmd.Stderr = w, w
	e.must(cmd.Start())
	w.Close()
	_, err = io.ReadFull(r, make([]byte, 100))
	e.must(errors.Join(err, r.Close(), ignoreExit(cmd.Wait())))
	e.same("exit code", cmd.ProcessState.ExitCode(), 4)
	e.same("live", e.live(deployer), []string(nil))

	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	e.must(err)
	defer full.Close()
	for script, code := range map[string]int{"echo lost": 74, "echo lost; exit 5": 5} {
		cmd := as.runner(deployer, nil, "sh", "-c", script)
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = full, &stderr
		e.must(ignoreExit(cmd.Run()))
		e.same(script, []any{cmd.ProcessState.ExitCode(), stderr.String()}, []any{code, "agentchains: not all output could be written: write /dev/stdout: no space left on device\n"})
	}
}

// Without redaction the agent has the very files, and the record says so. What is
// readable with it is said on request.
func TestRunnerWithoutRedaction(t *testing.T) {
	e := newEngine(t)
	want := e.deployPipeline()
	cmd := e.agent(deployer).runner(deployer, []string{"--redact=off"}, "sh", "-c", `echo "$DB_URL"; read -r _; readlink /proc/self/fd/1`)
	p := e.begin(cmd)
	e.same("output", p.line(), want["DB_URL"])
	id := e.only(deployer)
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/1", p.cmd.Process.Pid))
	e.must(err)
	stdout, stderr := p.ends(0)
	e.same("output", []string{stdout, stderr}, []string{link + "\n", "agentchains: the agent's output is not redacted\n"})
	x := e.inspect(deployer, id)
	e.same("execution", []any{x["redact"], x["findings"]}, []any{false, data{}})
	_, stderr = e.begin(e.runner(deployer, []string{"-v"}, "true")).ends(0)
	e.same("what is left", stderr, "agentchains: AWS_REGION is not redacted: it is the name of a region\n")
	for flags, want := range map[string]string{
		"--redact=no":                   "agentchains: --redact must be on or off\n",
		"--redact=off --events-dir=any": "agentchains: --events-dir publishes nothing that is not redacted: it needs --redact=on\n",
	} {
		stdout, stderr = e.begin(e.runner(deployer, strings.Fields(flags), "true")).ends(2)
		e.same(flags, []string{stdout, stderr}, []string{"", want})
	}
}

// Files of events are published redacted, and the raw ones are gone in the end,
// also of a runner that was killed.
func TestRunnerPublishesEvents(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	as := e.agent(deployer)
	dir := filepath.Join(t.TempDir(), "run", "events")
	const script = `cd "$AGENTCHAINS_EVENTS_DIR" && pwd && stat -c %a . &&
echo "{\"step\":1,\"url\":\"$DB_URL\"}" >>events.jsonl && echo "{\"key\":\"$OPENAI_API_KEY\"}" >result.json && read -r _
echo '{"step":2}' >>events.jsonl; ln -s /etc/passwd passwd`
	cmd := as.runner(deployer, []string{"--events-dir", dir}, "sh", "-c", script)
	killed := *cmd
	p := as.begin(cmd)
	private := p.line()
	e.same("mode", p.line(), "700")
	id := e.only(deployer)
	e.must(eventually("the first line is published", func() (bool, error) {
		text, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return string(text) == "{\"step\":1,\"url\":\"[REDACTED:DB_URL]\"}\n", err
	}))
	e.same("findings so far", e.foundIn(id, "DB_URL"), 1)
	_, stderr := p.ends(74)
	e.same("standard error", stderr, "agentchains: redacted DB_URL once (raw) in events.jsonl\n"+
		"agentchains: redacted OPENAI_API_KEY once (raw) in result.json\n"+
		"agentchains: not all output could be written: 1 of the files of events: no regular file\n")
	e.published(dir, map[string]string{
		"events.jsonl": "{\"step\":1,\"url\":\"[REDACTED:DB_URL]\"}\n{\"step\":2}\n",
		"result.json":  "{\"key\":\"[REDACTED:OPENAI_API_KEY]\"}\n",
	})
	e.same("findings", []any{e.foundIn(id, "DB_URL"), e.foundIn(id, "OPENAI_API_KEY")}, []any{1, 1})
	e.gonePath(private)

	stdout, stderr := as.begin(as.runner(deployer, []string{"--events-dir", dir}, "true")).ends(2)
	e.same("a directory that is in use", []string{stdout, stderr}, []string{"", "agentchains: --events-dir: " + dir + " is not empty, and no file is ever replaced\n"})

	killed.Args = slices.Clone(cmd.Args)
	killed.Args[slices.Index(killed.Args, dir)] = t.TempDir()
	p = as.begin(&killed)
	private = p.line()
	p.line()
	e.must(p.cmd.Process.Signal(syscall.SIGKILL))
	p.ends(-1)
	next := as.runner(deployer, []string{"--events-dir", t.TempDir()}, "true")
	next.Env = killed.Env
	as.begin(next).silent(0)
	e.gonePath(private)
}

// foundIn is how often a variable was seen, as the record of an execution says.
func (e *engine) foundIn(id, name string) (count any) {
	e.Helper()
	e.must(eventually("the finding is told", func() (bool, error) {
		found, ok := e.inspect(deployer, id)["findings"].(data)[name].(data)
		count = found["count"]
		return ok, nil
	}))
	return count
}

// published compares all files of a directory.
func (e *engine) published(dir string, want map[string]string) {
	e.Helper()
	got := map[string]string{}
	entries, err := os.ReadDir(dir)
	e.must(err)
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		e.must(err)
		got[entry.Name()] = string(text)
	}
	e.same("published", got, want)
}

func (e *engine) gonePath(path string) {
	e.Helper()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		e.Errorf("%s is still there: %v", path, err)
	}
}
