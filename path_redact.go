package agentchains

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathRedact() *framework.Path {
	return &framework.Path{
		Pattern:      "redact/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs("", "text"),
		Fields: map[string]*framework.FieldSchema{
			"path":  pathField(agentPathHelp),
			"text":  redactTextField(),
			"scope": {Type: framework.TypeString, Description: "agent, which is the default: against what the agent sees. mount: also against every secret of the mount that looks random and has 16 bytes or more."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback:     b.redactUpdate,
				Summary:      "Redact a text: every live version of what an agent sees, and keys of known formats.",
				DisplayAttrs: displayAttrs("redact", "text"),
				Responses:    okResponse(redactFields()),
			},
		},
		HelpSynopsis:    "Redact a text for an agent.",
		HelpDescription: redactHelp,
	}
}

const redactHelp = `
Takes a text, such as a part of a log, and answers it with [REDACTED:NAME] in
place of every value that the agent sees, in the encodings in which programs
print it. An agent that does not resolve is redacted with what does. Nobody
becomes a reader of a secret by it, and no hold keeps it out.

With scope=mount the text is also checked against secrets that the agent does
not see. They become [REDACTED], without a name. Who may ask that learns whether
a string of 16 random characters is a secret of the mount; so an identity may
ask 60 times a minute, and after 10 such secrets in an hour it is told no more.
`

func (b *backend) pathRedactMount() *framework.Path {
	return &framework.Path{
		Pattern:      "redact/mount",
		DisplayAttrs: displayAttrs("", "text-of-any"),
		Fields:       map[string]*framework.FieldSchema{"text": redactTextField()},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback:     b.redactMountUpdate,
				Summary:      "Redact a text: every secret of the mount that looks random, and keys of known formats.",
				DisplayAttrs: displayAttrs("redact", "text-of-any"),
				Responses:    okResponse(redactFields()),
			},
		},
		HelpSynopsis:    "Redact a text for nobody in particular.",
		HelpDescription: redactMountHelp,
	}
}

const redactMountHelp = `
The same as redact/<environment>/<chain>/<agent> with scope=mount, for whoever
checks texts without being an agent: no secret is called by its name. It is a
path of its own so that a policy can grant or withhold it.
`

func redactTextField() *framework.FieldSchema {
	return &framework.FieldSchema{
		Type: framework.TypeString, Description: "The text, at most 1 MiB as JSON, in which a line break counts twice: Vault takes no longer string.",
		DisplayAttrs: &framework.DisplayAttributes{Name: "Text", Sensitive: true},
	}
}

func redactFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"text":     {Type: framework.TypeString, Description: "The text, redacted.", Required: true},
		"count":    {Type: framework.TypeInt, Description: "How many findings there are.", Required: true},
		"findings": {Type: framework.TypeSlice, Description: "Name, version, encoding and redacted of what was found, how often (count), and offset and length in bytes of the first one; the first 1,000. A key of a known format has the encoding format and is named by it; one that is not redacted may be none. A secret that the agent does not see has no name and no version.", Required: true},
		"gaps":     {Type: framework.TypeSlice, Description: "Name, version and reason of values of the agent that are left readable, or not found in every form, the first 1,000.", Required: true},
	}
}

func (b *backend) redactUpdate(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	set, err := b.agentSet(ctx, req.Storage, d.Get("path").(string))
	if err != nil {
		return respond(err)
	}
	switch d.Get("scope").(string) {
	case "", "agent":
		return b.redactText(ctx, req, d, set, false)
	case "mount":
		return b.redactText(ctx, req, d, set, true)
	}
	return respond(badRequest("scope must be agent or mount"))
}

func (b *backend) redactMountUpdate(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return b.redactText(ctx, req, d, b.compiledSet(setKey("mount"), nil), true)
}

func (b *backend) redactText(ctx context.Context, req *logical.Request, d *framework.FieldData, set *agentSet, wholeMount bool) (*logical.Response, error) {
	text := d.Get("text").(string)
	if text == "" || len(text) > maxRedactText {
		return respond(badRequest("text must have 1 to %d bytes", maxRedactText))
	}
	var matches []mountMatch
	if wholeMount {
		var err error
		if matches, err = b.mountMatches(ctx, req, text, set.known); err != nil {
			return respond(err)
		}
	}
	b.counts.redacted.Add(1)
	return &logical.Response{Data: set.answer(text, matches)}, nil
}

// mountMatches searches a text for secrets of the mount, within what the identity may
// ask.
func (b *backend) mountMatches(ctx context.Context, req *logical.Request, text string, known map[uint64]bool) ([]mountMatch, error) {
	t, err := b.requireMountTable(req.Storage)
	if err != nil {
		return nil, err
	}
	if err := b.mountUsers.turn(identity(req), b.now()); err != nil {
		b.counts.mountRefused.Add(1)
		return nil, err
	}
	b.counts.mountChecked.Add(1)
	matches, err := b.searchMount(ctx, req.Storage, t, []byte(text), known)
	if err != nil {
		return nil, err
	}
	hits := map[uint64]bool{}
	for _, m := range matches {
		hits[m.hash] = true
	}
	fresh, err := b.mountUsers.hits(identity(req), hits, b.now())
	if err != nil {
		b.counts.mountRefused.Add(1)
		return nil, err
	}
	b.counts.mountHits.Add(uint64(fresh))
	return matches, nil
}
