// Command loader is the engine with two more paths. A write to fill/<from>/<to>
// stores the filling secrets of these numbers, through the engine's own
// handlers: over HTTP a million secrets would take too long. A read of heap
// gives the bytes that the process's live objects take.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"runtime"
	"strings"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"

	agentchains "github.com/agentchains/vault-plugin-secrets-agentchains"
	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/sample"
)

func main() {
	if err := plugin.ServeMultiplex(&plugin.ServeOpts{BackendFactoryFunc: factory}); err != nil {
		log.Fatal(err)
	}
}

func factory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	b, err := agentchains.Factory(ctx, conf)
	if err != nil {
		return nil, err
	}
	return &loader{b}, nil
}

type loader struct{ logical.Backend }

// PluginVersion is the engine's, so that in Vault's catalog the one replaces the other.
func (l *loader) PluginVersion() logical.PluginVersion {
	return logical.PluginVersion{Version: agentchains.Version}
}

// HandleRequest answers fill/ and heap, and leaves the rest to the engine.
func (l *loader) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	if req.Path == "heap" {
		return &logical.Response{Data: map[string]any{"bytes": heap()}}, nil
	}
	if !strings.HasPrefix(req.Path, "fill/") {
		return l.Backend.HandleRequest(ctx, req)
	}
	var from, to int
	if _, err := fmt.Sscanf(req.Path, "fill/%d/%d", &from, &to); err != nil {
		return logical.ErrorResponse("the path must be fill/<from>/<to>"), nil
	}
	return nil, l.fill(ctx, req, from, to)
}

// heap returns what is left of the heap after a collection. What the first one
// only marks as unused, such as pools, goes with the second.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func (l *loader) fill(ctx context.Context, req *logical.Request, from, to int) error {
	// Integrated storage commits what comes at the same time together.
	const writers = 64
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			// Storage notes each write in a state of the context that is made
			// for one goroutine.
			ctx := logical.IndexStateContext(ctx, &logical.WALState{})
			for i := from + w; i < to && errs[w] == nil; i += writers {
				errs[w] = l.write(ctx, req, i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (l *loader) write(ctx context.Context, req *logical.Request, i int) error {
	path, name := sample.Filling(i)
	resp, err := l.Backend.HandleRequest(ctx, &logical.Request{
		ID:          fmt.Sprintf("%s-%d", req.ID, i),
		Operation:   logical.CreateOperation,
		Path:        "secrets/" + path,
		Data:        map[string]any{"value": sample.Value(name)},
		Storage:     req.Storage,
		MountPoint:  req.MountPoint,
		DisplayName: req.DisplayName,
	})
	if err == nil && resp.IsError() {
		err = resp.Error()
	}
	return err
}
