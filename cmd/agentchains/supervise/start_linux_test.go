package supervise

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		step   string
		code   int
		signal syscall.Signal
	}{
		{"exit:0", 0, 0},
		{"exit:1", 1, 0},
		{"exit:255", 255, 0},
		{"kill:self:KILL", 137, syscall.SIGKILL},
		{"kill:self:HUP", 129, syscall.SIGHUP},
	} {
		t.Run(tt.step, func(t *testing.T) {
			t.Parallel()
			runAgent(t, tt.step, "wait").ends(tt.code, tt.signal)
		})
	}
}

func TestNotStarted(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "supervise")
	must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(os.Chmod(dir, 0o755))
	must(os.WriteFile(filepath.Join(dir, "plain"), []byte("#!/bin/sh\n"), 0o644))
	must(os.WriteFile(filepath.Join(dir, "garbage"), []byte("garbage"), 0o600))
	must(os.Chmod(filepath.Join(dir, "garbage"), 0o755))
	path := []string{"PATH=/nonexistent:" + dir + ":/bin"}
	for name, tt := range map[string]struct {
		testOrder
		exit int
		err  string
	}{
		"no such name":       {testOrder{Args: []string{"nonsense"}, Env: path}, 127, "nonsense: no such file or directory"},
		"no such file":       {testOrder{Args: []string{dir + "/nonsense"}, Env: path}, 127, dir + "/nonsense: no such file or directory"},
		"without PATH":       {testOrder{Args: []string{"sh"}}, 127, "sh: no such file or directory"},
		"an empty name":      {testOrder{Args: []string{""}, Env: path}, 127, ": no such file or directory"},
		"not executable":     {testOrder{Args: []string{"plain"}, Env: path}, 126, "plain: permission denied"},
		"not a program":      {testOrder{Args: []string{"garbage"}, Env: path}, 126, "garbage: exec format error"},
		"a directory":        {testOrder{Args: []string{dir}}, 126, dir + ": permission denied"},
		"no such directory":  {testOrder{Args: []string{"sh"}, Env: path, Dir: "/nonexistent"}, 0, "chdir /nonexistent: no such file or directory"},
		"a zero in the text": {testOrder{Args: []string{"sh", "a\x00b"}, Env: path}, 126, "sh: invalid argument"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup{testOrder: tt.testOrder}.start(t)
			got := r.next()
			if got.Error != tt.err || got.Exit != tt.exit {
				t.Errorf("error %q, exit code %d, want %q, %d", got.Error, got.Exit, tt.err, tt.exit)
			}
			<-r.ended
		})
	}
}

// The command gets the environment and the directory that it is to get.
func TestSurroundings(t *testing.T) {
	t.Parallel()
	odd := "B=\xff two\nlines"
	r := setup{testOrder: testOrder{Args: []string{"cat", "self/environ"}, Env: []string{"A=", odd, "PATH=/nonexistent:/bin"}, Dir: "/proc"}}.run(t)
	var got bytes.Buffer
	_, err := got.ReadFrom(r.output)
	must(err)
	want := "A=\x00" + odd + "\x00PATH=/nonexistent:/bin\x00SECRET=" + r.secret + "\x00"
	if got.String() != want {
		t.Errorf("the environment is %d bytes long, want %d, or differs", got.Len(), len(want))
	}
	r.ends(0, 0)
}

func TestNoCommand(t *testing.T) {
	t.Parallel()
	if _, err := Start(Command{}); err == nil || err.Error() != "there is no command" {
		t.Errorf("error %v", err)
	}
}

func TestOneAtATime(t *testing.T) {
	t.Parallel()
	r := runAgent(t, "overlap")
	r.expect("a command is running already")
	r.expect("<nil>")
	r.ends(0, 0)
}

// Bytes go in and out as they are, through files and through pipes.
func TestStreams(t *testing.T) {
	t.Parallel()
	for _, copied := range []bool{false, true} {
		t.Run(fmt.Sprintf("copied=%t", copied), func(t *testing.T) {
			t.Parallel()
			s := setup{testOrder: testOrder{Args: []string{"/bin/cat"}}}
			s.Copied = copied
			r := s.run(t)
			sent := make([]byte, 1<<20)
			random := rand.NewChaCha8([32]byte{1})
			_, _ = random.Read(sent)
			go func() {
				_, err := r.stdin.Write(sent)
				must(err)
				r.stdin.Close()
			}()
			var got bytes.Buffer
			_, err := got.ReadFrom(r.output)
			must(err)
			if !bytes.Equal(got.Bytes(), sent) {
				t.Errorf("%d bytes come out, not the %d that went in", got.Len(), len(sent))
			}
			r.ends(0, 0)
		})
	}
}

// A prompt comes before its answer, although no line ends there.
func TestAPromptComesAtOnce(t *testing.T) {
	t.Parallel()
	s := setup{testOrder: testOrder{Args: []string{"/bin/sh", "-c", `printf 'name? '; read name; echo "hello $name"`}}}
	s.Copied = true
	r := s.run(t)
	prompt := make([]byte, 6)
	for i := range prompt {
		var err error
		prompt[i], err = r.output.ReadByte()
		must(err)
	}
	if string(prompt) != "name? " {
		t.Errorf("prompt %q", prompt)
	}
	_, err := r.stdin.WriteString("you\n")
	must(err)
	r.expect("hello you")
	r.ends(0, 0)
}

