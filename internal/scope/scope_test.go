package scope_test

import (
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

var addresses = map[string]scope.Address{
	"prod/org/OPENAI_API_KEY":                      {Place: scope.Place{Environment: "prod"}, Kind: scope.Secret, Name: "OPENAI_API_KEY"},
	"all/org/OPENAI_API_KEY":                       {Place: scope.Place{Environment: scope.All}, Kind: scope.Secret, Name: "OPENAI_API_KEY"},
	"dev/project/platform/TOKEN":                   {Place: scope.Place{Environment: "dev", Scope: scope.Scope{Project: "platform"}}, Kind: scope.Secret, Name: "TOKEN"},
	"prod/chain/deploy-pipeline/DATABASE_URL":      {Place: scope.Place{Environment: "prod", Scope: scope.Scope{Chain: "deploy-pipeline"}}, Kind: scope.Secret, Name: "DATABASE_URL"},
	"prod/chain/a/b/c/d/KEY":                       {Place: scope.Place{Environment: "prod", Scope: scope.Scope{Chain: "a/b/c/d"}}, Kind: scope.Secret, Name: "KEY"},
	"prod/agent/deploy-pipeline/Deployer/KEY":      {Place: scope.Place{Environment: "prod", Scope: scope.Scope{Chain: "deploy-pipeline", Agent: "Deployer"}}, Kind: scope.Secret, Name: "KEY"},
	"prod/agent/a/b/c/d/Deployer/KEY":              {Place: scope.Place{Environment: "prod", Scope: scope.Scope{Chain: "a/b/c/d", Agent: "Deployer"}}, Kind: scope.Secret, Name: "KEY"},
	"prod/org/aws-deploy":                          {Place: scope.Place{Environment: "prod"}, Kind: scope.Group, Name: "aws-deploy"},
	"all/agent/billing/invoice-generator/Ledger/g": {Place: scope.Place{Environment: scope.All, Scope: scope.Scope{Chain: "billing/invoice-generator", Agent: "Ledger"}}, Kind: scope.Group, Name: "g"},
	// The words of a scope are names too, further on.
	"org1/org/ORG":                 {Place: scope.Place{Environment: "org1"}, Kind: scope.Secret, Name: "ORG"},
	"prod/chain/chain/agent/CHAIN": {Place: scope.Place{Environment: "prod", Scope: scope.Scope{Chain: "chain/agent"}}, Kind: scope.Secret, Name: "CHAIN"},
	"prod/agent/agent/agent/agent": {Place: scope.Place{Environment: "prod", Scope: scope.Scope{Chain: "agent", Agent: "agent"}}, Kind: scope.Group, Name: "agent"},
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for path, want := range addresses {
		if kind := scope.KindOf(path); kind != want.Kind {
			t.Errorf("%s is of kind %s, want %s", path, kind, want.Kind)
		}
		got, err := scope.ParseAddress(want.Kind, path)
		if err != nil || got != want {
			t.Errorf("%s is %+v, %v", path, got, err)
		}
		if got.Path() != path {
			t.Errorf("%s prints as %s", path, got.Path())
		}
		if place, err := scope.ParsePlace(want.Place.Path()); err != nil || place != want.Place {
			t.Errorf("%s is %+v, %v", want.Place.Path(), place, err)
		}
	}
}

func TestMalformedAddresses(t *testing.T) {
	t.Parallel()
	const shape = "<environment>/<scope>/<name>"
	tests := []struct {
		kind       scope.Kind
		path, want string
	}{
		{scope.Secret, "", shape},
		{scope.Secret, "KEY", shape},
		{scope.Secret, "prod/KEY", shape},
		{scope.Secret, "prod/" + marker + "/KEY", shape},
		{scope.Secret, "prod/Org/KEY", shape},
		{scope.Secret, "prod/org/" + marker + "/KEY", shape},
		{scope.Secret, "prod//KEY", shape},
		{scope.Secret, "prod/project/KEY", "the project in the path must be"},
		{scope.Secret, "prod/project/a/" + marker + "/KEY", "the project in the path must be"},
		{scope.Secret, "prod/project/" + marker + ".x/KEY", "the project in the path must be"},
		{scope.Secret, "prod/chain/KEY", "the chain in the path must be"},
		{scope.Secret, "prod/chain/a//KEY", "the chain in the path must be"},
		{scope.Secret, "prod/chain/../" + marker + "/KEY", "the chain in the path must be"},
		{scope.Secret, "prod/chain/a/b/c/d/" + marker + "/KEY", "1 to 4 segments"},
		{scope.Secret, "prod/agent/" + marker + "/KEY", "must end in <chain>/<agent>"},
		{scope.Secret, "prod/agent/a/b/c/d/e/" + marker + "/KEY", "1 to 4 segments"},
		{scope.Secret, "prod/agent/a/" + marker + "!/KEY", "the agent in the path must be"},
		{scope.Secret, "Prod" + marker + "/org/KEY", "the environment in the path must be"},
		{scope.Secret, "/org/KEY", "the environment in the path must be"},
		{scope.Secret, "../org/KEY", "the environment in the path must be"},
		{scope.Secret, "prod/org/", "the secret in the path must be"},
		{scope.Secret, "prod/org/..", "the secret in the path must be"},
		{scope.Secret, "prod/org/Hunter2", "the secret in the path must be"},
		{scope.Secret, "prod/org/PATH", "the secret in the path must not be"},
		{scope.Secret, "prod/org/AGENTCHAINS_HUNTER2", "the secret in the path must not begin"},
		{scope.Secret, "prod/org/" + marker, "is that of a group: use groups/"},
		{scope.Group, "prod/org/HUNTER2", "is that of a secret: use secrets/"},
		{scope.Group, "prod/org/Hunter2", "the group in the path must be"},
		{scope.Group, "prod/org/PATH", "the group in the path must be"},
		{scope.Group, "prod/org/", "the group in the path must be"},
	}
	for _, test := range tests {
		_, err := scope.ParseAddress(test.kind, test.path)
		refuses(t, err, test.want)
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		scope      scope.Scope
		path, text string
	}{
		{scope.Scope{}, "org", "org"},
		{scope.Scope{Project: "platform"}, "project/platform", "project:platform"},
		{scope.Scope{Chain: "billing/dunning"}, "chain/billing/dunning", "chain:billing/dunning"},
		{scope.Scope{Chain: "billing/dunning", Agent: "Mailer"}, "agent/billing/dunning/Mailer", "agent:billing/dunning/Mailer"},
	}
	for _, test := range tests {
		if test.scope.Path() != test.path || test.scope.String() != test.text {
			t.Errorf("%+v is %s and %s", test.scope, test.scope.Path(), test.scope)
		}
	}
}

func TestParseAgent(t *testing.T) {
	t.Parallel()
	tests := []struct{ path, chain, agent, refusal string }{
		{path: "deploy-pipeline/Deployer", chain: "deploy-pipeline", agent: "Deployer"},
		{path: "a/b/c/d/Deployer", chain: "a/b/c/d", agent: "Deployer"},
		{path: "", refusal: "must end in <chain>/<agent>"},
		{path: marker, refusal: "must end in <chain>/<agent>"},
		{path: marker + "/", refusal: "the agent in the path must be"},
		{path: "/" + marker, refusal: "the chain in the path must be"},
		{path: "a/../" + marker, refusal: "the chain in the path must be"},
		{path: "a/b/c/d/e/" + marker, refusal: "1 to 4 segments"},
	}
	for _, test := range tests {
		chain, agent, err := scope.ParseAgent(test.path)
		if test.refusal != "" {
			refuses(t, err, test.refusal)
		} else if err != nil || chain != test.chain || agent != test.agent {
			t.Errorf("%s is %s and %s, %v", test.path, chain, agent, err)
		}
	}
}

func TestPrefixes(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "prod", "all", "prod/org", "prod/agent/a/b/c/d/Deployer"} {
		if err := scope.CheckPrefix(path); err != nil {
			t.Errorf("%q: %v", path, err)
		}
	}
	for _, path := range []string{"/", "prod/", "/prod", "prod//org", "..", "prod/../dev", "prod/.", "prod/org/*"} {
		refuses(t, scope.CheckPrefix(path), "each segment of the path must be")
	}
}

// What parses prints as it was written: no two paths name one entry.
func FuzzParseAddress(f *testing.F) {
	for path := range addresses {
		f.Add(path)
	}
	f.Add("prod/chain/../../org/KEY")
	f.Add("prod/chain/%2e%2e/KEY")
	f.Fuzz(func(t *testing.T, path string) {
		for _, kind := range []scope.Kind{scope.Secret, scope.Group} {
			a, err := scope.ParseAddress(kind, path)
			if err != nil {
				continue
			}
			if a.Path() != path {
				t.Errorf("%q prints as %q", path, a.Path())
			}
			if scope.KindOf(path) != kind {
				t.Errorf("%q parses as one of %s", path, kind)
			}
		}
	})
}
