package acceptance

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/vault/api"
)

// durable is the engine in a Vault of its own, of one node, that keeps what it
// stores and so can be stopped and started again.
type durable struct {
	*engine
	server *server
	key    string // to unseal
}

func newDurable(t *testing.T) *durable {
	t.Helper()
	needVault(t)
	d := &durable{engine: &engine{T: t, mount: "agentchains"}}
	address, err := freeAddress()
	d.must(err)
	cluster, err := freeAddress()
	d.must(err)
	s := &server{dir: t.TempDir(), binary: vault.binary, address: "http://" + address}
	d.must(errors.Join(os.Mkdir(s.path("plugins"), 0o700), os.Mkdir(s.path("raft"), 0o700)))
	d.must(os.WriteFile(s.path("vault.hcl"), fmt.Appendf(nil, `
plugin_directory = %q
api_addr         = %q
cluster_addr     = "http://%s"
disable_mlock    = true
raw_storage_endpoint = true
listener "tcp" {
  address     = %q
  tls_disable = true
}
storage "raft" {
  path                   = %q
  node_id                = "one"
  performance_multiplier = 1
}
`, s.path("plugins"), s.address, cluster, address, s.path("raft")), 0o600))
	s.client, err = s.newClient("")
	d.must(err)
	d.server, d.client = s, s.client
	d.launch()
	d.initialize()
	d.must(s.register("agentchains"))
	d.enable("agentchains", d.mount)
	return d
}

// launch starts the process, which ends with the tests at the latest.
func (d *durable) launch() {
	d.Helper()
	s := d.server
	log, err := os.OpenFile(s.path(logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	d.must(err)
	defer log.Close()
	s.cmd = exec.Command(s.binary, "server", "-config="+s.path("vault.hcl"), "-log-level=trace")
	s.cmd.Env = s.environ()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	d.must(s.cmd.Start())
	d.Cleanup(func() { d.end(syscall.SIGKILL) })
}

// end ends Vault with a signal, and its plugins: they outlive a Vault that is
// killed. It may be called again.
func (d *durable) end(signal syscall.Signal) {
	d.Helper()
	if d.server.cmd.ProcessState != nil {
		return
	}
	d.must(d.server.cmd.Process.Signal(signal))
	err := d.server.cmd.Wait()
	if signal != syscall.SIGKILL {
		d.must(err)
	}
	d.must(eventually("the plugins have ended", func() (bool, error) {
		pids, err := d.server.plugins("")
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
		}
		return len(pids) == 0, err
	}))
}

// initialize makes the storage and unseals it the first time.
func (d *durable) initialize() {
	d.Helper()
	var keys *api.InitResponse
	d.must(eventually("Vault is initialized", func() (_ bool, err error) {
		keys, err = d.client.Sys().Init(&api.InitRequest{SecretShares: 1, SecretThreshold: 1})
		var refusal *api.ResponseError
		if errors.As(err, &refusal) {
			return false, err
		}
		return err == nil, nil // it may not listen yet
	}))
	d.key = keys.KeysB64[0]
	d.client.SetToken(keys.RootToken)
	d.unseal()
}

// unseal waits until Vault serves, which begins with an election.
func (d *durable) unseal() {
	d.Helper()
	d.must(eventually("Vault is unsealed and active", func() (bool, error) {
		health, err := d.client.Sys().Health()
		if err != nil {
			return false, nil // it does not listen yet
		}
		if health.Sealed {
			_, err = d.client.Sys().Unseal(d.key)
			return false, err
		}
		return !health.Standby, nil
	}))
}

// restart ends Vault with a signal, starts it, and waits until the engine knows
// what runs.
func (d *durable) restart(signal syscall.Signal) {
	d.Helper()
	d.end(signal)
	d.launch()
	d.unseal()
	d.must(eventually("the engine lists executions", func() (bool, error) {
		_, status, _ := d.do(list, "executions/"+deployer, nil)
		return status == http.StatusOK, nil
	}))
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
	log, err := os.ReadFile(d.server.path(logFile))
	d.must(err)
	secrets.note("the log of a Vault that was restarted", log)
}
