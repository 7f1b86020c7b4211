package acceptance

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// redact is agentchains redact with the values of Deployer, by its own login.
func (e *engine) redact(flags []string, args ...string) *process {
	e.Helper()
	command := append([]string{"redact", "--env", "prod", "--chain", "deploy-pipeline", "--agent", "Deployer"}, flags...)
	return e.begin(e.agentchains(append(command, args...)...))
}

func TestRedactCommand(t *testing.T) {
	e := newEngine(t)
	values := e.deployPipeline()
	login := e.appRoleFiles("prod/deploy-pipeline/Deployer", nil)
	key, url := values["OPENAI_API_KEY"].(string), values["DB_URL"].(string)
	text := "key " + key + "\nbase64 " + base64.StdEncoding.EncodeToString([]byte("me:"+url)) + "\nhex " + hex.EncodeToString([]byte(key)) + "\nin us-west-2\n"
	const redacted = "key [REDACTED:OPENAI_API_KEY]\nbase64 bWU6[REDACTED:DB_URL]\nhex [REDACTED:OPENAI_API_KEY]\nin us-west-2\n"

	p := e.redact(login, "--fail-on-find")
	_, err := p.stdin.Write([]byte(text))
	e.must(err)
	stdout, stderr := p.ends(3)
	e.same("output", stdout, redacted)
	e.same("standard error", stderr, `agentchains: redacted 3

REDACTED        ENCODING  COUNT  FILE
DB_URL          base64    1      -
OPENAI_API_KEY  hex       1      -
OPENAI_API_KEY  raw       1      -

agentchains: AWS_REGION is not redacted: it is the name of a region
`)

	dir := e.TempDir()
	log, events := filepath.Join(dir, "agent.log"), filepath.Join(dir, "events.jsonl")
	e.must(os.WriteFile(log, []byte(text), 0o640))
	e.must(os.WriteFile(events, []byte(`{"said":"`+key[:8]+`\u00`+hex.EncodeToString([]byte(key[8:9]))+key[9:]+"\"}\n"), 0o640))
	stdout, stderr = e.redact(login, "--in-place", dir).ends(0)
	if stdout != "" || !strings.HasPrefix(stderr, "agentchains: redacted 4 in 2 of 2 files (") {
		t.Errorf("the folder is redacted with %q on standard output, and on standard error %s", stdout, stderr)
	}
	for path, want := range map[string]string{log: redacted, events: "{\"said\":\"[REDACTED:OPENAI_API_KEY]\"}\n"} {
		got, err := os.ReadFile(path)
		e.must(err)
		e.same(filepath.Base(path), string(got), want)
	}
}

// Without the values there is no output: not that of another agent's, and not
// with an agent that does not resolve.
func TestRedactCommandWithoutValues(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	other := e.appRoleFiles("prod/deploy-pipeline/CodeAnalyzer", nil)
	stdout, stderr := e.redact(other).ends(2)
	e.same("output", stdout, "")
	e.same("standard error", stderr, "agentchains: read "+e.mount+"/env/prod/deploy-pipeline/Deployer: permission denied (403)\n")

	e.ok(remove, "secrets/prod/chain/deploy-pipeline/DATABASE_URL", nil)
	e.ok(remove, "secrets/prod/org/DATABASE_URL", nil)
	stdout, stderr = e.redact(nil).ends(2)
	if stdout != "" || !strings.Contains(stderr, "DATABASE_URL is in no scope") {
		t.Errorf("an agent that does not resolve is redacted with %q on standard output, and on standard error %s", stdout, stderr)
	}
}

// Within an execution the variables that the agent was given are the values.
func TestRedactCommandInAnExecution(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	const agent = "prod/deploy-pipeline/Deployer"
	binary, err := filepath.Abs(runnerBinary)
	e.must(err)
	file := filepath.Join(e.TempDir(), "log")
	e.agent(agent).run(agent, nil, `env | `+binary+` redact --variables OPENAI_API_KEY,DB_URL,AWS_ACCESS_KEY_ID >`+file+` 2>/dev/null`).silent(0)
	text, err := os.ReadFile(file)
	e.must(err)
	e.note(string(text))
	for _, line := range []string{"OPENAI_API_KEY=[REDACTED:OPENAI_API_KEY]", "DB_URL=[REDACTED:DB_URL]", "AWS_ACCESS_KEY_ID=[REDACTED:AWS_ACCESS_KEY_ID]", "AWS_REGION=us-west-2"} {
		if !strings.Contains(string(text), line+"\n") {
			t.Errorf("there is no line %s", line)
		}
	}
}
