package agentchains

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/helper/locksutil"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotation"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

const (
	maxDescription   = 1024
	maxMetadataKeys  = 64
	maxMetadataKey   = 128
	maxMetadataValue = 512
	keptTombstones   = 20
)

// secretEntry is a secret or a group: a secret is a group of one. Its values
// are not part of its JSON form; see stored.
type secretEntry struct {
	Path             string            `json:"path"` // the address, below the door
	Description      string            `json:"description,omitempty"`
	Sensitivity      string            `json:"sensitivity"`
	Restricted       bool              `json:"restricted,omitempty"` // ChainsAllowed counts
	ChainsAllowed    []string          `json:"chains_allowed,omitempty"`
	AccessLogEnabled bool              `json:"access_log_enabled"`
	Redact           redaction         `json:"redact"`
	OnLeak           string            `json:"on_leak"`
	CustomMetadata   map[string]string `json:"custom_metadata,omitempty"`
	CreatedAt        time.Time         `json:"created_at"`
	CreatedBy        string            `json:"created_by"`
	UpdatedAt        time.Time         `json:"updated_at"`
	LastVersion      int               `json:"last_version"`
	Current          *version          `json:"current,omitempty"` // nil once it was revoked
	Pending          *version          `json:"pending,omitempty"`
	Destroyed        []tombstone       `json:"destroyed,omitempty"` // newest last

	Schedule    *schedule          `json:"schedule,omitempty"`
	Rotation    *rotation.Rotation `json:"rotation,omitempty"`    // nil: none is under way
	History     []pastRotation     `json:"history,omitempty"`     // newest last
	Making      *version           `json:"making,omitempty"`      // what a rotator saved of the version that it makes
	Stopping    bool               `json:"stopping,omitempty"`    // who holds a version that was destroyed is still to be told
	RotateNow   bool               `json:"rotate_now,omitempty"`  // its rotator makes a new version as soon as it can
	Emergencies []emergency        `json:"emergencies,omitempty"` // newest last
	Notices     []notice           `json:"notices,omitempty"`     // that the outbox does not have yet
	Leak        leakMark           `json:"leak,omitzero"`
	GoneNext    *version           `json:"gone_next,omitempty"` // the same as Gone, after it
	Gone        *version           `json:"gone,omitempty"`      // without its values: what the far side is told of at last

	// RequestID is of the last request that changed the entry. After a crash of
	// the plugin Vault sends the request that was in flight once more.
	RequestID string `json:"request_id"`
}

// redaction says which values are redacted from output: all, none, or those of
// some members of a group.
type redaction struct {
	Enabled bool     `json:"enabled"`
	Members []string `json:"members,omitempty"`
}

// stored is the form of a secretEntry in storage, which the barrier encrypts.
type stored struct {
	*plainSecret
	CurrentValues map[string]string            `json:"current_values,omitempty"`
	PendingValues map[string]string            `json:"pending_values,omitempty"`
	MakingValues  map[string]string            `json:"making_values,omitempty"`
	Memos         map[string]map[string]string `json:"memos,omitempty"` // by what the version is
}

// plainSecret is a secretEntry without its methods.
type plainSecret secretEntry

func (e *secretEntry) stored() stored {
	s := stored{(*plainSecret)(e), e.Current.reveal(), e.Pending.reveal(), e.Making.reveal(), nil}
	for name, v := range e.versions() {
		if v != nil && len(v.Memo) > 0 {
			if s.Memos == nil {
				s.Memos = map[string]map[string]string{}
			}
			s.Memos[name] = revealed(v.Memo)
		}
	}
	return s
}

// versions returns all that is kept of versions, by what they are.
func (e *secretEntry) versions() map[string]*version {
	return map[string]*version{"current": e.Current, "pending": e.Pending, "making": e.Making, "gone": e.Gone, "gone next": e.GoneNext}
}

// UnmarshalJSON reads the stored form.
func (e *secretEntry) UnmarshalJSON(data []byte) error {
	s := stored{plainSecret: (*plainSecret)(e)}
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	for _, v := range []struct {
		version *version
		values  map[string]string
	}{{e.Current, s.CurrentValues}, {e.Pending, s.PendingValues}, {e.Making, s.MakingValues}} {
		if v.version != nil {
			v.version.Values = concealed(v.values)
		}
	}
	for name, v := range e.versions() {
		if v != nil {
			v.Memo = concealed(s.Memos[name])
		}
	}
	return nil
}

// readable returns the version that a new reader gets, or nil when all were revoked.
func (e *secretEntry) readable(now time.Time) *version {
	if e.Pending != nil && !e.Pending.ValidFrom.IsZero() && !now.Before(e.Pending.ValidFrom) {
		return e.Pending
	}
	return e.Current
}

// newest returns the version with the highest number that is live, or nil.
func (e *secretEntry) newest() *version {
	if e.Pending != nil {
		return e.Pending
	}
	return e.Current
}

// live returns the versions that hold values.
func (e *secretEntry) live() []*version {
	return slices.DeleteFunc([]*version{e.Current, e.Pending}, func(v *version) bool { return v == nil })
}

// liveVersion returns the version of a number while it holds values, or nil.
func (e *secretEntry) liveVersion(number int) *version {
	for _, v := range e.live() {
		if v.Number == number {
			return v
		}
	}
	return nil
}

// destroy leaves a tombstone of a version.
func (e *secretEntry) destroy(v *version, now time.Time, by, reason string, stop bool) {
	e.Destroyed = append(e.Destroyed, tombstone{Number: v.Number, CreatedAt: v.CreatedAt, CreatedBy: v.CreatedBy, DestroyedAt: now, DestroyedBy: by, Reason: reason, Stop: stop})
	e.Destroyed = e.Destroyed[max(0, len(e.Destroyed)-keptTombstones):]
	e.Stopping = e.Stopping || stop
}

