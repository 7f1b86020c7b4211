// Command vault is HashiCorp Vault, built from its Go module for the tests,
// the demo and the benchmarks. It is never shipped.
package main

import (
	"os"

	"github.com/hashicorp/vault/command"
)

func main() { os.Exit(command.Run(os.Args[1:])) }
