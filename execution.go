package agentchains

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// executionState is stored by name.
type executionState string

const (
	executionActive      executionState = "active"
	executionTerminating executionState = "terminating" // told to stop
	executionFinished    executionState = "finished"    // ended by itself
	executionExpired     executionState = "expired"     // its last lease ended
	executionTerminated  executionState = "terminated"  // told to stop, and it did
	executionLost        executionState = "lost"        // told to stop, and never heard of again
)

// ended reports whether nothing runs any more, as far as the engine can know.
func (s executionState) ended() bool {
	return s != executionActive && s != executionTerminating
}

// executionEntry is one run of one agent. One Put starts it and one Put ends it.
type executionEntry struct {
	ID          string         `json:"id"`
	Environment string         `json:"environment"`
	Chain       string         `json:"chain"`
	Agent       string         `json:"agent"`
	Workspace   string         `json:"workspace,omitempty"`
	Run         string         `json:"run,omitempty"`
	User        string         `json:"user,omitempty"`
	Identity    string         `json:"identity"`   // who alone may see it by its id; see identity
	StartedBy   string         `json:"started_by"` // for people
	StartedAt   time.Time      `json:"started_at"`
	TTL         time.Duration  `json:"ttl"`                  // of a lease, from each renewal
	Deadline    time.Time      `json:"deadline"`             // no lease lives longer
	Unredacted  bool           `json:"unredacted,omitempty"` // its runner hands on the output as it is
	Pins        []pin          `json:"pins"`
	State       executionState `json:"state"`
	Generation  int            `json:"generation"` // grows with each change of state
	Reason      string         `json:"reason,omitempty"`
	IncidentID  string         `json:"incident_id,omitempty"` // that told it to stop
	OrderedAt   time.Time      `json:"ordered_at"`
	EndedAt     time.Time      `json:"ended_at"`
	ExitCode    *int           `json:"exit_code,omitempty"`
	Ack         *ack           `json:"ack,omitempty"`

	// Leases are the expiries of the execution's leases as they were granted, by
	// nonce. Renewals are not stored.
	Leases map[string]time.Time `json:"leases"`

	// Variables are those that it was given, by the names that it knows them by.
	Variables map[string]*variable `json:"variables,omitempty"`
}

// pin says that an execution was given a version of an entry.
type pin struct {
	Path    string `json:"path"`
	Version int    `json:"version"`
}

// ack is the receipt of a kill.
type ack struct {
	PID      int       `json:"pid"`
	Signal   string    `json:"signal"`
	ExitCode int       `json:"exit_code"`
	Time     time.Time `json:"time"`
}

// liveExecutionKey is where an execution starts and ends; endedExecutionKey is
// where the worker moves it once it has ended, out of the way of what is read
// when the engine starts. The shards keep a List short.
func liveExecutionKey(id string) string { return livePrefix + id[:2] + "/" + id }

func endedExecutionKey(id string) string { return endedPrefix + id[:2] + "/" + id }

// executionIDLength is of 128 bits in hex.
const executionIDLength = 32

func validExecutionID(id string) bool {
	_, err := hex.DecodeString(id)
	return err == nil && len(id) == executionIDLength && strings.ToLower(id) == id
}

// saltEntry holds the key that ids of executions are made with.
type saltEntry struct {
	Key []byte `json:"key"`
}

// getSalt returns the mount's key, and makes it the first time.
func (b *backend) getSalt(ctx context.Context, s logical.Storage) (*saltEntry, error) {
	salt, err := cachedGet[saltEntry](ctx, b.cache, s, saltKey)
	if salt != nil || err != nil {
		return salt, err
	}
	b.saltLock.Lock()
	defer b.saltLock.Unlock()
	if salt, err = getJSON[saltEntry](ctx, s, saltKey); salt != nil || err != nil {
		return salt, err
	}
	salt = &saltEntry{make([]byte, sha256.Size)}
	_, _ = rand.Read(salt.Key) // it never fails
	return salt, cachedPut(ctx, b.cache, s, saltKey, salt, salt)
}

// executionID derives an id that nobody can guess, and that the same request
// gives again: what is repeated, by Vault after a crash of the plugin or by a
// client after a lost answer, finds the execution that it has started.
func (salt *saltEntry) executionID(parts ...string) string {
	mac := hmac.New(sha256.New, salt.Key)
	for _, part := range parts {
		_, _ = mac.Write([]byte(part))
		_, _ = mac.Write([]byte{0})
	}
	return hex.EncodeToString(mac.Sum(nil)[:executionIDLength/2])
}

