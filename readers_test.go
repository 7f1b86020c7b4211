package agentchains

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// readersOf returns who read an entry in a flat shape.
func (e *env) readersOf(path string) []any {
	e.Helper()
	list, _ := e.ok(read, "secrets/"+path, nil)["unpinned_readers"].([]any)
	return list
}

func (e *env) flush() {
	e.Helper()
	if err := e.b.flushReaders(e.Context(), e.s); err != nil {
		e.Error(err)
	}
}

func TestReaders(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.environment(deployerPath)
		e.ok(read, "creds/"+deployerPath, nil)
		e.clock.advance(time.Minute)
		e.write("all/org/OPENAI_API_KEY", "second")
		req := e.request(read, "env/"+deployerPath, nil)
		req.EntityID, req.DisplayName = "", "approle-deployer"
		e.send(req)

		want := "[map[display_name:approle-deployer last_read:2030-01-01T00:01:00Z path:env/prod/deploy-pipeline/Deployer reader:approle-deployer version:2]" +
			" map[display_name:tester last_read:2030-01-01T00:00:00Z path:creds/prod/deploy-pipeline/Deployer reader:entity-1 version:1]" +
			" map[display_name:tester last_read:2030-01-01T00:00:00Z path:env/prod/deploy-pipeline/Deployer reader:entity-1 version:1]]"
		e.is(e.readersOf("all/org/OPENAI_API_KEY"), want)
		e.flush()
		e.is(e.readersOf("all/org/OPENAI_API_KEY"), want)
		e.start()
		e.is(e.readersOf("all/org/OPENAI_API_KEY"), want)

		e.ok(patch, "secrets/all/org/OPENAI_API_KEY", data{"access_log_enabled": false})
		e.clock.advance(time.Hour)
		e.environment(deployerPath)
		e.is(e.readersOf("all/org/OPENAI_API_KEY"), want)

		e.ok(remove, "secrets/all/org/OPENAI_API_KEY", data{"force": true})
		e.write("all/org/OPENAI_API_KEY", "third")
		e.is(e.readersOf("all/org/OPENAI_API_KEY"), "[]")
	})
}

// TestReadersFlush stores a new reader at once, and later reads of a known one
// no more often than is worth a Put.
func TestReadersFlush(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	puts := func() int {
		e.environment(deployerPath)
		e.s.arm(-1, false)
		e.flush()
		return strings.Count(strings.Join(e.s.disarm(), " "), "put readers/")
	}
	e.is(puts(), 3)
	e.clock.advance(time.Minute)
	e.is(puts(), 0)
	e.clock.advance(readerPrecision)
	e.is(puts(), 3)
	e.write("all/org/OPENAI_API_KEY", "second")
	e.is(puts(), 1)

	e.promote("all/org/OPENAI_API_KEY")
	e.write("all/org/OPENAI_API_KEY", "third")
	e.environment(deployerPath)
	e.s.arm(1, true)
	if e.b.flushReaders(e.Context(), e.s) == nil {
		e.Error("flush hides a storage fault")
	}
	e.s.disarm()
	e.flush()
	e.start()
	e.is(e.readersOf("all/org/OPENAI_API_KEY")[0].(data)["version"], 3)
}

// TestReadersFlushFails keeps who read before a Put that fails, beside who read
// while it failed.
func TestReadersFlushFails(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	readAs := func(entity string) {
		req := e.request(read, "env/prod/deploy-pipeline/CodeAnalyzer", nil)
		req.EntityID = entity
		e.send(req)
	}
	readAs("first")
	e.s.onOp = func(op string) {
		if strings.HasPrefix(op, "put readers/") {
			readAs("second")
		}
	}
	e.s.arm(1, true)
	if e.b.flushReaders(e.Context(), e.s) == nil {
		t.Error("flush hides a storage fault")
	}
	e.s.disarm()
	e.s.onOp = nil
	e.flush()
	e.start()
	e.is(len(e.readersOf("all/org/OPENAI_API_KEY")), 2)
}

// TestReadersBounded counts the readers beyond those that are kept.
func TestReadersBounded(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	readMany := func(from, to int) {
		for i := from; i < to; i++ {
			req := e.request(read, "env/"+deployerPath, nil)
			req.EntityID = fmt.Sprintf("entity-%d", i)
			e.send(req)
			e.clock.advance(time.Second)
		}
	}
	readMany(0, mostReaders+10)
	e.flush()
	readMany(200, 205)
	e.flush()
	got := e.ok(read, "secrets/all/org/OPENAI_API_KEY", nil)
	e.is(len(got["unpinned_readers"].([]any)), mostReaders)
	e.is(got["unpinned_readers"].([]any)[0].(data)["reader"], "entity-204")
	e.is(got["more_readers"], 15)
}

// TestPeriodic has the worker store what was read, on the node that may write.
func TestPeriodic(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.deployer()
	e.environment(deployerPath)
	stored := make(chan string, 1000)
	e.s.mu.Lock()
	e.s.onOp = func(op string) { stored <- op }
	e.s.mu.Unlock()
	e.b.stopWorker()
	e.b.startWorker(e.s)
	if err := e.b.periodic(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for op := ""; !strings.HasPrefix(op, "put readers/"); {
			select {
			case op = <-stored:
			case <-time.After(10 * time.Second):
				t.Fatal("the worker stores nothing")
			}
		}
	}
	e.b.Cleanup(t.Context())
	if e.b.worker.Load() != nil {
		t.Error("the worker is still there")
	}
	if err := e.b.periodic(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
