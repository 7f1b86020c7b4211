// Package acceptance tests the engine as its users meet it: the built plugin
// in a real Vault with an audit device, through Vault's API and its command,
// with real policies and tokens. It needs Linux, bin/ from make build, and
// VAULT_ACC=1.
package acceptance

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/cluster"
)

// vault is the server that all tests share, each with a mount of its own. It is
// nil without VAULT_ACC=1.
var vault *server

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == worker {
		os.Exit(work(os.Args[2]))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Getenv("VAULT_ACC") != "1" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "acc")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := 1
	if vault, err = startServer(dir); err != nil {
		fmt.Fprintln(os.Stderr, "start Vault:", err)
	} else {
		code = finish(m.Run())
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "what Vault wrote is kept in", dir)
	} else if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

// finish stops Vault, and searches for leaks when nothing can be written any
// more. When all tests have passed, every operation must have been called.
func finish(code int) int {
	var operations []string
	if code == 0 && allTests() {
		var err error
		if operations, err = vault.operations(); err != nil || len(operations) == 0 {
			fmt.Fprintf(os.Stderr, "%d operations are published: %v\n", len(operations), err)
			code = 1
		}
	}
	if err := vault.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop Vault:", err)
		code = 1
	}
	for _, name := range []string{cluster.AuditFile, cluster.LogFile} {
		if err := searchFile(name); err != nil {
			fmt.Fprintf(os.Stderr, "%s cannot be searched for leaks: %v\n", name, err)
			code = 1
		}
	}
	if operations != nil {
		if left, err := uncalled(operations); err != nil || len(left) > 0 {
			fmt.Fprintf(os.Stderr, "no test calls these operations with success: %q %v\n", left, err)
			code = 1
		}
	}
	for _, leak := range secrets.leaks() {
		fmt.Fprintln(os.Stderr, "LEAK:", leak)
		code = 1
	}
	return code
}

// searchFile searches a file that Vault has written, which may be large.
func searchFile(name string) error {
	f, err := os.Open(vault.Path(name))
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() == 0 {
		return errors.Join(errors.New("it is empty"), err)
	}
	return secrets.search(name, bufio.NewReader(f))
}

// needVault marks a test of this package: it needs the shared server, and runs
// in parallel with the others.
func needVault(t *testing.T) {
	t.Helper()
	if vault == nil {
		t.Skip("set VAULT_ACC=1: make build && VAULT_ACC=1 go test ./acceptance/")
	}
	t.Parallel()
}
