package agentchains

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// systemView remembers the replication state for a moment. The framework asks
// for it on every request, which is a trip to Vault; the state hardly changes,
// and a node that may no longer write is told so by its storage.
type systemView struct {
	logical.SystemView
	known atomic.Pointer[replicationState]
}

type replicationState struct {
	state consts.ReplicationState
	until time.Time
}

// ReplicationState is at most a second old.
func (s *systemView) ReplicationState() consts.ReplicationState {
	now := time.Now()
	if known := s.known.Load(); known != nil && now.Before(known.until) {
		return known.state
	}
	state := s.SystemView.ReplicationState()
	s.known.Store(&replicationState{state, now.Add(time.Second)})
	return state
}

// Setup is called once, before anything else.
func (b *backend) Setup(ctx context.Context, conf *logical.BackendConfig) error {
	remembering := *conf
	if conf.System != nil {
		remembering.System = &systemView{SystemView: conf.System}
	}
	return b.Backend.Setup(ctx, &remembering)
}
