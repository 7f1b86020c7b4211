package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/cluster"
	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/history"
)

// fault takes something of a node away for a while, and gives it back.
type fault struct {
	name   string
	active bool // whether it is for the active node, or another one
	do     func(w *round, n *cluster.Node, lasts time.Duration) error
}

var faults = []fault{
	{"kill the active node", true, (*round).killNode},
	{"kill a standby", false, (*round).killNode},
	{"step down", true, (*round).stepDown},
	{"seal the active node", true, (*round).seal},
	{"stop the active node", true, (*round).stopActive},
	{"stop a standby", false, (*round).stopNode},
	{"cut the active node off", true, (*round).cutOff},
	{"cut a standby off", false, (*round).cutOff},
	{"cut the active node off silently", true, (*round).silence},
	{"cut a standby off silently", false, (*round).silence},
	{"kill the plugin", true, (*round).killPlugin},
	{"stop the plugin", true, (*round).stopPlugin},
	{"reload the plugin", true, (*round).reload},
}

// fail lets faults happen, one at a time, so that two nodes of three are there to go
// on. All happen once, in random order, before one happens again.
func (w *round) fail(rng *rand.Rand, lasts time.Duration) error {
	const quiet, longest = 3 * time.Second, 4 * time.Second
	var order []int
	for w.now() < lasts {
		if len(order) == 0 {
			order = rng.Perm(len(faults))
		}
		f, pause, length, other := faults[order[0]], short(rng, quiet), short(rng, longest), rng.IntN(2)
		order = order[1:]
		<-time.After(pause)
		n, err := w.Active(nil)
		if err != nil {
			return err
		}
		if !f.active {
			n = w.Nodes[(slices.Index(w.Nodes, n)+1+other)%len(w.Nodes)]
		}
		w.tally.add("fault", f.name, 1)
		if err := f.do(w, n, length); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if err := w.recover(); err != nil {
			return fmt.Errorf("after the fault to %s: %w", f.name, err)
		}
	}
	return nil
}

// short returns a time up to most, of which a short one is likelier.
func short(rng *rand.Rand, most time.Duration) time.Duration {
	share := rng.Float64()
	return time.Duration(share * share * float64(most))
}

// recover waits until all nodes agree who is active, and the engine serves there.
func (w *round) recover() error {
	if err := cluster.Eventually("all nodes agree who is active", func() (bool, error) {
		leaders := map[string]bool{}
		active := 0
		for _, n := range w.Nodes {
			leader, err := n.Client.Sys().Leader()
			if err != nil || leader.LeaderAddress == "" {
				return false, nil
			}
			leaders[leader.LeaderAddress] = true
			if leader.IsSelf {
				active++
			}
		}
		return len(leaders) == 1 && active == 1, nil
	}); err != nil {
		return err
	}
	n, err := w.Active(nil)
	if err != nil {
		return err
	}
	return cluster.Eventually("the engine serves", func() (bool, error) {
		answer, err := n.Client.Logical().Read(mount + "/status")
		return err == nil && answer != nil && answer.Data["executions"] != nil, nil
	})
}

func (w *round) killNode(n *cluster.Node, lasts time.Duration) error {
	if err := n.End(syscall.SIGKILL); err != nil {
		return err
	}
	<-time.After(lasts)
	return n.Start()
}

func (w *round) stepDown(n *cluster.Node, _ time.Duration) error { return n.Client.Sys().StepDown() }

func (w *round) seal(n *cluster.Node, lasts time.Duration) error {
	if err := n.Client.Sys().Seal(); err != nil {
		return err
	}
	<-time.After(lasts)
	return n.Unseal()
}

// stopNode stops the process of a node, and lets it go on.
func (w *round) stopNode(n *cluster.Node, lasts time.Duration) error {
	if err := n.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	<-time.After(lasts)
	return n.Signal(syscall.SIGCONT)
}

// stopActive does that to the active node, which then answers what has waited, and what
// others pass on, before it learns that it leads no more. Afterwards it is restarted, as
// one that was cut off: Vault 1.21.1 does not always notice that it did not lead for a
// while, and then neither steps down nor comes back from a seal.
func (w *round) stopActive(n *cluster.Node, lasts time.Duration) error {
	since := w.now()
	if err := w.stopNode(n, lasts); err != nil {
		return err
	}
	<-time.After(lasts)
	return w.replace(n, -1, since)
}

// replace restarts a node that may have led no more since a time, without knowing; those
// who asked another node may have been answered by it too: -1.
func (w *round) replace(n *cluster.Node, asked int, since time.Duration) error {
	if err := n.End(syscall.SIGKILL); err != nil {
		return err
	}
	w.mu.Lock()
	w.history.Deposed = append(w.history.Deposed, history.Deposed{Node: asked, From: since, To: w.now()})
	w.mu.Unlock()
	w.Heal()
	return n.Start()
}

// cutOff cuts a node off, which its own clients reach. Afterwards it is restarted: a
// leader does not always notice that it is none any more; see docs/emergency.md.
func (w *round) cutOff(n *cluster.Node, lasts time.Duration) error {
	return w.isolate(n, lasts, w.Cut)
}

func (w *round) silence(n *cluster.Node, lasts time.Duration) error {
	return w.isolate(n, lasts, w.Silence)
}

func (w *round) isolate(n *cluster.Node, lasts time.Duration, how func(*cluster.Node)) error {
	const election = 4 * time.Second // of another leader, so that there may be two
	since := w.now()
	how(n)
	<-time.After(election + lasts)
	return w.replace(n, slices.Index(w.Nodes, n), since)
}

func (w *round) killPlugin(n *cluster.Node, _ time.Duration) error {
	return signalPlugin(n, syscall.SIGKILL)
}

func (w *round) stopPlugin(n *cluster.Node, lasts time.Duration) error {
	if err := signalPlugin(n, syscall.SIGSTOP); err != nil {
		return err
	}
	<-time.After(lasts)
	return signalPlugin(n, syscall.SIGCONT)
}

func signalPlugin(n *cluster.Node, signal syscall.Signal) error {
	pids, err := n.Plugins(plugin)
	if err != nil {
		return err
	}
	if len(pids) != 1 {
		return fmt.Errorf("the plugin has %d processes", len(pids))
	}
	return syscall.Kill(pids[0], signal)
}

func (w *round) reload(n *cluster.Node, _ time.Duration) error {
	_, err := n.Client.Sys().ReloadPlugin(&api.ReloadPluginInput{Mounts: []string{mount}})
	return err
}
