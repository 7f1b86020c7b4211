package agentchains

import (
	"context"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

func (b *backend) pathScopesProject() *framework.Path {
	return &framework.Path{
		Pattern:      "scopes/project/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs("", "project"),
		Fields: map[string]*framework.FieldSchema{
			"path":           pathField("The name of the project."),
			"chains_allowed": {Type: framework.TypeCommaStringSlice, Description: "Chains that may see the project's secrets: exact names, or prefix/*. Without a list none may."},
		},
		ExistenceCheck: b.projectExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: &framework.PathOperation{
				Callback: b.projectWrite, Summary: "Define a project.", DisplayAttrs: displayAttrs("create", "project"), Responses: okResponse(projectFields()),
			},
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.projectWrite, Summary: "Replace the definition of a project.", DisplayAttrs: displayAttrs("replace", "project"), Responses: okResponse(projectFields()),
			},
			logical.ReadOperation: &framework.PathOperation{
				Callback: b.projectRead, Summary: "Read the definition of a project.", DisplayAttrs: displayAttrs("read", "project"), Responses: okResponse(projectFields()),
			},
			logical.DeleteOperation: &framework.PathOperation{
				Callback: b.projectDelete, Summary: "Delete the definition of a project. Its secrets stay, and no chain sees them.", DisplayAttrs: displayAttrs("delete", "project"), Responses: noContent(),
			},
		},
		HelpSynopsis:    "Projects: which chains share secrets.",
		HelpDescription: projectHelp,
	}
}

func (b *backend) pathScopesProjectList() *framework.Path {
	return pathList("scopes/project/", "projects", "List projects.", b.projectList)
}

const projectHelp = `
The agents of a chain see the secrets of the project that the chain names, if
the project's chains_allowed lists the chain, by its exact name or as prefix/*
with whole segments. A bare * is refused.
`

func projectFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"chains_allowed": {Type: framework.TypeCommaStringSlice, Description: "Chains that may see the project's secrets.", Required: true},
	}
}

func projectResponse(p *scope.Project) *logical.Response {
	return &logical.Response{Data: map[string]any{"chains_allowed": append([]string{}, p.ChainsAllowed...)}}
}

// projectName reads the name in the path of a request.
func projectName(d *framework.FieldData) (string, error) {
	name := d.Get("path").(string)
	if err := scope.CheckSegment(name); err != nil {
		return "", badRequest("the project in the path %s", err)
	}
	return name, nil
}

func (b *backend) projectExists(ctx context.Context, req *logical.Request, d *framework.FieldData) (bool, error) {
	name, err := projectName(d)
	if err != nil {
		return false, nil
	}
	p, err := b.getProject(ctx, req.Storage, name)
	return p != nil, err
}

func (b *backend) projectRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := projectName(d)
	if err != nil {
		return respond(err)
	}
	p, err := b.getProject(ctx, req.Storage, name)
	if err != nil {
		return respond(err)
	}
	if p == nil {
		return respond(notFound("there is no project %s", name))
	}
	return projectResponse(p), nil
}

func (b *backend) projectWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := projectName(d)
	if err != nil {
		return respond(err)
	}
	p := &scope.Project{ChainsAllowed: d.Get("chains_allowed").([]string)}
	if err := scope.CheckChainPatterns(p.ChainsAllowed); err != nil {
		return respond(badRequest("chains_allowed %s", err))
	}
	if err := b.putProject(ctx, req.Storage, name, p); err != nil {
		return respond(err)
	}
	return projectResponse(p), nil
}

func (b *backend) projectDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := projectName(d)
	if err != nil {
		return respond(err)
	}
	return respond(b.deleteProject(ctx, req.Storage, name))
}

func (b *backend) projectList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return listScopes(ctx, req.Storage, projectPrefix, d)
}

// listScopes lists the definitions stored below a prefix.
func listScopes(ctx context.Context, s logical.Storage, prefix string, d *framework.FieldData) (*logical.Response, error) {
	path := strings.TrimSuffix(d.Get("path").(string), "/")
	if err := scope.CheckPrefix(path); err != nil {
		return respond(badRequest("%s", err))
	}
	if path != "" {
		prefix += path + "/"
	}
	keys, err := listKeys(ctx, s, prefix)
	if err != nil {
		return respond(err)
	}
	return list(keys, d)
}
