package acceptance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// cluster is the engine in a Vault of three nodes, each of which can be ended, or
// cut off from the others.
type cluster struct {
	*testing.T
	nodes []*durable

	mu     sync.Mutex // guards all below
	pids   [3]int     // the processes of the nodes
	cutOff int        // the node that is; -1: none
	wires  []*wire
}

// wire is a connection from one node to another.
type wire struct {
	from, to int
	ends     [2]net.Conn
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	needVault(t)
	c := &cluster{T: t, cutOff: -1}
	for i := range c.pids {
		c.addNode(i)
	}
	first := c.nodes[0]
	c.launch(0)
	first.initialize()
	for i, n := range c.nodes[1:] {
		n.key = first.key
		n.client.SetToken(first.client.Token())
		c.launch(i + 1)
		c.joined(i + 1)
	}
	root := first.client.Logical()
	_, err := root.Write("sys/storage/raft/autopilot/configuration", data{"server_stabilization_time": "1s"})
	first.must(err)
	first.must(eventually("all nodes vote", func() (bool, error) {
		answer, err := root.Read("sys/storage/raft/configuration")
		if err != nil {
			return false, err
		}
		voters := 0
		for _, server := range answer.Data["config"].(data)["servers"].([]any) {
			if server.(data)["voter"] == true {
				voters++
			}
		}
		return voters == len(c.nodes), nil
	}))
	first.must(first.server.register("agentchains"))
	for _, n := range c.nodes[1:] {
		n.must(os.Link(first.server.plugin("agentchains"), n.server.plugin("agentchains")))
	}
	first.enable("agentchains", first.mount)
	return c
}

// addNode writes the settings of a node, which the others reach through wires.
func (c *cluster) addNode(i int) {
	c.Helper()
	n := &durable{engine: &engine{T: c.T, mount: "agentchains"}}
	address, err := freeAddress()
	n.must(err)
	clusterAddress, err := freeAddress()
	n.must(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	n.must(err)
	done := make(chan struct{})
	go func() { defer close(done); c.connect(l, i, clusterAddress) }()
	c.Cleanup(func() { l.Close(); c.cut(i); <-done })
	n.server = &server{dir: c.TempDir(), binary: vault.binary, address: "http://" + address}
	n.must(errors.Join(os.Mkdir(n.server.path("plugins"), 0o700), os.Mkdir(n.server.path("raft"), 0o700)))
	join := ""
	if i > 0 {
		join = fmt.Sprintf("retry_join { leader_api_addr = %q }", c.nodes[0].server.address)
	}
	n.must(os.WriteFile(n.server.path("vault.hcl"), fmt.Appendf(nil, `
plugin_directory = %q
api_addr         = %q
cluster_addr     = "https://%s"
disable_mlock    = true
listener "tcp" {
  address         = %q
  cluster_address = %q
  tls_disable     = true
}
storage "raft" {
  path                   = %q
  node_id                = "node-%d"
  performance_multiplier = 1
  %s
}
`, n.server.path("plugins"), n.server.address, l.Addr(), address, clusterAddress, n.server.path("raft"), i, join), 0o600))
	n.client, err = n.server.newClient("")
	n.must(err)
	config := n.client.CloneConfig()
	config.DisableRedirects = true // what a node answers is its own, or is passed on by it
	n.client, err = api.NewClient(config)
	n.must(err)
	n.server.client = n.client
	c.nodes = append(c.nodes, n)
}

// launch starts the process of a node.
func (c *cluster) launch(node int) {
	c.Helper()
	c.nodes[node].launch()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pids[node] = c.nodes[node].server.cmd.Process.Pid
}

// joined waits until a node is one of the cluster, unsealed.
func (c *cluster) joined(node int) {
	c.Helper()
	n := c.nodes[node]
	n.must(eventually("the node has joined", func() (bool, error) {
		health, err := n.client.Sys().Health()
		if err != nil {
			return false, nil // it does not listen yet
		}
		if health.Sealed {
			_, _ = n.client.Sys().Unseal(n.key) // it may not know the leader yet
		}
		return !health.Sealed, nil
	}))
}

// leader waits until a node other than one is active, and returns which.
func (c *cluster) leader(other int) (active int) {
	c.Helper()
	c.nodes[0].must(eventually("a node is active", func() (bool, error) {
		for i, n := range c.nodes {
			health, err := n.client.Sys().Health()
			if i != other && err == nil && !health.Sealed && !health.Standby {
				active = i
				return true, nil
			}
		}
		return false, nil
	}))
	return active
}

// connect passes the connections to a node on, except from or to one that is cut
// off.
func (c *cluster) connect(l net.Listener, to int, address string) {
	var copies sync.WaitGroup
	defer copies.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if w := c.admit(conn, to, address); w != nil {
			for i := range w.ends {
				copies.Go(func() {
					_, _ = io.Copy(w.ends[i], w.ends[1-i]) // it ends with the wire
					w.close()
				})
			}
		}
	}
}

