package main

import (
	"bytes"
	"strings"
	"testing"
)

// execute runs the command as a shell would, and returns what it answers.
func execute(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(args, strings.NewReader(stdin), &out, &err)
	return code, out.String(), err.String()
}

// same compares texts, and shows both when they differ.
func same(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

func TestWrongArguments(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"nonsense":                              `unknown command "nonsense" for "agentchains"`,
		"--nonsense":                            "unknown flag: --nonsense",
		"status extra":                          `unknown command "extra" for "agentchains status"`,
		"explain --env prod":                    `required flag(s) "agent", "chain" not set`,
		"explain --env all --chain a --agent b": "--env must not be all, which means every environment",
		"explain --env prod --chain a/../b --agent b":  "--chain must be 1 to 64 letters, digits, _ or -, and begin with a letter or a digit",
		"explain --env prod --chain a --agent b/c":     "--agent must be 1 to 64 letters, digits, _ or -, and begin with a letter or a digit",
		"explain --env prod --chain a/b/c/d/e --agent": "flag needs an argument: --agent",
		"audit":                        "audit needs one FILE, or - for standard input",
		"audit /nonexistent/audit.log": "open /nonexistent/audit.log: no such file or directory",
		"audit - --since yesterday":    "--since must be a time such as 2026-01-02T15:04:05Z, or how long ago, such as 24h",
		"audit - --since -1h":          "--since must be a time such as 2026-01-02T15:04:05Z, or how long ago, such as 24h",
	}
	for args, want := range tests {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := execute("", strings.Fields(args)...)
			if code != 2 || stdout != "" {
				t.Errorf("exit code %d, output %q, want 2 and none", code, stdout)
			}
			same(t, "error", stderr, "agentchains: "+want+"\n")
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":             "Available Commands:",
		"audit --help": "Exit codes:",
		"version":      "agentchains ",
	} {
		code, stdout, stderr := execute("", strings.Fields(args)...)
		if code != 0 || stderr != "" || !strings.Contains(stdout, want) {
			t.Errorf("%q: exit code %d, error %q, no %q in:\n%s", args, code, stderr, want, stdout)
		}
	}
}
