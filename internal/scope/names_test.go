package scope_test

import (
	"strings"
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		check     func(string) error
		good, bad []string
	}{
		"environment": {
			scope.CheckEnvironment,
			[]string{"d", "prod", "eu-prod-2", "prod-", "alls", "a" + strings.Repeat("1", 31)},
			[]string{"", "all", "Prod", "1prod", "-prod", "prod_1", "pr.od", "prod/eu", "prod\n", "prød", "a" + strings.Repeat("1", 32)},
		},
		"segment": {
			scope.CheckSegment,
			[]string{"a", "Z", "0", "Deployer", "step_1", "a--b", "a-", strings.Repeat("x", 64)},
			[]string{"", ".", "..", "-a", "_a", "a.b", "a/b", "a b", "a\n", "a\x00", "%2e%2e", "é", strings.Repeat("x", 65)},
		},
		"chain": {
			scope.CheckChain,
			[]string{"deploy-pipeline", "billing/invoice-generator", "a/b/c/d", strings.Repeat("x", 64) + "/" + strings.Repeat("y", 64)},
			[]string{"", "/", "/a", "a/", "a//b", "a/../b", "a/./b", "a/b/c/d/e", "billing/*", "a/" + strings.Repeat("x", 65)},
		},
		"variable": {
			scope.CheckVariable,
			[]string{"A", "DATABASE_URL", "_INTERNAL", "__", "S3", "AGENTCHAINS", "MY_PATH", "PATH_PREFIX", "LDAP_URL", "GIT_TOKEN", "A" + strings.Repeat("9", 127)},
			[]string{"", "a", "database_url", "Database", "1A", "A-B", "A.B", "A B", "A=B", "A\n", "A\x00", "É", "A" + strings.Repeat("9", 128)},
		},
		"group": {
			scope.CheckGroup,
			[]string{"a", "aws-deploy", "s3", "a" + strings.Repeat("b", 63)},
			[]string{"", "Aws", "1a", "-a", "aws_deploy", "a.b", "a/b", "a" + strings.Repeat("b", 64)},
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for _, name := range test.good {
				if err := test.check(name); err != nil {
					t.Errorf("%q: %v", name, err)
				}
			}
			for _, name := range test.bad {
				if test.check(name) == nil {
					t.Errorf("%q is accepted", name)
				}
			}
		})
	}
}

// A variable that makes a program load or run something else is the way from
// writing a secret to running code as the agent.
func TestDangerousVariables(t *testing.T) {
	t.Parallel()
	for _, name := range strings.Fields(`
		PATH HOME SHELL USER TMPDIR IFS ENV BASH_ENV SHELLOPTS BASHOPTS PS4 PROMPT_COMMAND CDPATH _
		LD_ LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT DYLD_INSERT_LIBRARIES GLIBC_TUNABLES GCONV_PATH LOCPATH
		NODE_OPTIONS NODE_PATH PYTHONPATH PYTHONSTARTUP PYTHONHOME PERL5OPT PERL5LIB RUBYOPT RUBYLIB
		JAVA_TOOL_OPTIONS _JAVA_OPTIONS JDK_JAVA_OPTIONS GIT_SSH GIT_SSH_COMMAND GIT_EXEC_PATH
		GIT_CONFIG GIT_CONFIG_GLOBAL GIT_CONFIG_KEY_0 GIT_EXTERNAL_DIFF SSH_ASKPASS EDITOR VISUAL PAGER BROWSER`) {
		refuses(t, scope.CheckVariable(name), "load or run something else")
	}
	for _, name := range []string{"AGENTCHAINS_", "AGENTCHAINS_EXECUTION_ID"} {
		refuses(t, scope.CheckVariable(name), "reserved")
	}
}

