package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lookAgain is how long to wait before looking for new descendants.
	lookAgain = 10 * time.Millisecond
	// giveUp is how long to try to kill what does not die.
	giveUp = 5 * time.Second
)

// A family is every process that descends from this one. Orphans stay in it:
// this process is their subreaper.
type family struct {
	self     int
	children *os.File // of this process; stays open, since a child may forbid it to open files
	command  int      // 0 before it is started
	receipt  *Receipt // of the command, nil while it lives
}

func newFamily() (*family, error) {
	f := &family{self: unix.Getpid()}
	// With the /proc of another PID namespace, these would be the numbers of
	// other processes.
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(f.self) {
		return nil, errors.New("/proc is not mounted, or is that of another PID namespace")
	}
	// Orphans become children of the first thread.
	var err error
	if f.children, err = os.Open(fmt.Sprintf("/proc/self/task/%d/children", f.self)); err != nil {
		return nil, fmt.Errorf("list child processes: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("inherit orphans: %w", err)
	}
	return f, nil
}

// reap takes those that have ended, and reports whether any are left: without
// children this process has no descendants either.
func (f *family) reap() (left bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG|syscall.WALL, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return false
		case pid == 0:
			return true
		case pid == f.command:
			f.receipt = newReceipt(pid, status)
		}
	}
}

// kill sends SIGKILL to every descendant that it sees, and returns how many
// that are. Those it does not see become children when their parents are dead,
// so in the end reap and kill find all.
func (f *family) kill() (seen int) {
	var list bytes.Buffer
	for part := make([]byte, 4096); ; {
		n, err := f.children.ReadAt(part, int64(list.Len()))
		list.Write(part[:n])
		if err != nil {
			break
		}
	}
	for _, pid := range parsePids(list.String()) {
		// A child keeps its number until reap takes it: this hits no other.
		_ = unix.Kill(pid, unix.SIGKILL)
		seen += 1 + f.killBelow(pid)
	}
	return seen
}

// killBelow gets at what is below a process that is slow to die, or that cannot
// be killed. It leaves out what it cannot open and what has just been orphaned.
func (f *family) killBelow(parent int) (seen int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, list := range lists {
		pids, _ := os.ReadFile(list)
		for _, pid := range parsePids(string(pids)) {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				continue
			}
			// The number may have been given to another process since the list
			// was read, but not since the descriptor was opened.
			if now := parentOf(pid); now == parent || now == f.self {
				_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
				seen += 1 + f.killBelow(pid)
			}
			unix.Close(fd)
		}
	}
	return seen
}

// end kills until nothing is left, and returns what it could not kill.
func (f *family) end() (left int) {
	for late := time.After(giveUp); f.reap(); {
		left = f.kill()
		select {
		case <-time.After(lookAgain):
		case <-late:
			return left
		}
	}
	return 0
}

func parsePids(list string) (pids []int) {
	for _, field := range strings.Fields(list) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentOf returns 0 when there is no such process, or it has ended.
func parentOf(pid int) int {
	fields := statOf(pid)
	if len(fields) < 2 || fields[0] == "Z" {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// mayBeStopped reports whether a process is stopped, or cannot be looked at. One that
// only waits for a processor is not.
func mayBeStopped(pid int) bool {
	fields := statOf(pid)
	return len(fields) == 0 || strings.EqualFold(fields[0], "T")
}

// statOf returns the state of a process, its parent and more; nothing when it cannot
// be read.
func statOf(pid int) []string {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// pid (name) state parent …, and a name may have spaces and brackets.
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
}
