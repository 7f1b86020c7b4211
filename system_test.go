package agentchains

import (
	"testing"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// countingSystem counts the trips to Vault.
type countingSystem struct {
	logical.StaticSystemView
	asked int
}

func (s *countingSystem) ReplicationState() consts.ReplicationState {
	s.asked++
	return consts.ReplicationPerformanceStandby
}

func TestReplicationState(t *testing.T) {
	t.Parallel()
	counting := &countingSystem{}
	s := &systemView{SystemView: counting}
	for range 100 {
		if state := s.ReplicationState(); state != consts.ReplicationPerformanceStandby {
			t.Fatal(state)
		}
	}
	if counting.asked > 10 {
		t.Errorf("asked Vault %d times", counting.asked)
	}
}
