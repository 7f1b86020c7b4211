package agentchains

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// Storage keys. docs/storage.md lists what is behind each of them.
const (
	configKey          = "config"
	projectPrefix      = "project/"
	chainPrefix        = "chain/"
	placePrefix        = "place/"
	secretPrefix       = "secret/"
	deletedPrefix      = "deleted/"
	readersPrefix      = "readers/"
	expiryPrefix       = "expiry/"
	saltKey            = "salt"
	livePrefix         = "execution/live/"
	endedPrefix        = "execution/ended/"
	historyPrefix      = "execution/history/"
	rotatorPrefix      = "rotator/"
	schedulePrefix     = "schedule/"
	usePrefix          = "use/"
	stopPrefix         = "stop/"
	incidentPrefix     = "incident/"
	incidentPartPrefix = "incident-part/"
	openIncidentPrefix = "incident-open/"
	wakePrefix         = "wake/"
	notifierPrefix     = "notifier/"
	outboxPrefix       = "outbox/"
	deadLetterPrefix   = "deadletter/"
)

// maxEntrySize is below the 1 MiB that integrated storage takes, less what the
// barrier adds.
const maxEntrySize = 768 << 10

func projectKey(name string) string { return projectPrefix + name }

func chainKey(name string) string { return chainPrefix + name }

// placeKey is the key of a place in the index of places that have entries.
func placeKey(kind scope.Kind, path string) string {
	return placePrefix + string(kind) + "/" + path
}

// folder names the storage folder of all entries of one kind at a place. It is
// a hash, so that it holds nothing but them: a List in raft walks every key
// below its prefix, and chains have chains below them.
func folder(kind scope.Kind, place scope.Place) string {
	sum := sha256.Sum256([]byte(string(kind) + "/" + place.Path()))
	return hex.EncodeToString(sum[:16]) + "/"
}

func secretKey(a scope.Address) string { return secretPrefix + folder(a.Kind, a.Place) + a.Name }

// deletedKey is where the last version number of a deleted entry stays.
func deletedKey(a scope.Address) string { return deletedPrefix + folder(a.Kind, a.Place) + a.Name }

func readersKey(a scope.Address) string { return readersPrefix + folder(a.Kind, a.Place) + a.Name }

// expiryKey sorts by time.
func expiryKey(at time.Time, a scope.Address) string {
	return expiryPrefix + at.UTC().Format(time.RFC3339) + "/" + folder(a.Kind, a.Place) + a.Name
}

func rotatorKey(name string) string { return rotatorPrefix + name }

// stopKey is of an order to stop, and of the hold that stays of it.
func stopKey(id string) string { return stopPrefix + id }

func incidentKey(id string) string { return incidentPrefix + id }

func incidentPartKey(id string, n int) string {
	return fmt.Sprintf("%s%s/%d", incidentPartPrefix, id, n)
}

// openIncidentKey is a line in the index of incidents that are not settled.
func openIncidentKey(id string) string { return openIncidentPrefix + id }

// scheduleKey is a line in the index of entries that have a schedule, as the
// API lists them.
func scheduleKey(a scope.Address) string { return schedulePrefix + a.Path() }

// rotatorUseKey is a line in the index of the entries that use a rotator.
func rotatorUseKey(rotator string, a scope.Address) string {
	return usePrefix + rotator + "/" + flatPath(a)
}

// wakeKey is a line in the index of entries that the worker has to look at. It
// sorts by time, and says what for.
func wakeKey(at time.Time, note string, a scope.Address) string {
	at = at.UTC()
	return wakePrefix + at.Format(indexHour) + "/" + at.Format(time.RFC3339) + "," + note + "," + flatPath(a)
}

func notifierKey(name string) string { return notifierPrefix + name }

// outboxKey is of a notification that is to be delivered to a notifier.
func outboxKey(notifier, item string) string { return outboxPrefix + notifier + "/" + item }

func deadLetterKey(notifier, item string) string { return deadLetterPrefix + notifier + "/" + item }

// indexHour names the shards of an index that sorts by time.
const indexHour = "2006-01-02T15"

// getJSON reads key into a new T. It returns nil, nil when key is absent.
func getJSON[T any](ctx context.Context, s logical.Storage, key string) (*T, error) {
	v, _, err := getSized[T](ctx, s, key)
	return v, err
}

// getSized is getJSON, with the entry's encoded size.
func getSized[T any](ctx context.Context, s logical.Storage, key string) (*T, int, error) {
	entry, err := s.Get(ctx, key)
	if err != nil {
		return nil, 0, fmt.Errorf("get %s: %w", key, err)
	}
	if entry == nil {
		return nil, 0, nil
	}
	v := new(T)
	if json.Unmarshal(entry.Value, v) != nil {
		// The cause is left out: it may quote what is stored.
		return nil, 0, fmt.Errorf("get %s: the stored entry cannot be decoded", key)
	}
	return v, len(entry.Value), nil
}

// putJSON writes v at key and returns its encoded size.
func putJSON(ctx context.Context, s logical.Storage, key string, v any) (int, error) {
	value, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("put %s: %w", key, err)
	}
	if len(value) > maxEntrySize {
		return 0, badRequest("the entry would take %d bytes of storage, more than %d: make it smaller", len(value), maxEntrySize)
	}
	if err := s.Put(ctx, &logical.StorageEntry{Key: key, Value: value, SealWrap: true}); err != nil {
		return 0, fmt.Errorf("put %s: %w", key, err)
	}
	return len(value), nil
}

func deleteKey(ctx context.Context, s logical.Storage, key string) error {
	if err := s.Delete(ctx, key); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// listKeys returns the keys directly below prefix, sorted; those with more
// below them end in a slash.
func listKeys(ctx context.Context, s logical.Storage, prefix string) ([]string, error) {
	keys, err := s.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	return keys, nil
}

// commitContext is for a sequence of writes: once begun, it is not broken off
// because the client went away.
func commitContext(ctx context.Context) (context.Context, context.CancelFunc) {
	const limit = 10 * time.Second
	return context.WithTimeout(context.WithoutCancel(ctx), limit)
}
