package agentchains

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// expiryEntry is a line of the index of expiries, which is sorted by time. Only
// its key says something. It may be stale: the entry it names says what is true.
type expiryEntry struct{}

// expiries returns when the live versions of an entry expire.
func expiries(e *secretEntry) []time.Time {
	if e == nil {
		return nil
	}
	var times []time.Time
	for _, v := range e.live() {
		if !v.ExpiresAt.IsZero() {
			times = append(times, v.ExpiresAt)
		}
	}
	return times
}

func putExpiry(ctx context.Context, s logical.Storage, at time.Time, a scope.Address) error {
	_, err := putJSON(ctx, s, expiryKey(at, a), expiryEntry{})
	return err
}

// deleteExpiries removes lines that no longer hold. That one stays behind when
// storage fails is harmless.
func (b *backend) deleteExpiries(ctx context.Context, s logical.Storage, a scope.Address, times []time.Time) {
	for _, at := range times {
		if err := deleteKey(ctx, s, expiryKey(at, a)); err != nil {
			b.Logger().Warn("a line stays in the index of expiries", "error", err)
		}
	}
}

// expiringAt returns the entries of which a live version expires at the time.
func (b *backend) expiringAt(ctx context.Context, s logical.Storage, at time.Time, most int) ([]any, error) {
	prefix := expiryPrefix + at.Format(time.RFC3339) + "/"
	folders, err := listKeys(ctx, s, prefix)
	if err != nil {
		return nil, err
	}
	var found []any
	for _, folder := range folders {
		names, err := listKeys(ctx, s, prefix+folder)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if len(found) == most {
				return found, nil
			}
			e, err := cachedGet[secretEntry](ctx, b.cache, s, secretPrefix+folder+name)
			if err != nil {
				return nil, err
			}
			if slices.Contains(expiries(e), at) {
				found = append(found, map[string]any{"path": e.Path, "expires_at": timeString(at)})
			}
		}
	}
	return found, nil
}
