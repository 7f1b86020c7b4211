package agentchains

import (
	"context"
	"maps"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/locksutil"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// entryWrite creates, updates or patches a secret or a group.
func (b *backend) entryWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	a, err := entryAddress(req)
	if err != nil {
		return respond(err)
	}
	now := b.now()
	e, err := b.withSecret(ctx, req, a, func(e *secretEntry) error { return e.apply(req, d, a, now) })
	if err != nil {
		return respond(err)
	}
	resp := e.toResponse(a, now)
	if e.Restricted && a.Scope.Chain != "" {
		resp.AddWarning("chains_allowed has no effect here: it counts in project and org scope, and an entry of a chain or an agent is seen by that one only")
	}
	return resp, nil
}

// withSecret changes the entry at an address under its lock, or creates it. A
// change that fails stores nothing. A request that has changed the entry
// already, and comes again because the plugin crashed, gets the entry as it is.
func (b *backend) withSecret(ctx context.Context, req *logical.Request, a scope.Address, change func(*secretEntry) error) (*secretEntry, error) {
	ctx, cancel := commitContext(ctx)
	defer cancel()

	// No environment is removed while an entry is written into it.
	b.configLock.RLock()
	defer b.configLock.RUnlock()
	if a.Environment != scope.All {
		c, err := b.getConfig(ctx, req.Storage)
		if err != nil {
			return nil, err
		}
		if err := c.checkEnvironment(a.Environment); err != nil {
			return nil, err
		}
	}
	// No place leaves the index while an entry is written into it.
	place := locksutil.LockForKey(b.folderLocks, folder(a.Kind, a.Place))
	place.RLock()
	defer place.RUnlock()
	lock := b.lockEntry(secretKey(a))
	lock.Lock()
	defer lock.Unlock()

	e, err := getJSON[secretEntry](ctx, req.Storage, secretKey(a))
	if err != nil {
		return nil, err
	}
	created, before := e == nil, expiries(e)
	switch {
	case created && req.Operation == logical.PatchOperation:
		return nil, notFound("there is no %s", a.Path())
	case created:
		deleted, err := getJSON[deletedEntry](ctx, req.Storage, deletedKey(a))
		if err != nil {
			return nil, err
		}
		e = newSecretEntry(req, a, deleted, b.now())
	case req.ID != "" && e.RequestID == req.ID:
		return e, nil
	}
	if err := change(e); err != nil {
		return nil, err
	}
	e.RequestID, e.UpdatedAt = req.ID, b.now()
	return e, b.putSecretLocked(ctx, req.Storage, a, e, created, before)
}

func newSecretEntry(req *logical.Request, a scope.Address, deleted *deletedEntry, now time.Time) *secretEntry {
	e := &secretEntry{
		Path:             a.Path(),
		Sensitivity:      "medium",
		AccessLogEnabled: true,
		Redact:           redaction{Enabled: true},
		OnLeak:           "alert",
		CreatedAt:        now,
		CreatedBy:        actor(req),
	}
	if deleted != nil {
		e.LastVersion = deleted.LastVersion
	}
	return e
}

// apply changes the entry to what the request says.
func (e *secretEntry) apply(req *logical.Request, d *framework.FieldData, a scope.Address, now time.Time) error {
	if cas, sent := d.GetOk("cas"); sent && cas.(int) != e.newest().number() {
		return conflict("cas does not match: the newest version of %s is %d", a.Path(), e.newest().number())
	}
	values, err := e.sentValues(req, d, a)
	if err != nil {
		return err
	}
	if values == nil && e.LastVersion == 0 {
		return badRequest("there is no %s: send its value to create it", a.Path())
	}
	if values != nil && !e.newest().equal(values) {
		e.replace(values, now, actor(req))
	}
	if err := e.applyExpiry(d, now); err != nil {
		return err
	}
	return e.applyMetadata(req, d)
}

// sentValues returns the values of the version that the request asks for, or
// nil when it sends none.
func (e *secretEntry) sentValues(req *logical.Request, d *framework.FieldData, a scope.Address) (map[string]sensitive.String, error) {
	if a.Kind == scope.Secret {
		value, sent := d.Raw["value"].(string)
		if !sent {
			return nil, nil
		}
		return map[string]sensitive.String{a.Name: sensitive.New(value)}, nil
	}
	if _, sent := d.Raw["values"]; !sent {
		return nil, nil
	}
	members, err := stringMap(req, d, "values")
	if err != nil {
		return nil, err
	}
	values := map[string]sensitive.String{}
	if req.Operation == logical.PatchOperation && e.newest() != nil {
		maps.Copy(values, e.newest().Values)
	}
	for name, value := range members {
		if value == nil {
			delete(values, name)
		} else {
			values[name] = sensitive.New(*value)
		}
	}
	return values, nil
}

// applyExpiry sets the expiry of the newest version, which is the one that was
// sent, if one was.
func (e *secretEntry) applyExpiry(d *framework.FieldData, now time.Time) error {
	raw, sent := d.Raw["expires_at"]
	if !sent || e.newest() == nil {
		return nil
	}
	at := time.Time{}
	if s, _ := raw.(string); s != "" {
		at, _ = time.Parse(time.RFC3339, s) // checkTime has parsed it
		at = at.UTC().Truncate(time.Second)
		if !at.After(now) {
			return badRequest("expires_at must be in the future")
		}
	}
	e.newest().ExpiresAt = at
	return nil
}

// applyMetadata changes the metadata that was sent. Null, which only a patch
// may hold, sets a field back to its default.
func (e *secretEntry) applyMetadata(req *logical.Request, d *framework.FieldData) error {
	fresh := newSecretEntry(req, scope.Address{}, nil, time.Time{})
	for name, raw := range d.Raw {
		switch name {
		case "description":
			e.Description, _ = raw.(string)
		case "sensitivity":
			e.Sensitivity = stringOr(raw, fresh.Sensitivity)
		case "on_leak":
			e.OnLeak = stringOr(raw, fresh.OnLeak)
		case "access_log_enabled":
			e.AccessLogEnabled = raw == nil || d.Get(name).(bool)
		case "chains_allowed":
			e.Restricted, e.ChainsAllowed = raw != nil, nil
			if e.Restricted {
				e.ChainsAllowed = d.Get(name).([]string)
			}
		case "redact":
			e.Redact = parseRedaction(raw, d)
		case "custom_metadata":
			if err := e.applyCustomMetadata(req, d, raw == nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func stringOr(raw any, fallback string) string {
	if s, ok := raw.(string); ok {
		return s
	}
	return fallback
}

func parseRedaction(raw any, d *framework.FieldData) redaction {
	switch raw {
	case nil, true, "true":
		return redaction{Enabled: true}
	case false, "false":
		return redaction{}
	}
	members := d.Get("redact").([]string)
	return redaction{Enabled: len(members) > 0, Members: members}
}

func (e *secretEntry) applyCustomMetadata(req *logical.Request, d *framework.FieldData, clear bool) error {
	changes, err := stringMap(req, d, "custom_metadata")
	if err != nil {
		return err
	}
	merged := map[string]string{}
	if req.Operation == logical.PatchOperation && !clear {
		maps.Copy(merged, e.CustomMetadata)
	}
	for key, value := range changes {
		if value == nil {
			delete(merged, key)
		} else {
			merged[key] = *value
		}
	}
	e.CustomMetadata = merged
	return nil
}
