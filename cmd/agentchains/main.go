// Command agentchains is for the people and orchestrators that work with the
// agentchains secrets engine. It talks to Vault through its API only.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentchains/vault-plugin-secrets-agentchains/cmd/agentchains/supervise"
)

func main() {
	supervise.Main()
	// Before anything else: a token may be in the environment already.
	if err := supervise.Harden(); err != nil {
		fmt.Fprintf(os.Stderr, "agentchains: its memory cannot be hidden: %s\n", err)
		os.Exit(exitFailed)
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// An exitCode ends the command with that code and no message.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// The exit codes of every command.
const (
	exitOK     = 0
	exitNo     = exitCode(1) // the answer is no
	exitFailed = 2           // there is no answer
)

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	var code exitCode
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintf(stderr, "agentchains: %s\n", err)
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "agentchains",
		Short: "Work with the agentchains secrets engine of a Vault",
		Long:  strings.TrimSpace(rootHelp),
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		// run prints errors: one sentence, without the usage.
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	mount := "agentchains"
	root.PersistentFlags().StringVar(&mount, "mount", mount, "path where the engine is mounted")
	root.AddCommand(newAudit(&mount), newExplain(&mount), newExecToken(), newImport(&mount), newRedact(&mount), newRun(&mount), newStatus(&mount), newVersion())
	return root
}

const rootHelp = `
Work with the agentchains secrets engine of a Vault.

Vault is found as the vault command finds it: VAULT_ADDR, VAULT_NAMESPACE,
VAULT_CACERT and the like; the token is VAULT_TOKEN, else that of vault login.

Exit codes: 0 all is well, 1 the answer is no, 2 there is no answer, because of
a wrong argument, an unreadable file, or Vault.
`
