package agentchains

import (
	"context"
	"regexp"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

func (b *backend) pathExecutionFinding() *framework.Path {
	return &framework.Path{
		Pattern:      executionPattern + "/finding",
		DisplayAttrs: displayAttrs("", "execution"),
		Fields: map[string]*framework.FieldSchema{
			"id":       idField(),
			"name":     {Type: framework.TypeString, Description: "The variable whose value was seen, by its name in the environment of the execution. Needed."},
			"count":    {Type: framework.TypeInt, Default: 1, Description: "How often it was seen since the last report."},
			"encoding": {Type: framework.TypeString, Description: "How it was encoded, as a label: up to 32 lower-case letters, digits or -."},
			"redacted": {Type: framework.TypeBool, Default: true, Description: "Whether it was redacted, and so did not get out. True by default."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.executionFinding, Summary: "Report that a secret was seen in the output of an execution.", DisplayAttrs: displayAttrs("report", "execution"), Responses: okResponse(executionFields()),
			},
		},
		HelpSynopsis:    "Report a secret in the output of an execution.",
		HelpDescription: findingHelp,
	}
}

const findingHelp = `
Names a variable that the execution was given, and never its value. The first
report of a variable, and the first of one that was not redacted, sends
leak.detected, and does what on_leak of the secret or group says. All are counted
in the record of the execution.
`

const maxFindings = 1 << 30 // in one report

var encodingPattern = regexp.MustCompile(`^[a-z0-9-]{0,32}$`)

func (b *backend) executionFinding(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := commitContext(ctx)
	defer cancel()
	l, err := b.wantedLeak(ctx, req, d)
	if err != nil {
		return respond(err)
	}
	if l.news(l.execution.Variables[l.name].Seen) {
		if err := b.tellLeak(ctx, req.Storage, l); err != nil {
			return respond(err)
		}
		b.counts.leaks.Add(1)
	}
	e, err := b.withExecution(ctx, req.Storage, l.execution.ID, func(e *executionEntry) error {
		v, now := e.Variables[l.name], b.now().UTC().Truncate(time.Second)
		if v.Seen == nil {
			v.Seen = &sighting{First: now}
		}
		stored := v.Seen.Last
		b.executions.recall(e)
		if changed := v.Seen.see(l, now); !changed && now.Sub(stored) < sightingInterval && b.executions.remember(e.ID, l.name, *v.Seen) {
			return errUnchanged
		}
		return nil
	})
	if err != nil {
		return respond(err)
	}
	return &logical.Response{Data: e.toResponse()}, nil
}

// wantedLeak returns the leak that the request reports.
func (b *backend) wantedLeak(ctx context.Context, req *logical.Request, d *framework.FieldData) (*leak, error) {
	e, err := b.ownExecution(ctx, req, d)
	if err != nil {
		return nil, err
	}
	l := &leak{name: d.Get("name").(string), encoding: d.Get("encoding").(string), count: d.Get("count").(int), redacted: d.Get("redacted").(bool), execution: e}
	v := e.Variables[l.name]
	switch {
	case v == nil:
		return nil, badRequest("name must be that of a variable that the execution was given")
	case l.count < 1 || l.count > maxFindings:
		return nil, badRequest("count must be from 1 to %d", maxFindings)
	case !encodingPattern.MatchString(l.encoding):
		return nil, badRequest("encoding must be at most 32 lower-case letters, digits or -")
	case e.State.ended():
		return nil, conflict("the execution is %s: report what is found before it ends", e.State)
	}
	p := e.Pins[v.Pin]
	l.version = p.Version
	l.address, err = scope.ParseAddress(scope.KindOf(p.Path), p.Path)
	return l, err
}