// A name that looks like a key is a key in the wrong place, and names are shown.
func TestNamesThatAreKeys(t *testing.T) {
	t.Parallel()
	const keyLike = "looks like a key"
	for prefix, least := range map[string]int{ // characters after the prefix
		"sk-": 16, "sk-proj-": 8, "sk-ant-": 8, "sk_live_": 8, "rk_test_": 8, "AKIA": 16, "ASIA": 16, "AIDA": 16, "AROA": 16,
		"ghp_": 12, "gho_": 12, "ghs_": 12, "github_pat_": 12, "glpat-": 12, "xoxb-": 10, "xoxp-": 10,
		"AIza": 30, "npm_": 30, "hvs.": 20, "eyJ": 16, "dop_v1_": 16, "shpat_": 16, "lin_api_": 16, "dckr_pat_": 16,
	} {
		key := prefix + strings.Repeat("7", least)
		for _, check := range []func(string) error{
			scope.CheckEnvironment, scope.CheckSegment, scope.CheckChain, scope.CheckVariable, scope.CheckGroup,
		} {
			refuses(t, check(key), keyLike)
		}
		if err := scope.CheckSegment(key[:len(key)-1]); err != nil && strings.Contains(err.Error(), keyLike) {
			t.Errorf("%s and %d characters are taken for a key", prefix, least-1)
		}
	}
	for _, name := range []string{"sk-learn-training", "sk-analytics-pipeline", "asiapacificreports", "npm_publish", "xoxb-bot"} {
		if err := scope.CheckSegment(name); err != nil {
			t.Errorf("%s %v", name, err)
		}
	}
	for _, name := range []string{"ASIAPACIFICREGION", "PK_TEST_ENDPOINT", "SK_LIVE_PASSWORD", "AKIA"} {
		if err := scope.CheckVariable(name); err != nil {
			t.Errorf("%s %v", name, err)
		}
	}
}

func TestChainsAllowed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern, chain string
		allowed        bool
	}{
		{"billing", "billing", true},
		{"billing", "billing/dunning", false},
		{"billing", "Billing", false},
		{"billing/dunning", "billing/dunning", true},
		{"billing/dunning", "billing", false},
		{"billing/*", "billing/dunning", true},
		{"billing/*", "billing/eu/dunning", true},
		{"billing/*", "billing", false},
		{"billing/*", "billing-eu/dunning", false},
		{"billing/*", "billingx", false},
		{"billing/eu/*", "billing/eu/dunning", true},
		{"billing/eu/*", "billing/us/dunning", false},
	}
	for _, test := range tests {
		if err := scope.CheckChainPatterns([]string{test.pattern}); err != nil {
			t.Errorf("%s: %v", test.pattern, err)
		}
		project := scope.Project{ChainsAllowed: []string{"other", test.pattern}}
		if project.Allows(test.chain) != test.allowed {
			t.Errorf("%s allows %s: %v", test.pattern, test.chain, !test.allowed)
		}
	}
	var absent *scope.Project
	if absent.Allows("billing") || (&scope.Project{}).Allows("billing") {
		t.Error("a project without a list allows a chain")
	}
}

func TestChainPatternsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"", "*", "/*", "**", "bil*", "*/dunning", "billing/*/x", "billing/**", "billing/", "../*", "a/b/c/d/e"} {
		if scope.CheckChainPatterns([]string{"billing", pattern}) == nil {
			t.Errorf("%q is accepted", pattern)
		}
	}
	refuses(t, scope.CheckChainPatterns([]string{"*"}), "bare *")
	many := make([]string, 1001)
	for i := range many {
		many[i] = "billing"
	}
	refuses(t, scope.CheckChainPatterns(many), "at most 1000")
	if err := scope.CheckChainPatterns(many[:1000]); err != nil {
		t.Error(err)
	}
}

// marker stands where a caller may have put a secret by mistake.
const marker = "hunter2"

// refuses checks that err is there, says want, and does not repeat the marker.
func refuses(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("no error, want %q", want)
	case !strings.Contains(err.Error(), want):
		t.Errorf("%q does not say %q", err, want)
	case strings.Contains(strings.ToLower(err.Error()), marker):
		t.Errorf("an error repeats what it refuses: it should say %q only", want)
	}
}

func TestErrorsDoNotRepeatNames(t *testing.T) {
	t.Parallel()
	const bad = marker + "!"
	for _, err := range []error{
		scope.CheckEnvironment(bad),
		scope.CheckSegment(bad),
		scope.CheckChain("billing/" + bad),
		scope.CheckVariable(bad),
		scope.CheckVariable("LD_" + strings.ToUpper(marker)),
		scope.CheckVariable("AGENTCHAINS_" + strings.ToUpper(marker)),
		scope.CheckVariable("ghp_" + strings.Repeat(marker, 3)),
		scope.CheckGroup(bad),
		scope.CheckChainPatterns([]string{bad + "/*"}),
		scope.CheckPrefix("prod/" + bad),
	} {
		refuses(t, err, "")
	}
}
