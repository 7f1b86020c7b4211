package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The environment of the command is in no other process, and in no arguments.
func TestSecretsAreTheCommandsOnly(t *testing.T) {
	needRoot(t, "see the environment of all")
	t.Parallel()
	r := runAgent(t, "say:ready", "wait")
	r.expect("ready")
	if got := r.living(); len(got) != 1 || got[0] != r.pid {
		t.Errorf("the secret is in the environment of processes %d, want only %d", got, r.pid)
	}
	if got := holders(r.secret, "cmdline"); got != nil {
		t.Errorf("the secret is in the arguments of processes %d", got)
	}
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", r.supervisor))
	if err != nil || len(environ) != 0 {
		t.Errorf("the supervisor has an environment of %d bytes (%v)", len(environ), err)
	}
	if cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", r.supervisor)); !strings.HasSuffix(string(cmdline), "\x00"+supervisorArgument+"\x00") {
		t.Errorf("arguments of the supervisor: %q", cmdline)
	}
}

// An agent of the same user can look into itself, but not into those above it.
func TestTheAgentCannotLook(t *testing.T) {
	t.Parallel()
	r := runAgent(t,
		"read:self:environ", "read:self:mem",
		"read:both:environ", "read:both:mem", "read:both:maps", "read:both:auxv", "trace:both")
	r.expect("<nil>")
	if got := r.line(); !strings.Contains(got, "input/output error") { // at address 0, but opened
		t.Errorf("the agent reads its own memory with %q", got)
	}
	for _, file := range []string{"environ", "mem", "maps", "auxv", "by tracing"} {
		for _, who := range []string{"runner", "supervisor"} {
			if got := r.line(); !strings.Contains(got, "permission denied") && got != "operation not permitted" {
				t.Errorf("the agent reads %s of the %s with %q", file, who, got)
			}
		}
	}
	r.ends(0, 0)
}

// Nothing is dumped to a file, above all not the command with its environment.
func TestNobodyDumpsCore(t *testing.T) {
	t.Parallel()
	r := runAgent(t, "say:ready", "wait")
	r.expect("ready")
	for who, pid := range map[string]int{"runner": r.cmd.Process.Pid, "supervisor": r.supervisor, "command": r.pid} {
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		must(err)
		_, rest, _ := strings.Cut(string(limits), "Max core file size")
		if fields := strings.Fields(rest); len(fields) < 2 || fields[0] != "0" || fields[1] != "0" {
			t.Errorf("%s: core file size %q", who, fields[:2])
		}
	}
}

// The runner was started with descriptors of others: see setup.start.
func TestNoDescriptorIsInherited(t *testing.T) {
	t.Parallel()
	r := setup{testOrder: testOrder{Args: []string{"/bin/cat"}}}.run(t)
	r.proceed()
	r.expect("")
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.pid))
	must(err)
	if len(files) != 3 {
		t.Errorf("the command has %d open files, want 3", len(files))
	}
}

// Of the command's output the runner has only its own end, or it would never see
// the end of it.
func TestTheRunnerHoldsNoOutput(t *testing.T) {
	needRoot(t, "see what the runner has open")
	t.Parallel()
	s := setup{}
	s.Copied = true
	r := s.run(t, "say:ready", "wait")
	r.expect("ready")
	output, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/1", r.pid))
	must(err)
	ends, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", r.cmd.Process.Pid))
	must(err)
	count := 0
	for _, end := range ends {
		if target, _ := os.Readlink(end); target == output {
			count++
		}
	}
	if count != 1 {
		t.Errorf("the runner has %d ends of the output of the command, want 1", count)
	}
}

// The supervisor holds none of the command's streams, so that who reads its
// output sees the end, nor its directory. It is out of reach of the keyboard.
func TestTheSupervisorKeepsApart(t *testing.T) {
	needRoot(t, "see what the supervisor has open")
	t.Parallel()
	s := setup{}
	s.Dir = "/proc"
	r := s.run(t, "say:ready", "wait")
	r.expect("ready")
	for fd := range 3 {
		name := fmt.Sprintf("/proc/%d/fd/%d", r.supervisor, fd)
		if target, err := os.Readlink(name); err != nil || target != os.DevNull {
			t.Errorf("descriptor %d of the supervisor is %s (%v)", fd, target, err)
		}
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", r.supervisor)); err != nil || cwd != "/" {
		t.Errorf("the supervisor is in %s (%v)", cwd, err)
	}
	if session, err := unix.Getsid(r.supervisor); err != nil || session != r.supervisor {
		t.Errorf("the supervisor is in session %d (%v), not its own %d", session, err, r.supervisor)
	}
}
