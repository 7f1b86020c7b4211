package agentchains

import (
	"context"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// getChain returns the definition of a chain, or nil. It is shared: read, never changed.
func (b *backend) getChain(ctx context.Context, s logical.Storage, name string) (*scope.Definition, error) {
	return cachedGet[scope.Definition](ctx, b.cache, s, chainKey(name))
}

// requireChain is getChain, with an error when there is none.
func (b *backend) requireChain(ctx context.Context, s logical.Storage, name string) (*scope.Definition, error) {
	c, err := b.getChain(ctx, s, name)
	if err == nil && c == nil {
		return nil, notFound("there is no chain %s: write its definition to scopes/chain/%s", name, name)
	}
	return c, err
}

func (b *backend) putChain(ctx context.Context, s logical.Storage, c *scope.Definition) error {
	return cachedPut(ctx, b.cache, s, chainKey(c.Chain), c, c)
}

func (b *backend) deleteChain(ctx context.Context, s logical.Storage, name string) error {
	return cachedDelete(ctx, b.cache, s, chainKey(name))
}
