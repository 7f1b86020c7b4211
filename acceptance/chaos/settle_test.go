package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/vault/api"

	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/cluster"
	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/history"
)

// prepare stores the chain, and gives each secret its first value.
func (w *round) prepare() {
	agents := []data{}
	for n := range secrets {
		agents = append(agents, data{"name": fmt.Sprintf("Agent%d", n), "secrets": []string{key(n)}})
	}
	definition := w.put(0, "scopes/chain/"+w.chain, data{"agents": agents})
	if _, err := definition(w.Context()); err != nil {
		w.Fatal(err)
	}
	c := &client{round: w}
	for n := range secrets {
		if !c.do(history.Write, n, 0, 0) {
			w.Fatalf("%s cannot be written", key(n))
		}
	}
}

// settle asks, when nothing fails any more, for all that the history is judged by:
// what is read and counted, whom each incident has told to stop, and that rotations
// end. It ends every execution.
func (w *round) settle() error {
	if err := w.recover(); err != nil {
		return err
	}
	active, err := w.Active(nil)
	if err != nil {
		return err
	}
	node := slices.Index(w.Nodes, active)
	for n := range secrets {
		c := &client{round: w, id: clients}
		if err := errors.Join(c.surely(history.Resolve, n, node), c.surely(history.List, n, node)); err != nil {
			return err
		}
		for _, id := range w.last().Executions {
			c.runs = []execution{{id: id, secret: n}}
			if err := c.surely(history.Finish, n, node); err != nil {
				return err
			}
		}
		if err := c.surely(history.List, n, node); err != nil {
			return err
		}
		if left := w.last().Executions; len(left) > 0 {
			return fmt.Errorf("%s counts %d executions that have finished", key(n), len(left))
		}
		if err := w.idle(node, n); err != nil {
			return err
		}
	}
	return errors.Join(w.incidents(node), w.nothingLeft(node))
}

// surely does an operation again until it is answered.
func (c *client) surely(kind history.Kind, secret, node int) error {
	return cluster.Eventually(fmt.Sprintf("the %s of %s is answered", kind, key(secret)), func() (bool, error) {
		return c.do(kind, secret, node, 0), nil
	})
}

// last is the operation that was recorded last.
func (w *round) last() history.Operation { return w.history.Operations[len(w.history.Operations)-1] }

// idle waits until no rotation of a secret is under way.
func (w *round) idle(node, secret int) error {
	return cluster.Eventually(key(secret)+" is not rotated any more", func() (bool, error) {
		answer, err := w.get(context.Background(), node, "rotate/"+w.secret(secret), nil)
		return err == nil && answer.Data["state"] == "idle", nil
	})
}

// incidents waits until every incident is closed, all of it acknowledged, and records
// whom it lists.
func (w *round) incidents(node int) error {
	for _, o := range slices.Clone(w.history.Operations) {
		if o.Kind != history.Revoke || o.Outcome != history.OK {
			continue
		}
		var answer *api.Secret
		var refusal error
		if err := cluster.Eventually("incident "+o.Incident+" is closed", func() (bool, error) {
			answer, refusal = w.get(context.Background(), node, "incidents/"+o.Incident, map[string][]string{"limit": {"1000"}})
			return refusal == nil && answer.Data["state"] == "closed", nil
		}); err != nil {
			return errors.Join(err, refusal)
		}
		listed := history.Operation{Kind: history.Incident, Secret: o.Secret, Call: w.now(), Return: w.now(), Outcome: history.OK, Incident: o.Incident}
		for _, item := range answer.Data["executions"].([]any) {
			line := item.(data)
			if line["state"] != "acknowledged" {
				return fmt.Errorf("incident %s lists execution %s as %s", o.Incident, line["execution_id"], line["state"])
			}
			listed.Executions = append(listed.Executions, fmt.Sprint(line["execution_id"]))
		}
		w.history.Operations = append(w.history.Operations, listed)
		w.tally.add(string(history.Incident), "closed", 1)
	}
	return nil
}

// nothingLeft checks what is counted when every execution has ended.
func (w *round) nothingLeft(node int) error {
	status, err := w.get(context.Background(), node, "status", nil)
	if err != nil {
		return err
	}
	if count, ok := status.Data["executions"].(data)[w.chain]; ok {
		return fmt.Errorf("status counts %s executions that have finished", count)
	}
	leases, err := w.Nodes[node].Client.Logical().ReadWithData("sys/leases/count", map[string][]string{"type": {"irrevocable"}})
	if err != nil {
		return err
	}
	if n := number(leases.Data["lease_count"]); n > 0 {
		return fmt.Errorf("%d leases cannot be revoked", n)
	}
	return nil
}
