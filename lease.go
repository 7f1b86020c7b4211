package agentchains

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// executionSecretType is stored in leases: it never changes.
const executionSecretType = "execution"

func (b *backend) executionSecret() *framework.Secret {
	return &framework.Secret{
		Type:   executionSecretType,
		Fields: map[string]*framework.FieldSchema{"execution_id": {Type: framework.TypeString, Description: "The id of the execution."}},
		Renew:  b.leaseRenew,
		Revoke: b.leaseRevoke,
	}
}

// A renewal can only fail as a 400, whatever failed: the first word of the text
// tells a runner what to do.
var (
	errTerminated = errors.New("EXECUTION_TERMINATED: the execution was told to stop")
	errEnded      = errors.New("EXECUTION_ENDED: the execution has ended")
	errNotReady   = errors.New("ENGINE_NOT_READY: the engine cannot say whether the execution may go on: try again")
)

// leaseOf returns what a lease says of itself.
func leaseOf(req *logical.Request) (id, nonce string, err error) {
	id, _ = req.Secret.InternalData["execution_id"].(string)
	nonce, _ = req.Secret.InternalData["lease"].(string)
	if !validExecutionID(id) || nonce == "" {
		return "", "", errors.New("the lease is not one of an execution")
	}
	return id, nonce, nil
}

// leaseRenew lets an execution go on for another step. It answers without data,
// so that the copy of the environment that Vault keeps in the lease is dropped.
func (b *backend) leaseRenew(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	id, nonce, err := leaseOf(req)
	if err != nil {
		return nil, err
	}
	lock := b.lockEntry(liveExecutionKey(id))
	lock.Lock()
	defer lock.Unlock()
	e, err := getExecution(ctx, req.Storage, id)
	switch {
	case err != nil:
		return nil, errNotReady
	case e == nil || e.State.ended() && e.State != executionTerminated && e.State != executionLost:
		return nil, errEnded
	case e.State != executionActive:
		return nil, fmt.Errorf("%w: %s", errTerminated, e.Reason)
	}
	if _, granted := e.Leases[nonce]; !granted {
		return nil, errEnded
	}
	now := b.now()
	left := e.Deadline.Sub(now)
	if left <= 0 {
		return nil, errEnded
	}
	step := min(e.TTL, left)
	if asked := req.Secret.Increment; asked > 0 {
		step = min(step, max(asked, time.Second))
	}
	if !b.executions.renew(id, nonce, now.Add(step)) {
		b.executions.put(e, now.Add(step)) // the index is not there yet
	}
	resp := &logical.Response{Secret: req.Secret}
	resp.Secret.TTL = step
	// Vault lets a client ask for more than the TTL, up to this, which counts
	// from the start of the lease.
	resp.Secret.MaxTTL = now.Add(step).Sub(req.Secret.IssueTime)
	return resp, nil
}

// leaseRevoke ends the execution with its last lease.
func (b *backend) leaseRevoke(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	id, nonce, err := leaseOf(req)
	if err != nil {
		return nil, err
	}
	_, err = b.withExecution(ctx, req.Storage, id, func(e *executionEntry) error {
		if e.State.ended() {
			return nil
		}
		delete(e.Leases, nonce)
		if len(e.Leases) == 0 {
			e.leaseEnded(b.now())
		}
		return nil
	})
	var api *apiError
	if errors.As(err, &api) {
		return nil, nil // there is no such execution: it never started, or is long gone
	}
	return nil, err
}

// leaseEnded ends an execution that has no lease any more.
func (e *executionEntry) leaseEnded(now time.Time) {
	switch e.State {
	case executionActive:
		e.transition(executionExpired, "its lease was revoked or has expired", now)
	case executionTerminating:
		e.transition(executionLost, e.Reason, now)
	}
}
