package agentchains

import (
	"context"
	"errors"
	"hash/maphash"
	"strings"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// mountIndex is the table of the mount's values, in memory. Nothing is in it until
// somebody needs it; then it is made from storage, and follows each write.
type mountIndex struct {
	seed maphash.Seed

	mu    sync.RWMutex // guards all below, and the tables
	table *mountTable  // nil: it is not made
	next  *mountTable  // nil: none is being made
	read  int          // entries that are in next
	base  int          // values in table when it was made
}

func newMountIndex() *mountIndex { return &mountIndex{seed: maphash.MakeSeed()} }

// hash is that of a value in the tables.
func (x *mountIndex) hash(value string) uint64 { return maphash.String(x.seed, value) }

// put follows a write of an entry, which may have failed: a value too many is
// harmless, since whoever finds one asks the entry.
func (x *mountIndex) put(a scope.Address, e *secretEntry) {
	x.mu.RLock()
	idle := x.table == nil && x.next == nil
	x.mu.RUnlock()
	if idle {
		return // a table that is begun from now on is made of what was written
	}
	values := e.searched(a.Kind)
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, t := range []*mountTable{x.table, x.next} {
		if t != nil {
			t.put(a, values)
		}
	}
}

// forget drops all: another node has changed an entry.
func (x *mountIndex) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.table, x.next = nil, nil
}

// begin returns a new table to be filled, or nil when there is nothing to do.
func (x *mountIndex) begin() *mountTable {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.next != nil || x.table != nil && !x.staleLocked() {
		return nil
	}
	x.next, x.read = newMountTable(x.seed), 0
	return x.next
}

// staleLocked reports whether half of the values may be gone by now. They stay in
// the table, so that one is made anew from time to time.
func (x *mountIndex) staleLocked() bool {
	const few = 10_000
	return x.table.values.n > 2*x.base+few
}

var errForgotten = errors.New("the index was dropped meanwhile")

// add puts an entry that was read from storage into the table that is being made.
func (x *mountIndex) add(t *mountTable, a scope.Address, e *secretEntry) error {
	values := e.searched(a.Kind)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.next != t {
		return errForgotten
	}
	t.put(a, values)
	x.read++
	return nil
}

// end takes the table that was made in use, or drops it when it is not complete.
func (x *mountIndex) end(t *mountTable, complete bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.next != t {
		return
	}
	x.next = nil
	if complete {
		x.table, x.base = t, t.values.n
	}
}

// progress returns the table, or nil and how many entries are in the next one.
func (x *mountIndex) progress() (*mountTable, int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.table, x.read
}

// stats are figures for status.
func (x *mountIndex) stats() (values, bytes int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.table == nil {
		return 0, 0
	}
	return x.table.values.n, x.table.bytes()
}

// requireMountTable returns the table of the mount's values. The first who asks
// for it has it made.
func (b *backend) requireMountTable(s logical.Storage) (*mountTable, error) {
	// Only the active node sees every write: Vault sends the request there.
	if !b.WriteSafeReplicationState() {
		return nil, logical.ErrReadOnly
	}
	b.makeMountTable(s)
	t, read := b.mount.progress()
	if t == nil {
		return nil, notReady("the engine reads the secrets of the mount for the first time, %d so far: try again", read)
	}
	return t, nil
}

// makeMountTable fills a table in the background, when one is wanted.
func (b *backend) makeMountTable(s logical.Storage) {
	w := b.worker.Load()
	if w == nil {
		return
	}
	t := b.mount.begin()
	if t == nil {
		return
	}
	w.group.Go(func() {
		complete := false
		defer func() {
			b.recovered("index of the mount", recover())
			b.mount.end(t, complete)
		}()
		err := b.fillMountTable(w.ctx, s, t)
		if complete = err == nil; !complete && w.ctx.Err() == nil && !errors.Is(err, errForgotten) {
			b.Logger().Warn("the secrets of the mount are not read completely, and are when they are asked for again", "error", err)
		}
	})
}

// fillMountTable reads all entries, past the cache, from which they would drive
// what is in use. It reads while others write: whatever it reads is old at worst,
// and the write has put what is new.
func (b *backend) fillMountTable(ctx context.Context, s logical.Storage, t *mountTable) error {
	for _, kind := range []scope.Kind{scope.Secret, scope.Group} {
		err := eachPlace(ctx, s, kind, "", func(place scope.Place) error {
			in := secretPrefix + folder(kind, place)
			names, err := listKeys(ctx, s, in)
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := ctx.Err(); err != nil {
					return err
				}
				e, err := getJSON[secretEntry](ctx, s, in+name)
				if err != nil {
					return err
				}
				if e == nil {
					continue // deleted meanwhile
				}
				if err := b.mount.add(t, scope.Address{Place: place, Kind: kind, Name: name}, e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eachPlace calls do for each place of the index at or below a path, which is empty
// or ends in a slash.
func eachPlace(ctx context.Context, s logical.Storage, kind scope.Kind, below string, do func(scope.Place) error) error {
	keys, err := listKeys(ctx, s, placeKey(kind, below))
	if err != nil {
		return err
	}
	for _, key := range keys {
		if strings.HasSuffix(key, "/") {
			err = eachPlace(ctx, s, kind, below+key, do)
		} else if place, bad := scope.ParsePlace(below + key); bad == nil {
			err = do(place)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// searched returns the values of the entry by which it is found in any text: those
// that are redacted and look random. Others are in every text.
func (e *secretEntry) searched(kind scope.Kind) []string {
	var values []string
	for _, v := range e.live() {
		for name, value := range v.Values {
			text := printed(value)
			if e.Redact.mode(kind, name, value) != redactNever && len(text) >= windowLen && redact.Random(text) {
				values = append(values, text)
			}
		}
	}
	return values
}

// printed is a value as programs print it: many files end in a line break.
func printed(value sensitive.String) string { return strings.TrimSpace(value.Reveal()) }
