// Package agentchains is a Vault secrets engine for chains of AI agents: every
// agent gets exactly the secrets that its chain's definition lists for it.
package agentchains

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/locksutil"
	"github.com/hashicorp/vault/sdk/logical"
)

// Version is the plugin's own version, as Vault's catalog shows it.
const Version = "v0.1.0"

// Factory returns a backend for one mount. Mounts share a process, so nothing
// is kept outside it.
func Factory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	b := newBackend(time.Now)
	if err := b.Setup(ctx, conf); err != nil {
		return nil, fmt.Errorf("setup: %w", err)
	}
	return b, nil
}

type backend struct {
	*framework.Backend
	now func() time.Time

	cache      *cache
	readers    *readers
	executions *executions
	rotations  *rotations
	steps      *steps
	outbox     *outbox
	stops      *stops
	incidents  *incidents
	mount      *mountIndex
	mountUsers *mountUsers
	worker     atomic.Pointer[worker]
	// periodicDue says that Vault has called since the worker's last pass.
	periodicDue atomic.Bool
	kickIsDue   atomic.Bool          // the worker is kicked in a while
	anyNotifier atomic.Pointer[bool] // there is a notifier; nil: it has to be looked
	started     time.Time
	counts      counts
	cleaned     chan struct{} // closed by clean: nobody waits any longer
	cleanOnce   sync.Once
	// rotationsLoaded says that the index of rotations was read. Only the worker uses it.
	rotationsLoaded bool
	outboxLoaded    bool              // the same for the outbox
	expiriesTold    map[string]string // the same for the expiries that were told of, by path

	// Locks are taken in this order.
	configLock   sync.RWMutex           // config, against entries written into an environment that goes
	folderLocks  []*locksutil.LockEntry // the index of places, against entries written into a place that goes
	entryLocks   []*locksutil.LockEntry // one entry from its Get to its Put
	runLocks     []*locksutil.LockEntry // the same for executions
	saltLock     sync.Mutex             // the making of the salt
	setLock      sync.Mutex             // the compiling of a set to redact, which takes memory
	notifierLock sync.Mutex             // whether there are notifiers, from the look to the note of it
	stopLock     sync.Mutex             // orders to stop and holds, from the look for an earlier one to the Put
}

// counts are what status shows of the requests since the start.
type counts struct {
	env, creds, reveal, refused, started, dropped, leaks atomic.Uint64
	redacted, mountChecked, mountHits, mountRefused      atomic.Uint64
}

func newBackend(now func() time.Time) *backend {
	b := &backend{
		now:          now,
		cache:        newCache(defaultCacheBytes),
		readers:      newReaders(),
		cleaned:      make(chan struct{}),
		started:      now(),
		expiriesTold: map[string]string{},
		folderLocks:  locksutil.CreateLocks(),
		entryLocks:   locksutil.CreateLocks(),
		runLocks:     locksutil.CreateLocks(),
	}
	b.steps, b.stops, b.incidents = newSteps(), newStops(), newIncidents()
	b.mount, b.mountUsers = newMountIndex(), newMountUsers()
	b.rotations = newRotations(b.kickRotations)
	b.outbox = newOutbox(b.kickOutbox)
	b.executions = newExecutions(b.rotations.released)
	b.Backend = &framework.Backend{
		Help:           strings.TrimSpace(backendHelp),
		BackendType:    logical.TypeLogical,
		RunningVersion: Version,
		InitializeFunc: b.initialize,
		PeriodicFunc:   b.periodic,
		Clean:          b.clean,
		Invalidate:     b.invalidate,
		Secrets:        []*framework.Secret{b.executionSecret()},
		PathsSpecial: &logical.Paths{
			Root:            []string{"config", "revoke/all"},
			SealWrapStorage: []string{configKey, secretPrefix, rotatorPrefix, notifierPrefix},
		},
		// A request is matched against each pattern in turn: the hot ones first.
		Paths: []*framework.Path{
			b.pathEnvList(),
			b.pathEnv(),
			b.pathCreds(),
			b.pathExecutionWatch(),
			b.pathExecutionFinish(),
			b.pathExecutionAck(),
			b.pathExecutionFinding(),
			b.pathExecution(),
			b.pathExecutionsList(),
			b.pathExecutions(),
			b.pathRevokeSecret(),
			b.pathRotateList(),
			b.pathRotate(),
			b.pathPromote(),
			b.pathAbort(),
			b.pathConfirm(),
			b.pathSchedulesList(),
			b.pathSchedules(),
			b.pathRotatorsList(),
			b.pathRotators(),
			b.pathIncidentsList(),
			b.pathIncidents(),
			b.pathHoldsList(),
			b.pathHolds(),
			b.pathNotifiersTest(),
			b.pathNotifiersRetry(),
			b.pathNotifiersList(),
			b.pathNotifiers(),
			b.pathExplain(),
			b.pathPolicy(),
			b.pathReveal(),
			b.pathRedactMount(),
			b.pathRedact(),
			b.pathSecretsList(),
			b.pathSecrets(),
			b.pathGroupsList(),
			b.pathGroups(),
			b.pathData(),
			b.pathMetadataList(),
			b.pathMetadata(),
			b.pathScopesChainList(),
			b.pathScopesChain(),
			b.pathScopesProjectList(),
			b.pathScopesProject(),
			b.pathConfig(),
			b.pathStatus(),
		},
	}
	b.Paths = append(b.Paths, b.pathsRevoke()...)
	for _, path := range b.Paths {
		for _, operation := range path.Operations {
			// What vault path-help says, OpenAPI says too.
			if p := operation.(*framework.PathOperation); p.Description == "" {
				p.Description = strings.TrimSpace(path.HelpDescription)
			}
		}
	}
	return b
}

const backendHelp = `
The agentchains engine keeps the secrets of AI agents that work in chains. A
chain's definition lists what each of its agents sees; env/ gives one agent its
whole environment, and nothing else.
`

// lockEntry returns the lock of the entry at a key.
func (b *backend) lockEntry(key string) *locksutil.LockEntry {
	return locksutil.LockForKey(b.entryLocks, key)
}

// lockExecution returns the lock of an execution. It is never that of an entry, so that
// neither waits for the other.
func (b *backend) lockExecution(id string) *locksutil.LockEntry {
	return locksutil.LockForKey(b.runLocks, id)
}

// initialize reads the settings, and nothing that grows with the store.
func (b *backend) initialize(ctx context.Context, req *logical.InitializationRequest) error {
	c, err := b.getConfig(ctx, req.Storage)
	if err != nil {
		return err
	}
	b.cache.setLimit(c.CacheBytes)
	_ = b.requireStops(ctx, req.Storage) // it is tried again by whoever needs them
	b.startWorker(req.Storage)
	return nil
}

// invalidate forgets an entry that another node changed.
func (b *backend) invalidate(_ context.Context, key string) {
	b.cache.drop(key)
	switch {
	case strings.HasPrefix(key, stopPrefix):
		b.stops.forget()
	case strings.HasPrefix(key, notifierPrefix):
		b.anyNotifier.Store(nil)
	case strings.HasPrefix(key, secretPrefix):
		b.mount.forget()
	}
}
