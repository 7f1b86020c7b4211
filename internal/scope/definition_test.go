package scope_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// decode reads JSON as Vault hands it to the engine.
func decode(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		written string
		want    []scope.Agent
	}{
		{
			`[{"name": "Idle"}]`,
			[]scope.Agent{{Name: "Idle"}},
		},
		{
			`[{"name": "A", "secrets": null, "groups": null}]`,
			[]scope.Agent{{Name: "A"}},
		},
		{
			`[{"name": "CodeAnalyzer", "secrets": ["OPENAI_API_KEY"]},
			  {"name": "Deployer", "secrets": ["OPENAI_API_KEY", {"name": "DATABASE_URL", "as": "DB_URL"}, {"name": "SENTRY_DSN", "optional": true}],
			                       "groups": ["aws-deploy", {"name": "smtp", "optional": true}]}]`,
			[]scope.Agent{
				{Name: "CodeAnalyzer", Secrets: []scope.Reference{{Name: "OPENAI_API_KEY"}}},
				{
					Name:    "Deployer",
					Secrets: []scope.Reference{{Name: "OPENAI_API_KEY"}, {Name: "DATABASE_URL", As: "DB_URL"}, {Name: "SENTRY_DSN", Optional: true}},
					Groups:  []scope.Reference{{Name: "aws-deploy"}, {Name: "smtp", Optional: true}},
				},
			},
		},
		{
			`[{"name": "Twice", "secrets": ["KEY", {"name": "KEY", "as": "LEGACY_KEY"}]}]`,
			[]scope.Agent{{Name: "Twice", Secrets: []scope.Reference{{Name: "KEY"}, {Name: "KEY", As: "LEGACY_KEY"}}}},
		},
		{
			`[{"name": "Swap", "secrets": [{"name": "A", "as": "B"}, {"name": "B", "as": "A"}]}]`,
			[]scope.Agent{{Name: "Swap", Secrets: []scope.Reference{{Name: "A", As: "B"}, {Name: "B", As: "A"}}}},
		},
	}
	for _, test := range tests {
		got, err := scope.ParseAgents(decode(t, test.written))
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s\nis  %+v, %v\nnot %+v", test.written, got, err, test.want)
			continue
		}
		again, err := scope.ParseAgents(scope.Plain(got))
		if err != nil || !reflect.DeepEqual(again, test.want) {
			t.Errorf("%s\ncomes back as %+v, %v", test.written, again, err)
		}
	}
}

