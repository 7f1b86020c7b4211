package agentchains

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

func (b *backend) pathReveal() *framework.Path {
	return &framework.Path{
		Pattern:      "reveal/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs("", "value"),
		Fields: map[string]*framework.FieldSchema{
			"path":    pathField("The path of a secret or of a group, as below secrets/ and groups/."),
			"version": {Type: framework.TypeInt, Query: true, Description: "The number of the version. Without it: the one that a new reader gets."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback:     b.revealRead,
				Summary:      "Read the plain value of a secret or a group.",
				DisplayAttrs: displayAttrs("reveal", "value"),
				Responses: okResponse(map[string]*framework.FieldSchema{
					"value":   {Type: framework.TypeString, Description: "The value of a secret.", DisplayAttrs: &framework.DisplayAttributes{Name: "Value", Sensitive: true}},
					"values":  {Type: framework.TypeMap, Description: "The values of a group.", DisplayAttrs: &framework.DisplayAttributes{Name: "Values", Sensitive: true}},
					"version": {Type: framework.TypeInt, Description: "The number of the version.", Required: true},
				}),
			},
		},
		HelpSynopsis:    "The plain value of a secret or a group.",
		HelpDescription: revealHelp,
	}
}

const revealHelp = `
The only path that shows an operator a value. It is a path of its own so that a
policy can withhold it from those who may manage secrets.
`

func (b *backend) revealRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	path := d.Get("path").(string)
	a, err := scope.ParseAddress(scope.KindOf(path), path)
	if err != nil {
		return respond(badRequest("%s", err))
	}
	e, err := b.requireSecret(ctx, req.Storage, a)
	if err != nil {
		return respond(err)
	}
	v := e.readable(b.now())
	if number, asked := d.GetOk("version"); asked {
		v = e.liveVersion(number.(int))
	}
	if v == nil {
		return respond(badRequest("%s has no such version with a value: secrets/ and groups/ list its versions", a.Path()))
	}
	b.counts.reveal.Add(1)
	data := map[string]any{"version": v.Number}
	if a.Kind == scope.Secret {
		data["value"] = v.Values[a.Name].Reveal()
	} else {
		data["values"] = v.reveal()
	}
	return &logical.Response{Data: data}, nil
}
