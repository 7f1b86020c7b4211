// Command dynamic is a secrets engine that gives leased credentials, as those for
// databases and clouds do. It is there for the tests of what reads such engines.
package main

import (
	"context"
	"crypto/rand"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"
)

func main() {
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: os.Stderr, JSONFormat: true})
	if err := plugin.ServeMultiplex(&plugin.ServeOpts{BackendFactoryFunc: factory, Logger: logger}); err != nil {
		logger.Error("the plugin ends", "error", err)
		os.Exit(1)
	}
}

func factory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	user := &framework.Secret{
		Type: "user",
		Renew: func(_ context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
			return &logical.Response{Secret: req.Secret}, nil
		},
		// Vault removes the lease only when this succeeds.
		Revoke: func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
			return nil, nil
		},
	}
	creds := func(pattern string, leased, renewable bool) *framework.Path {
		return &framework.Path{
			Pattern: pattern,
			Operations: map[logical.Operation]framework.OperationHandler{logical.ReadOperation: &framework.PathOperation{
				Callback: func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
					fields := map[string]any{"username": "v-" + rand.Text(), "password": rand.Text(), "port": 5432, "session": nil}
					if !leased {
						return &logical.Response{Data: fields}, nil
					}
					resp := user.Response(fields, nil)
					resp.Secret.TTL, resp.Secret.Renewable = time.Minute, renewable
					return resp, nil
				},
			}},
		}
	}
	b := &framework.Backend{
		BackendType: logical.TypeLogical,
		Secrets:     []*framework.Secret{user},
		Paths:       []*framework.Path{creds("creds/renewable", true, true), creds("creds/fixed", true, false), creds("creds/unleased", false, false)},
	}
	return b, b.Setup(ctx, conf)
}
