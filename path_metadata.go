package agentchains

import (
	"context"
	"strconv"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathMetadata() *framework.Path {
	return &framework.Path{
		Pattern:      "metadata/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs("", "metadata"),
		Fields: map[string]*framework.FieldSchema{
			"path":                 pathField("An environment, a scope and a name, such as prod/chain/deploy-pipeline/DATABASE_URL."),
			"custom_metadata":      {Type: framework.TypeMap, Description: "Up to 64 keys with strings. An update replaces them all, a patch merges."},
			"force":                {Type: framework.TypeBool, Description: "Delete although a rotation is under way or executions hold a version."},
			"max_versions":         {Type: framework.TypeInt, Description: "0, or not at all: two versions are live at most."},
			"cas_required":         {Type: framework.TypeBool, Description: "false, or not at all."},
			"delete_version_after": {Type: framework.TypeDurationSecond, Description: "0, or not at all: expires_at of secrets/ says when a version ends."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.metadataWrite, Summary: "Replace the custom metadata of an entry.", DisplayAttrs: displayAttrs("update", "metadata"), Responses: noContent(),
			},
			logical.PatchOperation: &framework.PathOperation{
				Callback: b.metadataWrite, Summary: "Merge changes into the custom metadata of an entry: null deletes.", DisplayAttrs: displayAttrs("patch", "metadata"), Responses: noContent(),
			},
			logical.ReadOperation: &framework.PathOperation{
				Callback: b.metadataRead, Summary: "Read the versions of an entry, as in KV version 2.", DisplayAttrs: displayAttrs("read", "metadata"),
				Responses: okResponse(map[string]*framework.FieldSchema{
					"cas_required":         {Type: framework.TypeBool, Description: "false.", Required: true},
					"created_time":         {Type: framework.TypeString, Description: "When the entry was created.", Required: true},
					"current_version":      {Type: framework.TypeInt, Description: "The newest version, whether it is given out yet or not.", Required: true},
					"custom_metadata":      {Type: framework.TypeMap, Description: "The operator's own keys.", Required: true},
					"delete_version_after": {Type: framework.TypeString, Description: "0s.", Required: true},
					"max_versions":         {Type: framework.TypeInt, Description: "0.", Required: true},
					"oldest_version":       {Type: framework.TypeInt, Description: "The oldest version that is known.", Required: true},
					"updated_time":         {Type: framework.TypeString, Description: "When the entry last changed.", Required: true},
					"versions":             {Type: framework.TypeMap, Description: "By number: created_time, deletion_time, destroyed.", Required: true},
				}),
			},
			logical.DeleteOperation: &framework.PathOperation{
				Callback: b.dataDelete, Summary: "Delete an entry with all its versions.", DisplayAttrs: displayAttrs("delete", "metadata"), Responses: noContent(),
			},
		},
		HelpSynopsis:    "The metadata of secrets and groups, as KV version 2 has it.",
		HelpDescription: metadataHelp,
	}
}

const metadataHelp = `
For clients of KV version 2. secrets/ and groups/ say and take more: sensitivity,
chains_allowed, on_leak and the like.
`

func (b *backend) metadataWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	a, err := anyAddress(d)
	if err != nil {
		return respond(err)
	}
	if d.Get("max_versions").(int) != 0 || d.Get("cas_required").(bool) || d.Get("delete_version_after").(int) != 0 {
		return respond(badRequest("max_versions, cas_required and delete_version_after must be 0, false and 0: an entry has two live versions at most"))
	}
	fields := map[string]any{}
	if custom, sent := d.Raw["custom_metadata"]; sent {
		fields["custom_metadata"] = custom
	}
	entry, data := b.asEntry(req, a, fields)
	if resp, err := b.entryWrite(ctx, entry, data); err != nil || resp.IsError() {
		return resp, err
	}
	return nil, nil
}

func (b *backend) metadataRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	a, err := anyAddress(d)
	if err != nil {
		return respond(err)
	}
	e, err := b.requireSecret(ctx, req.Storage, a)
	if err != nil {
		return respond(err)
	}
	versions, oldest := map[string]any{}, e.LastVersion
	add := func(v *version) {
		said := e.kvVersion(v)
		delete(said, "custom_metadata")
		delete(said, "version")
		versions[strconv.Itoa(v.Number)] = said
		oldest = min(oldest, v.Number)
	}
	for _, t := range e.Destroyed {
		add(&version{Number: t.Number, CreatedAt: t.CreatedAt})
	}
	for _, v := range e.live() {
		add(v)
	}
	return &logical.Response{Data: map[string]any{
		"cas_required": false, "created_time": timeString(e.CreatedAt), "current_version": e.LastVersion, "custom_metadata": e.customMetadata(),
		"delete_version_after": "0s", "max_versions": 0, "oldest_version": oldest, "updated_time": timeString(e.UpdatedAt), "versions": versions,
	}}, nil
}

func (b *backend) pathMetadataList() *framework.Path {
	return pathList("metadata/", "metadata", "List secrets and groups, and the segments below a path.", b.bothList)
}
