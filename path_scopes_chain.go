package agentchains

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

func (b *backend) pathScopesChain() *framework.Path {
	return &framework.Path{
		Pattern:      "scopes/chain/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs("", "chain"),
		Fields: map[string]*framework.FieldSchema{
			"path":        pathField("The name of the chain, 1 to 4 segments, such as billing/invoice-generator."),
			"chain":       {Type: framework.TypeString, Description: "The name of the chain again, as definition files have it."},
			"project":     {Type: framework.TypeString, Description: "The project that the chain belongs to. It need not exist or allow the chain yet."},
			"max_runtime": {Type: framework.TypeDurationSecond, Description: "The longest time that an execution lives. Without it, or 0: the mount's limit."},
			"agents":      {Type: framework.TypeSlice, Description: "Objects with name, secrets and groups. A reference is a name, or an object with name, as and optional."},
		},
		ExistenceCheck: b.chainExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: &framework.PathOperation{
				Callback: b.chainWrite, Summary: "Define a chain.", DisplayAttrs: displayAttrs("create", "chain"), Responses: okResponse(chainFields()),
			},
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.chainWrite, Summary: "Replace the definition of a chain.", DisplayAttrs: displayAttrs("replace", "chain"), Responses: okResponse(chainFields()),
			},
			logical.ReadOperation: &framework.PathOperation{
				Callback: b.chainRead, Summary: "Read the definition of a chain.", DisplayAttrs: displayAttrs("read", "chain"), Responses: okResponse(chainFields()),
			},
			logical.DeleteOperation: &framework.PathOperation{
				Callback: b.chainDelete, Summary: "Delete the definition of a chain. Its secrets stay.", DisplayAttrs: displayAttrs("delete", "chain"), Responses: noContent(),
			},
		},
		HelpSynopsis:    "Chain definitions: the agents of a chain and what each may see.",
		HelpDescription: chainHelp,
	}
}

func (b *backend) pathScopesChainList() *framework.Path {
	return pathList("scopes/chain/", "chains", "List chains, and the segments below a path.", b.chainList)
}

const chainHelp = `
A definition is JSON, as in

    { "chain": "deploy-pipeline", "project": "platform", "max_runtime": "2h",
      "agents": [ { "name": "Deployer", "groups": ["aws-deploy"],
                    "secrets": ["OPENAI_API_KEY", {"name": "DATABASE_URL", "as": "DB_URL"}] } ] }

and is written with vault write agentchains/scopes/chain/deploy-pipeline @file.json.
It holds names only, never a value. Whoever may write it decides which secrets
of its project and of the organisation its agents get, in every environment.
`

func chainFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"chain":       {Type: framework.TypeString, Description: "The name of the chain.", Required: true},
		"project":     {Type: framework.TypeString, Description: "The project that the chain belongs to, or an empty string.", Required: true},
		"max_runtime": {Type: framework.TypeDurationSecond, Description: "The longest time that an execution lives, in seconds; 0: the mount's limit.", Required: true},
		"agents":      {Type: framework.TypeSlice, Description: "The agents, as they were written.", Required: true},
	}
}

func chainResponse(c *scope.Definition) *logical.Response {
	return &logical.Response{Data: map[string]any{
		"chain":       c.Chain,
		"project":     c.Project,
		"max_runtime": int64(c.MaxRuntime / time.Second),
		"agents":      scope.Plain(c.Agents),
	}}
}

// chainName reads the name in the path of a request.
func chainName(d *framework.FieldData) (string, error) {
	name := d.Get("path").(string)
	if err := scope.CheckChain(name); err != nil {
		return "", badRequest("the chain in the path %s", err)
	}
	return name, nil
}

func (b *backend) chainExists(ctx context.Context, req *logical.Request, d *framework.FieldData) (bool, error) {
	name, err := chainName(d)
	if err != nil {
		return false, nil
	}
	c, err := b.getChain(ctx, req.Storage, name)
	return c != nil, err
}

func (b *backend) chainRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := chainName(d)
	if err != nil {
		return respond(err)
	}
	c, err := b.requireChain(ctx, req.Storage, name)
	if err != nil {
		return respond(err)
	}
	return chainResponse(c), nil
}

func (b *backend) chainWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := chainName(d)
	if err != nil {
		return respond(err)
	}
	c, err := parseDefinition(name, d)
	if err != nil {
		return respond(err)
	}
	if err := b.checkConflicts(ctx, req.Storage, c); err != nil {
		return respond(err)
	}
	c.WrittenAt = b.now().UTC().Truncate(time.Second)
	if err := b.putChain(ctx, req.Storage, c); err != nil {
		return respond(err)
	}
	return chainResponse(c), nil
}

func parseDefinition(name string, d *framework.FieldData) (*scope.Definition, error) {
	c := &scope.Definition{
		Chain:      name,
		Project:    d.Get("project").(string),
		MaxRuntime: time.Duration(d.Get("max_runtime").(int)) * time.Second,
	}
	if given := d.Get("chain").(string); given != "" && given != name {
		return nil, badRequest("chain must be the name in the path, or be left out")
	}
	if c.Project != "" {
		if err := scope.CheckSegment(c.Project); err != nil {
			return nil, badRequest("project %s", err)
		}
	}
	var err error
	if c.Agents, err = scope.ParseAgents(d.Raw["agents"]); err != nil {
		return nil, badRequest("%s", err)
	}
	return c, nil
}

// checkConflicts refuses a definition in which, as things are stored now, two
// references of an agent give one variable in some environment.
func (b *backend) checkConflicts(ctx context.Context, s logical.Storage, c *scope.Definition) error {
	settings, err := b.getConfig(ctx, s)
	if err != nil {
		return err
	}
	for _, environment := range settings.Environments {
		for i := range c.Agents {
			r, err := b.resolveAgent(ctx, s, environment, c, &c.Agents[i])
			if err != nil {
				return err
			}
			if conflict := scope.Conflicts(r.results); conflict != nil {
				return badRequest("agents[%d] has two references to one variable: in environment %s, %s %s", i, environment, conflict.Reference.Name, conflict.Reason)
			}
		}
	}
	return nil
}

func (b *backend) chainDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := chainName(d)
	if err != nil {
		return respond(err)
	}
	return respond(b.deleteChain(ctx, req.Storage, name))
}

func (b *backend) chainList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return listScopes(ctx, req.Storage, chainPrefix, d)
}
