package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childArguments are the arguments of the command that the test binary is to be.
const childArguments = "AGENTCHAINS_TEST_ARGUMENTS"

// TestChild is the command, in a process of its own, for the tests below.
func TestChild(t *testing.T) {
	args := os.Getenv(childArguments)
	if args == "" {
		t.Skip("this is not a child")
	}
	os.Exit(run(strings.Split(args, "\n"), os.Stdin, os.Stdout, os.Stderr))
}

// child is the command in a process of its own. It looks for tokenValue, and is
// run by sh after the script.
func child(t *testing.T, script string, args ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const patience = time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, "sh", "-c", script+`exec "$0" -test.run='^TestChild$' 3<<.
TOKEN=`+tokenValue+`
.
`, binary)
	cmd.Env = append(os.Environ(), childArguments+"="+strings.Join(append([]string{"redact", "--values-fd=3", "--formats=off"}, args...), "\n"))
	stderr = new(bytes.Buffer)
	cmd.Stderr = stderr
	return cmd, stderr
}

// start starts a child, and waits until it rewrites a file in the folder. It may
// have ended before that is seen: then temp is empty.
func start(t *testing.T, cmd *exec.Cmd, dir string) (temp string, ended chan struct{}) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its state says how it ended
	}()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for {
		found, err := filepath.Glob(filepath.Join(dir, ".agentchains-*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 1 {
			return found[0], ended
		}
		select {
		case <-poll.C:
		case <-ended:
			return "", ended
		}
	}
}

// large is a file that takes long enough to be interrupted.
func large() string {
	return strings.Repeat(strings.Repeat("some text of a log, and ", 40)+tokenValue+"\n", 5_000)
}

// mostTries is how often a child may end before it is stopped.
const mostTries = 20

// A signal ends the command when the file is as it was, and no other is left.
func TestRedactInterrupted(t *testing.T) {
	t.Parallel()
	before := large()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		code := 0
		for try := 0; code == 0 && try < mostTries; try++ {
			dir := put(t, map[string]string{"a": before})
			cmd, _ := child(t, "", "--in-place", dir)
			_, ended := start(t, cmd, dir)
			_ = cmd.Process.Signal(sig) // unless it has ended
			<-ended
			left := contents(t, dir)
			if len(left) != 1 {
				t.Errorf("%v: %d files are left, want 1", sig, len(left))
			}
			if code = cmd.ProcessState.ExitCode(); code != 0 && left["a"] != before {
				t.Errorf("%v: the file was changed", sig)
			}
		}
		if code != 128+int(sig) {
			t.Errorf("%v: exit code %d, want %d", sig, code, 128+int(sig))
		}
	}
}

// Killed at any moment, the command leaves the file as it was or as it is to be.
// What it was writing holds no value, and until it is whole others cannot read it.
func TestRedactKilled(t *testing.T) {
	t.Parallel()
	before := large()
	after := strings.ReplaceAll(before, tokenValue, "[REDACTED:TOKEN]")
	const parts = 4
	for part := range parts {
		killed := false
		for try := 0; !killed && try < mostTries; try++ {
			dir := put(t, map[string]string{"a": before})
			cmd, _ := child(t, "", "--in-place", dir)
			temp, ended := start(t, cmd, dir)
			for grown := false; !grown; {
				select {
				case <-ended:
					grown = true
				default:
					info, err := os.Stat(temp)
					grown = err == nil && info.Size() >= int64(part*len(after)/parts)
				}
			}
			_ = cmd.Process.Kill() // unless it has ended
			<-ended
			killed = !cmd.ProcessState.Exited()
			left := contents(t, dir)
			if left["a"] != before && left["a"] != after {
				t.Errorf("killed after %d of %d: the file is neither as it was nor redacted", part, parts)
			}
			delete(left, "a")
			for name, text := range left {
				mode := stat(t, filepath.Join(dir, name)).Mode & 0o777
				if text != after && (strings.Contains(text, tokenValue) || mode != 0o600) {
					t.Errorf("killed after %d of %d: %s with mode %o holds a value, or can be read by others", part, parts, name, mode)
				}
			}
		}
		if !killed {
			t.Errorf("it was never killed after %d of %d", part, parts)
		}
	}
}

// immutable makes a file or a folder such that it cannot be changed.
func immutable(t *testing.T, path string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	set := func(flags int) error {
		return unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, flags)
	}
	flags, err := unix.IoctlGetInt(int(file.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		err = set(flags | unix.STATX_ATTR_IMMUTABLE)
	}
	if err != nil {
		file.Close()
		t.Skipf("SKIPPED: a file cannot be made immutable here: %v", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(set(flags), file.Close()); err != nil {
			t.Error(err)
		}
	})
}

// Whatever fails, the file stays as it was, and no other is left.
func TestRedactFails(t *testing.T) {
	t.Parallel()
	files := map[string]string{"a": strings.Repeat(tokenValue+"\n", 10_000)}
	for _, test := range []struct {
		name, script, immutable, want string
	}{
		{"the copy cannot be made", "", ".", "operation not permitted"},
		{"the disk is full", "ulimit -f 8; ", "", "file too large"},
		{"the file cannot be replaced", "", "a", "operation not permitted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := put(t, files)
			if test.immutable != "" {
				immutable(t, filepath.Join(dir, test.immutable))
			}
			path := filepath.Join(dir, "a")
			cmd, stderr := child(t, test.script, "--in-place", path)
			_ = cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			same(t, "standard error", stderr.String(), "agentchains: found nothing in 0 files (0 bytes)\nagentchains: "+path+": "+test.want+"\n")
			sameFiles(t, dir, files)
		})
	}
}

// A filter that nobody reads from any more ends as others do.
func TestRedactIntoNothing(t *testing.T) {
	t.Parallel()
	cmd, stderr := child(t, "")
	cmd.Stdin = io.LimitReader(zeros{}, 1<<30)
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(output, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	output.Close()
	_ = cmd.Wait()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGPIPE || stderr.Len() > 0 {
		t.Errorf("it ends with %v and says %q, want a broken pipe and nothing", cmd.ProcessState, stderr)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
