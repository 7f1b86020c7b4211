package agentchains

import (
	"context"
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/hashicorp/vault/sdk/logical"
)

// cache holds decoded entries, and the absence of entries, up to a number of
// bytes. The least recently used go first. What it returns is shared: it is
// read, never changed.
type cache struct {
	mu    sync.Mutex // guards all below
	lru   *simplelru.LRU[string, cacheItem]
	size  int64
	limit int64

	// generation counts the changes of storage. A value that was read before a
	// change is not filled in after it, and what was derived from several
	// entries holds as long as the generation.
	generation uint64

	hits, misses uint64
}

type cacheItem struct {
	value any
	size  int64
}

// cacheItemOverhead is about what an item takes beside its value: list and map
// entries, the key, and the decoded form's headers.
const cacheItemOverhead = 512

func newCache(limit int64) *cache {
	c := &cache{limit: limit}
	lru, err := simplelru.NewLRU(math.MaxInt, func(_ string, item cacheItem) { c.size -= item.size })
	if err != nil {
		panic(err) // the size is a constant
	}
	c.lru = lru
	return c
}

func (c *cache) get(key string) (value any, ok bool, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	item, ok := c.lru.Get(key)
	if ok {
		c.hits++
	} else {
		c.misses++
	}
	return item.value, ok, c.generation
}

// fill adds what was read from storage when the generation was as given.
func (c *cache) fill(key string, value any, size int, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation == generation {
		c.addLocked(key, value, size)
	}
}

// keep adds what its reader checks before it uses it, so that it holds whatever
// is written.
func (c *cache) keep(key string, value any, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addLocked(key, value, size)
}

// written notes that storage now holds value at key.
func (c *cache) written(key string, value any, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.addLocked(key, value, size)
}

// drop forgets what is known about key.
func (c *cache) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.lru.Remove(key)
}

func (c *cache) addLocked(key string, value any, size int) {
	item := cacheItem{value, int64(2*size + len(key) + cacheItemOverhead)}
	c.lru.Remove(key)
	if item.size > c.limit {
		return
	}
	c.lru.Add(key, item)
	c.size += item.size
	c.shrinkLocked()
}

func (c *cache) shrinkLocked() {
	for c.size > c.limit {
		c.lru.RemoveOldest()
	}
}

func (c *cache) setLimit(limit int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = limit
	c.shrinkLocked()
}

// cacheStats are figures for status.
type cacheStats struct {
	entries      int
	bytes, limit int64
	hits, misses uint64
}

func (c *cache) stats() cacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cacheStats{c.lru.Len(), c.size, c.limit, c.hits, c.misses}
}

// cachedGet returns the entry at key, or nil, from the cache or from storage.
func cachedGet[T any](ctx context.Context, c *cache, s logical.Storage, key string) (*T, error) {
	value, ok, generation := c.get(key)
	if ok {
		return value.(*T), nil
	}
	v, size, err := getSized[T](ctx, s, key)
	if err != nil {
		return nil, err
	}
	c.fill(key, v, size, generation)
	return v, nil
}

// cachedPut writes stored at key, and on success v, its decoded form, to the cache.
func cachedPut[T any](ctx context.Context, c *cache, s logical.Storage, key string, v *T, stored any) error {
	// Before and after: a reader between the two must not keep what it saw, and
	// a Put that fails may still have happened.
	c.drop(key)
	size, err := putJSON(ctx, s, key, stored)
	if err != nil {
		c.drop(key)
		return err
	}
	c.written(key, v, size)
	return nil
}

// cachedDelete deletes key.
func cachedDelete(ctx context.Context, c *cache, s logical.Storage, key string) error {
	c.drop(key)
	err := deleteKey(ctx, s, key)
	c.drop(key)
	return err
}
