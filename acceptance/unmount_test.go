package acceptance

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// poll watches an execution until a watch fails.
func (x *execution) poll() {
	for generation := 1; ; {
		answer, err := x.client.Logical().ReadWithDataWithContext(x.Context(), x.mount+"/execution/"+x.id+"/watch",
			map[string][]string{"generation": {fmt.Sprint(generation)}, "wait": {"5"}})
		if err != nil || answer == nil || answer.Data["state"] != "active" {
			return
		}
	}
}

// watchedBy starts executions that somebody watches; wait returns when nobody does.
func (e *engine) watchedBy(n int) (runs []*execution, wait func()) {
	e.Helper()
	var watching sync.WaitGroup
	for range n {
		x := e.start(deployer, nil)
		runs = append(runs, x)
		watching.Go(x.poll)
	}
	e.watched(n)
	return runs, watching.Wait
}

// A mount goes with everything that runs, and at once: nobody who watches holds it up,
// no lease stays, and what is mounted at the same path next knows nothing of it.
func TestUnmountedWhileAgentsRun(t *testing.T) {
	const many, longest = 30, 8 * time.Second
	e, plugin := newOwnProcess(t)
	e.deployPipeline()
	_, wait := e.watchedBy(many)
	pid := e.process(plugin, 0)
	begun := time.Now()
	e.must(e.client.Sys().Unmount(e.mount))
	took := time.Since(begun)
	wait()
	t.Logf("unmounted with %d executions that are watched in %s", many, took.Round(time.Millisecond))
	if took > longest {
		t.Errorf("that is more than %s", longest)
	}
	// Another process may be there: when Vault's rollback of all mounts comes to the
	// mount while it goes, Vault finds the plugin shut down, and starts it anew.
	e.ended(pid)
	left, err := e.client.Logical().List("sys/leases/lookup/" + e.mount + "/executions/" + deployer)
	e.must(err)
	if left != nil {
		t.Errorf("%d leases are left", len(left.Data["keys"].([]any)))
	}
	e.enable(plugin, e.mount)
	e.counting()
	e.same("live", e.read("status")["executions"], data{})
	e.refused(http.StatusNotFound, "there is no chain", read, "env/"+deployer, nil)
}

// Vault is sealed while executions are watched and environments read, and waits for no
// poll. What ran goes on when it is unsealed.
func TestSealedUnderLoad(t *testing.T) {
	const many, readers, longest = 50, 8, 8 * time.Second
	d := newDurable(t)
	want := d.deployPipeline()
	runs, wait := d.watchedBy(many)
	stop := make(chan struct{})
	var reading sync.WaitGroup
	for range readers {
		reading.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					answer, err := d.client.Logical().Read(d.mount + "/env/" + deployer)
					if err == nil && answer != nil {
						d.same("env", answer.Data, want)
					}
				}
			}
		})
	}
	begun := time.Now()
	d.must(d.client.Sys().Seal())
	d.must(eventually("Vault is sealed", func() (bool, error) {
		status, err := d.client.Sys().SealStatus()
		return err == nil && status.Sealed, nil
	}))
	took := time.Since(begun)
	close(stop)
	reading.Wait()
	wait()
	t.Logf("sealed with %d watchers and %d readers in %s", many, readers, took.Round(time.Millisecond))
	if took > longest {
		t.Errorf("that is more than %s", longest)
	}
	d.unseal()
	d.counting()
	d.same("live", len(d.live(deployer)), many)
	for _, x := range runs {
		if refusal := x.renew(0); refusal != "" {
			t.Fatalf("an execution is not renewed: %s", refusal)
		}
	}
}
