package agentchains

import (
	"cmp"
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// pathData and pathMetadata take and give what those of the KV engine's version 2
// do, so that its clients can write entries. No value comes out.
func (b *backend) pathData() *framework.Path {
	answer := okResponse(versionFields())
	return &framework.Path{
		Pattern:      "data/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs("", "data"),
		Fields: map[string]*framework.FieldSchema{
			"path":    pathField("An environment, a scope and a name, such as prod/chain/deploy-pipeline/DATABASE_URL."),
			"data":    {Type: framework.TypeMap, Description: "Of a secret: its value, as value. Of a group: its variables.", DisplayAttrs: &framework.DisplayAttributes{Name: "Data", Sensitive: true}},
			"options": {Type: framework.TypeMap, Description: "cas: write only if this is the newest version number; 0: only if there is no entry."},
			"cas":     {Type: framework.TypeInt, Description: "Taken because a client sends it, and ignored: cas is in options."},
			"version": {Type: framework.TypeInt, Query: true, Description: "The version to read. Without it, or with 0: the newest."},
			"force":   {Type: framework.TypeBool, Description: "Do it although a rotation is under way or executions hold a version."},
		},
		ExistenceCheck: b.dataExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: &framework.PathOperation{
				Callback: b.dataWrite, Summary: "Store a secret or a group, as in KV version 2.", DisplayAttrs: displayAttrs("create", "data"), Responses: answer,
			},
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.dataWrite, Summary: "Give a secret or a group a new version, as in KV version 2.", DisplayAttrs: displayAttrs("update", "data"), Responses: answer,
			},
			logical.PatchOperation: &framework.PathOperation{
				Callback: b.dataWrite, Summary: "Merge changes into the newest version of a group: null deletes.", DisplayAttrs: displayAttrs("patch", "data"), Responses: answer,
			},
			logical.ReadOperation: &framework.PathOperation{
				Callback: b.dataRead, Summary: "Read the names in the newest version, with null for each value.", DisplayAttrs: displayAttrs("read", "data"),
				Responses: okResponse(map[string]*framework.FieldSchema{
					"data":     {Type: framework.TypeMap, Description: "The names, each with null.", Required: true},
					"metadata": {Type: framework.TypeMap, Description: "Of the version: created_time, custom_metadata, deletion_time, destroyed, version.", Required: true},
				}),
			},
			logical.DeleteOperation: &framework.PathOperation{
				Callback: b.dataDelete, Summary: "Delete a secret or a group with all its versions.", DisplayAttrs: displayAttrs("delete", "data"), Responses: noContent(),
			},
		},
		HelpSynopsis:    "Write secrets and groups as the KV engine's version 2 takes them.",
		HelpDescription: dataHelp,
	}
}

const dataHelp = `
For clients of KV version 2 that write, such as Terraform's write-only attributes.
What is written is the same as by secrets/ and groups/, and a new value begins a
rotation as it does there. Values come out by reveal/ only. A delete is not soft.
`

// versionFields are what KV version 2 says of a version.
func versionFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"created_time":    {Type: framework.TypeString, Description: "When the version was created.", Required: true},
		"custom_metadata": {Type: framework.TypeMap, Description: "The operator's own keys.", Required: true},
		"deletion_time":   {Type: framework.TypeString, Description: "An empty string: there are no soft deletes.", Required: true},
		"destroyed":       {Type: framework.TypeBool, Description: "Whether the value is gone.", Required: true},
		"version":         {Type: framework.TypeInt, Description: "The number of the version.", Required: true},
	}
}

// asEntry returns the request as secrets/ or groups/ would get it.
func (b *backend) asEntry(req *logical.Request, a scope.Address, fields map[string]any) (*logical.Request, *framework.FieldData) {
	entry := *req
	entry.Path, entry.Data = string(a.Kind)+"/"+a.Path(), fields
	return &entry, &framework.FieldData{Raw: fields, Schema: b.Route(entry.Path).Fields}
}

func (b *backend) dataExists(ctx context.Context, req *logical.Request, d *framework.FieldData) (bool, error) {
	a, err := anyAddress(d)
	if err != nil {
		return false, nil
	}
	e, err := b.getSecret(ctx, req.Storage, a)
	return e != nil, err
}

func (b *backend) dataWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	a, err := anyAddress(d)
	if err != nil {
		return respond(err)
	}
	values, sent := d.Raw["data"].(map[string]any)
	if !sent {
		return respond(badRequest("data is needed: of a secret {\"value\": …}, of a group its variables"))
	}
	fields := map[string]any{"values": values}
	if a.Kind == scope.Secret {
		value, ok := values["value"].(string)
		if !ok || len(values) != 1 {
			return respond(badRequest("data of a secret must be one string, named value: groups have several"))
		}
		fields = map[string]any{"value": value}
	}
	if options, _ := d.Raw["options"].(map[string]any); options["cas"] != nil {
		fields["cas"] = options["cas"] // checkOptions lets nothing else through
	}
	if force, sent := d.Raw["force"]; sent {
		fields["force"] = force
	}
	entry, data := b.asEntry(req, a, fields)
	if resp, err := b.entryWrite(ctx, entry, data); err != nil || resp.IsError() {
		return resp, err
	}
	e, err := b.requireSecret(ctx, req.Storage, a)
	if err != nil {
		return respond(err)
	}
	return &logical.Response{Data: e.kvVersion(e.newest())}, nil
}

func (b *backend) dataRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	a, err := anyAddress(d)
	if err != nil {
		return respond(err)
	}
	e, err := b.requireSecret(ctx, req.Storage, a)
	if err != nil {
		return respond(err)
	}
	number := d.Get("version").(int)
	if number == 0 {
		number = cmp.Or(e.newest().number(), e.LastVersion)
	}
	if number < 0 || number > e.LastVersion {
		return respond(notFound("%s has no version %d", a.Path(), number))
	}
	v, names := e.numbered(number), map[string]any{}
	switch {
	case v.Values == nil: // not a 404: who takes that for deleted would store the value anew that was revoked
	case a.Kind == scope.Secret:
		names["value"] = nil
	default:
		for _, name := range v.names() {
			names[name] = nil
		}
	}
	return &logical.Response{Data: map[string]any{"data": names, "metadata": e.kvVersion(v)}}, nil
}

func (b *backend) dataDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	a, err := anyAddress(d)
	if err != nil {
		return respond(err)
	}
	entry, data := b.asEntry(req, a, map[string]any{"force": d.Get("force")})
	return b.entryDelete(ctx, entry, data)
}

// numbered returns the version of a number, which has no values if it is gone.
func (e *secretEntry) numbered(number int) *version {
	if v := e.liveVersion(number); v != nil {
		return v
	}
	gone := &version{Number: number}
	for _, t := range e.Destroyed {
		if t.Number == number {
			gone.CreatedAt = t.CreatedAt
		}
	}
	return gone
}

// kvVersion is what KV version 2 says of a version, which is gone when it has no
// values.
func (e *secretEntry) kvVersion(v *version) map[string]any {
	return map[string]any{
		"created_time": timeString(v.CreatedAt), "custom_metadata": e.customMetadata(), "deletion_time": "", "destroyed": v.Values == nil, "version": v.Number,
	}
}
