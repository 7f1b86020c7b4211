package acceptance

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// stubborn ignores SIGTERM, and starts a process that leaves its session and its
// parent. It prints the number of that one, and its own.
const stubborn = `trap '' TERM; (setsid sh -c 'echo $$; exec sleep 300' &) | { read -r pid; echo "$pid"; }; echo $$; exec sleep 300`

// An order to stop ends everything that the agent started, and the receipt says
// how.
func TestRunnerIsToldToStop(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	const obedient = `trap 'exit 3' TERM; (setsid sh -c 'echo $$; exec sleep 300' &) | { read -r pid; echo "$pid"; }; echo $$; sleep 300 & wait`
	for _, test := range []struct {
		agent, script string
		signal        string
		exitCode      int
	}{
		{deployer, stubborn, "SIGKILL", 137},
		{"dev/deploy-pipeline/CodeAnalyzer", obedient, "", 3},
	} {
		p := e.agent(test.agent).run(test.agent, []string{"--grace", "300ms"}, test.script)
		orphan, child := p.pid(), p.pid()
		if of, err := parent(orphan); err != nil || of == child {
			t.Errorf("process %d is no orphan: its parent is %d, %v", orphan, of, err)
		}
		id := e.only(test.agent)
		answer := e.write("revoke/execution/"+id, data{"reason": "the key leaked"})
		p.stopped(75, fmt.Sprintf("the key leaked (by token) (incident %s)", answer["incident_id"]))
		e.gone(orphan, child)
		x := e.inspect(test.agent, id)
		ack, acknowledged := x["ack"].(data)
		if !acknowledged {
			t.Errorf("there is no receipt: the execution is %v", x["state"])
			continue
		}
		e.same("receipt", []any{x["state"], ack["pid"], ack["signal"], ack["exit_code"]}, []any{"terminated", child, test.signal, test.exitCode})
		if at, err := time.Parse(time.RFC3339, fmt.Sprint(ack["time"])); err != nil || time.Since(at) > patience {
			t.Errorf("the time of the receipt is %v", ack["time"])
		}
	}
}

// The agent ends with its lease and with its token, though nobody tells it to.
func TestRunnerEndsWithItsLease(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	for name, end := range map[string]func(as *engine) error{
		"lease": func(*engine) error { return e.client.Sys().RevokePrefix(e.mount + "/executions") },
		"token": func(as *engine) error { return as.client.Auth().Token().RevokeSelf("") },
	} {
		t.Run(name, func(t *testing.T) {
			e := &engine{t, e.mount, e.client}
			as := e.agent(deployer)
			p := as.run(deployer, nil, `echo $$; exec sleep 300`)
			child, id := p.pid(), e.only(deployer)
			e.must(end(as))
			p.stopped(143, "its lease has ended", "its token is no longer good", "the execution is expired")
			e.gone(child)
			e.isIn("expired", deployer, id)
		})
	}
}

// A runner that is killed takes the agent along, with all that it started.
func TestRunnerIsKilled(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	p := e.agent(deployer).run(deployer, []string{"--ttl", "2s"}, stubborn)
	orphan, child := p.pid(), p.pid()
	supervisor, err := parent(child)
	e.must(err)
	if runner, err := parent(supervisor); err != nil || runner != p.cmd.Process.Pid {
		t.Errorf("the runner is %d, and the parent of the supervisor %d, %v", p.cmd.Process.Pid, runner, err)
	}
	id := e.only(deployer)
	e.must(p.cmd.Process.Kill())
	e.gone(orphan, child)
	p.silent(-1)
	e.isIn("expired", deployer, id)
}

// gate is a way, as to Vault, that can be closed.
type gate struct {
	net.Listener
	behind string

	mu     sync.Mutex // guards all below
	state  gateState
	conns  []net.Conn
	turned int // away, so many
}

type gateState int

const (
	open   gateState = iota
	shut             // connections end at once
	silent           // they stay, and nothing passes
)

