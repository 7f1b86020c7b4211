package agentchains

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// systemView remembers for a moment what the framework and the start of an
// execution ask on every request, which is a trip to Vault. It hardly changes,
// and a node that may no longer write is told so by its storage.
type systemView struct {
	logical.SystemView
	replication remembered[consts.ReplicationState]
	maxLeaseTTL remembered[time.Duration]
}

// remembered is an answer of Vault, at most a second old.
type remembered[T any] struct {
	known atomic.Pointer[answer[T]]
}

type answer[T any] struct {
	value T
	until time.Time
}

func (r *remembered[T]) get(ask func() T) T {
	now := time.Now()
	if known := r.known.Load(); known != nil && now.Before(known.until) {
		return known.value
	}
	value := ask()
	r.known.Store(&answer[T]{value, now.Add(time.Second)})
	return value
}

// ReplicationState is at most a second old.
func (s *systemView) ReplicationState() consts.ReplicationState {
	return s.replication.get(s.SystemView.ReplicationState)
}

// MaxLeaseTTL is at most a second old.
func (s *systemView) MaxLeaseTTL() time.Duration {
	return s.maxLeaseTTL.get(s.SystemView.MaxLeaseTTL)
}

// Setup is called once, before anything else.
func (b *backend) Setup(ctx context.Context, conf *logical.BackendConfig) error {
	remembering := *conf
	if conf.System != nil {
		remembering.System = &systemView{SystemView: conf.System}
	}
	return b.Backend.Setup(ctx, &remembering)
}
