package agentchains

import (
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathRevokeExecution() *framework.Path {
	return &framework.Path{
		Pattern:      "revoke/execution/(?P<id>.+)",
		DisplayAttrs: displayAttrs("", "execution"),
		Fields: map[string]*framework.FieldSchema{
			"id":     pathField("The id of an execution."),
			"reason": {Type: framework.TypeString, Description: "Why, for the record and for who runs the agent."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.revokeExecution, Summary: "Tell an execution to stop.", DisplayAttrs: displayAttrs("revoke", "execution"), Responses: okResponse(executionFields()),
			},
		},
		HelpSynopsis:    "Tell one execution to stop.",
		HelpDescription: revokeExecutionHelp,
	}
}

const revokeExecutionHelp = `
Whoever watches the execution is told at once, and its lease is not renewed any
more. The runner ends the agent and acknowledges. Doing it again changes nothing.
`

const maxReason = 1024

func (b *backend) revokeExecution(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, reason := d.Get("id").(string), d.Get("reason").(string)
	if !validExecutionID(id) {
		return respond(badRequest("the id in the path must be %d hex digits", executionIDLength))
	}
	if reason == "" || len(reason) > maxReason || !utf8.ValidString(reason) {
		return respond(badRequest("reason must say in 1 to %d bytes why the execution is told to stop", maxReason))
	}
	e, err := b.terminate(ctx, req.Storage, id, reason, actor(req))
	if err != nil {
		return respond(err)
	}
	return &logical.Response{Data: e.toResponse()}, nil
}

// terminate tells an execution to stop, unless it has ended or was told before.
func (b *backend) terminate(ctx context.Context, s logical.Storage, id, reason, by string) (*executionEntry, error) {
	return b.withExecution(ctx, s, id, func(e *executionEntry) error {
		if e.State == executionActive {
			e.transition(executionTerminating, fmt.Sprintf("%s (by %s)", reason, by), b.now())
		}
		return nil
	})
}
