package agentchains

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// The patterns begin alike, so those with a verb come before the bare id.
const executionPattern = "execution/(?P<id>.+)"

func idField() *framework.FieldSchema {
	return pathField("The id of an execution that the same identity has started.")
}

func (b *backend) pathExecution() *framework.Path {
	return &framework.Path{
		Pattern:      executionPattern,
		DisplayAttrs: displayAttrs("", "execution"),
		Fields:       map[string]*framework.FieldSchema{"id": idField()},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback: b.executionRead, Summary: "Read the state of an execution.", DisplayAttrs: displayAttrs("read", "execution"), Responses: okResponse(executionFields()),
			},
		},
		HelpSynopsis:    "One execution, for who started it.",
		HelpDescription: executionHelp,
	}
}

const executionHelp = `
Answers the identity that started the execution, and nobody else, so that the
policy of any agent can grant execution/*.
`

func (b *backend) pathExecutionWatch() *framework.Path {
	return &framework.Path{
		Pattern:      executionPattern + "/watch",
		DisplayAttrs: displayAttrs("", "execution"),
		Fields: map[string]*framework.FieldSchema{
			"id":         idField(),
			"generation": {Type: framework.TypeInt, Query: true, Description: "The generation that is known already. Without it the answer comes at once."},
			"wait":       {Type: framework.TypeInt, Query: true, Description: "For how many seconds to wait for a change, at most 5."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback: b.executionWatch, Summary: "Wait until an execution is told to stop, or a few seconds.", DisplayAttrs: displayAttrs("watch", "execution"),
				Responses: okResponse(map[string]*framework.FieldSchema{
					"state":       {Type: framework.TypeString, Description: "The state of the execution.", Required: true},
					"generation":  {Type: framework.TypeInt, Description: "Grows with each change of state.", Required: true},
					"reason":      {Type: framework.TypeString, Description: "Why it was told to stop, or has ended.", Required: true},
					"incident_id": {Type: framework.TypeString, Description: "The incident that it was stopped by, or an empty string.", Required: true},
				}),
			},
		},
		HelpSynopsis:    "Watch an execution for an order to stop.",
		HelpDescription: watchHelp,
	}
}

const watchHelp = `
A long poll of 5 seconds at most: a request that waits blocks a step-down of
Vault. It answers for an execution that has ended too, as long as its record
is kept.
`

func (b *backend) pathExecutionFinish() *framework.Path {
	return &framework.Path{
		Pattern:      executionPattern + "/finish",
		DisplayAttrs: displayAttrs("", "execution"),
		Fields: map[string]*framework.FieldSchema{
			"id":        idField(),
			"exit_code": {Type: framework.TypeInt, Description: "The exit code of the agent."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.executionFinish, Summary: "Say that the agent has ended by itself.", DisplayAttrs: displayAttrs("finish", "execution"), Responses: okResponse(executionFields()),
			},
		},
		HelpSynopsis:    "End an execution.",
		HelpDescription: "Ends the execution, and its hold on versions. Doing it again changes nothing.",
	}
}

func (b *backend) pathExecutionAck() *framework.Path {
	return &framework.Path{
		Pattern:      executionPattern + "/ack",
		DisplayAttrs: displayAttrs("", "execution"),
		Fields: map[string]*framework.FieldSchema{
			"id":        idField(),
			"pid":       {Type: framework.TypeInt, Description: "The process that was ended."},
			"signal":    {Type: framework.TypeString, Description: "The signal that ended it, or nothing when it exited by itself."},
			"exit_code": {Type: framework.TypeInt, Description: "Its exit code."},
			"time":      {Type: framework.TypeString, Description: "When it ended. Without it: now."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.executionAck, Summary: "Give the receipt of a kill.", DisplayAttrs: displayAttrs("acknowledge", "execution"), Responses: okResponse(executionFields()),
			},
		},
		HelpSynopsis:    "Acknowledge an order to stop.",
		HelpDescription: "The runner says that the processes of the execution are gone. The first receipt stays.",
	}
}

func executionFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"execution_id": {Type: framework.TypeString, Description: "The id.", Required: true},
		"environment":  {Type: framework.TypeString, Description: "The environment.", Required: true},
		"chain":        {Type: framework.TypeString, Description: "The chain.", Required: true},
		"agent":        {Type: framework.TypeString, Description: "The agent.", Required: true},
		"workspace":    {Type: framework.TypeString, Description: "Where it runs."},
		"run":          {Type: framework.TypeString, Description: "The run of the chain that it belongs to."},
		"user":         {Type: framework.TypeString, Description: "For whom it runs."},
		"redact":       {Type: framework.TypeBool, Description: "Whether its output is redacted, as whoever started it says.", Required: true},
		"started_by":   {Type: framework.TypeString, Description: "The entity, or the display name of the token, that started it.", Required: true},
		"state":        {Type: framework.TypeString, Description: "active, terminating, finished, expired, terminated or lost.", Required: true},
		"generation":   {Type: framework.TypeInt, Description: "Grows with each change of state.", Required: true},
		"versions":     {Type: framework.TypeMap, Description: "The version of each secret and group that it holds, by path.", Required: true},
		"started_at":   {Type: framework.TypeString, Description: "When it was started.", Required: true},
		"expires_at":   {Type: framework.TypeString, Description: "When it ends, whatever is renewed.", Required: true},
		"ended_at":     {Type: framework.TypeString, Description: "When it ended, or an empty string.", Required: true},
		"reason":       {Type: framework.TypeString, Description: "Why it was told to stop, or has ended.", Required: true},
		"incident_id":  {Type: framework.TypeString, Description: "The incident that it was stopped by, or an empty string.", Required: true},
		"exit_code":    {Type: framework.TypeInt, Description: "The exit code that finish gave."},
		"ack":          {Type: framework.TypeMap, Description: "The receipt of a kill: pid, signal, exit_code, time; or null."},
		"findings":     {Type: framework.TypeMap, Description: "What was seen in its output, by variable: path and version of the entry, first_at, last_at, count, encodings, and redacted, which is false when one was not.", Required: true},
	}
}

