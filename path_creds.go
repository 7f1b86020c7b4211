package agentchains

import (
	"cmp"
	"context"
	"maps"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathCreds() *framework.Path {
	return &framework.Path{
		Pattern:      "creds/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs("", "credentials"),
		Fields:       map[string]*framework.FieldSchema{"path": pathField(agentPathHelp)},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback:     b.credsRead,
				Summary:      "Read the whole environment of an agent, with the times at which it changes.",
				Description:  "The data are those of env/, and ttl, rotation_period and last_vault_rotation.",
				DisplayAttrs: displayAttrs("read", "credentials"),
				Responses:    okResponse(nil),
			},
		},
		HelpSynopsis:    "The environment of an agent, with times.",
		HelpDescription: credsHelp,
	}
}

const credsHelp = `
The same as env/, for clients that wake up when a value changes. ttl is the
number of seconds to the next known change, at least 1 and at most
creds_max_ttl; rotation_period is the shortest in seconds, 86400 without one;
last_vault_rotation is the time at which a value last changed, or the agent's
chain was written.
`

// defaultRotationPeriod is answered where nothing rotates by a period, because
// the Vault Secrets Operator requires one.
const defaultRotationPeriod = 24 * time.Hour

func (b *backend) credsRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	settings, err := b.getConfig(ctx, req.Storage)
	if err != nil {
		return respond(err)
	}
	r, err := b.readResolved(ctx, req, d)
	if err != nil {
		return respond(err)
	}
	b.counts.creds.Add(1)
	data := r.flat()
	maps.Copy(data, r.times(b.now(), settings.CredsMaxTTL))
	return &logical.Response{Data: data}, nil
}

// times returns the times of an environment as clients of static credentials
// expect them: durations in whole seconds, of which the ttl is never 0.
func (r *resolution) times(now time.Time, maxTTL time.Duration) map[string]any {
	ttl := maxTTL
	if !r.until.IsZero() {
		ttl = max(time.Second, min(ttl, r.until.Sub(now)))
	}
	last := r.chain.WrittenAt
	for i := range r.entries {
		if from := r.entries[i].version.ValidFrom; from.After(last) {
			last = from
		}
	}
	return map[string]any{
		"ttl":                 int64(ttl / time.Second),
		"rotation_period":     int64(cmp.Or(r.period, defaultRotationPeriod) / time.Second),
		"last_vault_rotation": last.UTC().Format(time.RFC3339Nano),
	}
}
