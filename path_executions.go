package agentchains

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

func (b *backend) pathExecutions() *framework.Path {
	return &framework.Path{
		Pattern:      "executions/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs("", "execution"),
		Fields: map[string]*framework.FieldSchema{
			"path":            pathField(agentPathHelp),
			"workspace":       {Type: framework.TypeString, Description: "Where the agent runs, as a label, such as docker:ci-7."},
			"run":             {Type: framework.TypeString, Description: "A label that ties the executions of one run of the chain together."},
			"user":            {Type: framework.TypeString, Description: "For whom the agent runs, as a label."},
			"ttl":             {Type: framework.TypeDurationSecond, Description: "The step of the lease. Without it: execution_ttl of config."},
			"redact":          {Type: framework.TypeBool, Default: true, Description: "Whether the agent's output is redacted, for the record. True by default."},
			"idempotency_key": {Type: framework.TypeString, Description: "The same key from the same identity gives the same execution, with one more lease."},
			"id":              {Type: framework.TypeString, Query: true, Description: "The id of an execution of this agent."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback:     b.executionStart,
				Summary:      "Start an execution: one lease, with the environment and pinned versions.",
				Description:  "The lease keeps a copy of the answer until it is first renewed: renew it at once.",
				DisplayAttrs: displayAttrs("start", "execution"),
				Responses: okResponse(map[string]*framework.FieldSchema{
					"execution_id": {Type: framework.TypeString, Description: "The id, which only the identity that started it can use.", Required: true},
					"env":          {Type: framework.TypeMap, Description: "The environment.", Required: true, DisplayAttrs: &framework.DisplayAttributes{Name: "Environment", Sensitive: true}},
					"versions":     {Type: framework.TypeMap, Description: "The version of each variable.", Required: true},
					"redact":       {Type: framework.TypeMap, Description: "How each variable is redacted from output: always, unless_common (not when it is a common word or number), or never.", Required: true},
					"expires_at":   {Type: framework.TypeString, Description: "When the execution ends, whatever is renewed.", Required: true},
				}),
			},
			logical.ReadOperation: &framework.PathOperation{
				Callback:     b.executionsRead,
				Summary:      "Read an execution of the agent by its id, as an operator.",
				DisplayAttrs: displayAttrs("inspect", "execution"),
				Responses:    okResponse(executionFields()),
			},
		},
		HelpSynopsis:    "Executions: an agent gets its environment for one run.",
		HelpDescription: executionsHelp,
	}
}

func (b *backend) pathExecutionsList() *framework.Path {
	return pathList("executions/", "executions", "List the executions of an agent that have not ended.", b.executionsList)
}

const executionsHelp = `
An execution is one run of one agent, and a Vault lease. It holds the versions
that it was given until it ends: by finish, when its last lease is revoked or
expires, with the token that started it, or by an order to stop.
`

// labelFields are the labels of an execution. Vault's audit log shows them in
// clear once the mount is tuned so.
var labelFields = []string{"workspace", "run", "user"}

const (
	maxLabel  = 256
	maxLeases = 64 // of one execution: one for each answer that was lost
)

func (b *backend) executionStart(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	path := d.Get("path").(string)
	if err := b.requireStops(ctx, req.Storage); err != nil {
		return respond(err)
	}
	wanted, err := b.wantedExecution(ctx, req, d, path)
	if err != nil {
		return respond(err)
	}
	// Without a key, only a request that was in flight when the engine ended can
	// have started it before.
	repeated := d.Get("idempotency_key").(string) != "" || b.now().Sub(b.started) < longestRequest
	const tries = 3
	for range tries {
		resp, err := b.tryStart(ctx, req, path, wanted, repeated)
		if err == nil && resp == nil {
			// Others share the lock, which was held until now, and this may take a while.
			if _, err = b.resolveUsable(ctx, req.Storage, path); err != nil {
				b.counts.refused.Add(1)
			}
		}
		if err != nil {
			return respond(err)
		}
		if resp != nil {
			return resp, nil
		}
	}
	return respond(notReady("a secret of %s changed while the execution was started: try again", path))
}

// longestRequest is how long Vault lets a request run: what was in flight when
// the engine ended comes again within it.
const longestRequest = 90 * time.Second

