package agentchains

import (
	"context"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

func (b *backend) pathEnv() *framework.Path {
	return &framework.Path{
		Pattern:      "env/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs("", "environment"),
		Fields:       map[string]*framework.FieldSchema{"path": pathField(agentPathHelp)},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback:     b.envRead,
				Summary:      "Read the whole environment of an agent.",
				Description:  "The data are the variables themselves, as strings, and nothing else. There is no lease. If one reference does not resolve, nothing is given.",
				DisplayAttrs: displayAttrs("read", "environment"),
				Responses:    okResponse(nil),
			},
		},
		HelpSynopsis:    "The environment of an agent, flat.",
		HelpDescription: envHelp,
	}
}

func (b *backend) pathEnvList() *framework.Path {
	return pathList("env/", "environments", "List environments, the chains in one, and the agents of a chain.", b.envList)
}

const envHelp = `
Every reference of the agent is looked for in the scope of the agent, of its
chain, of its project and of the organisation, in this order, and in each of
them in the environment itself before all. The first entry that exists is the
hit: if it has expired or is not shared with the chain, the read fails.
explain/ says why a reference resolves as it does.
`

func (b *backend) envRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.readResolved(ctx, req, d)
	if err != nil {
		return respond(err)
	}
	b.counts.env.Add(1)
	return &logical.Response{Data: r.flat()}, nil
}

// readResolved resolves an agent for a flat shape, and notes the reader.
func (b *backend) readResolved(ctx context.Context, req *logical.Request, d *framework.FieldData) (*resolution, error) {
	path := d.Get("path").(string)
	if _, _, _, err := b.parseAgentPath(ctx, req.Storage, path); err != nil {
		b.counts.refused.Add(1)
		return nil, err
	}
	if err := b.checkHolds(ctx, req.Storage, runner{agentPath: path}); err != nil {
		return nil, err
	}
	r, err := b.resolveUsable(ctx, req.Storage, path)
	if err != nil {
		b.counts.refused.Add(1)
		return nil, err
	}
	b.readers.note(req, r.entries, b.now())
	b.noteUse(r)
	return r, nil
}

func (b *backend) envList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	keys, err := b.listAgents(ctx, req.Storage, strings.TrimSuffix(d.Get("path").(string), "/"))
	if err != nil {
		return respond(err)
	}
	return list(keys, d)
}

// listAgents returns what is below a path of env/, sorted: environments; in
// one, the first segments of chains; in a chain, its agents and the segments of
// chains below it.
func (b *backend) listAgents(ctx context.Context, s logical.Storage, path string) ([]string, error) {
	settings, err := b.getConfig(ctx, s)
	if err != nil {
		return nil, err
	}
	if path == "" {
		return folderKeys(settings.Environments), nil
	}
	environment, name, below := strings.Cut(path, "/")
	if err := settings.checkEnvironment(environment); err != nil {
		return nil, err
	}
	if !below {
		keys, err := listKeys(ctx, s, chainPrefix)
		return folderKeys(keys), err
	}
	if err := scope.CheckChain(name); err != nil {
		return nil, badRequest("the chain in the path %s", err)
	}
	keys, err := listKeys(ctx, s, chainKey(name)+"/")
	if err != nil {
		return nil, err
	}
	keys = folderKeys(keys)
	chain, err := b.getChain(ctx, s, name)
	if err != nil || chain == nil {
		return keys, err
	}
	for _, agent := range chain.Agents {
		keys = append(keys, agent.Name)
	}
	slices.Sort(keys)
	return keys, nil
}
