package agentchains

import (
	"context"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// indexLine is a line of an index. Only its key says something. It may be
// stale: the entry that it names says what is true.
type indexLine struct{}

// indexLines returns the lines that an entry has in the indexes of expiries, of
// schedules, of the users of rotators, and of when the worker looks at it again.
func indexLines(e *secretEntry, a scope.Address) []string {
	if e == nil {
		return nil
	}
	var keys []string
	for _, at := range expiries(e) {
		keys = append(keys, expiryKey(at, a))
	}
	if e.Schedule != nil {
		keys = append(keys, scheduleKey(a))
		if name := e.Schedule.Rotator; name != "" {
			keys = append(keys, rotatorUseKey(name, a))
		}
	}
	if r := e.Rotation; r != nil && r.Rotator != "" && (e.Schedule == nil || e.Schedule.Rotator != r.Rotator) {
		keys = append(keys, rotatorUseKey(r.Rotator, a))
	}
	if at, note := e.note(); note != "" {
		keys = append(keys, wakeKey(at, note, a))
	}
	return keys
}

// deleteLines removes lines that no longer hold. That one stays behind when
// storage fails is harmless.
func (b *backend) deleteLines(ctx context.Context, s logical.Storage, keys []string) {
	for _, key := range keys {
		if err := deleteKey(ctx, s, key); err != nil {
			b.Logger().Warn("a stale line stays in an index", "error", err)
		}
	}
}

// flatPath is the path of an address as the last segment of a key.
func flatPath(a scope.Address) string { return strings.ReplaceAll(a.Path(), "/", ":") }

// parseFlat is the inverse of flatPath.
func parseFlat(flat string) (scope.Address, error) {
	path := strings.ReplaceAll(flat, ":", "/")
	return scope.ParseAddress(scope.KindOf(path), path)
}
