package agentchains

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// pathsRevoke are the doors of the emergency by who runs.
func (b *backend) pathsRevoke() []*framework.Path {
	return []*framework.Path{
		b.pathRevoke(stopExecution, "The id of an execution.", "Tell an execution to stop.", revokeExecutionHelp),
		b.pathRevoke(stopRun, "The label of a run.", "Tell every execution of a run to stop.", revokeRunHelp),
		b.pathRevoke(stopAgent, agentPathHelp, "Tell every execution of an agent to stop.", revokeAgentHelp),
		b.pathRevoke(stopChain, "An environment and a chain, such as prod/deploy-pipeline.", "Tell every execution of a chain to stop.", revokeChainHelp),
		b.pathRevoke(stopAll, "", "Tell every execution in every environment to stop.", revokeAllHelp),
	}
}

const (
	revokeExecutionHelp = `
Whoever watches the execution is told at once, and its lease is not renewed any
more. The runner ends the agent and acknowledges. Doing it again changes nothing.
`
	revokeRunHelp = `
Stops all executions that carry the label. With hold=true none is started with it
until the hold is released by a delete.
`
	revokeAgentHelp = `
Stops all executions of the agent in the environment. With hold=true none is
started and env/ and creds/ answer 423 until the hold is released by a delete.
`
	revokeChainHelp = `
Stops all executions of all agents of the chain in the environment. With
hold=true none is started and nothing is read until the hold is released.
`
	revokeAllHelp = `
Stops everything that runs, in every environment. With hold=true nothing is
started and nothing is read until the hold is released. Needs sudo.
`
)

func (b *backend) pathRevoke(kind stopKind, target, summary, help string) *framework.Path {
	noun := string(kind)
	fields := revokeRequestFields()
	pattern := "revoke/" + noun
	if target != "" {
		pattern += "/(?P<path>.+)"
		fields["path"] = pathField(target)
	}
	return &framework.Path{
		Pattern:      pattern + "$",
		DisplayAttrs: displayAttrs("", noun),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback: func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
					return b.revokeRunners(ctx, req, d, kind)
				},
				Summary: summary, DisplayAttrs: displayAttrs("revoke", noun), Responses: okResponse(revokeFields()),
			},
			logical.DeleteOperation: &framework.PathOperation{
				Callback: func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
					return b.releaseHold(ctx, req, d, kind)
				},
				Summary: "Release the hold that a revocation has left.", DisplayAttrs: displayAttrs("release", noun), Responses: noContent(),
			},
		},
		HelpSynopsis:    summary,
		HelpDescription: help,
	}
}

func revokeRequestFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"reason":  {Type: framework.TypeString, Description: "Why, for the record and for who runs the agents. Needed."},
		"dry_run": {Type: framework.TypeBool, Description: "Only answer what would be hit."},
		"hold":    {Type: framework.TypeBool, Description: "Keep out what is revoked until the hold is released."},
	}
}

func revokeFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"incident_id":     {Type: framework.TypeString, Description: "The incident; empty with dry_run.", Required: true},
		"executions":      {Type: framework.TypeStringSlice, Description: "Ids of executions that are told to stop, now or before, and have not ended: the first 1000, as far as the engine has read what runs.", Required: true},
		"execution_count": {Type: framework.TypeInt, Description: "How many they are.", Required: true},
		"agents":          {Type: framework.TypeStringSlice, Description: "The agents whose executions they are.", Required: true},
		"chains":          {Type: framework.TypeStringSlice, Description: "Their chains.", Required: true},
	}
}

const (
	maxReason    = 1024
	mostAnswered = 1000
)

func revokeReason(d *framework.FieldData) (string, error) {
	reason := d.Get("reason").(string)
	if reason == "" || len(reason) > maxReason || !utf8.ValidString(reason) {
		return "", badRequest("reason must say in 1 to %d bytes why", maxReason)
	}
	return reason, nil
}

// stopTarget reads what a request to revoke/ is about.
func (b *backend) stopTarget(ctx context.Context, s logical.Storage, d *framework.FieldData, kind stopKind) (string, error) {
	if kind == stopAll {
		return "", nil
	}
	target := d.Get("path").(string)
	switch kind {
	case stopExecution:
		if !validExecutionID(target) {
			return "", badRequest("the id in the path must be %d hex digits", executionIDLength)
		}
		return target, nil
	case stopRun:
		if err := scope.CheckSegment(target); err != nil {
			return "", badRequest("the run in the path %s", err)
		}
		return target, nil
	}
	if kind == stopAgent {
		_, _, _, err := b.parseAgentPath(ctx, s, target)
		return target, err
	}
	environment, chain, _ := strings.Cut(target, "/")
	c, err := b.getConfig(ctx, s)
	if err == nil {
		err = c.checkEnvironment(environment)
	}
	if err != nil {
		return "", err
	}
	if err := scope.CheckChain(chain); err != nil {
		return "", badRequest("the path must be <environment>/<chain>: the chain %s", err)
	}
	return target, nil
}

