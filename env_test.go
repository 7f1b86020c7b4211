package agentchains

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	gplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/vault/sdk/helper/testhelpers/schema"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// data is the body of a request or of an answer.
type data = map[string]any

const (
	create = logical.CreateOperation
	read   = logical.ReadOperation
	update = logical.UpdateOperation
	patch  = logical.PatchOperation
	remove = logical.DeleteOperation
	lists  = logical.ListOperation
)

// go-plugin logs to the default output, whatever logger it is given.
func TestMain(m *testing.M) {
	hclog.DefaultOutput = io.Discard
	m.Run()
}

// env is a mount of the engine with a clock and a storage of its own.
type env struct {
	*testing.T
	b       *backend
	handler logical.Backend // b itself, or the far end of the plugin's gRPC
	s       *faultyStorage
	clock   *clock
	log     *bytes.Buffer
	remote  bool
	cold    bool // what runs is not read from storage yet

	mu       sync.Mutex // guards requests
	requests int
}

func newEnv(t *testing.T) *env {
	t.Helper()
	e := &env{T: t, s: &faultyStorage{}, clock: &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}, log: new(bytes.Buffer)}
	e.start()
	return e
}

// both runs a test against the backend in process, and through the plugin's
// gRPC, where types, errors and nil differ.
func both(t *testing.T, test func(e *env)) {
	t.Parallel()
	t.Run("inprocess", func(t *testing.T) {
		t.Parallel()
		test(newEnv(t))
	})
	t.Run("grpc", func(t *testing.T) {
		t.Parallel()
		e := &env{T: t, s: &faultyStorage{}, clock: &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}, log: new(bytes.Buffer), remote: true}
		e.start()
		test(e)
	})
}

// start makes a backend on the env's storage, as Vault does after a restart.
func (e *env) start() {
	e.Helper()
	logger := hclog.New(&hclog.LoggerOptions{Output: e.log, Level: hclog.Trace, Mutex: new(sync.Mutex)})
	factory := func(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
		e.b = newBackend(e.clock.Now)
		// Tests do what the worker does, at a time of their own: with one here, none is started.
		idle := &worker{kick: make(chan struct{}, 1), rotations: make(chan struct{}, 1), outbox: make(chan struct{}, 1)}
		idle.ctx, idle.cancel = context.WithCancel(context.Background())
		e.b.worker.Store(idle)
		conf.Logger = logger
		return e.b, e.b.Setup(ctx, conf)
	}
	conf := &logical.BackendConfig{Logger: logger, System: &logical.StaticSystemView{MaxLeaseTTLVal: 32 * 24 * time.Hour, PluginEnvironment: new(logical.PluginEnvironment)}, StorageView: e.s}
	if e.remote {
		client, _ := gplugin.TestPluginGRPCConn(e.T, false, map[string]gplugin.Plugin{
			"backend": &plugin.GRPCBackendPlugin{Factory: factory, Logger: logger},
		})
		e.Cleanup(func() { _ = client.Close() })
		raw, err := client.Dispense("backend")
		if err != nil {
			e.Fatal(err)
		}
		e.handler = raw.(logical.Backend)
		if err := e.handler.Setup(e.Context(), conf); err != nil {
			e.Fatal(err)
		}
	} else {
		var err error
		if e.handler, err = factory(e.Context(), conf); err != nil {
			e.Fatal(err)
		}
	}
	if err := e.handler.Initialize(e.Context(), &logical.InitializationRequest{Storage: e.s}); err != nil {
		e.Fatal(err)
	}
	if !e.cold {
		e.settle()
	}
	e.Cleanup(func() { e.handler.Cleanup(context.Background()) })
}

// request returns a new request of one identity.
func (e *env) request(op logical.Operation, path string, body data) *logical.Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests++
	return &logical.Request{
		ID: fmt.Sprintf("request-%d", e.requests), Operation: op, Path: path, Data: body, Storage: e.s,
		MountPoint: "agentchains/", DisplayName: "tester", EntityID: "entity-1",
	}
}

// send sends a request as Vault does: an existence check goes before a write.
// It returns the status and the text that a client sees, and the answer.
func (e *env) send(req *logical.Request) (status int, text string, resp *logical.Response) {
	e.Helper()
	if req.Operation == create || req.Operation == update {
		found, exists, err := e.handler.HandleExistenceCheck(e.Context(), req)
		if err != nil && !errors.Is(err, logical.ErrUnsupportedPath) {
			return 500, err.Error(), nil
		}
		req.Operation = update
		if found && !exists {
			req.Operation = create
		}
	}
	resp, err := e.handler.HandleRequest(e.Context(), req)
	status, respErr := logical.RespondErrorCommon(req, resp, err)
	if respErr != nil {
		logical.AdjustErrorStatusCode(&status, respErr)
		return status, respErr.Error(), resp
	}
	if status != 0 {
		return status, "", resp
	}
	route := e.b.Route(req.Path)
	schema.ValidateResponse(e.T, schema.GetResponseSchema(e.T, route, req.Operation), resp, true)
	return 200, "", resp
}

