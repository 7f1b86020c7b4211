package acceptance

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The procedure of docs/emergency.md, typed by somebody on call, does what the
// document says.
func TestDocumentedEmergency(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	runners := e.guard([]string{deployer, deployer, analyzer})
	e.read("env/" + deployer)
	onCall := e.userpass(e.policy(policies(t, e.mount)["On call"]))
	dir, value := t.TempDir(), e.value("new")
	e.must(os.Symlink(vault.Binary, filepath.Join(dir, "vault")))
	text, err := os.ReadFile("../docs/emergency.md")
	e.must(err)
	ran := 0
	for line := range strings.Lines(string(text)) {
		command, ok := strings.CutPrefix(line, "$ ")
		if !ok {
			continue
		}
		ran++
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", strings.ReplaceAll(command, "agentchains/", e.mount+"/"))
		cmd.Dir = dir
		cmd.Env = vault.Environ("PATH="+dir+":"+os.Getenv("PATH"), "VAULT_TOKEN="+onCall.client.Token(), "NEW_URL="+value)
		output, err := cmd.CombinedOutput()
		e.note(string(output))
		if err != nil || len(output) == 0 {
			t.Fatalf("%s%v: %s", line, err, secrets.censor(string(output)))
		}
	}
	if ran == 0 {
		t.Fatal("the document has no commands")
	}
	for _, g := range runners {
		g.ends(75)
		e.gone(g.orphan, g.child)
	}
	e.same("the new value", e.read("env/" + deployer)["DB_URL"], value)
	id, err := os.ReadFile(filepath.Join(dir, "incident"))
	e.must(err)
	e.same("counts", e.closed(string(id))["counts"], counts(2, 0, 0))
	e.nothing("holds", nil)
}
