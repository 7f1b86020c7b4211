package agentchains

import (
	"context"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// getProject returns a project, or nil. It is shared: read, never changed.
func (b *backend) getProject(ctx context.Context, s logical.Storage, name string) (*scope.Project, error) {
	return cachedGet[scope.Project](ctx, b.cache, s, projectKey(name))
}

func (b *backend) putProject(ctx context.Context, s logical.Storage, name string, p *scope.Project) error {
	return cachedPut(ctx, b.cache, s, projectKey(name), p, p)
}

func (b *backend) deleteProject(ctx context.Context, s logical.Storage, name string) error {
	return cachedDelete(ctx, b.cache, s, projectKey(name))
}
