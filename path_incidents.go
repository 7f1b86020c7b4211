package agentchains

import (
	"context"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathIncidents() *framework.Path {
	return &framework.Path{
		Pattern:      "incidents/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs("", "incident"),
		Fields: map[string]*framework.FieldSchema{
			"path":  pathField("The id of an incident."),
			"after": {Type: framework.TypeString, Query: true, Description: "Show only executions with an id after this one."},
			"limit": {Type: framework.TypeInt, Query: true, Description: "Show at most this many executions: 100 by default."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback: b.incidentRead, Summary: "Read what an emergency revocation has stopped.", DisplayAttrs: displayAttrs("read", "incident"),
				Responses: okResponse(map[string]*framework.FieldSchema{
					"incident_id": {Type: framework.TypeString, Description: "The id.", Required: true},
					"kind":        {Type: framework.TypeString, Description: "secret, execution, run, agent, chain or all.", Required: true},
					"target":      {Type: framework.TypeString, Description: "What was revoked.", Required: true},
					"reason":      {Type: framework.TypeString, Description: "Why.", Required: true},
					"created_at":  {Type: framework.TypeString, Description: "When.", Required: true},
					"created_by":  {Type: framework.TypeString, Description: "Who.", Required: true},
					"versions":    {Type: framework.TypeSlice, Description: "The versions that were destroyed.", Required: true},
					"state":       {Type: framework.TypeString, Description: "open while executions may still acknowledge, then closed.", Required: true},
					"counts":      {Type: framework.TypeMap, Description: "How many executions are acknowledged, unacknowledged and lost, and in total.", Required: true},
					"executions":  {Type: framework.TypeSlice, Description: "What became of each: execution_id, environment, chain, agent, state, ordered_at, acknowledged_at, pid, signal, exit_code.", Required: true},
					"alerts":      {Type: framework.TypeSlice, Description: "What became of each notification: id, event, notifier, state, attempts, at.", Required: true},
				}),
			},
			logical.DeleteOperation: &framework.PathOperation{
				Callback: b.incidentDelete, Summary: "Delete the record of an incident that is over.", DisplayAttrs: displayAttrs("delete", "incident"), Responses: noContent(),
			},
		},
		HelpSynopsis:    "Incidents: what was killed, by whom, why, and who acknowledged.",
		HelpDescription: incidentsHelp,
	}
}

func (b *backend) pathIncidentsList() *framework.Path {
	return pathList("incidents/", "incidents", "List incidents, the newest first.", b.incidentList)
}

const incidentsHelp = `
An incident is the receipt of one emergency revocation. It lists each execution
that was told to stop: acknowledged with pid, signal, exit code and time; not yet
acknowledged; or lost, without a sign of life. It stays until it is deleted.
`

func (b *backend) incidentRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id := d.Get("path").(string)
	if !validIncidentID(id) {
		return respond(badRequest("the path must end in the id of an incident, such as 20300101-120000-1a2b3c4d"))
	}
	head, hit, err := b.incident(ctx, req.Storage, id)
	if err != nil {
		return respond(err)
	}
	if head == nil {
		return respond(notFound("there is no such incident"))
	}
	after, limit := pageOf(d)
	executions := []any{}
	for _, k := range hit {
		if k.ID <= after {
			continue
		}
		if len(executions) == limit {
			break
		}
		executions = append(executions, k.plain())
	}
	alerts := []any{}
	for _, a := range head.Alerts {
		alerts = append(alerts, map[string]any{"id": a.ID, "event": a.Event, "notifier": a.Notifier, "state": a.State, "attempts": a.Attempts, "at": timeString(a.At)})
	}
	counts := map[string]any{"total": len(hit)}
	for state, n := range head.Counts {
		counts[state] = n
	}
	state := "closed"
	if b.isOpen(head) {
		state = "open"
	}
	return &logical.Response{Data: map[string]any{
		"incident_id": head.ID, "kind": head.Kind, "target": head.Target, "reason": head.Reason,
		"created_at": timeString(head.CreatedAt), "created_by": head.CreatedBy, "versions": append([]int{}, head.Versions...),
		"state": state, "counts": counts, "executions": executions, "alerts": alerts,
	}}, nil
}

func (k *killed) plain() map[string]any {
	data := map[string]any{
		"execution_id": k.ID, "environment": k.Environment, "chain": k.Chain, "agent": k.Agent, "state": string(k.State),
		"ordered_at": timeString(k.OrderedAt), "acknowledged_at": timeString(k.AcknowledgedAt), "pid": k.PID, "signal": k.Signal, "exit_code": nil,
	}
	if k.ExitCode != nil {
		data["exit_code"] = *k.ExitCode
	}
	return data
}

func (b *backend) incidentDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id := d.Get("path").(string)
	if !validIncidentID(id) {
		return respond(badRequest("the path must end in the id of an incident, such as 20300101-120000-1a2b3c4d"))
	}
	return respond(b.deleteIncident(ctx, req.Storage, id))
}

func (b *backend) incidentList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	if d.Get("path").(string) != "" {
		return list(nil, d)
	}
	keys, err := listKeys(ctx, req.Storage, incidentPrefix)
	if err != nil {
		return respond(err)
	}
	// An id begins with its time.
	slices.Reverse(keys)
	if after := d.Get("after").(string); after != "" {
		keys = slices.DeleteFunc(keys, func(id string) bool { return id >= after })
	}
	if limit := d.Get("limit").(int); limit < 0 {
		return respond(badRequest("limit must not be negative"))
	} else if limit > 0 {
		keys = keys[:min(limit, len(keys))]
	}
	return logical.ListResponse(keys), nil
}
