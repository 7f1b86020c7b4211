package agentchains

import (
	"context"
	"unicode/utf8"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotation"
)

func (b *backend) pathPromote() *framework.Path {
	return b.pathRotationEvent("promote", "Promote the pending version now.", promoteHelp, map[string]*framework.FieldSchema{
		"force": {Type: framework.TypeBool, Description: "Promote without proof that the new version works, or although executions hold the old one: on_overdue says what happens to them."},
	}, func(d *framework.FieldData) order {
		return order{event: rotation.Promote, force: d.Get("force").(bool)}
	})
}

const promoteHelp = `
Makes the pending version the current one and destroys the old value, without
waiting for min_overlap. It needs the same proof as the engine does: the new
version was tested, confirmed or used, and no execution holds the old one.
`

func (b *backend) pathAbort() *framework.Path {
	return b.pathRotationEvent("abort", "Drop the pending version.", abortHelp, map[string]*framework.FieldSchema{
		"force":  {Type: framework.TypeBool, Description: "Abort although executions hold the pending version: they are told to stop."},
		"reason": {Type: framework.TypeString, Description: "Why, for the history."},
	}, func(d *framework.FieldData) order {
		return order{event: rotation.Abort, force: d.Get("force").(bool), reason: d.Get("reason").(string)}
	})
}

const abortHelp = `
Ends the rotation that is under way: the pending version is destroyed, and the
current one stays. Refused while executions hold the pending version.
`

func (b *backend) pathConfirm() *framework.Path {
	return b.pathRotationEvent("confirm", "Say that the pending version works, or that it does not.", confirmHelp, map[string]*framework.FieldSchema{
		"ok":          {Type: framework.TypeBool, Default: true, Description: "False: it does not work, and the rotation is aborted."},
		"reason":      {Type: framework.TypeString, Description: "Why, for the history."},
		"rotation_id": {Type: framework.TypeString, Description: "The rotation that is meant. Without it: the one that is under way."},
	}, func(d *framework.FieldData) order {
		o := order{event: rotation.Confirm, rotationID: d.Get("rotation_id").(string), reason: d.Get("reason").(string)}
		if !d.Get("ok").(bool) {
			o.event, o.reason = rotation.Abort, orText(o.reason, "it was not confirmed")
		}
		return o
	})
}

const confirmHelp = `
Marks the pending version as verified by somebody outside, which a rotation with
require_confirm waits for. With ok=false the rotation is aborted.
`

// pathRotationEvent is the contract of what a person does to a rotation.
func (b *backend) pathRotationEvent(verb, summary, help string, fields map[string]*framework.FieldSchema, orderOf func(*framework.FieldData) order) *framework.Path {
	fields["path"] = pathField(entryPathHelp)
	return &framework.Path{
		Pattern:      verb + "/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs(verb, "rotation"),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback: func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
					return b.rotationEvent(ctx, req, d, orderOf(d))
				},
				Summary: summary, DisplayAttrs: displayAttrs(verb, "rotation"), Responses: okResponse(rotationFields()),
			},
		},
		HelpSynopsis:    summary,
		HelpDescription: help,
	}
}

func (b *backend) rotationEvent(ctx context.Context, req *logical.Request, d *framework.FieldData, o order) (*logical.Response, error) {
	a, err := anyAddress(d)
	if err != nil {
		return respond(err)
	}
	if len(o.reason) > maxReason || !utf8.ValidString(o.reason) {
		return respond(badRequest("reason must be at most %d bytes", maxReason))
	}
	o.by, o.requestID = actor(req), req.ID
	if _, err := b.rotate(ctx, req.Storage, a, o); err != nil {
		return respond(err)
	}
	return b.rotationResponse(ctx, req, d, a)
}
