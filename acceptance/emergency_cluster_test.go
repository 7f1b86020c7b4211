package acceptance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// begun is an execution that was started while its key was revoked.
type begun struct {
	id, lease string
	value     any
	sent      time.Time
}

// race starts executions and reads environments through all nodes until it is
// stopped.
type race struct {
	*trio
	stop chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex // guards all below
	begun []begun
	reads []begun // without an id
}

func (c *trio) newRace() *race {
	const clients = 2 // of each kind at each node
	r := &race{trio: c, stop: make(chan struct{})}
	for node := range c.Nodes {
		for range clients {
			r.repeat(func() { r.start(node) })
			r.repeat(func() { r.readFlat(node) })
		}
	}
	return r
}

func (r *race) repeat(do func()) {
	const pause = 5 * time.Millisecond
	r.wg.Go(func() {
		for {
			select {
			case <-r.stop:
				return
			case <-time.After(pause):
				do()
			}
		}
	})
}

func (r *race) start(node int) {
	sent := time.Now()
	answer, err := r.send(node, update, "executions/"+crashAgent, data{})
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.begun = append(r.begun, begun{fmt.Sprint(answer.Data["execution_id"]), answer.LeaseID, answer.Data["env"].(data)["KEY"], sent})
	}
}

func (r *race) readFlat(node int) {
	sent := time.Now()
	answer, err := r.send(node, read, "env/"+crashAgent, nil)
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reads = append(r.reads, begun{value: answer.Data["KEY"], sent: sent})
	}
}

// with returns how many were started with a value, sent after a time.
func (r *race) with(value any, after time.Time) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.begun {
		if b.value == value && b.sent.After(after) {
			n++
		}
	}
	return n
}

// A key is revoked while executions start with it, and while the active node
// steps down or is killed. Each start is refused, or is in the list of what was
// told to stop; after the answer no node starts, renews or reads with the old value.
func TestRevocationRacesFailover(t *testing.T) {
	const rounds, least = 6, 5
	c := newTrio(t)
	first := c.engines[0]
	first.chain("c", "", "KEY")
	old := any(first.secret(crashSecret, nil))
	started, hit := 0, 0
	for round := range rounds {
		r := c.newRace()
		first.must(eventually("executions start", func() (bool, error) { return r.with(old, time.Time{}) >= least, nil }))
		active := c.active(-1)
		kill := round%2 == 1
		failover := make(chan struct{})
		go func() {
			defer close(failover)
			<-time.After(rand.N(200 * time.Millisecond))
			if kill {
				if err := c.Nodes[active].End(syscall.SIGKILL); err != nil {
					t.Error(err)
				}
			} else if err := c.Nodes[active].Client.Sys().StepDown(); err != nil {
				t.Error(err)
			}
		}()
		<-time.After(rand.N(200 * time.Millisecond))
		value := first.value("new")
		body := data{"reason": fmt.Sprintf("round %d", round), "value": value}
		id := c.surely(update, "revoke/secret/"+crashSecret, body, 0, 1, 2).Data["incident_id"]
		answered := time.Now()
		first.must(eventually("executions start with the new value", func() (bool, error) { return r.with(value, answered) >= least, nil }))
		close(r.stop)
		r.wg.Wait()
		<-failover
		active = c.active(-1)

		var told []string
		first.must(eventually("the incident lists who was told", func() (bool, error) {
			c.surely(read, "status", nil, active)
			told = incidentIDs(c.engines[active].incident(fmt.Sprint(id)))
			return !slices.ContainsFunc(r.begun, func(b begun) bool { return b.value == old && !slices.Contains(told, b.id) }), nil
		}))
		for _, b := range r.begun {
			started++
			switch {
			case b.value == old && b.sent.After(answered):
				t.Errorf("round %d: an execution was started with a value that was revoked", round)
			case b.value == old:
				hit++
				if x := (&execution{engine: c.engines[active], lease: b.lease}); !strings.Contains(x.renew(0), "EXECUTION_TERMINATED") {
					t.Errorf("round %d: an execution with a value that was revoked is not refused: %q", round, x.renew(0))
				}
			case slices.Contains(told, b.id):
				t.Errorf("round %d: an execution with the new value was told to stop", round)
			}
		}
		for _, b := range r.reads {
			if b.value == old && b.sent.After(answered) {
				t.Errorf("round %d: env gives a value %s after it was revoked", round, b.sent.Sub(answered))
			}
		}
		for _, n := range c.Nodes {
			if !n.Running() {
				first.must(n.Start())
			}
		}
		old = value
	}
	t.Logf("%d rounds; %d executions started, of which %d were told to stop", rounds, started, hit)
}

// A leader that is cut off from the others starts and renews nothing. It goes on
// answering flat reads from memory until Vault notices that it leads no more. Vault
// 1.21.1 does not always notice, so the node is restarted; see docs/emergency.md.
func TestLeaderCutOff(t *testing.T) {
	const rounds, watched = 2, 5 * time.Second
	c := newTrio(t)
	first := c.engines[0]
	first.chain("c", "", "KEY")
	old := any(first.secret(crashSecret, nil))
	for round := range rounds {
		active := c.active(-1)
		others := []int{(active + 1) % 3, (active + 2) % 3}
		before := c.surely(update, "executions/"+crashAgent, data{}, active)
		r := &race{trio: c, stop: make(chan struct{})}
		cut := time.Now()
		if round%2 == 0 {
			c.Cut(c.Nodes[active])
		} else {
			c.Silence(c.Nodes[active])
		}
		var renewed time.Time
		r.repeat(func() { r.readFlat(active) })
		r.repeat(func() { r.start(active) })
		r.repeat(func() {
			if _, err := c.Nodes[active].Client.Sys().Renew(before.LeaseID, 0); err == nil {
				renewed = time.Now()
			}
		})
		value := first.value("new")
		c.surely(update, "revoke/secret/"+crashSecret, data{"reason": fmt.Sprintf("round %d", round), "value": value}, others...)
		answered := time.Now()
		<-time.After(watched)
		close(r.stop)
		r.wg.Wait()
		last := cut
		for _, b := range r.reads {
			if b.value == old && b.sent.After(last) {
				last = b.sent
			}
		}
		t.Logf("round %d: the leader that is cut off answers flat reads for %s of %s; the others acknowledge the revocation after %s",
			round, last.Sub(cut).Round(time.Millisecond), time.Since(cut).Round(time.Millisecond), answered.Sub(cut).Round(time.Millisecond))
		if n := r.with(old, answered); n > 0 || renewed.After(answered) {
			t.Errorf("a leader that is cut off starts %d executions, or renews", n)
		}
		c.Heal()
		first.must(c.Nodes[active].End(syscall.SIGKILL))
		first.must(c.Nodes[active].Start())
		first.must(eventually("the node that was cut off gives the new value", func() (bool, error) {
			answer, err := c.send(active, read, "env/"+crashAgent, nil)
			return err == nil && answer.Data["KEY"] == value, nil
		}))
		old = value
	}
}
