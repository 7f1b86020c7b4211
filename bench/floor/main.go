// Command floor is the least that an external secrets engine can be: a path that
// answers with a constant map, and one that stores a record and answers with the
// map and a lease. What it takes to read those, no external plugin can undercut.
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

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/sample"
)

func main() {
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: os.Stderr, JSONFormat: true})
	if err := plugin.ServeMultiplex(&plugin.ServeOpts{BackendFactoryFunc: factory, Logger: logger}); err != nil {
		logger.Error("the plugin ends", "error", err)
		os.Exit(1)
	}
}

func factory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	variables := sample.Variables()
	leased := &framework.Secret{Type: "leased", Renew: renew, Revoke: revoke}
	b := &framework.Backend{
		BackendType: logical.TypeLogical,
		Secrets:     []*framework.Secret{leased},
		Paths: []*framework.Path{
			readPath("constant", func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
				return &logical.Response{Data: variables}, nil
			}),
			readPath("leased", func(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
				record := rand.Text()
				entry, err := logical.StorageEntryJSON(recordPrefix+record, map[string]any{"token": req.ClientTokenAccessor, "time": time.Now()})
				if err != nil {
					return nil, err
				}
				if err := req.Storage.Put(ctx, entry); err != nil {
					return nil, err
				}
				resp := leased.Response(variables, map[string]any{"record": record})
				resp.Secret.TTL = time.Minute
				return resp, nil
			}),
		},
	}
	return b, b.Setup(ctx, conf)
}

func readPath(pattern string, read framework.OperationFunc) *framework.Path {
	return &framework.Path{
		Pattern:    pattern,
		Operations: map[logical.Operation]framework.OperationHandler{logical.ReadOperation: &framework.PathOperation{Callback: read}},
	}
}

const recordPrefix = "records/"

func renew(_ context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	return &logical.Response{Secret: req.Secret}, nil
}

func revoke(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	record, _ := req.Secret.InternalData["record"].(string)
	return nil, req.Storage.Delete(ctx, recordPrefix+record)
}