func TestStandardErrorIsApart(t *testing.T) {
	t.Parallel()
	for _, copied := range []bool{false, true} {
		stderr, theirs, err := os.Pipe()
		must(err)
		s := setup{testOrder: testOrder{Args: []string{"/bin/sh", "-c", "echo out; echo err >&2"}}}
		s.Copied, s.stderr = copied, theirs
		r := s.run(t)
		theirs.Close()
		r.expect("out")
		var got bytes.Buffer
		_, err = got.ReadFrom(stderr)
		must(err)
		if got.String() != "err\n" {
			t.Errorf("standard error is %q", got.String())
		}
		r.ends(0, 0)
		stderr.Close()
	}
}

// Both streams in one keep the order in which they are written.
func TestStandardErrorIsJoined(t *testing.T) {
	t.Parallel()
	script := "for i in 1 2 3 4 5 6 7 8 9; do for j in 1 2 3 4 5 6 7 8 9; do echo $i.$j; echo and $i.$j >&2; done; done"
	r := setup{testOrder: testOrder{Args: []string{"/bin/sh", "-c", script}, Copied: true, Joined: true}}.run(t)
	for i := 1; i <= 9; i++ {
		for j := 1; j <= 9; j++ {
			r.expect(fmt.Sprintf("%d.%d", i, j))
			r.expect(fmt.Sprintf("and %d.%d", i, j))
		}
	}
	r.ends(0, 0)
}

// Output that nobody takes ends the command as it would without the runner.
func TestBrokenPipe(t *testing.T) {
	t.Parallel()
	s := setup{testOrder: testOrder{Args: []string{"/bin/sh", "-c", "trap '' PIPE; while echo more 2>/dev/null; do :; done; exit 4"}}}
	s.Copied = true
	r := s.run(t)
	r.expect("more")
	r.stdout.Close()
	r.ends(4, 0)
}

// A reader that comes late gets all, though the command has ended long since.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	r := setup{testOrder: testOrder{Args: []string{"/bin/sh", "-c", "head -c 100000 /dev/zero"}, Env: []string{"PATH=/bin:/usr/bin"}, Copied: true}}.run(t)
	r.wait("the command and the supervisor have ended", func() bool { return !alive(r.pid) && !alive(r.supervisor) })
	var got bytes.Buffer
	_, err := got.ReadFrom(r.output)
	must(err)
	if got.Len() != 100000 {
		t.Errorf("%d bytes of 100000", got.Len())
	}
	r.ends(0, 0)
}

// With the /proc of another PID namespace, the numbers in it are those of other
// processes.
func TestForeignProc(t *testing.T) {
	t.Parallel()
	needRoot(t, "make a PID namespace")
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("unshare is not installed")
	}
	r := setup{wrapper: []string{unshare, "--pid", "--fork", "--kill-child", self, "runner"}, asRoot: true}.start(t, "exit:0")
	if got := r.next().Error; got != "/proc is not mounted, or is that of another PID namespace" {
		t.Errorf("error %q", got)
	}
	<-r.ended
}

func TestSignalsArePassedOn(t *testing.T) {
	t.Parallel()
	r := runAgent(t, "child:on", "on")
	for range 2 {
		r.expect("ready")
	}
	for _, s := range passed {
		if s == syscall.SIGTERM {
			continue
		}
		must(r.cmd.Process.Signal(s))
		want := unix.SignalName(s.(syscall.Signal))
		for got := 0; got < 2; {
			// What asks for an end is followed by CONT.
			if line := r.line(); line == want {
				got++
			} else if line != "SIGCONT" {
				t.Fatalf("the agent got %s, want %s", line, want)
			}
		}
	}
	must(r.cmd.Process.Signal(syscall.SIGTERM))
	r.ends(3, 0)
}

// TSTP makes the command sleep, not the runner; CONT makes it go on.
func TestSuspend(t *testing.T) {
	t.Parallel()
	r := runAgent(t, "say:ready", "wait")
	r.expect("ready")
	must(r.cmd.Process.Signal(syscall.SIGTSTP))
	r.wait("the command sleeps", func() bool { return state(r.pid) == 'T' })
	if s := state(r.cmd.Process.Pid); s == 'T' {
		t.Error("the runner sleeps")
	}
	must(r.cmd.Process.Signal(syscall.SIGCONT))
	r.wait("the command goes on", func() bool { return state(r.pid) != 'T' })
	must(r.cmd.Process.Signal(syscall.SIGTSTP))
	r.wait("the command sleeps again", func() bool { return state(r.pid) == 'T' })
	must(r.cmd.Process.Signal(syscall.SIGINT))
	r.ends(130, syscall.SIGINT)
}

func TestNohup(t *testing.T) {
	t.Parallel()
	sh, err := exec.LookPath("sh")
	must(err)
	s := setup{wrapper: []string{sh, "-c", "trap '' HUP; exec " + self + " runner"}}
	r := s.run(t, "say:ready", "wait")
	r.expect("ready")
	for who, pid := range map[string]int{"runner": r.cmd.Process.Pid, "supervisor": r.supervisor, "command": r.pid} {
		must(unix.Kill(pid, unix.SIGHUP))
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		must(err)
		_, mask, _ := strings.Cut(string(status), "SigIgn:\t")
		var ignored uint64
		if _, err := fmt.Sscanf(mask, "%x", &ignored); err != nil || ignored&(1<<(unix.SIGHUP-1)) == 0 {
			t.Errorf("%s does not ignore HUP (%v)", who, err)
		}
	}
	r.stop(0)
	r.receipt()
}
