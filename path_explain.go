package agentchains

import (
	"cmp"
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

func (b *backend) pathExplain() *framework.Path {
	return &framework.Path{
		Pattern:      "explain/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs("", "resolution"),
		Fields:       map[string]*framework.FieldSchema{"path": pathField(agentPathHelp)},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback:     b.explainRead,
				Summary:      "Explain where each reference of an agent resolves, or why it does not.",
				DisplayAttrs: displayAttrs("explain", "resolution"),
				Responses: okResponse(map[string]*framework.FieldSchema{
					"resolves":   {Type: framework.TypeBool, Description: "Whether env/ gives the environment.", Required: true},
					"error":      {Type: framework.TypeString, Description: "What env/ answers instead, or an empty string.", Required: true},
					"references": {Type: framework.TypeSlice, Description: "For each reference: name, kind, as, optional, found, scope, environment, version, variables, reason and looked, the places in the order in which it was looked for.", Required: true},
				}),
			},
		},
		HelpSynopsis:    "Why an agent gets what it gets.",
		HelpDescription: explainHelp,
	}
}

const explainHelp = `
Answers for every reference of the agent where it was found and in which
version, or why it fails, and in what order it was looked for. It never holds a
value, so it can be granted to people who may not read secrets.
`

func (b *backend) explainRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	path := d.Get("path").(string)
	r, err := b.resolvePath(ctx, req.Storage, path)
	if err != nil {
		return respond(err)
	}
	references := make([]any, len(r.results))
	for i := range r.results {
		references[i] = explanation(&r.results[i])
	}
	fails, failure := cmp.Or(b.checkHolds(ctx, req.Storage, runner{agentPath: path}), r.err), ""
	if fails != nil {
		failure = fails.Error()
	}
	return &logical.Response{Data: map[string]any{
		"resolves":   fails == nil,
		"error":      failure,
		"references": references,
	}}, nil
}

func explanation(result *scope.Result) map[string]any {
	looked := make([]any, len(result.Looked))
	for i, place := range result.Looked {
		looked[i] = place.Environment + " " + place.Scope.String()
	}
	variables := make([]any, len(result.Variables))
	for i, name := range result.Variables {
		variables[i] = result.Variable(name)
	}
	e := map[string]any{
		"name": result.Reference.Name, "kind": result.Kind.Noun(), "as": result.Reference.As,
		"optional": result.Reference.Optional, "found": result.Found, "scope": "", "environment": "",
		"version": result.Version, "variables": variables, "reason": result.Reason, "looked": looked,
	}
	if result.Found {
		at := result.Looked[result.Index]
		e["scope"], e["environment"] = at.Scope.String(), at.Environment
	} else if result.OK() {
		e["reason"] = "is optional and in no scope"
	}
	return e
}
