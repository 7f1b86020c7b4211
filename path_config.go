package agentchains

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

func (b *backend) pathConfig() *framework.Path {
	return &framework.Path{
		Pattern:      "config",
		DisplayAttrs: displayAttrs("", ""),
		Fields:       configFields(),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback:     b.configRead,
				Summary:      "Read the settings of the mount.",
				Description:  "Durations are answered in seconds.",
				DisplayAttrs: displayAttrs("read", "configuration"),
				Responses:    okResponse(configFields()),
			},
			logical.UpdateOperation: &framework.PathOperation{
				Callback:     b.configUpdate,
				Summary:      "Change settings of the mount.",
				Description:  "Only the settings that are sent change. Removing an environment that has entries is refused.",
				DisplayAttrs: displayAttrs("configure", ""),
				Responses:    okResponse(configFields()),
			},
		},
		HelpSynopsis:    "The settings of the mount.",
		HelpDescription: configHelp,
	}
}

const configHelp = `
Holds the environments, the defaults of rotations and executions, and limits.
Reading and writing need the sudo capability.
`

func configFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"environments":      {Type: framework.TypeCommaStringSlice, Description: "The environments that agents run in. all is reserved: it stands for every one of them."},
		"min_overlap":       {Type: framework.TypeDurationSecond, Description: "For how long at least an old version stays valid beside a new one."},
		"max_overlap":       {Type: framework.TypeDurationSecond, Description: "For how long at most an old version stays valid beside a new one."},
		"on_overdue":        {Type: framework.TypeString, AllowedValues: []any{"alert", "kill"}, Description: "What happens to executions that hold an old version at max_overlap: alert or kill."},
		"execution_ttl":     {Type: framework.TypeDurationSecond, Description: "The lease of an execution, which its runner renews."},
		"execution_history": {Type: framework.TypeDurationSecond, Description: "For how long the record of an ended execution stays."},
		"creds_max_ttl":     {Type: framework.TypeDurationSecond, Description: "The longest ttl that creds/ answers."},
		"allowed_hosts":     {Type: framework.TypeCommaStringSlice, Description: "Hosts that the engine may call: host, host:port, *.suffix or an address range. A write replaces the list; an empty one allows none."},
		"rotation_webhook":  {Type: framework.TypeString, Description: "The rotator that rotation chains use where a schedule names none."},
		"cache_bytes":       {Type: framework.TypeInt, Description: "About how much memory decoded entries may take, in bytes."},
	}
}

func (c *config) toResponse() *logical.Response {
	seconds := func(d time.Duration) int64 { return int64(d / time.Second) }
	return &logical.Response{Data: map[string]any{
		"environments":      c.Environments,
		"min_overlap":       seconds(c.MinOverlap),
		"max_overlap":       seconds(c.MaxOverlap),
		"on_overdue":        c.OnOverdue,
		"execution_ttl":     seconds(c.ExecutionTTL),
		"execution_history": seconds(c.ExecutionHistory),
		"creds_max_ttl":     seconds(c.CredsMaxTTL),
		"allowed_hosts":     append([]string{}, c.AllowedHosts...), // not null
		"rotation_webhook":  c.RotationWebhook,
		"cache_bytes":       c.CacheBytes,
	}}
}

func (b *backend) configRead(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	c, err := b.getConfig(ctx, req.Storage)
	if err != nil {
		return respond(err)
	}
	return c.toResponse(), nil
}

func (b *backend) configUpdate(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	b.configLock.Lock()
	defer b.configLock.Unlock()
	current, err := b.getConfig(ctx, req.Storage)
	if err != nil {
		return respond(err)
	}
	c := *current
	c.apply(d)
	for _, environment := range current.Environments {
		if slices.Contains(c.Environments, environment) {
			continue
		}
		used, err := hasEntries(ctx, req.Storage, environment)
		if err != nil {
			return respond(err)
		}
		if used {
			return respond(conflict("environment %s has entries: delete them before removing it from environments", environment))
		}
	}
	if err := b.putConfigLocked(ctx, req.Storage, &c); err != nil {
		return respond(err)
	}
	return c.toResponse(), nil
}

// apply changes the settings that were sent.
func (c *config) apply(d *framework.FieldData) {
	for name, to := range map[string]any{
		"environments": &c.Environments, "allowed_hosts": &c.AllowedHosts,
		"on_overdue": &c.OnOverdue, "rotation_webhook": &c.RotationWebhook, "cache_bytes": &c.CacheBytes,
		"min_overlap": &c.MinOverlap, "max_overlap": &c.MaxOverlap, "execution_ttl": &c.ExecutionTTL,
		"execution_history": &c.ExecutionHistory, "creds_max_ttl": &c.CredsMaxTTL,
	} {
		v, sent := d.GetOk(name)
		if !sent {
			continue
		}
		switch to := to.(type) {
		case *[]string:
			*to = v.([]string)
		case *string:
			*to = v.(string)
		case *int64:
			*to = int64(v.(int))
		case *time.Duration:
			*to = time.Duration(v.(int)) * time.Second
		}
	}
}

// hasEntries reports whether any secret or group is stored in the environment.
func hasEntries(ctx context.Context, s logical.Storage, environment string) (bool, error) {
	for _, kind := range []scope.Kind{scope.Secret, scope.Group} {
		used, err := anyEntry(ctx, s, kind, environment)
		if used || err != nil {
			return used, err
		}
	}
	return false, nil
}
