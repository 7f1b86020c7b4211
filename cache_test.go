package agentchains

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

// TestCacheStale reads from storage, is overtaken by a write, and must not keep
// what it read.
func TestCacheStale(t *testing.T) {
	t.Parallel()
	c := newCache(1 << 20)
	_, _, generation := c.get("key")
	c.drop("key") // a write begins
	c.fill("key", "old", 1, generation)
	if _, ok, _ := c.get("key"); ok {
		t.Error("a value read before a write was kept after it")
	}
	_, _, generation = c.get("key")
	c.written("key", "new", 1)
	c.fill("key", "old", 1, generation)
	if value, _, _ := c.get("key"); value != "new" {
		t.Errorf("got %v", value)
	}
}

func TestCacheLimit(t *testing.T) {
	t.Parallel()
	const size, limit = 1000, 1 << 20
	c := newCache(limit)
	for i := range 10_000 {
		c.written(fmt.Sprint(i), i, size)
		if stats := c.stats(); stats.bytes > limit {
			t.Fatalf("%d bytes after %d entries", stats.bytes, i)
		}
	}
	if _, ok, _ := c.get("9999"); !ok {
		t.Error("the latest entry is gone")
	}
	if _, ok, _ := c.get("0"); ok {
		t.Error("the oldest entry is still there")
	}
	c.written("huge", 0, limit)
	if _, ok, _ := c.get("huge"); ok {
		t.Error("an entry over the limit was kept")
	}
	c.setLimit(0)
	if stats := c.stats(); stats.entries != 0 || stats.bytes != 0 {
		t.Errorf("%+v", stats)
	}
}

// TestWarmRead touches no storage: a trip to Vault costs as much as the rest of
// a read.
func TestWarmRead(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	for _, path := range []string{"env/", "creds/", "explain/", "policy/"} {
		e.ok(read, path+deployerPath, nil)
		e.s.arm(-1, false)
		e.ok(read, path+deployerPath, nil)
		if ops := e.s.disarm(); len(ops) > 0 {
			t.Errorf("%s: %v", path, ops)
		}
	}
}

// TestOvertakenResolution changes the chain while an agent of it is resolved:
// what was made of the old definition is not kept.
func TestOvertakenResolution(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	e.start()
	var once sync.Once
	e.s.onOp = func(op string) {
		if op == "get project/platform" {
			once.Do(func() {
				e.ok(update, "scopes/chain/deploy-pipeline", data{"agents": []any{data{"name": "Deployer"}}})
			})
		}
	}
	if got := e.environment(deployerPath); got == "" {
		t.Error("the chain changed too early for this test")
	}
	e.is(e.environment(deployerPath), "")
}

// TestInvalidate sees what another node wrote.
func TestInvalidate(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	e.environment(deployerPath)
	other := &env{T: t, s: e.s, clock: e.clock, log: e.log}
	other.start()
	other.s.arm(-1, false)
	other.write("prod/project/platform/DATABASE_URL", "elsewhere")
	for _, op := range other.s.disarm() {
		if key, ok := strings.CutPrefix(op, "put "); ok {
			e.b.InvalidateKey(t.Context(), key)
		}
	}
	if got := e.environment(deployerPath); !strings.Contains(got, "DB_URL:elsewhere") {
		t.Error("the old value is still served")
	}
}

// TestConcurrent writes and reads at once: a read that begins after a write was
// acknowledged never gives an older version.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	var acknowledged struct {
		sync.Mutex
		version int
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 200 {
				resp, err := e.b.HandleRequest(t.Context(), e.request(update, "secrets/all/org/OPENAI_API_KEY", data{"value": fmt.Sprint("value ", i), "force": true}))
				if err != nil || resp.IsError() {
					t.Error("a write fails")
					return
				}
				acknowledged.Lock()
				acknowledged.version = max(acknowledged.version, resp.Data["pending_version"].(int), resp.Data["current_version"].(int))
				acknowledged.Unlock()
			}
		})
		wg.Go(func() {
			for range 400 {
				acknowledged.Lock()
				least := acknowledged.version
				acknowledged.Unlock()
				r, err := e.b.resolvePath(context.Background(), e.s, deployerPath)
				if err != nil || r.err != nil {
					t.Error("a read fails")
					return
				}
				if got := r.results[0].Version; got < least {
					t.Errorf("version %d after %d was acknowledged", got, least)
				}
			}
		})
		wg.Go(func() {
			for i := range 50 {
				path := fmt.Sprintf("secrets/prod/chain/c/KEY_%d", i)
				for op, body := range map[logical.Operation]data{update: {"value": "x"}, remove: nil} {
					if resp, err := e.b.HandleRequest(t.Context(), e.request(op, path, body)); err != nil || resp.IsError() {
						t.Error("a write fails")
					}
				}
			}
		})
	}
	wg.Wait()
	e.checkIndexes()
}