// requireRunners fails for what nothing runs as and nothing can: a name that is
// mistyped must not look as if it had been stopped.
func (b *backend) requireRunners(ctx context.Context, s logical.Storage, e *stopEntry) error {
	var err error
	switch e.Kind {
	case stopExecution:
		var known *executionEntry
		if known, err = getExecution(ctx, s, e.Target); known == nil && err == nil {
			err = notFound("there is no such execution")
		}
		return err
	case stopAgent:
		_, _, _, err = b.requireAgent(ctx, s, e.Target)
	case stopChain:
		_, chain, _ := strings.Cut(e.Target, "/")
		_, err = b.requireChain(ctx, s, chain)
	}
	var api *apiError
	if errors.As(err, &api) && (!b.executions.isReady() || len(b.executions.matching(e.matches)) > 0) {
		return nil // its definition was deleted while it runs
	}
	return err
}

func (b *backend) revokeRunners(ctx context.Context, req *logical.Request, d *framework.FieldData, kind stopKind) (*logical.Response, error) {
	ctx, cancel := commitContext(ctx)
	defer cancel()
	reason, err := revokeReason(d)
	if err != nil {
		return respond(err)
	}
	target, err := b.stopTarget(ctx, req.Storage, d, kind)
	if err != nil {
		return respond(err)
	}
	if err := b.requireStops(ctx, req.Storage); err != nil {
		return respond(err)
	}
	e := &stopEntry{Kind: kind, Target: target, Reason: reason, CreatedAt: b.now(), CreatedBy: actor(req), Hold: d.Get("hold").(bool)}
	if err := b.requireRunners(ctx, req.Storage, e); err != nil {
		return respond(err)
	}
	if d.Get("dry_run").(bool) {
		if !b.executions.isReady() {
			return respond(errIndexNotReady())
		}
		return b.revokeAnswer("", b.executions.matching(e.matches)), nil
	}
	salt, err := b.getSalt(ctx, req.Storage)
	if err != nil {
		return respond(err)
	}
	e.Repeat = salt.repeatKey(req)
	first, err := b.giveOrder(ctx, req.Storage, e)
	if err != nil {
		return respond(err)
	}
	if first != nil {
		return b.revokeAgain(ctx, req.Storage, first.incident())
	}
	// Who was started before the engine may have become known meanwhile.
	b.executions.noteOrder()
	ids := b.executions.matching(e.matches)
	b.storeSoon(ctx, req.Storage, e.incident(), b.executions.order(ids, e.order()))
	return b.revokeAnswer(e.ID, ids), nil
}

// storeSoon stores an incident with who was told to stop, so that it can be read at
// once. What fails here is the worker's to do again.
func (b *backend) storeSoon(ctx context.Context, s logical.Storage, head incidentEntry, hit []killed) {
	err := b.noteHit(ctx, s, head, hit, false)
	if err == nil {
		err = b.storeIncident(ctx, s, head.ID)
	}
	if err != nil {
		b.Logger().Warn("an incident is not stored yet, and is tried again", "incident", head.ID, "error", err)
	}
	b.kick()
}

func errIndexNotReady() error { return notReady("the engine is still reading what runs: try again") }

func killedIDs(hit []killed) []string {
	ids := make([]string, len(hit))
	for i := range hit {
		ids[i] = hit[i].ID
	}
	return ids
}

// revokeAgain answers a request that repeats an earlier one with its incident.
func (b *backend) revokeAgain(ctx context.Context, s logical.Storage, first incidentEntry) (*logical.Response, error) {
	hit, err := b.firstHit(ctx, s, first)
	if err != nil {
		return respond(err)
	}
	return b.revokeAnswer(first.ID, killedIDs(hit)), nil
}

// firstHit returns what an earlier revocation has hit. Its incident may not have
// been written before a crash, and then is now.
func (b *backend) firstHit(ctx context.Context, s logical.Storage, first incidentEntry) ([]killed, error) {
	head, hit, err := b.incident(ctx, s, first.ID)
	if err != nil {
		return nil, err
	}
	if head == nil {
		b.storeSoon(ctx, s, first, nil)
	}
	return append([]killed{}, hit...), nil
}

// revokeAnswer says what is hit, or without an incident what would be. Of what has
// ended since, it does not say whose it was.
func (b *backend) revokeAnswer(incident string, ids []string) *logical.Response {
	agents, chains := map[string]bool{}, map[string]bool{}
	for _, id := range ids {
		if agent := b.executions.agentOf(id); agent != nil {
			agents[agent.path], chains[agent.chain] = true, true
		}
	}
	data := map[string]any{
		"incident_id": incident, "executions": append([]string{}, ids[:min(mostAnswered, len(ids))]...), "execution_count": len(ids),
		"agents": append([]string{}, slices.Sorted(maps.Keys(agents))...), "chains": append([]string{}, slices.Sorted(maps.Keys(chains))...),
	}
	return &logical.Response{Data: data}
}

// releaseHold lets what was held start and read again. What was told to stop
// stays so.
func (b *backend) releaseHold(ctx context.Context, req *logical.Request, d *framework.FieldData, kind stopKind) (*logical.Response, error) {
	ctx, cancel := commitContext(ctx)
	defer cancel()
	target, err := b.stopTarget(ctx, req.Storage, d, kind)
	if err != nil {
		return respond(err)
	}
	if err := b.requireStops(ctx, req.Storage); err != nil {
		return respond(err)
	}
	for _, e := range b.stops.all() {
		if !e.Hold || e.Kind != kind || e.Target != target {
			continue
		}
		if err := b.changeStop(ctx, req.Storage, e.ID, func(e *stopEntry) { e.Hold = false }); err != nil {
			return respond(err)
		}
	}
	return nil, nil
}
