package acceptance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A crash is a mount of which a process is killed while a revocation is under way.
type crash struct {
	*engine
	kill func() // and bring back
}

const (
	crashAgent  = "prod/c/Worker"
	crashSecret = "all/org/KEY"
	crashTries  = 10 // for each moment
)

// logarithmic returns a random time up to two seconds and a half, of which a
// short one is as likely as a long one.
func logarithmic() time.Duration { return rand.N(20*time.Millisecond) << rand.N(7) }

// The plugin is killed after a revocation was answered, at once or while the
// worker is at it, or before. What was begun is completed, once, by the next
// process.
func TestPluginKilledWhileRevoking(t *testing.T) {
	e, plugin := newOwnProcess(t)
	pid := 0
	(&crash{engine: e, kill: func() {
		pid = e.process(plugin, pid)
		e.kill(pid)
		e.surely(read, "status", nil) // starts the next one
	}}).everywhere()
}

// The same with Vault, which comes back with what it has stored.
func TestVaultKilledWhileRevoking(t *testing.T) {
	d := newDurable(t)
	(&crash{engine: d.engine, kill: func() {
		d.end(syscall.SIGKILL)
		d.launch()
		d.unseal()
	}}).everywhere()
	d.end(syscall.SIGTERM)
}

func (c *crash) everywhere() {
	c.Helper()
	c.chain("c", "", "KEY")
	c.secret(crashSecret, nil)
	receiver, _ := c.newReceiver()
	ctx, cancel := context.WithCancel(c.Context())
	var dead atomic.Value // the value that must not be read any more
	dead.Store("")
	done := make(chan struct{})
	go func() { defer close(done); c.readAlways(ctx, &dead) }()
	defer func() { cancel(); <-done }()

	revoked := 0
	for try := range 2 * crashTries {
		old := c.read("reveal/" + crashSecret)["value"]
		all := guard([]string{crashAgent, crashAgent, crashAgent}, func(agent string) *process { return c.run(agent, nil, starter) })
		target, body := "revoke/chain/prod/c", data{"reason": fmt.Sprintf("try %d", try)}
		if try%2 == 0 {
			target, body["value"] = "revoke/secret/"+crashSecret, c.value("new")
			revoked++
		}
		var first any
		if try < crashTries {
			first = c.write(target, body)["incident_id"]
			if try%2 == 0 {
				dead.Store(old)
			}
			<-time.After(logarithmic())
		} else {
			c.cut(target, body, rand.N(30*time.Millisecond))
		}
		c.kill()

		answer, status := c.surely(update, target, body)
		id := answer["incident_id"]
		if status != 200 || first != nil && first != id {
			c.Fatalf("try %d: the repeated request is answered with %d and incident %v, and the first with %v", try, status, id, first)
		}
		if try%2 == 0 {
			dead.Store(old)
			env, _ := c.surely(read, "env/"+crashAgent, nil)
			c.same("env", env, data{"KEY": body["value"]})
		}
		for _, g := range all {
			if _, stderr := g.ends(75); !strings.HasSuffix(stderr, fmt.Sprintf(" (incident %v)\n", id)) || strings.Count(stderr, "\n") != 1 {
				c.Errorf("try %d: standard error is %q, want one line that names incident %v", try, secrets.censor(stderr), id)
			}
			c.gone(g.orphan, g.child)
		}
		c.same(fmt.Sprintf("counts of try %d", try), c.closed(id)["counts"], counts(len(all), 0, 0))
		alerts := []string{"execution.terminated", "execution.terminated", "execution.terminated"}
		if try%2 == 0 {
			alerts = append(alerts, "secret.revoked")
		}
		receiver.told(id, alerts...)
		c.same("incidents", len(c.keys("incidents", nil)), try+1)
		c.same("the current version", c.read("secrets/" + crashSecret)["current_version"], revoked+1)
	}
	c.Logf("%d kills, %d versions revoked, %d incidents complete", 2*crashTries, revoked, 2*crashTries)
}

// cut sends a request, and after some time ends the connection without having
// read the answer.
func (c *crash) cut(target string, body data, after time.Duration) {
	ctx, cancel := context.WithTimeout(c.Context(), after)
	defer cancel()
	_, _ = c.client.Logical().WriteWithContext(ctx, c.mount+"/"+target, body) // it may have been answered
}

// readAlways reads the environment all the time, as well as that goes.
func (c *crash) readAlways(ctx context.Context, dead *atomic.Value) {
	const pause = 5 * time.Millisecond
	for ctx.Err() == nil {
		before := dead.Load()
		answer, err := c.client.Logical().ReadWithContext(ctx, c.mount+"/env/"+crashAgent)
		if err == nil && answer != nil && answer.Data["KEY"] == before {
			c.Error("env gives a value that was revoked")
			return
		}
		<-time.After(pause)
	}
}