// lastDestroyed returns the newest tombstone, or nil.
func (e *secretEntry) lastDestroyed() *tombstone {
	if len(e.Destroyed) == 0 {
		return nil
	}
	return &e.Destroyed[len(e.Destroyed)-1]
}

// newVersion returns the next version of the entry, which is not given out yet.
func (e *secretEntry) newVersion(values map[string]sensitive.String, now time.Time, by string) *version {
	e.LastVersion++
	return &version{Number: e.LastVersion, CreatedAt: now, CreatedBy: by, Values: values}
}

func (e *secretEntry) validate() error {
	switch {
	case !slices.Contains(sensitivities, e.Sensitivity):
		return badRequest("sensitivity must be one of %s", strings.Join(sensitivities, ", "))
	case !slices.Contains(leakActions, e.OnLeak):
		return badRequest("on_leak must be one of %s", strings.Join(leakActions, ", "))
	case len(e.Description) > maxDescription:
		return badRequest("description must be at most %d bytes", maxDescription)
	case len(e.CustomMetadata) > maxMetadataKeys:
		return badRequest("custom_metadata must have at most %d keys", maxMetadataKeys)
	}
	for key, value := range e.CustomMetadata {
		if key == "" || len(key) > maxMetadataKey || len(value) > maxMetadataValue {
			return badRequest("custom_metadata must have keys of 1 to %d bytes and values of at most %d", maxMetadataKey, maxMetadataValue)
		}
	}
	if err := scope.CheckChainPatterns(e.ChainsAllowed); err != nil {
		return badRequest("chains_allowed %s", err)
	}
	for _, v := range e.live() {
		if err := v.validate(); err != nil {
			return err
		}
		for _, member := range e.Redact.Members {
			if _, ok := v.Values[member]; !ok {
				return badRequest("redact must be true, false or a list of members of the group")
			}
		}
	}
	return nil
}

var (
	sensitivities = []string{"low", "medium", "high", "critical"}
	leakActions   = []string{onLeakAlert, onLeakRotate, onLeakRevoke}
)

// getSecret returns the entry at an address, or nil. It is shared: read, never changed.
func (b *backend) getSecret(ctx context.Context, s logical.Storage, a scope.Address) (*secretEntry, error) {
	return b.getSecretAt(ctx, s, secretKey(a), a)
}

// getSecretAt is getSecret for a caller that has the key at hand.
func (b *backend) getSecretAt(ctx context.Context, s logical.Storage, key string, a scope.Address) (*secretEntry, error) {
	e, err := cachedGet[secretEntry](ctx, b.cache, s, key)
	if err == nil && e != nil && e.Path != a.Path() {
		return nil, fmt.Errorf("get %s: the stored entry is of another address", key)
	}
	return e, err
}

// requireSecret is getSecret, with an error when nothing is there.
func (b *backend) requireSecret(ctx context.Context, s logical.Storage, a scope.Address) (*secretEntry, error) {
	e, err := b.getSecret(ctx, s, a)
	if err == nil && e == nil {
		return nil, notFound("there is no %s", a.Path())
	}
	return e, err
}

// putSecretLocked writes e, which is new or had the index lines given by before.
// The caller holds the entry's lock, and the folder's.
//
// The lines of the indexes come first and stale ones go last: a crash leaves a
// line without an entry, which readers of an index skip, never an entry that no
// index knows.
func (b *backend) putSecretLocked(ctx context.Context, s logical.Storage, a scope.Address, e *secretEntry, created bool, before []string) error {
	if err := e.validate(); err != nil {
		return err
	}
	if created {
		if err := b.putPlace(ctx, s, a); err != nil {
			return err
		}
	}
	after := indexLines(e, a)
	for _, key := range after {
		if !slices.Contains(before, key) {
			if _, err := putJSON(ctx, s, key, indexLine{}); err != nil {
				return err
			}
		}
	}
	err := cachedPut(ctx, b.cache, s, secretKey(a), e, e.stored())
	b.mount.put(a, e)
	if err != nil {
		b.rotations.touch(a) // it may have been stored all the same
		return err
	}
	b.rotations.put(a, e, b.now())
	b.deleteLines(ctx, s, slices.DeleteFunc(before, func(key string) bool { return slices.Contains(after, key) }))
	return nil
}

// deleteSecret removes the entry at an address, if there is one. Its last
// version number stays behind, written first, so that no number comes twice.
func (b *backend) deleteSecret(ctx context.Context, s logical.Storage, a scope.Address) error {
	lock := locksutil.LockForKey(b.folderLocks, folder(a.Kind, a.Place))
	lock.Lock()
	defer lock.Unlock()
	e, err := getJSON[secretEntry](ctx, s, secretKey(a))
	if err != nil {
		return err
	}
	if e == nil { // an earlier try may have got as far as this
		return b.deletePlaceIfEmptyLocked(ctx, s, a)
	}
	if _, err := putJSON(ctx, s, deletedKey(a), deletedEntry{e.LastVersion}); err != nil {
		return err
	}
	if err := cachedDelete(ctx, b.cache, s, secretKey(a)); err != nil {
		return err
	}
	b.rotations.remove(a)
	b.deleteLines(ctx, s, indexLines(e, a))
	if err := b.readers.forget(ctx, s, a); err != nil {
		b.Logger().Warn("who read a deleted entry stays stored", "error", err)
	}
	return b.deletePlaceIfEmptyLocked(ctx, s, a)
}

// deletedEntry is what stays of a deleted entry.
type deletedEntry struct {
	LastVersion int `json:"last_version"`
}
