package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// TestMain gives the tests a home without a token. It is one for all of them,
// because the token helper looks for it once in a process.
func TestMain(m *testing.M) {
	home, err := os.MkdirTemp("", "agentchains")
	if err != nil {
		panic(err)
	}
	os.Setenv("HOME", home)
	code := m.Run()
	os.RemoveAll(home)
	os.Exit(code)
}

// vaultAnswers points the command at a server that answers every request with
// the status and the body, and returns the last request.
func vaultAnswers(t *testing.T, status int, body string) (asked *http.Request) {
	t.Helper()
	asked = new(http.Request)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = *r
		w.WriteHeader(status)
		w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	t.Setenv("VAULT_ADDR", server.URL)
	t.Setenv("VAULT_TOKEN", "from-the-variable")
	return asked
}

// captured reads an answer that was captured from the engine.
func captured(t *testing.T, name string) string {
	t.Helper()
	answer, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestVaultErrors(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"wrapped", 403, `{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}`, "permission denied; invalid token (403)"},
		{"plain", 400, `{"errors":["the environment in the path is not one of dev, staging"]}`, "the environment in the path is not one of dev, staging (400)"},
		{"not found", 404, `{"errors":["1 error occurred:\n\t* chain a has no agent b\n\n"]}`, "chain a has no agent b (404)"},
		{"without a text", 404, `{"errors":[]}`, "Not Found (404)"},
		{"no JSON", 200, "<html>", "decode: invalid character '<' looking for beginning of value"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			vaultAnswers(t, test.status, test.body)
			code, stdout, stderr := execute("", "status", "--mount", "/agents/")
			if code != 2 || stdout != "" {
				t.Errorf("exit code %d, output %q, want 2 and none", code, stdout)
			}
			same(t, "error", stderr, "agentchains: read agents/status: "+test.want+"\n")
		})
	}
}

func TestToken(t *testing.T) {
	asked := vaultAnswers(t, http.StatusOK, captured(t, "status.json"))
	sent := func() string {
		if code, _, stderr := execute("", "status"); code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		return asked.Header.Get("X-Vault-Token")
	}
	file := filepath.Join(os.Getenv("HOME"), ".vault-token")
	if err := os.WriteFile(file, []byte("from-the-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	same(t, "token", sent(), "from-the-variable")
	t.Setenv("VAULT_TOKEN", "")
	same(t, "token", sent(), "from-the-file")

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := execute("", "status")
	if code != 2 {
		t.Errorf("exit code %d without a token, want 2", code)
	}
	same(t, "error", stderr, "agentchains: there is no token: run vault login, or set VAULT_TOKEN\n")
}