// newGate returns a gate before what listens at an address.
func (e *engine) newGate(address string) *gate {
	e.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	e.must(err)
	g := &gate{Listener: l, behind: address}
	done := make(chan struct{})
	go func() { defer close(done); g.serve() }()
	e.Cleanup(func() { l.Close(); g.set(shut); <-done })
	return g
}

// behindGate returns the mount seen through a gate.
func (e *engine) behindGate() (*engine, *gate) {
	e.Helper()
	g := e.newGate(strings.TrimPrefix(e.client.Address(), "http://"))
	behind := e.as(e.client.Token())
	e.must(behind.client.SetAddress("http://" + g.Addr().String()))
	return behind, g
}

func (g *gate) serve() {
	var copies sync.WaitGroup
	defer copies.Wait()
	for {
		conn, err := g.Accept()
		if err != nil {
			return
		}
		if back := g.admit(conn); back != nil {
			copies.Go(func() { g.copy(back, conn) })
			copies.Go(func() { g.copy(conn, back) })
		}
	}
}

// admit connects to what is behind for a connection that may pass.
func (g *gate) admit(conn net.Conn) net.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	back, err := net.Dial("tcp", g.behind)
	if err != nil || g.state == shut {
		g.turned++
		conn.Close()
		return nil
	}
	g.conns = append(g.conns, conn, back)
	return back
}

func (g *gate) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if g.passes() {
			_, _ = to.Write(buf[:n]) // the other direction ends too
		}
	}
}

func (g *gate) passes() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state == open
}

// set changes the state. Only a silent gate keeps its connections.
func (g *gate) set(state gateState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state = state
	if state != silent {
		for _, conn := range g.conns {
			conn.Close()
		}
		g.conns = nil
	}
}

func (g *gate) turnedAway() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.turned
}

// When Vault is out of reach, the agent runs until its lease is over.
func TestRunnerWithoutVault(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	const ttl = 6 * time.Second
	for agent, state := range map[string]gateState{deployer: shut, analyzer: silent} {
		t.Run(map[gateState]string{shut: "refuses", silent: "is silent"}[state], func(t *testing.T) {
			t.Parallel()
			e := &engine{t, e.mount, e.client}
			as, gate := e.agent(agent).behindGate()
			p := as.run(agent, []string{"--ttl", ttl.String()}, `echo $$; exec sleep 300`)
			child, id := p.pid(), e.only(agent)
			since := time.Now()
			gate.set(state)
			e.gone(child)
			// A lease is renewed when a third of it is over: two thirds are left,
			// or one on a busy machine.
			if lived := time.Since(since); lived < ttl/3 || lived > ttl+3*time.Second {
				t.Errorf("the agent lived %s without Vault, and its lease is of %s", lived, ttl)
			}
			e.isIn("expired", agent, id)
			gate.set(open)
			p.stopped(143, "Vault is out of reach, and its lease is over")
			e.same("state", e.inspect(agent, id)["state"], "expired")
		})
	}
}

// When Vault comes back in time, the agent goes on.
func TestRunnerWithVaultAway(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	const ttl = 6 * time.Second
	as, gate := e.agent(deployer).behindGate()
	p := as.run(deployer, []string{"--ttl", ttl.String()}, `echo $$; read -r _; exit 4`)
	child, id := p.pid(), e.only(deployer)
	since := time.Now()
	gate.set(shut)
	e.must(eventually("the runner was turned away", func() (bool, error) { return gate.turnedAway() > 3, nil }))
	gate.set(open)
	e.must(eventually("the lease of before is over", func() (bool, error) { return time.Since(since) > ttl+time.Second, nil }))
	e.same("state", e.inspect(deployer, id)["state"], "active")
	if !alive(child) {
		t.Error("the agent has ended")
	}
	p.silent(4)
	e.same("state", e.inspect(deployer, id)["state"], "finished")
}
