package notify

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/outbound"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

func documentation(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDocumentation checks that docs/notifications.md has every event and field.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	text := documentation(t)
	for name, k := range kinds {
		row := fmt.Sprintf("| `%s` | %s | `%s` |", name, k.title, strings.Join(k.fields, "` `"))
		if !strings.Contains(text, row) {
			t.Errorf("there is no row %s", row)
		}
		for _, field := range k.fields {
			if !strings.Contains(text, "| `"+field+"` | ") {
				t.Errorf("the field %s is not explained", field)
			}
		}
	}
}

// TestExamples runs what the documentation says of signatures.
func TestExamples(t *testing.T) {
	t.Parallel()
	secret, body := "the key", `{"id":"1","event":"notifier.test"}`
	now := time.Now()
	good := outbound.Sign(sensitive.New(secret), []byte(body), now)
	for language, program := range map[string]string{"python": "python3", "bash": "bash"} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			for _, needed := range []string{program, "openssl"} {
				if _, err := exec.LookPath(needed); err != nil {
					if os.Getenv("REQUIRE_ALL") != "" {
						t.Fatal(err)
					}
					t.Skipf("the example is not tested: %v", err)
				}
			}
			_, code, found := strings.Cut(documentation(t), "```"+language+"\n")
			if !found {
				t.Fatal("there is no example")
			}
			code, _, _ = strings.Cut(code, "```")
			script := filepath.Join(t.TempDir(), "verify")
			if err := os.WriteFile(script, []byte(code), 0o600); err != nil {
				t.Fatal(err)
			}
			for name, call := range map[string]struct {
				header, body string
				genuine      bool
			}{
				"genuine":      {good, body, true},
				"other body":   {good, body + " ", false},
				"other key":    {outbound.Sign(sensitive.New("x"), []byte(body), now), body, false},
				"too old":      {outbound.Sign(sensitive.New(secret), []byte(body), now.Add(-6*time.Minute)), body, false},
				"no signature": {"", body, false},
				"other time":   {strings.Replace(good, "t=", "t=1", 1), body, false},
			} {
				cmd := exec.CommandContext(t.Context(), program, script, call.header)
				cmd.Env = append(os.Environ(), "HMAC_SECRET="+secret)
				cmd.Stdin = strings.NewReader(call.body)
				out, err := cmd.CombinedOutput()
				if genuine := err == nil; genuine != call.genuine {
					t.Errorf("%s: %v\n%s", name, err, out)
				}
			}
		})
	}
}
