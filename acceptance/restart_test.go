package acceptance

import (
	"strings"
	"syscall"
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/cluster"
)

// durable is the engine in a Vault of its own, of one node, that keeps what it
// stores and so can be stopped and started again.
type durable struct {
	*engine
	node *cluster.Node
}

func newDurable(t *testing.T) *durable {
	t.Helper()
	needVault(t)
	c := cluster.New(t, 1, vault.Binary, "agentchains", pluginBinary)
	d := &durable{&engine{t, "agentchains", c.Nodes[0].Client}, c.Nodes[0]}
	d.enable("agentchains", d.mount)
	t.Cleanup(func() { noteLogs(t, c) })
	return d
}

// launch starts the process.
func (d *durable) launch() { d.Helper(); d.must(d.node.Launch()) }

// end ends Vault with a signal, and its plugins. It may be called again.
func (d *durable) end(signal syscall.Signal) { d.Helper(); d.must(d.node.End(signal)) }

// unseal waits until Vault serves, which begins with an election.
func (d *durable) unseal() {
	d.Helper()
	d.must(d.node.Unseal())
	d.must(eventually("Vault is active", func() (bool, error) {
		health, err := d.client.Sys().Health()
		return err == nil && !health.Standby, nil
	}))
}

// restart ends Vault with a signal, starts it, and waits until the engine knows
// what runs.
func (d *durable) restart(signal syscall.Signal) {
	d.Helper()
	d.end(signal)
	d.launch()
	d.unseal()
	d.counting()
}

// After a restart of Vault, what is renewed goes on with the versions that it
// holds, what has finished is finished, and what has no runner any more expires.
func TestVaultRestarts(t *testing.T) {
	d := newDurable(t)
	d.deployPipeline()
	kept, finished := d.start(deployer, nil), d.start(deployer, nil)
	finished.write("execution/"+finished.id+"/finish", data{"exit_code": 0})
	runner := d.run(analyzer, nil, `echo $$; read -r _; exit 4`)
	child, ran := runner.pid(), d.only(analyzer)
	records := func() []data {
		return []data{d.inspect(deployer, kept.id), d.inspect(deployer, finished.id), d.inspect(analyzer, ran)}
	}
	before := records()

	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		abandoned := d.start(inDev, data{"ttl": "3s"})
		d.restart(signal)
		if refusal := kept.renew(0); refusal != "" {
			t.Errorf("after %s, an execution is not renewed: %s", signal, refusal)
		}
		if refusal := finished.renew(0); !strings.Contains(refusal, "EXECUTION_ENDED") {
			t.Errorf("after %s, what has finished is renewed: %q", signal, refusal)
		}
		if !alive(child) {
			t.Errorf("after %s, the agent has ended", signal)
		}
		d.same("records", records(), before)
		d.refused(409, "force=true", remove, "secrets/"+database, nil)
		d.becomes(abandoned, "expired")
		d.same("live", d.read("status")["executions"], data{"deploy-pipeline": 2})
		d.same("what is counted", [][]string{d.live(deployer), d.live(analyzer), d.live(inDev)}, [][]string{{kept.id}, {ran}, nil})
	}
	runner.silent(4)
	x := d.inspect(analyzer, ran)
	d.same("what ran", []any{x["state"], x["exit_code"]}, []any{"finished", 4})
	kept.write("execution/"+kept.id+"/finish", data{})
	d.same("live", d.read("status")["executions"], data{})
	d.ok(remove, "secrets/"+database, nil)
	count, err := d.client.Logical().ReadWithData("sys/leases/count", map[string][]string{"type": {"irrevocable"}})
	d.must(err)
	d.same("irrevocable leases", count.Data["lease_count"], 0)

	d.end(syscall.SIGTERM)
}
