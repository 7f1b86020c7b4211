package agentchains

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

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
