package supervise

import (
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Whoever of the two is stopped goes on, and the order to stop gets through.
func TestStopped(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"runner", "supervisor"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			r := runAgent(t, "kill:"+who+":STOP", "on")
			r.expect("ready")
			r.stop(patience)
			r.ends(3, 0)
		})
	}
}

// An agent that has stopped one of them and ended holds up nothing.
func TestStoppedAtTheEnd(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"runner", "supervisor"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			runAgent(t, "kill:"+who+":STOP", "exit:5").ends(5, 0)
		})
	}
}

// One that stops them faster than they can be continued is ended.
func TestStoppedOverAndOver(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"runner", "supervisor"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			r := runAgent(t, "daemon", "await", "pester:"+who)
			r.expect("deaf")
			r.proceed()
			r.expect("pestering")
			r.gone()
			<-r.ended
		})
	}
}

// The runner may have died in a way that its end of the socket survives.
func TestTheRunnerIsKilledAndItsSocketIsHeld(t *testing.T) {
	t.Parallel()
	r := setup{testOrder: testOrder{Leak: true}}.run(t, "daemon", "deaf")
	r.expect("deaf")
	r.expect("deaf")
	killed := time.Now()
	must(r.cmd.Process.Kill())
	r.gone()
	if took := time.Since(killed); took > 2*beat {
		t.Errorf("ended after %s: nobody told the supervisor", took)
	}
}

// What the same user can do. If this fails, docs/supervision.md is too modest.
func TestBothAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name               string
		steps              []string
		runner, supervisor byte // their states, 0 when they have ended
		living             int
	}{
		{"both are killed", []string{"kill:both:STOP", "kill:both:KILL"}, 0, 0, 1},
		{"the runner is stopped", []string{"kill:runner:STOP", "kill:supervisor:KILL"}, 'T', 0, 1},
		{"the supervisor is stopped", []string{"kill:supervisor:STOP", "kill:runner:KILL"}, 0, 'T', 2},
		{"both are stopped", []string{"kill:both:STOP"}, 'T', 'T', 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := runAgent(t, slices.Concat([]string{"daemon", "await"}, tt.steps, []string{"deaf"})...)
			r.expect("deaf")
			r.proceed()
			r.wait("the daemon is all that is left, or nothing has ended", func() bool {
				return state(r.cmd.Process.Pid) == tt.runner && state(r.supervisor) == tt.supervisor && len(r.living()) == tt.living
			})
		})
	}
}

// As the first process of a PID namespace the runner cannot be killed or
// stopped from inside, and nothing outlives it.
func TestFirstInAPIDNamespace(t *testing.T) {
	t.Parallel()
	needRoot(t, "make a PID namespace")
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("unshare is not installed")
	}
	for _, tt := range []struct {
		name string
		kill string
		kept bool // the command lives
	}{
		{"both are killed", "kill:both:KILL", false},
		{"the runner is killed", "kill:runner:KILL", true},
		{"both are stopped", "kill:both:STOP", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := setup{wrapper: []string{unshare, "--pid", "--fork", "--kill-child", "--mount-proc", self, "runner"}, asRoot: true}
			r := s.run(t, "daemon", "await", tt.kill, "deaf")
			r.supervisor = 0 // that was a number of the namespace
			r.expect("deaf")
			r.proceed()
			if tt.kept {
				r.expect("deaf")
				r.stop(0)
			}
			r.ends(137, syscall.SIGKILL)
		})
	}
}

// In a script, h is a message that was heard, - is a beat while the other one is
// stopped, and , one while it waits for a processor; in what comes of it, w wakes the
// other one, d gives it up.
func TestPulse(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		"-h-h-h-h-h-h":            "......",
		"h-h--h-h-h-":             "..w...",
		"-------":                 ".wwwwwd",
		"--h--h--h--h--h--h":      ".w.w.w.w.w.d",
		"--h--h--h--h--h-h-h-h--": ".w.w.w.w.w....w",
		"--h--h-h-h--h--h--h--h":  ".w.w...w.w.w.w",
		",,h,,h,,h,,h,,h,,h,,h--": ".w.w.w.w.w.w.w.w",
		"-,-,-,-,-,-,-":           ".wwwwwwwwwwwd",
		strings.Repeat(",", 60):   "." + strings.Repeat("w", 58) + "d",
	} {
		var p pulse
		var got strings.Builder
		for _, c := range script {
			if c == 'h' {
				p.heard()
				continue
			}
			switch wake, dead := p.tick(c == '-'); {
			case dead:
				got.WriteByte('d')
			case wake:
				got.WriteByte('w')
			default:
				got.WriteByte('.')
			}
		}
		if got.String() != want {
			t.Errorf("%s gives %s, want %s", script, got.String(), want)
		}
	}
}
