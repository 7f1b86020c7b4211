package acceptance

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// command runs vault as a person does, and returns what it prints. Only what it
// prints as its result may hold a value.
func (e *engine) command(stdin string, args ...string) (stdout, stderr string, err error) {
	e.Helper()
	cmd := exec.CommandContext(e.Context(), vault.Binary, args...)
	cmd.Env = vault.Environ("VAULT_TOKEN=" + e.client.Token())
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	e.note(errs.String())
	return out.String(), secrets.censor(errs.String()), err
}

// vault runs a command that must succeed without a warning.
func (e *engine) vault(stdin string, args ...string) string {
	e.Helper()
	stdout, stderr, err := e.command(stdin, args...)
	if err != nil || stderr != "" || strings.Contains(stdout, "WARNING") {
		e.Fatalf("vault %s: %v\n%s%s", strings.Join(args, " "), err, stderr, secrets.censor(stdout))
	}
	return stdout
}

// file writes a file and returns it as an argument of vault write.
func (e *engine) file(text string) string {
	e.Helper()
	path := filepath.Join(e.TempDir(), "body.json")
	e.must(os.WriteFile(path, []byte(text), 0o600))
	return "@" + path
}

func TestCommand(t *testing.T) {
	e := newEngine(t)
	m, key, database, token := e.mount, e.value("OPENAI_API_KEY"), e.value("DATABASE_URL"), e.value("TOKEN")
	e.vault("", "write", m+"/scopes/chain/deploy-pipeline", e.file(deployPipeline))
	e.vault("", "write", m+"/scopes/project/platform", "chains_allowed=deploy-pipeline,billing/*")
	e.same("chains_allowed", e.read("scopes/project/platform")["chains_allowed"], []string{"deploy-pipeline", "billing/*"})
	e.vault(key, "write", m+"/secrets/all/org/OPENAI_API_KEY", "value=-")
	out := e.vault(database, "write", m+"/secrets/prod/chain/deploy-pipeline/DATABASE_URL", "value=-", "cas=0", "access_log_enabled=false", "redact=true", "sensitivity=critical")
	e.note(out)
	e.vault("", "write", m+"/groups/prod/org/aws-deploy", e.file(`{"values": {"AWS_REGION": "us-west-2", "AWS_TOKEN": "`+token+`"}}`))
	e.vault("", "patch", m+"/groups/prod/org/aws-deploy", e.file(`{"values": {"AWS_REGION": null}, "description": "patched"}`))
	e.vault("", "patch", m+"/secrets/all/org/OPENAI_API_KEY", "description=patched")

	agent := m + "/env/prod/deploy-pipeline/Deployer"
	for name, want := range map[string]string{"OPENAI_API_KEY": key, "DB_URL": database, "AWS_TOKEN": token} {
		for _, args := range [][]string{{"read", "-field=" + name, agent}, {"kv", "get", "-field=" + name, agent}} {
			if got := e.vault("", args...); got != want {
				t.Errorf("vault %s prints something else than the value", strings.Join(args, " "))
			}
		}
	}
	if table := e.vault("", "kv", "get", agent); !strings.Contains(table, "== Data ==") || strings.Contains(table, "AWS_REGION") {
		t.Errorf("vault kv get prints\n%s", secrets.censor(table))
	}
	e.note(e.vault("", "read", m+"/secrets/all/org/OPENAI_API_KEY"))
	e.note(e.vault("", "read", "-format=json", m+"/explain/prod/deploy-pipeline/Deployer"))

	for path, want := range map[string]string{
		"scopes/chain": "deploy-pipeline", "scopes/project": "platform", "secrets": "all/ prod/", "groups/prod/org": "aws-deploy",
		"env": "dev/ prod/ staging/", "env/prod/deploy-pipeline/": "CodeAnalyzer Deployer",
	} {
		if got := strings.Fields(e.vault("", "list", m+"/"+path))[2:]; strings.Join(got, " ") != want {
			t.Errorf("vault list %s prints %q, want %q", path, got, want)
		}
	}

	policy := unique("policy")
	e.vault(e.vault("", "read", "-field=policy", m+"/policy/prod/deploy-pipeline/Deployer"), "policy", "write", policy, "-")
	e.same("env by the policy", e.withToken(policy).read("env/prod/deploy-pipeline/Deployer"), e.read("env/prod/deploy-pipeline/Deployer"))

	e.vault("", "delete", m+"/secrets/all/org/OPENAI_API_KEY")
	if _, stderr, err := e.command("", "read", agent); err == nil || !strings.Contains(stderr, "OPENAI_API_KEY is in no scope") {
		t.Errorf("vault read without a secret: %v %s", err, stderr)
	}
}

// What the command turns into another type than it looks like is refused as
// anywhere: group members that are not JSON, and fields that do not exist.
func TestCommandRefused(t *testing.T) {
	e := newEngine(t)
	value := e.value("TOKEN")
	for want, args := range map[string][]string{
		"there is no field values": {"write", e.mount + "/secrets/prod/org/TOKEN", "values=-"},
		"there is no field path":   {"write", e.mount + "/secrets/prod/org/TOKEN", "path=-"},
		"values must be an object": {"write", e.mount + "/groups/prod/org/pair", "values=-"},
		"must not hold a NUL":      {"write", e.mount + "/secrets/prod/org/TOKEN", "value=-"},
	} {
		_, stderr, err := e.command(value+"\x00", args...)
		if err == nil || !strings.Contains(stderr, "Code: 400") || !strings.Contains(stderr, want) {
			t.Errorf("vault %s: %v\n%s, want a 400 with %q", strings.Join(args, " "), err, stderr, want)
		}
	}
	e.same("what is stored", e.stored(), data{"config": e.read("config")})
}

// Every path that is published has a help text of its own.
func TestPathHelp(t *testing.T) {
	e := newEngine(t)
	route := regexp.MustCompile(`(?m)^(Request|Matching Route): .*$`)
	described := regexp.MustCompile(`\n## DESCRIPTION\n\s*\S[^\n]{20,}`)
	texts := map[string]string{}
	for published := range e.openAPI().Paths {
		template := strings.TrimPrefix(published, "/"+e.mount+"/")
		if strings.HasSuffix(template, "/") {
			continue // the LIST of the path without it
		}
		text := route.ReplaceAllString(e.vault("", "path-help", e.mount+"/"+examples[template].paths[0]), "")
		if !described.MatchString(text) {
			t.Errorf("the help of %s has no description:\n%s", template, text)
		}
		if other, twice := texts[text]; twice {
			t.Errorf("%s and %s have the same help", template, other)
		}
		texts[text] = template
	}
	index := e.vault("", "path-help", e.mount)
	for _, template := range texts {
		door, _, _ := strings.Cut(template, "/")
		if !slices.ContainsFunc(strings.Split(index, "\n"), func(line string) bool { return strings.Contains(line, "^"+door) }) {
			t.Errorf("the help of the mount does not list %s:\n%s", door, index)
		}
	}
}
