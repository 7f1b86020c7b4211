package agentchains

import (
	"context"
	"errors"
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
	now := b.now()
	step, err := b.executions.renew(id, nonce, req.Secret.Increment, now)
	if errors.Is(err, errNotIndexed) {
		if err := b.indexExecution(ctx, req.Storage, id); err != nil {
			return nil, err
		}
		step, err = b.executions.renew(id, nonce, req.Secret.Increment, now)
	}
	if err != nil {
		return nil, err
	}
	resp := &logical.Response{Secret: req.Secret}
	resp.Secret.TTL = step
	// Vault lets a client ask for more than the TTL, up to this, which counts
	// from the start of the lease in whole seconds: a part of one would be lost.
	resp.Secret.MaxTTL = now.Add(step).Sub(req.Secret.IssueTime).Truncate(time.Second) + time.Second
	return resp, nil
}

// indexExecution adds an execution that was started before the engine was, and
// that loadExecutions has not come to yet.
func (b *backend) indexExecution(ctx context.Context, s logical.Storage, id string) error {
	lock := b.lockExecution(id)
	lock.Lock()
	defer lock.Unlock()
	e, err := getExecution(ctx, s, id)
	switch {
	case err != nil:
		return errNotReady
	case e == nil || e.State == executionFinished || e.State == executionExpired:
		return errEnded
	case e.State.ended():
		return errTerminated
	}
	if b.requireStops(ctx, s) != nil || b.index(ctx, s, e) != nil {
		return errNotReady
	}
	return nil
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
