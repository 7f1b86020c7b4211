// Command vault-plugin-secrets-agentchains is the secrets engine. Vault starts it.
package main

import (
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/plugin"

	agentchains "github.com/agentchains/vault-plugin-secrets-agentchains"
)

func main() {
	go exitWithParent(os.Getppid())
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: os.Stderr, JSONFormat: true})
	// Without a TLS provider the connection is secured by go-plugin itself,
	// which every Vault since 1.12 supports.
	err := plugin.ServeMultiplex(&plugin.ServeOpts{BackendFactoryFunc: agentchains.Factory, Logger: logger})
	if err != nil {
		logger.Error("the plugin ends", "error", err)
		os.Exit(1)
	}
}

// exitWithParent ends the plugin when Vault was killed: nothing else would.
func exitWithParent(parent int) {
	for range time.Tick(time.Second) {
		if os.Getppid() != parent {
			os.Exit(3)
		}
	}
}
