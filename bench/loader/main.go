// Command loader is the engine with three more paths. A write to fill/<from>/<to>
// stores the filling secrets of these numbers, and one to schedule/<from>/<to>
// gives them the schedule that it sends, through the engine's own handlers: over
// HTTP a million secrets would take too long. A read of heap gives the bytes that
// the process's live objects take.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
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

// HandleRequest answers fill/, schedule/ and heap, and leaves the rest to the engine.
func (l *loader) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	door, numbers, _ := strings.Cut(req.Path, "/")
	var write func(path, name string) (string, map[string]any)
	switch door {
	case "heap":
		return &logical.Response{Data: map[string]any{"bytes": heap()}}, nil
	case "fill":
		write = func(path, name string) (string, map[string]any) {
			return "secrets/" + path, map[string]any{"value": sample.Value(name)}
		}
	case "schedule":
		write = func(path, _ string) (string, map[string]any) { return "schedules/" + path, maps.Clone(req.Data) }
	default:
		return l.Backend.HandleRequest(ctx, req)
	}
	var from, to int
	if _, err := fmt.Sscanf(numbers, "%d/%d", &from, &to); err != nil {
		return logical.ErrorResponse("the path must be %s/<from>/<to>", door), nil
	}
	return nil, l.each(ctx, req, from, to, write)
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

// each sends the engine the write of each filling secret, on behalf of a request.
func (l *loader) each(ctx context.Context, req *logical.Request, from, to int, write func(path, name string) (string, map[string]any)) error {
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
				path, data := write(sample.Filling(i))
				errs[w] = l.write(ctx, req, fmt.Sprintf("%s-%d", req.ID, i), path, data)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (l *loader) write(ctx context.Context, req *logical.Request, id, path string, data map[string]any) error {
	resp, err := l.Backend.HandleRequest(ctx, &logical.Request{
		ID:          id,
		Operation:   logical.CreateOperation,
		Path:        path,
		Data:        data,
		Storage:     req.Storage,
		MountPoint:  req.MountPoint,
		DisplayName: req.DisplayName,
	})
	if err == nil && resp.IsError() {
		err = resp.Error()
	}
	return err
}
