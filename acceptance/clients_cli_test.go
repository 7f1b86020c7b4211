package acceptance

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// everything stores something at every path that can be read or listed, and
// returns what stands in the examples for ids that do not exist.
func (e *engine) everything() *strings.Replacer {
	e.Helper()
	e.chain("known", "known", "KNOWN")
	e.chain("held", "", "KNOWN")
	e.secret("prod/org/KNOWN", nil)
	e.write("groups/prod/org/known", data{"values": data{"MEMBER": e.value("group")}})
	e.write("scopes/project/known", data{"chains_allowed": []string{"known"}})
	e.write("rotators/known", data{"type": "password"})
	e.write("config", data{"allowed_hosts": []string{"hooks.example.com"}})
	e.write("notifiers/known", data{"url": "https://hooks.example.com", "template": "slack", "events": "secret.expired"})
	e.write("schedules/prod/org/KNOWN", data{"rotation_period": "90d"})
	incident := e.write("revoke/agent/prod/held/Worker", data{"reason": "a test", "hold": true})["incident_id"].(string)
	return strings.NewReplacer(noExecution, e.start("prod/known/Worker", nil).id, noIncident, incident)
}

// Whatever can be read or listed, the command shows as a table without a warning,
// and as JSON with the fields that the API answers.
func TestCommandReadsEveryPath(t *testing.T) {
	e := newEngine(t)
	ids, count := e.everything(), 0
	for published, operations := range e.openAPI().Paths {
		template := strings.TrimPrefix(published, "/"+e.mount+"/")
		if _, ok := operations["get"]; !ok {
			continue
		}
		path, o, body := ids.Replace(examples[template].paths[0]), read, data(nil)
		if strings.HasSuffix(template, "/") {
			o = list
		}
		args := []string{e.mount + "/" + path}
		if template == "executions/{path}" {
			body = data{"id": ids.Replace(noExecution)}
			args = append(args, "id="+ids.Replace(noExecution))
		}
		if table := e.vault("", append([]string{string(o)}, args...)...); !aTable.MatchString(table) {
			t.Errorf("vault %s %s prints no table:\n%s", o, path, secrets.censor(table))
		}
		want := any(e.ok(o, path, body))
		if o == list {
			want = want.(data)["keys"]
		}
		var got any
		e.must(json.Unmarshal([]byte(e.vault("", append([]string{string(o), "-format=json"}, args...)...)), &got))
		if o == read {
			got = got.(map[string]any)["data"]
		}
		e.same("the fields of "+path, fields(got), fields(plain(t, want)))
		count++
	}
	t.Logf("%d paths were read", count)
}

// Below names of one segment there is nothing.
func TestNothingIsBelowAName(t *testing.T) {
	e := newEngine(t)
	e.everything()
	for _, door := range []string{"holds", "incidents", "notifiers", "rotators", "scopes/project"} {
		e.nothing(door+"/known", nil)
	}
}

// aTable is a heading, a line below it, and at least one row.
var aTable = regexp.MustCompile(`\AKeys?( +Value)?\n----?( +-----)?\n[^\n]`)

// fields are the names of what may change from one answer to the next, or the
// keys of a list.
func fields(answer any) any {
	if values, ok := answer.(map[string]any); ok {
		return slices.Sorted(maps.Keys(values))
	}
	return answer
}

// What an operator changes by the command is answered with a table, or with a
// sentence where there is nothing to show, and never with a warning.
func TestCommandWrites(t *testing.T) {
	e := newEngine(t)
	ids := e.everything()
	const entry = "/prod/org/TOKEN"
	for _, row := range []struct{ command, want string }{
		{"write agentchains/scopes/project/p chains_allowed=c,d/*", `chains_allowed +\[c d/\*\]`},
		{"write agentchains/secrets" + entry + " value=-", `current_version +1\n`},
		{"write agentchains/rotate" + entry + " value=- min_overlap=1h", `state +serving\n`},
		{"write -f agentchains/confirm" + entry, `proof +confirmed\n`},
		{"write agentchains/abort" + entry + " reason=wrong", `state +idle\n`},
		{"write agentchains/secrets" + entry + " value=- cas=1", `pending_version +3\n`},
		{"write agentchains/promote" + entry + " force=true", `current_version +3\n`},
		{"patch agentchains/secrets" + entry + " sensitivity=high", `sensitivity +high\n`},
		{"write agentchains/schedules" + entry + " rotation_period=30d auto_rotate=false", `rotate_every_days +30\n`},
		{"delete agentchains/schedules" + entry, success},
		{"write agentchains/rotators/strong type=password length=40", `length +40\n`},
		{"delete agentchains/rotators/strong", success},
		{"write agentchains/config creds_max_ttl=90s", `creds_max_ttl +(90|1m30s)\n`},
		{"write agentchains/execution/" + noExecution + "/finish exit_code=0", `state +finished\n`},
		{"write agentchains/revoke/secret" + entry + " reason=leaked dry_run=true", `versions +\[3\]\n`},
		{"write agentchains/revoke/secret" + entry + " reason=leaked", `incident_id +20\d{6}-`},
		{"delete agentchains/revoke/agent/prod/held/Worker", success},
		{"write -f agentchains/notifiers/known/retry", `retried +0\n`},
		{"delete agentchains/notifiers/known", success},
		{"delete agentchains/scopes/project/p", success},
		{"delete agentchains/incidents/" + noIncident, success},
		{"delete agentchains/secrets" + entry, success},
	} {
		words := strings.ReplaceAll(ids.Replace(row.command), "agentchains/", e.mount+"/")
		out := e.vault(e.value(row.command), strings.Fields(words)...)
		e.note(out)
		if !regexp.MustCompile(row.want).MatchString(out) {
			t.Errorf("vault %s prints\n%s, want %s", row.command, secrets.censor(out), row.want)
		}
	}
}

