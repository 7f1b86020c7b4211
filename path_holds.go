package agentchains

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathHolds() *framework.Path {
	return &framework.Path{
		Pattern:      "holds/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs("", "hold"),
		Fields:       map[string]*framework.FieldSchema{"path": pathField("The id of a hold, which is that of its incident.")},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback: b.holdRead, Summary: "Read what is being kept out, since when, and why.", DisplayAttrs: displayAttrs("read", "hold"),
				Responses: okResponse(map[string]*framework.FieldSchema{
					"hold_id":     {Type: framework.TypeString, Description: "The id.", Required: true},
					"incident_id": {Type: framework.TypeString, Description: "The incident that it comes from.", Required: true},
					"kind":        {Type: framework.TypeString, Description: "execution, run, agent, chain or all.", Required: true},
					"target":      {Type: framework.TypeString, Description: "What is kept out.", Required: true},
					"release":     {Type: framework.TypeString, Description: "The path that releases it by a delete.", Required: true},
					"reason":      {Type: framework.TypeString, Description: "Why.", Required: true},
					"created_at":  {Type: framework.TypeString, Description: "Since when.", Required: true},
					"created_by":  {Type: framework.TypeString, Description: "By whom.", Required: true},
				}),
			},
		},
		HelpSynopsis:    "Holds: what is being kept out.",
		HelpDescription: "A hold stays of a revocation with hold=true until it is released by a delete on the same path below revoke/.",
	}
}

func (b *backend) pathHoldsList() *framework.Path {
	return pathList("holds/", "holds", "List holds, the oldest first.", b.holdList)
}

func (b *backend) holdRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	if err := b.requireStops(ctx, req.Storage); err != nil {
		return respond(err)
	}
	id := d.Get("path").(string)
	for _, e := range b.stops.all() {
		if !e.Hold || e.ID != id {
			continue
		}
		release := "revoke/" + string(e.Kind)
		if e.Target != "" {
			release += "/" + e.Target
		}
		return &logical.Response{Data: map[string]any{
			"hold_id": e.ID, "incident_id": e.ID, "kind": string(e.Kind), "target": e.Target, "release": release,
			"reason": e.Reason, "created_at": timeString(e.CreatedAt), "created_by": e.CreatedBy,
		}}, nil
	}
	return respond(notFound("there is no such hold"))
}

func (b *backend) holdList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	if err := b.requireStops(ctx, req.Storage); err != nil {
		return respond(err)
	}
	ids := []string{}
	for _, e := range b.stops.all() {
		if e.Hold && d.Get("path").(string) == "" {
			ids = append(ids, e.ID)
		}
	}
	return list(ids, d)
}
