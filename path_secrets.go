package agentchains

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

func (b *backend) pathSecrets() *framework.Path {
	p := b.pathEntries("secret", framework.TypeString)
	p.Pattern = "secrets/" + framework.MatchAllRegex("path")
	p.Fields["value"] = &framework.FieldSchema{
		Type:         framework.TypeString,
		Description:  "The value, at most 64 KiB. It becomes a new version, unless it is the one that the newest version has.",
		DisplayAttrs: &framework.DisplayAttributes{Name: "Value", Sensitive: true},
	}
	p.HelpSynopsis = "Secrets: one environment variable each."
	p.HelpDescription = secretsHelp
	return p
}

func (b *backend) pathSecretsList() *framework.Path {
	return pathList("secrets/", "secrets", "List secrets, and the segments below a path.", b.entryList)
}

const secretsHelp = `
A secret is stored at <environment>/<scope>/<NAME>, where the scope is org,
project/<project>, chain/<chain> or agent/<chain>/<agent>, as in
prod/chain/deploy-pipeline/DATABASE_URL. The environment all stands for every
environment. Reading gives metadata and a masked value; reveal/ gives the value.
`

// pathEntries is the contract that secrets/ and groups/ share, but for the
// field that holds the value and the type of its masked form.
func (b *backend) pathEntries(noun string, masked framework.FieldType) *framework.Path {
	answer := func() map[int][]framework.Response { return okResponse(entryFields(masked)) }
	return &framework.Path{
		DisplayAttrs: displayAttrs("", noun),
		Fields: map[string]*framework.FieldSchema{
			"path":               pathField("An environment, a scope and a name, such as prod/chain/deploy-pipeline/DATABASE_URL."),
			"cas":                {Type: framework.TypeInt, Description: "Write only if this is the newest version number; 0: only if there is no entry."},
			"force":              {Type: framework.TypeBool, Description: "Do it although a rotation is under way or executions hold a version."},
			"description":        {Type: framework.TypeString, Description: "What the entry is for."},
			"sensitivity":        {Type: framework.TypeString, AllowedValues: []any{"low", "medium", "high", "critical"}, Description: "low, medium (the default), high or critical."},
			"expires_at":         {Type: framework.TypeString, Description: "When the version that is sent, or else the newest one, stops being given out. An empty string: never."},
			"chains_allowed":     {Type: framework.TypeCommaStringSlice, Description: "Chains that may see an entry of project or org scope: exact names, or prefix/*. An empty list allows none; without a list all may."},
			"access_log_enabled": {Type: framework.TypeBool, Description: "Keep who read the entry in a flat shape, and when. True by default."},
			"redact":             {Type: framework.TypeCommaStringSlice, Description: "Redact the value from output: true (the default), false, or a list of a group's members."},
			"on_leak":            {Type: framework.TypeString, AllowedValues: []any{"alert", "rotate", "revoke"}, Description: "What follows when the value was seen in output: alert (the default), rotate or revoke."},
			"custom_metadata":    {Type: framework.TypeMap, Description: "Up to 64 keys with strings. An update replaces them all, a patch merges."},
		},
		ExistenceCheck: b.entryExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: &framework.PathOperation{
				Callback: b.entryWrite, Summary: "Store a " + noun + ".", DisplayAttrs: displayAttrs("create", noun), Responses: answer(),
			},
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.entryWrite, Summary: "Change a " + noun + ": only the fields that are sent.", DisplayAttrs: displayAttrs("update", noun), Responses: answer(),
			},
			logical.PatchOperation: &framework.PathOperation{
				Callback: b.entryWrite, Summary: "Merge changes into a " + noun + ": null deletes.", DisplayAttrs: displayAttrs("patch", noun), Responses: answer(),
			},
			logical.ReadOperation: &framework.PathOperation{
				Callback: b.entryRead, Summary: "Read the metadata and the masked value of a " + noun + ".", DisplayAttrs: displayAttrs("read", noun), Responses: answer(),
			},
			logical.DeleteOperation: &framework.PathOperation{
				Callback: b.entryDelete, Summary: "Delete a " + noun + " with all its versions.", DisplayAttrs: displayAttrs("delete", noun), Responses: noContent(),
			},
		},
	}
}

