package acceptance

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/cluster"
)

// trio is the engine in a Vault of three nodes.
type trio struct {
	*testing.T
	*cluster.Cluster
	mount   string
	engines []*engine // the mount, seen through each node
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	needVault(t)
	c := &trio{T: t, Cluster: cluster.New(t, 3, vault.Binary, "agentchains", pluginBinary), mount: "agentchains"}
	for _, n := range c.Nodes {
		c.engines = append(c.engines, &engine{t, c.mount, n.Client})
	}
	c.engines[0].enable("agentchains", c.mount)
	t.Cleanup(func() { noteLogs(t, c.Cluster) })
	return c
}

// noteLogs keeps what the nodes wrote, to be searched for values.
func noteLogs(t *testing.T, c *cluster.Cluster) {
	logs, err := c.Logs()
	if err != nil {
		t.Error(err)
	}
	for name, text := range logs {
		secrets.note(name, text)
	}
}

// active waits until a node other than one is active, and returns which.
func (c *trio) active(other int) int {
	c.Helper()
	var not *cluster.Node
	if other >= 0 {
		not = c.Nodes[other]
	}
	n, err := c.Active(not)
	c.engines[0].must(err)
	return slices.Index(c.Nodes, n)
}

// send sends one request to a node, which passes it on to the active one.
func (c *trio) send(node int, o op, path string, body data) (*api.Secret, error) {
	const limit = 5 * time.Second
	ctx, cancel := context.WithTimeout(c.Context(), limit)
	defer cancel()
	vault := c.Nodes[node].Client.Logical()
	path = c.mount + "/" + path
	do := func() (*api.Secret, error) { return vault.WriteWithContext(ctx, path, body) }
	if o == read {
		do = func() (*api.Secret, error) { return vault.ReadWithContext(ctx, path) }
	}
	answer, err := do()
	if answer == nil && err == nil {
		err = errors.New("a 404: the node has just become active, and has no mounts yet")
	}
	return answer, err
}

// surely sends a request to one node after the other until one answers, which
// happens when there is an active node again.
func (c *trio) surely(o op, path string, body data, nodes ...int) (answer *api.Secret) {
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
