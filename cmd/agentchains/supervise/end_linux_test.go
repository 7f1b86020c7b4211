package supervise

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestStop(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		script []string
		says   []string
		grace  time.Duration
		code   int
		signal syscall.Signal
	}{
		{"ends on TERM", []string{"on"}, []string{"ready"}, patience, 3, 0},
		{"dies of TERM", []string{"say:ready", "wait"}, []string{"ready"}, patience, 143, syscall.SIGTERM},
		{"ignores TERM", []string{"deaf"}, []string{"deaf"}, time.Second / 5, 137, syscall.SIGKILL},
		{"ignores TERM, with a child", []string{"ignore", "child:deaf", "wait"}, []string{"deaf"}, time.Second / 5, 137, syscall.SIGKILL},
		{"has left a daemon", []string{"daemon", "wait"}, []string{"deaf"}, patience, 143, syscall.SIGTERM},
		{"ignores TERM and has left a daemon", []string{"daemon", "deaf"}, []string{"deaf", "deaf"}, 0, 137, syscall.SIGKILL},
		{"is stopped", []string{"say:ready", "kill:self:STOP", "wait"}, []string{"ready"}, patience, 143, syscall.SIGTERM},
		{"is stopped and has left a daemon", []string{"ignore", "daemon", "kill:self:STOP", "wait"}, []string{"deaf"}, time.Second / 5, 137, syscall.SIGKILL},
		{"may open no file to look", []string{"daemon", "close", "deaf"}, []string{"deaf", "deaf"}, time.Second / 5, 137, syscall.SIGKILL},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := runAgent(t, tt.script...)
			for _, line := range tt.says {
				r.expect(line)
			}
			if slices.Contains(tt.script, "kill:self:STOP") {
				r.wait("the agent has stopped itself", func() bool { return state(r.pid) == 'T' })
			}
			asked := time.Now()
			r.stop(tt.grace)
			got := r.ends(tt.code, tt.signal)
			if tt.signal == syscall.SIGKILL && got.Time.Sub(asked) < tt.grace {
				t.Errorf("killed after %s, before the grace of %s was over", got.Time.Sub(asked), tt.grace)
			}
			if tt.grace == patience && got.Time.Sub(asked) > patience/2 {
				t.Errorf("ended after %s only", got.Time.Sub(asked))
			}
		})
	}
}

// A shell dies of TERM at once; what it runs is to have the grace too.
func TestStopLetsTheGroupCleanUp(t *testing.T) {
	t.Parallel()
	r := runAgent(t, "child:cleanup", "wait")
	r.expect("ready")
	r.stop(patience)
	r.expect("cleaned up")
	r.ends(143, syscall.SIGTERM)
}

// Of two orders the earlier end counts, whichever came first.
func TestStopTwice(t *testing.T) {
	t.Parallel()
	for _, graces := range [][2]time.Duration{{time.Hour, 0}, {time.Second, time.Hour}} {
		r := runAgent(t, "deaf")
		r.expect("deaf")
		r.stop(graces[0])
		r.stop(graces[1])
		r.ends(137, syscall.SIGKILL)
	}
}

func TestWhatIsLeftBehindEnds(t *testing.T) {
	t.Parallel()
	r := runAgent(t, "daemon", "child:deaf", "await", "exit:5")
	r.expect("deaf")
	r.expect("deaf")
	r.proceed()
	r.ends(5, 0)
}

func TestTheRunnerIsKilled(t *testing.T) {
	t.Parallel()
	r := runAgent(t, "daemon", "child:deaf", "deaf")
	for range 3 {
		r.expect("deaf")
	}
	must(r.cmd.Process.Kill())
	r.gone()
}

func TestTheSupervisorIsKilled(t *testing.T) {
	t.Parallel()
	r := runAgent(t, "ignore", "daemon", "await", "kill:supervisor:KILL", "wait")
	r.expect("deaf")
	r.proceed()
	r.ends(137, syscall.SIGKILL)
}

// The runner and the supervisor outlive what asks them to end.
func TestSignalsToTheSupervisor(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"TERM", "HUP", "INT", "QUIT", "USR1", "USR2", "TSTP"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runAgent(t, "kill:supervisor:"+name, "exit:6").ends(6, 0)
		})
	}
}

// A chain of processes, each gone before it can be looked at.
func TestChainOfForks(t *testing.T) {
	t.Parallel()
	r := runAgent(t, "child:chain", "await", "deaf")
	r.expect("chained")
	r.proceed()
	r.expect("deaf")
	r.stop(0)
	r.ends(137, syscall.SIGKILL)
}

// A bomb doubles until it may not, and refills what is killed.
func TestForkBomb(t *testing.T) {
	t.Parallel()
	needRoot(t, "start it as a user of its own, whose processes are limited")
	r := setup{user: 65533}.run(t, "ignore", "bomb:50")
	r.expect("ticking")
	r.wait("the bomb is there", func() bool { return len(r.living()) > 20 })
	r.stop(0)
	r.ends(137, syscall.SIGKILL)
}

// What has become root cannot be killed, but what it has started as nobody can.
// The receipt says so, and the runner does not wait for the one that is left,
// although it holds the output.
func TestWhatHasBecomeRoot(t *testing.T) {
	t.Parallel()
	needRoot(t, "make a program that becomes root")
	dir, err := os.MkdirTemp("", "supervise")
	must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(os.Chmod(dir, 0o755))
	program, err := os.ReadFile("/proc/self/exe")
	must(err)
	must(os.WriteFile(dir+"/program", program, 0o700))
	must(os.Chmod(dir+"/program", 0o755|os.ModeSetuid))
	r := setup{testOrder: testOrder{Args: []string{dir + "/program", "agent", "root", "below:deaf", "deaf"}, Copied: true}}.run(t)
	r.expect("deaf")
	r.expect("deaf")
	r.stop(0)
	if got, living := r.receipt(), r.living(); got.Left != 1 || len(living) != 1 || living[0] != r.pid {
		t.Errorf("the receipt says that %d are left, and %d live, want the command", got.Left, len(living))
	}
	<-r.ended
}