const success = `\ASuccess! Data deleted \(if it existed\) at: `

// The help of a path tells what it is for, in a line, and of each field what it
// takes.
func TestPathHelpIsComplete(t *testing.T) {
	e := newEngine(t)
	spec, count := e.openAPI(), 0
	for published, operations := range spec.Paths {
		template := strings.TrimPrefix(published, "/"+e.mount+"/")
		if strings.HasSuffix(template, "/") {
			continue // the LIST of the path without it
		}
		help := e.vault("", "path-help", e.mount+"/"+examples[template].paths[0])
		if !helpBegins.MatchString(help) {
			t.Errorf("the help of %s has no synopsis of one sentence:\n%s", template, help)
		}
		for method := range verbs {
			raw, ok := operations[method]
			if !ok {
				continue
			}
			var o operation
			e.must(json.Unmarshal(raw, &o))
			for name := range spec.body(o.OperationID) {
				if !regexp.MustCompile(`(?m)^    ` + name + ` \(\w+( \(sec\))?\)\n\n        [^\n]{10,}\.`).MatchString(help) {
					t.Errorf("the help of %s does not tell what %s takes", template, name)
				}
				count++
			}
		}
	}
	t.Logf("%d fields have help", count)
}

// helpBegins is the route, the synopsis, and what follows.
var helpBegins = regexp.MustCompile(`\ARequest: .*\nMatching Route: .*\n\n[A-Z][^\n]{9,}\.\n+## (PARAMETERS|DESCRIPTION)\n`)

// The kv commands take the mount for a KV store of version 1.
func TestKVCommand(t *testing.T) {
	e := newEngine(t)
	env := e.deployPipeline()
	for _, args := range [][]string{{e.mount + "/env/" + deployer}, {"-mount=" + e.mount, "env/" + deployer}} {
		var got struct{ Data data }
		e.must(json.Unmarshal([]byte(e.vault("", slices.Concat([]string{"kv", "get", "-format=json"}, args)...)), &got))
		e.same("vault kv get", got.Data, env)

		lines := strings.Split(strings.TrimSpace(e.vault("", slices.Concat([]string{"kv", "get"}, args)...)), "\n")
		table := data{}
		for _, line := range lines[3:] {
			words := strings.Fields(line)
			table[words[0]] = strings.Join(words[1:], " ")
		}
		e.same("the table of vault kv get", table, env)
	}
	e.same("vault kv list", strings.Fields(e.vault("", "kv", "list", e.mount+"/env/prod/deploy-pipeline"))[2:], []string{"CodeAnalyzer", "Deployer"})

	path, value := e.mount+"/secrets/prod/org/TOKEN", e.value("TOKEN")
	e.vault(value, "kv", "put", path, "value=-")
	e.same("what vault kv put stored", e.read("reveal/prod/org/TOKEN")["value"], value)
	e.vault("", "kv", "delete", path)
	e.refused(404, "there is no", read, "secrets/prod/org/TOKEN", nil)
	for _, args := range [][]string{
		{"patch", path, "value=harmless"}, {"metadata", "get", path}, {"undelete", "-versions=1", path},
		{"rollback", "-version=1", path}, {"destroy", "-versions=1", path},
	} {
		_, stderr, err := e.command("", append([]string{"kv"}, args...)...)
		if err == nil || !versionTwo.MatchString(stderr) {
			t.Errorf("vault kv %s: %v\n%s", strings.Join(args, " "), err, stderr)
		}
	}
}

// versionTwo is how the command says that it needs a KV store of version 2.
var versionTwo = regexp.MustCompile(`(?i)not supported (on|by) K/?V|must be version 2|K/V Version 1`)

// The commands of docs/clients.md succeed, typed one after the other.
func TestDocumentedCommands(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	dir, count := t.TempDir(), 0
	e.must(errors.Join(
		os.Symlink(vault.Binary, filepath.Join(dir, "vault")),
		os.WriteFile(filepath.Join(dir, "deploy-pipeline.json"), []byte(deployPipeline), 0o600),
	))
	for line := range strings.Lines(e.section("vault command") + e.section("Process supervisor")) {
		command, ok := strings.CutPrefix(line, "$ ")
		if !ok {
			continue
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", strings.ReplaceAll(command, "agentchains/", e.mount+"/"))
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(e.value(command))
		cmd.Env = vault.Environ("PATH="+dir+":"+os.Getenv("PATH"), "VAULT_TOKEN="+e.client.Token())
		if output, err := cmd.CombinedOutput(); err != nil || len(output) == 0 || strings.Contains(string(output), "WARNING") {
			t.Errorf("%s%v: %s", line, err, secrets.censor(string(output)))
		}
		count++
	}
	if count == 0 {
		t.Error("the document has no commands")
	}
	e.same("the description", e.read("secrets/prod/org/OPENAI_API_KEY")["description"], "the account of the team")
}