// entryFields are what reading a secret or a group answers.
func entryFields(masked framework.FieldType) map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"environment":        {Type: framework.TypeString, Description: "The environment, or all.", Required: true},
		"scope":              {Type: framework.TypeString, Description: "The scope, such as chain:deploy-pipeline.", Required: true},
		"name":               {Type: framework.TypeString, Description: "The name.", Required: true},
		"current_version":    {Type: framework.TypeInt, Description: "The number of the current version; 0: none.", Required: true},
		"pending_version":    {Type: framework.TypeInt, Description: "The number of the pending version; 0: none.", Required: true},
		"masked":             {Type: masked, Description: "The masked value; of a group, a map of them."},
		"versions":           {Type: framework.TypeMap, Description: "By number: state, created_at, created_by, expires_at, destroyed_at, destroyed_by, reason.", Required: true},
		"description":        {Type: framework.TypeString, Description: "What the entry is for.", Required: true},
		"sensitivity":        {Type: framework.TypeString, Description: "low, medium, high or critical.", Required: true},
		"created_at":         {Type: framework.TypeString, Description: "When the entry was created.", Required: true},
		"created_by":         {Type: framework.TypeString, Description: "The entity, or the display name of the token, that created it.", Required: true},
		"updated_at":         {Type: framework.TypeString, Description: "When the entry last changed.", Required: true},
		"rotated_at":         {Type: framework.TypeString, Description: "When the value last changed for a reader.", Required: true},
		"expires_at":         {Type: framework.TypeString, Description: "When the newest version stops being given out, or an empty string.", Required: true},
		"chains_allowed":     {Type: framework.TypeCommaStringSlice, Description: "Chains that may see it; null: no restriction."},
		"access_log_enabled": {Type: framework.TypeBool, Description: "Whether readers are kept.", Required: true},
		"redact":             {Type: framework.TypeCommaStringSlice, Description: "true, false, or the members that are redacted.", Required: true},
		"on_leak":            {Type: framework.TypeString, Description: "alert, rotate or revoke.", Required: true},
		"custom_metadata":    {Type: framework.TypeMap, Description: "The operator's own keys.", Required: true},
		"unpinned_readers":   {Type: framework.TypeSlice, Description: "Who read it in a flat shape: reader, display_name, path, version, last_read."},
		"more_readers":       {Type: framework.TypeInt, Description: "How many readers there were beyond those that are listed."},
	}
}

func (e *secretEntry) toResponse(a scope.Address, now time.Time) *logical.Response {
	versions := map[string]any{}
	for _, t := range e.Destroyed {
		versions[strconv.Itoa(t.Number)] = map[string]any{
			"state": "destroyed", "created_at": timeString(t.CreatedAt), "created_by": t.CreatedBy,
			"destroyed_at": timeString(t.DestroyedAt), "destroyed_by": t.DestroyedBy, "reason": t.Reason,
		}
	}
	data := map[string]any{
		"environment":        a.Environment,
		"scope":              a.Scope.String(),
		"name":               a.Name,
		"current_version":    e.Current.number(),
		"pending_version":    e.Pending.number(),
		"versions":           versions,
		"description":        e.Description,
		"sensitivity":        e.Sensitivity,
		"created_at":         timeString(e.CreatedAt),
		"created_by":         e.CreatedBy,
		"updated_at":         timeString(e.UpdatedAt),
		"rotated_at":         "",
		"expires_at":         "",
		"chains_allowed":     nil,
		"access_log_enabled": e.AccessLogEnabled,
		"redact":             e.Redact.plain(),
		"on_leak":            e.OnLeak,
		"custom_metadata":    e.customMetadata(),
	}
	if e.Restricted {
		data["chains_allowed"] = append([]string{}, e.ChainsAllowed...)
	}
	for _, v := range e.live() {
		state := "current"
		if v == e.Pending {
			state = "pending"
		}
		versions[strconv.Itoa(v.Number)] = map[string]any{
			"state": state, "created_at": timeString(v.CreatedAt), "created_by": v.CreatedBy, "expires_at": timeString(v.ExpiresAt),
		}
		data["expires_at"] = timeString(v.ExpiresAt)
	}
	if v := e.readable(now); v != nil {
		data["rotated_at"] = timeString(v.ValidFrom)
		data["masked"] = v.masked(a)
	}
	return &logical.Response{Data: data}
}

