package agentchains

import (
	"context"
	"errors"
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
	c, err := b.getConfig(ctx, req.Storage)
	if err != nil {
		return respond(err)
	}
	if d.Get("force").(bool) { // the pending version may go
		known, err := b.getSecret(ctx, req.Storage, a)
		if err != nil {
			return respond(err)
		}
		if known != nil && known.Pending != nil {
			defer b.executions.closePins(pin{a.Path(), known.Pending.Number})()
		}
	}
	e, err := b.withSecret(ctx, req, a, func(e *secretEntry) error { return b.apply(e, c, req, d, a, now) })
	if err != nil {
		return respond(err)
	}
	resp := e.toResponse(a, now)
	if e.Restricted && a.Scope.Chain != "" {
		resp.AddWarning("chains_allowed has no effect here: it counts in project and org scope, and an entry of a chain or an agent is seen by that one only")
	}
	return resp, nil
}

// withSecret changes the entry at an address for a request, or creates it.
func (b *backend) withSecret(ctx context.Context, req *logical.Request, a scope.Address, change func(*secretEntry) error) (*secretEntry, error) {
	fresh := func(deleted *deletedEntry) *secretEntry { return newSecretEntry(req, a, deleted, b.now()) }
	if req.Operation == logical.PatchOperation {
		fresh = nil
	}
	return b.changeSecret(ctx, req.Storage, a, req.ID, fresh, change)
}

// changeSecret changes the entry at an address under its lock, or creates it when
// fresh says how. A change that fails stores nothing, and errUnchanged neither. A
// request that has changed the entry already, and comes again because the plugin
// crashed, gets the entry as it is.
func (b *backend) changeSecret(ctx context.Context, s logical.Storage, a scope.Address, requestID string,
	fresh func(*deletedEntry) *secretEntry, change func(*secretEntry) error) (*secretEntry, error) {
	ctx, cancel := commitContext(ctx)
	defer cancel()

	// No environment is removed while an entry is written into it.
	b.configLock.RLock()
	defer b.configLock.RUnlock()
	if a.Environment != scope.All {
		c, err := b.getConfig(ctx, s)
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

	e, err := getJSON[secretEntry](ctx, s, secretKey(a))
	if err != nil {
		return nil, err
	}
	created, before := e == nil, indexLines(e, a)
	switch {
	case created && fresh == nil:
		return nil, notFound("there is no %s", a.Path())
	case created:
		deleted, err := getJSON[deletedEntry](ctx, s, deletedKey(a))
		if err != nil {
			return nil, err
		}
		e = fresh(deleted)
	case requestID != "" && e.RequestID == requestID:
		return e, nil
	}
	if err := change(e); err != nil {
		if errors.Is(err, errUnchanged) {
			err = nil
		}
		return e, err
	}
	events, err := b.takeNotices(ctx, s, e)
	if err != nil {
		return e, err
	}
	if requestID != "" {
		e.RequestID, e.UpdatedAt = requestID, b.now()
	}
	if err := b.putSecretLocked(ctx, s, a, e, created, before); err != nil {
		return e, err
	}
	for i := range events {
		b.sendEvent(ctx, events[i].notification())
	}
	return e, nil
}

// errUnchanged says that there is nothing to store.
var errUnchanged = errors.New("unchanged")

func newSecretEntry(req *logical.Request, a scope.Address, deleted *deletedEntry, now time.Time) *secretEntry {
	e := &secretEntry{
		Path:             a.Path(),
		Sensitivity:      "medium",
		AccessLogEnabled: true,
		Redact:           redaction{Enabled: true},
		OnLeak:           onLeakAlert,
		CreatedAt:        now,
		CreatedBy:        actor(req),
	}
	if deleted != nil {
		e.LastVersion = deleted.LastVersion
	}
	return e
}

// apply changes the entry to what the request says.
func (b *backend) apply(e *secretEntry, c *config, req *logical.Request, d *framework.FieldData, a scope.Address, now time.Time) error {
	if cas, sent := d.GetOk("cas"); sent && cas.(int) != e.casNumber() {
		return conflict("cas does not match: the newest version of %s is %d", a.Path(), e.casNumber())
	}
	values, err := e.sentValues(req, d, a)
	if err != nil {
		return err
	}
	if values == nil && e.LastVersion == 0 {
		return badRequest("there is no %s: send its value to create it", a.Path())
	}
	if values != nil && !e.newest().equal(values) {
		if err := b.replace(e, c, req, a, values, d.Get("force").(bool)); err != nil {
			return err
		}
	}
	if err := e.applyExpiry(d, now); err != nil {
		return err
	}
	return e.applyMetadata(req, d)
}

// casNumber is what cas must be. An entry whose versions were all revoked is there:
// who stores what is not there does not revive it.
func (e *secretEntry) casNumber() int {
	if v := e.newest(); v != nil || len(e.Destroyed) == 0 {
		return v.number()
	}
	return e.LastVersion
}

// replace begins the rotation to values that were sent. What has no version is
// simply given one.
func (b *backend) replace(e *secretEntry, c *config, req *logical.Request, a scope.Address, values map[string]sensitive.String, force bool) error {
	var replaces *secretEntry
	if force {
		replaces = e
	}
	free, err := b.makeWay(e, a, replaces, actor(req))
	if err != nil {
		return err
	}
	if !free {
		return conflict("the far side of %[1]s has to be told that its rotation is dropped: do so by abort/%[1]s, and then try again", a.Path())
	}
	now := b.now()
	if e.Current == nil {
		e.Current = e.newVersion(values, now, actor(req))
		e.Current.ValidFrom = now
		return nil
	}
	e.begin(e.newRotation(c, triggerWrite, actor(req)), values, now)
	return nil
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
