// Package cluster runs a real Vault of one or more nodes on loopback, with
// integrated storage and plugins, whose nodes and connections a test can take away.
// It needs Linux.
package cluster

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/vault/api"
)

// Cluster is a Vault of some nodes, all of which vote.
type Cluster struct {
	Nodes []*Node
	wires *wires
}

// New starts a cluster with a plugin in its catalog, and ends it with the test. What
// the nodes wrote is kept when the test fails. The rest of this package returns
// errors, so that a test can use it in any goroutine.
func New(t testing.TB, nodes int, vault, plugin, binary string) *Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "cluster")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what the nodes wrote is kept in %s", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c := &Cluster{wires: &wires{}}
	for i := range nodes {
		if err := c.add(t, filepath.Join(dir, fmt.Sprintf("node-%d", i)), vault); err != nil {
			t.Fatal(err)
		}
	}
	c.wires.nodes = c.Nodes
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	if err := c.register(plugin, binary); err != nil {
		t.Fatal(err)
	}
	return c
}

// add writes the settings of a node, which the others reach through wires.
func (c *Cluster) add(t testing.TB, dir, vault string) error {
	address, err := FreeAddress()
	if err != nil {
		return err
	}
	behind, err := FreeAddress()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "raft"), 0o700); err != nil {
		return err
	}
	n, err := NewNode(dir, vault, address, "")
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	carried := make(chan struct{})
	go func() { defer close(carried); c.wires.carry(l, n, behind) }()
	t.Cleanup(func() { l.Close(); c.wires.heal(); c.wires.cut(n, false); <-carried })
	t.Cleanup(func() {
		if err := n.End(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	})
	join := ""
	if len(c.Nodes) > 0 {
		join = fmt.Sprintf("retry_join { leader_api_addr = %q }", c.Nodes[0].Address)
	}
	c.Nodes = append(c.Nodes, n)
	return os.WriteFile(n.Path("vault.hcl"), fmt.Appendf(nil, `
plugin_directory     = %q
api_addr             = %q
cluster_addr         = "https://%s"
disable_mlock        = true
raw_storage_endpoint = true
listener "tcp" {
  address         = %q
  cluster_address = %q
  tls_disable     = true
}
storage "raft" {
  path                   = %q
  node_id                = %q
  performance_multiplier = 1
  %s
}
`, n.Path("plugins"), n.Address, l.Addr(), address, behind, n.Path("raft"), filepath.Base(dir), join), 0o600)
}

// start starts all nodes, and waits until each votes: before, none may be missed.
func (c *Cluster) start() error {
	first := c.Nodes[0]
	if err := first.Launch(); err != nil {
		return err
	}
	if err := first.initialize(); err != nil {
		return err
	}
	for _, n := range c.Nodes[1:] {
		n.key = first.key
		n.Client.SetToken(first.Client.Token())
		if err := n.Start(); err != nil {
			return err
		}
	}
	root := first.Client.Logical()
	return Eventually("all nodes vote", func() (bool, error) {
		// Each may fail while the nodes elect one of them.
		if _, err := root.Write("sys/storage/raft/autopilot/configuration", map[string]any{"server_stabilization_time": "1s"}); err != nil {
			return false, nil
		}
		answer, err := root.Read("sys/storage/raft/configuration")
		if err != nil || answer == nil {
			return false, nil
		}
		voters := 0
		for _, server := range answer.Data["config"].(map[string]any)["servers"].([]any) {
			if server.(map[string]any)["voter"] == true {
				voters++
			}
		}
		return voters == len(c.Nodes), nil
	})
}

// register adds the plugin to the catalog, and has each node write an audit file.
func (c *Cluster) register(plugin, binary string) error {
	first := c.Nodes[0]
	if err := first.Register(plugin, "", binary); err != nil {
		return err
	}
	for _, n := range c.Nodes[1:] {
		if err := os.Link(first.Plugin(plugin), n.Plugin(plugin)); err != nil {
			return err
		}
	}
	return first.Client.Sys().EnableAuditWithOptions("file", &api.EnableAuditOptions{
		Type: "file", Options: map[string]string{"file_path": AuditFile}, // in the directory of each
	})
}

// Active waits until a node other than one is active; nil: any.
func (c *Cluster) Active(other *Node) (active *Node, err error) {
	err = Eventually("a node is active", func() (bool, error) {
		for _, n := range c.Nodes {
			if n == other {
				continue
			}
			if health, err := n.health(); err == nil && !health.Sealed && !health.Standby {
				active = n
				return true, nil
			}
		}
		return false, nil
	})
	return active, err
}

// Cut cuts a node off from the others, and no other one: its connections end, and new
// ones are refused. Its own clients reach it.
func (c *Cluster) Cut(n *Node) { c.wires.cut(n, false) }

// Silence cuts a node off as a network that loses every packet: its connections stay,
// and carry nothing until Heal.
func (c *Cluster) Silence(n *Node) { c.wires.cut(n, true) }

// Heal connects all nodes again.
func (c *Cluster) Heal() { c.wires.heal() }

// Logs ends the nodes, and returns what they and their plugins wrote, by file.
func (c *Cluster) Logs() (map[string][]byte, error) {
	logs := map[string][]byte{}
	for _, n := range c.Nodes {
		if err := n.End(syscall.SIGKILL); err != nil {
			return nil, err
		}
		for _, name := range []string{LogFile, AuditFile} {
			text, err := os.ReadFile(n.Path(name))
			if err != nil && !os.IsNotExist(err) { // who was never active has no audit file
				return nil, err
			}
			logs[n.Path(name)] = text
		}
	}
	return logs, nil
}
