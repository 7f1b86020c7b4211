package agentchains

import (
	"context"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// placeEntry marks a place that has entries of a kind. Only its key says something.
type placeEntry struct{}

// putPlace adds the place of an address to the index.
func (b *backend) putPlace(ctx context.Context, s logical.Storage, a scope.Address) error {
	key := placeKey(a.Kind, a.Place.Path())
	known, err := cachedGet[placeEntry](ctx, b.cache, s, key)
	if known != nil || err != nil {
		return err
	}
	return cachedPut(ctx, b.cache, s, key, &placeEntry{}, placeEntry{})
}

// deletePlaceIfEmptyLocked takes the place of an address from the index when it
// has no more entries. The caller holds the folder's lock for writing.
func (b *backend) deletePlaceIfEmptyLocked(ctx context.Context, s logical.Storage, a scope.Address) error {
	left, err := listKeys(ctx, s, secretPrefix+folder(a.Kind, a.Place))
	if err != nil || len(left) > 0 {
		return err
	}
	return cachedDelete(ctx, b.cache, s, placeKey(a.Kind, a.Place.Path()))
}

// listEntries returns what is at and below a path of secrets/ or groups/, sorted:
// the names of entries, and with a slash the segments below.
func listEntries(ctx context.Context, s logical.Storage, kind scope.Kind, path string) ([]string, error) {
	below := ""
	if path != "" {
		below = path + "/"
	}
	keys, err := listKeys(ctx, s, placeKey(kind, below))
	if err != nil {
		return nil, err
	}
	keys = folderKeys(keys)
	if place, err := scope.ParsePlace(path); err == nil {
		names, err := listKeys(ctx, s, secretPrefix+folder(kind, place))
		if err != nil {
			return nil, err
		}
		keys = append(keys, names...)
	}
	slices.Sort(keys)
	return keys, nil
}

// folderKeys returns keys as segments to list below, sorted.
func folderKeys(keys []string) []string {
	folders := make([]string, len(keys))
	for i, key := range keys {
		folders[i] = strings.TrimSuffix(key, "/") + "/"
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

// anyEntry reports whether there is an entry at or below a path. A place in the
// index may be empty after a crash, so it looks until it finds one.
func anyEntry(ctx context.Context, s logical.Storage, kind scope.Kind, path string) (bool, error) {
	keys, err := listEntries(ctx, s, kind, path)
	if err != nil {
		return false, err
	}
	for _, key := range keys {
		segment, below := strings.CutSuffix(key, "/")
		if !below {
			return true, nil
		}
		if used, err := anyEntry(ctx, s, kind, path+"/"+segment); used || err != nil {
			return used, err
		}
	}
	return false, nil
}