// customMetadata is never null in an answer.
func (e *secretEntry) customMetadata() map[string]string {
	if e.CustomMetadata == nil {
		return map[string]string{}
	}
	return e.CustomMetadata
}

func (r redaction) plain() any {
	if r.Members != nil {
		return r.Members
	}
	return r.Enabled
}

// doorOf splits the path of a request to secrets/ or groups/.
func doorOf(path string) (scope.Kind, string) {
	door, path, _ := strings.Cut(path, "/")
	return scope.Kind(door), strings.TrimSuffix(path, "/")
}

// entryAddress reads the address in the path of a request.
func entryAddress(req *logical.Request) (scope.Address, error) {
	a, err := scope.ParseAddress(doorOf(req.Path))
	if err != nil {
		return a, badRequest("%s", err)
	}
	return a, nil
}

func (b *backend) entryExists(ctx context.Context, req *logical.Request, _ *framework.FieldData) (bool, error) {
	a, err := entryAddress(req)
	if err != nil {
		return false, nil
	}
	e, err := b.getSecret(ctx, req.Storage, a)
	return e != nil, err
}

func (b *backend) entryRead(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	a, err := entryAddress(req)
	if err != nil {
		return respond(err)
	}
	e, err := b.requireSecret(ctx, req.Storage, a)
	if err != nil {
		return respond(err)
	}
	resp := e.toResponse(a, b.now())
	known, err := b.readers.of(ctx, req.Storage, a)
	if err != nil {
		return respond(err)
	}
	resp.Data["unpinned_readers"], resp.Data["more_readers"] = known.plain(), known.More
	return resp, nil
}

func (b *backend) entryDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	a, err := entryAddress(req)
	if err != nil {
		return respond(err)
	}
	ctx, cancel := commitContext(ctx)
	defer cancel()
	defer b.executions.closePins(pin{Path: a.Path()})()
	force := d.Get("force").(bool)
	if !force {
		e, err := b.getSecret(ctx, req.Storage, a)
		if err != nil {
			return respond(err)
		}
		if e != nil && e.Rotation != nil {
			return respond(conflict("a rotation of %s is under way: wait until it has ended, abort it, or use force=true", a.Path()))
		}
		holders, err := b.executions.holders(a, 0)
		if err != nil {
			return respond(err)
		}
		if len(holders) > 0 {
			return respond(conflict("%s is held by %d executions: wait until they have ended, or use force=true, which tells them to stop", a.Path(), len(holders)))
		}
	}
	if err := b.deleteSecret(ctx, req.Storage, a); err != nil || !force {
		return respond(err)
	}
	holders, err := b.executions.holders(a, 0)
	if err != nil {
		return respond(err)
	}
	order := &stopOrder{reason: a.Path() + " was deleted", by: actor(req), at: b.now()}
	_, err = b.tellHolders(ctx, req.Storage, holders, order)
	return respond(err)
}

func (b *backend) entryList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	kind, path := doorOf(req.Path)
	if err := scope.CheckPrefix(path); err != nil {
		return respond(badRequest("%s", err))
	}
	keys, err := listEntries(ctx, req.Storage, kind, path)
	if err != nil {
		return respond(err)
	}
	return list(keys, d)
}
