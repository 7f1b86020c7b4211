// Package clients tests the engine with what needs modules that the engine must
// not have: the webhook of the Vault Agent injector mutates a pod, and the
// containers that it injects run here as processes, with the real vault agent,
// against a real Vault with the engine; manifests, a compose file and a workflow
// are checked by the rules of those that read them, and so is the OpenAPI
// document. In place of a cluster the tests sign the tokens of service accounts.
// It needs Linux, bin/ from make build, and VAULT_ACC=1.
package clients

import (
	"fmt"
	"os"
	"testing"
)

// vault is the server that all tests share. It is nil without VAULT_ACC=1.
var vault *server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	if os.Getenv("VAULT_ACC") != "1" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "clients")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code = 1
	if vault, err = startServer(dir); err != nil {
		fmt.Fprintln(os.Stderr, "start Vault:", err)
	} else {
		code = m.Run()
		if err := vault.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop Vault:", err)
			code = 1
		}
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "what Vault wrote is kept in", dir)
	} else if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

// needVault marks a test of this package: it needs the shared server, and runs
// in parallel with the others.
func needVault(t *testing.T) {
	t.Helper()
	if vault == nil {
		t.Skip("set VAULT_ACC=1: make build && VAULT_ACC=1 go -C acceptance/clients test ./...")
	}
	t.Parallel()
}