func (c *cluster) admit(conn net.Conn, to int, address string) *wire {
	c.mu.Lock()
	defer c.mu.Unlock()
	from := c.callerLocked(conn)
	back, err := net.Dial("tcp", address)
	if err != nil || from < 0 || c.cutOff == from || c.cutOff == to {
		conn.Close()
		if err == nil {
			back.Close()
		}
		return nil
	}
	w := &wire{from, to, [2]net.Conn{conn, back}}
	c.wires = append(c.wires, w)
	return w
}

func (w *wire) close() {
	for _, end := range w.ends {
		end.Close()
	}
}

// callerLocked returns the node whose process has the other end of a connection; -1:
// none has.
func (c *cluster) callerLocked(conn net.Conn) int {
	address := conn.RemoteAddr().(*net.TCPAddr)
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return -1
	}
	local := fmt.Sprintf("0100007F:%04X", address.Port)
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[1] != local {
			continue
		}
		socket := "socket:[" + fields[9] + "]"
		for i, pid := range c.pids {
			files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
			if slices.ContainsFunc(files, func(file string) bool { at, _ := os.Readlink(file); return at == socket }) {
				return i
			}
		}
	}
	return -1
}

// cut cuts a node off from the others. Its own clients reach it.
func (c *cluster) cut(node int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cutOff = node
	c.wires = slices.DeleteFunc(c.wires, func(w *wire) bool {
		hit := w.from == node || w.to == node
		if hit {
			w.close()
		}
		return hit
	})
}

// heal connects all nodes again.
func (c *cluster) heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cutOff = -1
}

// send sends one request to a node, which passes it on to the active one.
func (c *cluster) send(node int, o op, path string, body data) (*api.Secret, error) {
	const limit = 5 * time.Second
	ctx, cancel := context.WithTimeout(c.Context(), limit)
	defer cancel()
	n := c.nodes[node]
	path = n.mount + "/" + path
	do := func() (*api.Secret, error) { return n.client.Logical().WriteWithContext(ctx, path, body) }
	if o == read {
		do = func() (*api.Secret, error) { return n.client.Logical().ReadWithContext(ctx, path) }
	}
	answer, err := do()
	if answer == nil && err == nil {
		err = errors.New("a 404: the node has just become active, and has no mounts yet")
	}
	return answer, err
}

// surely sends a request to one node after the other until one answers, which
// happens when there is an active node again.
func (c *cluster) surely(o op, path string, body data, nodes ...int) (answer *api.Secret) {
	c.Helper()
	try := 0
	err := eventually(path+" is answered", func() (_ bool, err error) {
		answer, err = c.send(nodes[try%len(nodes)], o, path, body)
		try++
		return err == nil, nil
	})
	if err != nil {
		c.Fatal(err)
	}
	return answer
}