func TestDefinitionsThatAreRefused(t *testing.T) {
	t.Parallel()
	key := "sk-" + strings.Repeat(marker, 3)
	const unknown, name = "has an unknown field", "must be"
	tests := []struct{ written, place, want string }{
		{`null`, "agents", "must be a list"},
		{`[]`, "agents", "at least one agent"},
		{`{"name": "hunter2"}`, "agents", "must be a list"},
		{`["hunter2"]`, "agents[0]", "object"},
		{`[null]`, "agents[0]", "object"},
		{`[{}]`, "agents[0].name", "must be a string"},
		{`[{"name": 7}]`, "agents[0].name", "must be a string"},
		{`[{"name": "hunter2!"}]`, "agents[0].name", name},
		{`[{"name": "` + key + `"}]`, "agents[0].name", "looks like a key"},
		{`[{"name": "A"}, {"name": "B"}, {"name": "A"}]`, "agents[2].name", "is the name of agents[0] too"},
		{`[{"name": "A", "prompt": "hunter2"}]`, "agents[0]", unknown},
		{`[{"name": "A", "hunter2": 1}]`, "agents[0]", unknown},
		{`[{"name": "A", "secrets": "KEY"}]`, "agents[0].secrets", "must be a list"},
		{`[{"name": "A", "secrets": {"KEY": "hunter2"}}]`, "agents[0].secrets", "must be a list"},
		{`[{"name": "A", "secrets": ["KEY", 7]}]`, "agents[0].secrets[1]", "must be a name or an object"},
		{`[{"name": "A", "secrets": ["KEY", null]}]`, "agents[0].secrets[1]", "must be a name or an object"},
		{`[{"name": "A", "secrets": ["KEY", "hunter2"]}]`, "agents[0].secrets[1]", name},
		{`[{"name": "A", "secrets": ["KEY", "` + key + `"]}]`, "agents[0].secrets[1]", "looks like a key"},
		{`[{"name": "A", "secrets": ["LD_HUNTER2"]}]`, "agents[0].secrets[0]", "load or run"},
		{`[{"name": "A", "secrets": ["AGENTCHAINS_HUNTER2"]}]`, "agents[0].secrets[0]", "reserved"},
		{`[{"name": "A"}, {"name": "B", "secrets": [{"as": "HUNTER2"}]}]`, "agents[1].secrets[0].name", "must be a string"},
		{`[{"name": "A", "secrets": [{"name": "hunter2"}]}]`, "agents[0].secrets[0].name", name},
		{`[{"name": "A", "secrets": [{"name": "` + key + `"}]}]`, "agents[0].secrets[0].name", "looks like a key"},
		{`[{"name": "A", "secrets": [{"name": "KEY", "value": "hunter2"}]}]`, "agents[0].secrets[0]", unknown},
		{`[{"name": "A", "secrets": [{"name": "KEY", "as": null}]}]`, "agents[0].secrets[0].as", "must be a string"},
		{`[{"name": "A", "secrets": [{"name": "KEY", "as": ""}]}]`, "agents[0].secrets[0].as", name},
		{`[{"name": "A", "secrets": [{"name": "KEY", "as": "hunter2"}]}]`, "agents[0].secrets[0].as", name},
		{`[{"name": "A", "secrets": [{"name": "KEY", "as": "PATH"}]}]`, "agents[0].secrets[0].as", "load or run"},
		{`[{"name": "A", "secrets": [{"name": "KEY", "as": "AGENTCHAINS_HUNTER2"}]}]`, "agents[0].secrets[0].as", "reserved"},
		{`[{"name": "A", "secrets": [{"name": "KEY", "optional": "true"}]}]`, "agents[0].secrets[0].optional", "true or false"},
		{`[{"name": "A", "secrets": ["KEY", "KEY"]}]`, "agents[0].secrets[1]", "the same variable or group as agents[0].secrets[0]"},
		{`[{"name": "A", "secrets": ["KEY", {"name": "OTHER", "as": "KEY"}]}]`, "agents[0].secrets[1]", "the same variable"},
		{`[{"name": "A", "secrets": [{"name": "X", "as": "KEY"}, {"name": "Y", "as": "KEY"}]}]`, "agents[0].secrets[1]", "the same variable"},
		{`[{"name": "A", "groups": "aws"}]`, "agents[0].groups", "must be a list"},
		{`[{"name": "A", "groups": ["aws", "aws"]}]`, "agents[0].groups[1]", "the same variable or group as agents[0].groups[0]"},
		{`[{"name": "A", "groups": ["HUNTER2"]}]`, "agents[0].groups[0]", name},
		{`[{"name": "A", "groups": ["` + key + `"]}]`, "agents[0].groups[0]", "looks like a key"},
		{`[{"name": "A", "groups": [{"name": "aws", "as": "hunter2"}]}]`, "agents[0].groups[0]", unknown},
	}
	for _, test := range tests {
		_, err := scope.ParseAgents(decode(t, test.written))
		if refuses(t, err, test.want); err != nil && !strings.HasPrefix(err.Error(), test.place+" ") {
			t.Errorf("%s: %q does not begin with %s", test.written, err, test.place)
		}
	}
}

func TestLimitsOfDefinitions(t *testing.T) {
	t.Parallel()
	agents := make([]any, 257)
	for i := range agents {
		agents[i] = map[string]any{"name": fmt.Sprint("Agent", i)}
	}
	if _, err := scope.ParseAgents(agents[:256]); err != nil {
		t.Error(err)
	}
	_, err := scope.ParseAgents(agents)
	refuses(t, err, "agents must be at most 256")

	references := make([]any, 1000)
	for i := range references {
		references[i] = fmt.Sprint("KEY_", i)
	}
	agent := map[string]any{"name": "Agent", "secrets": references}
	if _, err := scope.ParseAgents([]any{agent}); err != nil {
		t.Error(err)
	}
	agent["groups"] = []any{"one-more"}
	_, err = scope.ParseAgents([]any{agent})
	refuses(t, err, "agents[0] must have at most 1000")
}

func TestAgentOfDefinition(t *testing.T) {
	t.Parallel()
	d := scope.Definition{Agents: []scope.Agent{{Name: "Analyzer"}, {Name: "Deployer"}}}
	if d.Agent("Deployer") != &d.Agents[1] || d.Agent("deployer") != nil {
		t.Error("an agent is found by its exact name, and by no other")
	}
}

// What parses comes back, in the form people write it, as the same agents.
func FuzzParseAgents(f *testing.F) {
	for _, seed := range []string{
		`[{"name": "A", "secrets": ["KEY", {"name": "OTHER", "as": "ALIAS", "optional": true}], "groups": ["aws"]}]`,
		`[{"name": "A", "secrets": []}, {"name": "B", "groups": [{"name": "aws", "optional": false}]}]`,
		`[{"name": "A", "secrets": [["KEY"], {"name": {}}]}]`,
		`{"agents": []}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, written []byte) {
		var v any
		if json.Unmarshal(written, &v) != nil {
			return
		}
		agents, err := scope.ParseAgents(v)
		if err != nil {
			return
		}
		plain := scope.Plain(agents)
		again, err := scope.ParseAgents(plain)
		if err != nil {
			t.Fatalf("%s does not come back: %v", written, err)
		}
		if !reflect.DeepEqual(scope.Plain(again), plain) {
			t.Errorf("%s comes back as %v", written, scope.Plain(again))
		}
	})
}