// ok sends a request that must succeed, and returns the data of the answer.
func (e *env) ok(op logical.Operation, path string, body data) data {
	e.Helper()
	status, text, resp := e.send(e.request(op, path, body))
	if status != 200 {
		e.Fatalf("%s %s: %d %s", op, path, status, text)
	}
	if resp == nil {
		return nil
	}
	return resp.Data
}

// fails sends a request that must fail with a status and a text that holds the
// given one.
func (e *env) fails(status int, op logical.Operation, path string, body data, text string) {
	e.Helper()
	got, sentence, _ := e.send(e.request(op, path, body))
	if got != status || !strings.Contains(sentence, text) {
		e.Errorf("%s %s: %d %q, want %d %q", op, path, got, sentence, status, text)
	}
}

// keys returns the keys of a LIST, which may be empty.
func (e *env) keys(path string, body data) string {
	e.Helper()
	status, text, resp := e.send(e.request(lists, path, body))
	if status == 404 {
		return ""
	}
	if status != 200 {
		e.Fatalf("list %s: %d %s", path, status, text)
	}
	return strings.Trim(fmt.Sprint(resp.Data["keys"]), "[]")
}

// write stores a secret.
func (e *env) write(path, value string) {
	e.Helper()
	e.ok(update, "secrets/"+path, data{"value": value})
}

// promote ends a rotation.
func (e *env) promote(path string) {
	e.Helper()
	e.ok(update, "promote/"+path, data{"force": true})
}

// environment returns what env/ gives, as sorted NAME=value.
func (e *env) environment(path string) string {
	e.Helper()
	return strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(e.ok(read, "env/"+path, nil)), "map["), "]")
}

func (e *env) is(got, want any) {
	e.Helper()
	if number, ok := got.(float64); ok { // as gRPC gives it
		got = int64(number)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		e.Errorf("got %v, want %v", got, want)
	}
}

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// faultyStorage is a storage in memory of which an operation can fail.
type faultyStorage struct {
	logical.InmemStorage
	mu      sync.Mutex      // guards all below
	ops     []string        // what was asked since the last arm, as "put config"
	failAt  int             // index in ops of the operation that fails; -1: none
	crashed bool            // all operations after it fail too
	onOp    func(op string) // called before each operation
}

var errStorage = errors.New("storage fault")

// arm makes the nth operation from now fail; with crash all later ones too.
func (s *faultyStorage) arm(n int, crash bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops, s.failAt, s.crashed = nil, n+1, crash
}

// disarm ends the faults, and returns what was asked meanwhile.
func (s *faultyStorage) disarm() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ops := s.ops
	s.ops, s.failAt, s.crashed = nil, 0, false
	return ops
}

func (s *faultyStorage) fault(verb, key string) error {
	s.mu.Lock()
	onOp := s.onOp
	s.mu.Unlock()
	if onOp != nil {
		onOp(verb + " " + key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops = append(s.ops, verb+" "+key)
	if n := len(s.ops); s.failAt > 0 && (n == s.failAt || s.crashed && n > s.failAt) {
		return errStorage
	}
	return nil
}

func (s *faultyStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if err := s.fault("get", key); err != nil {
		return nil, err
	}
	return s.InmemStorage.Get(ctx, key)
}

func (s *faultyStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	if err := s.fault("put", entry.Key); err != nil {
		return err
	}
	return s.InmemStorage.Put(ctx, entry)
}

func (s *faultyStorage) Delete(ctx context.Context, key string) error {
	if err := s.fault("delete", key); err != nil {
		return err
	}
	return s.InmemStorage.Delete(ctx, key)
}

func (s *faultyStorage) List(ctx context.Context, prefix string) ([]string, error) {
	if err := s.fault("list", prefix); err != nil {
		return nil, err
	}
	return s.InmemStorage.List(ctx, prefix)
}

// stored returns the keys of storage below a prefix.
func (e *env) stored(prefix string) []string {
	e.Helper()
	keys, err := logical.CollectKeysWithPrefix(e.Context(), &e.s.InmemStorage, prefix)
	if err != nil {
		e.Fatal(err)
	}
	return keys
}

// address parses the address of an entry of either kind.
func address(path string) scope.Address {
	a, err := scope.ParseAddress(scope.KindOf(path), path)
	if err != nil {
		panic(err)
	}
	return a
}
