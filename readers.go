package agentchains

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/helper/locksutil"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

const (
	mostReaders     = 64               // that are kept of one entry
	mostReadEntries = 100_000          // that are kept in memory between two flushes
	readerPrecision = 15 * time.Minute // of last_read in storage; a new reader is stored at the next flush
)

// readers knows who read an entry in a flat shape. Such a reader pins nothing,
// so a rotation has to know of it.
type readers struct {
	mu      sync.Mutex             // guards entries
	entries map[string]*readersNow // by readersKey
}

// readersNow is what was read of one entry since the last flush.
type readersNow struct {
	address scope.Address
	seen    map[readerID]reader
	more    int // readers beyond mostReaders
}

// readerID tells readers apart: the same one at another version, or by another
// agent's path, counts again.
type readerID struct {
	Reader  string `json:"reader"`
	Path    string `json:"path"` // such as env/prod/deploy-pipeline/Deployer
	Version int    `json:"version"`
}

// reader is an unpinned reader.
type reader struct {
	readerID
	DisplayName string    `json:"display_name"`
	LastRead    time.Time `json:"last_read"`
}

// readersEntry is the stored form: the last mostReaders, the latest first.
type readersEntry struct {
	Readers []reader `json:"readers"`
	More    int      `json:"more,omitempty"`
}

func newReaders() *readers { return &readers{entries: map[string]*readersNow{}} }

// note records that the request read the entries.
func (rs *readers) note(req *logical.Request, entries []resolved, now time.Time) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for i := range entries {
		hit := &entries[i]
		if !hit.entry.AccessLogEnabled {
			continue
		}
		current := rs.entries[hit.readersKey]
		if current == nil {
			if len(rs.entries) >= mostReadEntries {
				continue
			}
			current = &readersNow{address: hit.address, seen: map[readerID]reader{}}
			rs.entries[hit.readersKey] = current
		}
		id := readerID{actor(req), req.Path, hit.version.Number}
		if _, known := current.seen[id]; !known && len(current.seen) >= mostReaders {
			current.more++
			continue
		}
		current.seen[id] = reader{id, req.DisplayName, now}
	}
}

// of returns who read the entry at an address, stored or not.
func (rs *readers) of(ctx context.Context, s logical.Storage, a scope.Address) (*readersEntry, error) {
	known, err := getJSON[readersEntry](ctx, s, readersKey(a))
	if err != nil {
		return nil, err
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	merged, _ := known.merge(rs.entries[readersKey(a)])
	return merged, nil
}

// merge adds what was read since the last flush, and reports whether that is
// worth a Put.
func (known *readersEntry) merge(current *readersNow) (merged *readersEntry, changed bool) {
	merged = &readersEntry{}
	if known != nil {
		merged.Readers, merged.More = known.Readers, known.More
	}
	if current == nil {
		return merged, false
	}
	changed = current.more > 0
	byID := map[readerID]reader{}
	for _, r := range merged.Readers {
		byID[r.readerID] = r
	}
	for id, r := range current.seen {
		if before, ok := byID[id]; !ok || r.LastRead.Sub(before.LastRead) >= readerPrecision {
			changed = true
		}
		byID[id] = r
	}
	merged.Readers = slices.SortedFunc(maps.Values(byID), func(x, y reader) int {
		return cmp.Or(y.LastRead.Compare(x.LastRead), cmp.Compare(y.Version, x.Version),
			cmp.Compare(x.Reader, y.Reader), cmp.Compare(x.Path, y.Path))
	})
	merged.More += current.more
	if len(merged.Readers) > mostReaders {
		merged.More += len(merged.Readers) - mostReaders
		merged.Readers = merged.Readers[:mostReaders]
	}
	return merged, changed
}

// take returns what was read since the last time.
func (rs *readers) take() map[string]*readersNow {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	taken := rs.entries
	rs.entries = map[string]*readersNow{}
	return taken
}

// putBack keeps what was taken and could not be stored.
func (rs *readers) putBack(taken map[string]*readersNow) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for key, before := range taken {
		current := rs.entries[key]
		if current == nil {
			rs.entries[key] = before
			continue
		}
		current.more += before.more
		for id, r := range before.seen {
			if _, again := current.seen[id]; !again {
				current.seen[id] = r
			}
		}
	}
}

// flushReaders stores who read what since the last time. What cannot be stored
// is kept for the next time.
func (b *backend) flushReaders(ctx context.Context, s logical.Storage) error {
	taken := b.readers.take()
	for key, current := range taken {
		if err := b.flushReadersOf(ctx, s, key, current); err != nil {
			b.readers.putBack(taken)
			return err
		}
		delete(taken, key)
	}
	return nil
}

func (b *backend) flushReadersOf(ctx context.Context, s logical.Storage, key string, current *readersNow) error {
	// The entry is not deleted meanwhile: its readers would stay behind.
	lock := locksutil.LockForKey(b.folderLocks, folder(current.address.Kind, current.address.Place))
	lock.RLock()
	defer lock.RUnlock()
	e, err := b.getSecret(ctx, s, current.address)
	if err != nil || e == nil {
		return err
	}
	known, err := getJSON[readersEntry](ctx, s, key)
	if err != nil {
		return err
	}
	merged, changed := known.merge(current)
	if !changed {
		return nil
	}
	_, err = putJSON(ctx, s, key, merged)
	return err
}

// forget drops what is known about an entry that was deleted.
func (rs *readers) forget(ctx context.Context, s logical.Storage, a scope.Address) error {
	rs.mu.Lock()
	delete(rs.entries, readersKey(a))
	rs.mu.Unlock()
	return deleteKey(ctx, s, readersKey(a))
}

// plain returns the readers as the data of an answer.
func (e *readersEntry) plain() []any {
	list := make([]any, len(e.Readers))
	for i, r := range e.Readers {
		list[i] = map[string]any{
			"reader": r.Reader, "display_name": r.DisplayName, "path": r.Path,
			"version": r.Version, "last_read": timeString(r.LastRead),
		}
	}
	return list
}