func (e *executionEntry) toResponse() map[string]any {
	versions := map[string]any{}
	for _, p := range e.Pins {
		versions[p.Path] = p.Version
	}
	data := map[string]any{
		"execution_id": e.ID, "environment": e.Environment, "chain": e.Chain, "agent": e.Agent,
		"started_by": e.StartedBy, "state": string(e.State), "generation": e.Generation, "versions": versions,
		"started_at": timeString(e.StartedAt), "expires_at": timeString(e.Deadline), "ended_at": timeString(e.EndedAt),
		"reason": e.Reason, "incident_id": e.IncidentID, "redact": !e.Unredacted, "findings": e.findings(), "ack": nil,
	}
	addPresent(data, map[string]string{"workspace": e.Workspace, "run": e.Run, "user": e.User})
	if e.ExitCode != nil {
		data["exit_code"] = *e.ExitCode
	}
	if e.Ack != nil {
		data["ack"] = map[string]any{"pid": e.Ack.PID, "signal": e.Ack.Signal, "exit_code": e.Ack.ExitCode, "time": timeString(e.Ack.Time)}
	}
	return data
}

// ownExecution returns the execution that the path names, if the request comes
// from the identity that started it. To others it does not exist.
func (b *backend) ownExecution(ctx context.Context, req *logical.Request, d *framework.FieldData) (*executionEntry, error) {
	id := d.Get("id").(string)
	if !validExecutionID(id) {
		return nil, badRequest("the id in the path must be %d hex digits", executionIDLength)
	}
	e, err := getExecution(ctx, req.Storage, id)
	if err != nil {
		return nil, err
	}
	if who := identity(req); e == nil || who == "" || who != e.Identity {
		return nil, notFound("there is no such execution")
	}
	b.executions.recall(e)
	return e, b.applyOrder(ctx, req.Storage, e)
}

func (b *backend) executionRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	e, err := b.ownExecution(ctx, req, d)
	if err != nil {
		return respond(err)
	}
	return &logical.Response{Data: e.toResponse()}, nil
}

const longestWatch = 5 * time.Second

func (b *backend) executionWatch(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	known, knows := d.GetOk("generation")
	wait := min(time.Duration(d.Get("wait").(int))*time.Second, longestWatch)
	// Subscribed before the record is read: no change is missed between the two.
	state, generation, changed, indexed := b.executions.watch(d.Get("id").(string), b.now())
	e, err := b.ownExecution(ctx, req, d)
	if err != nil {
		return respond(err)
	}
	if knows && wait > 0 && indexed && state == executionActive && generation == known.(int) && e.Generation == generation {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-changed:
			if e, err = b.ownExecution(ctx, req, d); err != nil {
				return respond(err)
			}
		case <-timer.C:
		case <-b.cleaned:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &logical.Response{Data: map[string]any{
		"state": string(e.State), "generation": e.Generation, "reason": e.Reason, "incident_id": e.IncidentID,
	}}, nil
}

func (b *backend) executionFinish(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return b.changeOwnExecution(ctx, req, d, func(e *executionEntry) error {
		if e.State.ended() {
			return nil
		}
		if code, sent := d.GetOk("exit_code"); sent {
			code := code.(int)
			e.ExitCode = &code
		}
		to := executionFinished
		if e.State == executionTerminating {
			to = executionTerminated
		}
		e.transition(to, e.Reason, b.now())
		return nil
	})
}

func (b *backend) executionAck(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	receipt := &ack{PID: d.Get("pid").(int), Signal: d.Get("signal").(string), ExitCode: d.Get("exit_code").(int), Time: b.now()}
	if at := d.Get("time").(string); at != "" {
		receipt.Time, _ = time.Parse(time.RFC3339, at) // checkTime has parsed it
	}
	if len(receipt.Signal) > maxLabel {
		return respond(badRequest("signal must be at most %d bytes", maxLabel))
	}
	return b.changeOwnExecution(ctx, req, d, func(e *executionEntry) error {
		switch {
		case e.Ack != nil:
			return nil
		case e.State == executionTerminating, e.State == executionLost, e.State == executionTerminated:
			e.Ack = receipt
			e.transition(executionTerminated, e.Reason, b.now())
			return nil
		}
		return conflict("the execution is %s and was not told to stop: use finish", e.State)
	})
}

// changeOwnExecution changes an execution for who started it.
func (b *backend) changeOwnExecution(ctx context.Context, req *logical.Request, d *framework.FieldData, change func(*executionEntry) error) (*logical.Response, error) {
	own, err := b.ownExecution(ctx, req, d)
	if err != nil {
		return respond(err)
	}
	e, err := b.withExecution(ctx, req.Storage, own.ID, change)
	if err != nil {
		return respond(err)
	}
	return &logical.Response{Data: e.toResponse()}, nil
}