// wantedExecution returns the execution that the request describes.
func (b *backend) wantedExecution(ctx context.Context, req *logical.Request, d *framework.FieldData, path string) (*executionEntry, error) {
	who := identity(req)
	if who == "" {
		return nil, forbidden("an execution belongs to the token that starts it, and this request shows none")
	}
	environment, chain, agent, err := b.requireAgent(ctx, req.Storage, path)
	if err != nil {
		return nil, err
	}
	settings, err := b.getConfig(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	now := b.now()
	limit := b.System().MaxLeaseTTL()
	if limit <= 0 {
		return nil, notReady("Vault does not say how long a lease may be: try again")
	}
	if chain.MaxRuntime > 0 {
		limit = min(limit, chain.MaxRuntime)
	}
	e := &executionEntry{
		Environment: environment, Chain: chain.Chain, Agent: agent.Name,
		Workspace: d.Get("workspace").(string), Run: d.Get("run").(string), User: d.Get("user").(string),
		Identity: who, StartedBy: actor(req), StartedAt: now, TTL: settings.ExecutionTTL, Deadline: now.Add(limit),
		Unredacted: !d.Get("redact").(bool), State: executionActive, Generation: 1,
	}
	if ttl := time.Duration(d.Get("ttl").(int)) * time.Second; ttl > 0 {
		e.TTL = ttl
	}
	e.TTL = min(e.TTL, limit)
	for _, name := range labelFields {
		if len(d.Get(name).(string)) > maxLabel {
			return nil, badRequest("%s must be at most %d bytes", name, maxLabel)
		}
	}
	if e.Run != "" {
		if err := scope.CheckSegment(e.Run); err != nil {
			return nil, badRequest("run %s", err)
		}
	}
	salt, err := b.getSalt(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	if key := d.Get("idempotency_key").(string); key != "" {
		if len(key) > maxLabel {
			return nil, badRequest("idempotency_key must be at most %d bytes", maxLabel)
		}
		e.ID = salt.executionID("key", who, e.agentPath(), key)
	} else {
		e.ID = salt.executionID("request", req.ID)
	}
	return e, nil
}

// tryStart starts the execution with what the agent resolves to now, unless it may have
// been started before and was. It returns nothing when a secret is being switched, or
// changed meanwhile.
func (b *backend) tryStart(ctx context.Context, req *logical.Request, path string, e *executionEntry, repeated bool) (*logical.Response, error) {
	lock := b.lockExecution(e.ID)
	lock.Lock()
	defer lock.Unlock()
	if repeated {
		existing, err := getExecution(ctx, req.Storage, e.ID)
		if err != nil {
			return nil, err
		}
		if existing != nil {
			return b.executionRepeated(ctx, req, existing, e)
		}
	}
	if err := b.checkHolds(ctx, req.Storage, e.runner()); err != nil {
		return nil, err
	}
	r, err := b.resolvePath(ctx, req.Storage, path)
	switch {
	case err == nil && r.switching:
		return nil, nil
	case err == nil:
		err = r.err
	}
	if err != nil {
		b.counts.refused.Add(1)
		return nil, err
	}
	ctx, cancel := commitContext(ctx)
	defer cancel()
	e.Pins, e.Variables = r.pins(), r.variables()
	nonce := e.grant(b.now())
	// Pinned before the Put and looked at again after it: whoever ends a version
	// either sees the pin, or is seen here.
	if !b.executions.begin(e) {
		e.Leases = nil
		return nil, nil
	}
	if err := putExecution(ctx, req.Storage, e); err != nil {
		b.executions.remove(e.ID)
		_ = deleteKey(ctx, req.Storage, liveExecutionKey(e.ID)) // it may have been stored all the same
		return nil, err
	}
	again, err := b.resolvePath(ctx, req.Storage, path)
	held := b.checkHolds(ctx, req.Storage, e.runner())
	if held == nil && err == nil && again.err == nil && slices.Equal(e.Pins, again.pins()) {
		b.counts.started.Add(1)
		b.noteUse(r)
		return b.executionAnswer(e, r, nonce), nil
	}
	b.executions.remove(e.ID)
	e.Leases = nil
	if err := deleteKey(ctx, req.Storage, liveExecutionKey(e.ID)); err != nil {
		return nil, err
	}
	return nil, held
}

// executionRepeated answers a start that was asked for before, with one more lease.
func (b *backend) executionRepeated(ctx context.Context, req *logical.Request, e, wanted *executionEntry) (*logical.Response, error) {
	if e.State != executionActive {
		return respond(conflict("the execution of this idempotency_key is %s: use another key for another run", e.State))
	}
	if e.Workspace != wanted.Workspace || e.Run != wanted.Run || e.User != wanted.User || e.TTL != wanted.TTL || e.Unredacted != wanted.Unredacted {
		return respond(conflict("the execution of this idempotency_key was started with other fields: use another key for another run"))
	}
	if len(e.Leases) >= maxLeases {
		return respond(conflict("the execution of this idempotency_key has %d leases: use another key for another run", maxLeases))
	}
	r, err := b.resolvePath(ctx, req.Storage, e.agentPath())
	if err != nil {
		return respond(err)
	}
	if r.err == nil && !slices.Equal(e.Pins, r.pins()) {
		r = r.at(e.Pins)
	}
	if r == nil || r.err != nil || !e.wasGiven(r) {
		return respond(conflict("the execution of this idempotency_key holds versions that are no longer given out: use another key for another run"))
	}
	ctx, cancel := commitContext(ctx)
	defer cancel()
	nonce := e.grant(b.now())
	if err := putExecution(ctx, req.Storage, e); err != nil {
		return respond(err)
	}
	b.executions.put(e, time.Time{})
	return b.executionAnswer(e, r, nonce), nil
}

func (b *backend) executionsRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	path, id := d.Get("path").(string), d.Get("id").(string)
	if _, _, _, err := b.parseAgentPath(ctx, req.Storage, path); err != nil {
		return respond(err)
	}
	if !validExecutionID(id) {
		return respond(badRequest("id must be the id of an execution: %d hex digits", executionIDLength))
	}
	e, err := getExecution(ctx, req.Storage, id)
	if err != nil {
		return respond(err)
	}
	if e == nil || e.agentPath() != path {
		return respond(notFound("%s has no such execution", path))
	}
	b.executions.recall(e)
	if err := b.applyOrder(ctx, req.Storage, e); err != nil {
		return respond(err)
	}
	return &logical.Response{Data: e.toResponse()}, nil
}

func (b *backend) executionsList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	path := strings.TrimSuffix(d.Get("path").(string), "/")
	ids, err := b.executions.of(path)
	if err != nil {
		return respond(err)
	}
	if len(ids) > 0 {
		return list(ids, d)
	}
	if _, _, _, err := b.requireAgent(ctx, req.Storage, path); err == nil {
		return list(nil, d)
	}
	keys, err := b.listAgents(ctx, req.Storage, path)
	if err != nil {
		return respond(err)
	}
	return list(folderKeys(append(keys, b.executions.below(path)...)), d)
}