// identity returns who sent a request, or nothing when that cannot be told: the
// entity, else the token's accessor, else the token as Vault shows it to this
// mount, which is a salted hash.
func identity(req *logical.Request) string {
	switch {
	case req.EntityID != "":
		return "entity " + req.EntityID
	case req.ClientTokenAccessor != "":
		return "accessor " + req.ClientTokenAccessor
	case req.ClientToken != "":
		return "token " + req.ClientToken
	}
	return ""
}

// getExecution returns the execution, ended or not, or nil. It is a copy.
func getExecution(ctx context.Context, s logical.Storage, id string) (*executionEntry, error) {
	e, err := getJSON[executionEntry](ctx, s, liveExecutionKey(id))
	if e != nil || err != nil {
		return e, err
	}
	return getJSON[executionEntry](ctx, s, endedExecutionKey(id))
}

func putExecution(ctx context.Context, s logical.Storage, e *executionEntry) error {
	_, err := putJSON(ctx, s, liveExecutionKey(e.ID), e)
	return err
}

// grant adds a lease and returns its nonce.
func (e *executionEntry) grant(now time.Time) (nonce string) {
	nonce = rand.Text()
	leases := map[string]time.Time{nonce: now.Add(min(e.TTL, e.Deadline.Sub(now)))}
	maps.Copy(leases, e.Leases)
	e.Leases = leases
	return nonce
}

// transition moves the execution to a state, unless it has ended already.
func (e *executionEntry) transition(to executionState, reason string, now time.Time) {
	e.State, e.Reason = to, reason
	e.Generation++
	if to.ended() {
		e.EndedAt = now
	}
}

func (e *executionEntry) agentPath() string {
	return e.Environment + "/" + e.Chain + "/" + e.Agent
}

// withExecution changes an execution under its lock, and stores it when the
// change did something; one that returns errUnchanged is answered, and not stored.
// What has ended changes only by a late receipt.
func (b *backend) withExecution(ctx context.Context, s logical.Storage, id string, change func(*executionEntry) error) (*executionEntry, error) {
	ctx, cancel := commitContext(ctx)
	defer cancel()
	lock := b.lockExecution(id)
	lock.Lock()
	defer lock.Unlock()
	e, err := getJSON[executionEntry](ctx, s, liveExecutionKey(id))
	if err != nil {
		return nil, err
	}
	put := putExecution
	if e == nil {
		put = putEndedExecution
		if e, err = getJSON[executionEntry](ctx, s, endedExecutionKey(id)); err != nil {
			return nil, err
		}
	}
	if e == nil {
		return nil, notFound("there is no such execution")
	}
	generation, incident, leases, sightings := e.Generation, e.IncidentID, len(e.Leases), e.sightings()
	if err := b.applyOrder(ctx, s, e); err != nil {
		return nil, err
	}
	err = change(e)
	if err != nil && !errors.Is(err, errUnchanged) {
		return nil, err
	}
	unchanged := err != nil || e.Generation == generation && e.IncidentID == incident && len(e.Leases) == leases && e.sightings() == sightings
	b.executions.recall(e)
	if unchanged {
		return e, nil
	}
	if err := put(ctx, s, e); err != nil {
		return nil, err
	}
	b.incidents.note(e, true)
	if e.State.ended() {
		b.executions.remove(id)
		b.kick()
	} else {
		b.executions.put(e, time.Time{})
	}
	return e, nil
}

func putEndedExecution(ctx context.Context, s logical.Storage, e *executionEntry) error {
	_, err := putJSON(ctx, s, endedExecutionKey(e.ID), e)
	return err
}

// executionAnswer is the answer to a start: a lease that holds only strings.
func (b *backend) executionAnswer(e *executionEntry, r *resolution, nonce string) *logical.Response {
	versions, redact := map[string]any{}, map[string]any{}
	for name, v := range e.Variables {
		versions[name], redact[name] = e.Pins[v.Pin].Version, v.Redact
	}
	resp := b.Secret(executionSecretType).Response(map[string]any{
		"execution_id": e.ID,
		"env":          r.flat(),
		"versions":     versions,
		"redact":       redact,
		"expires_at":   timeString(e.Deadline),
	}, map[string]any{"execution_id": e.ID, "lease": nonce})
	left := e.Deadline.Sub(b.now())
	resp.Secret.TTL, resp.Secret.MaxTTL = min(e.TTL, left), left
	resp.Secret.Renewable = true
	for _, hit := range r.entries {
		if at := hit.version.ExpiresAt; !at.IsZero() && at.Before(e.Deadline) {
			resp.AddWarning(fmt.Sprintf("%s expires at %s, before the execution may end", hit.address.Path(), timeString(at)))
		}
	}
	return resp
}
