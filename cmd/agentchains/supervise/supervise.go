//go:build linux || darwin || freebsd || netbsd || openbsd

// Package supervise starts a command and makes sure that the command, and
// everything that it started, ends.
//
// The process that calls Start is the runner. On Linux it starts the command
// through a supervisor, which is the same program started again; both inherit
// orphans, and each watches the other. On other systems there is only the
// process group of the command, and what leaves it is not ended.
package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// A Command is what Start starts.
type Command struct {
	Args []string // the program, searched for in the PATH of Env unless it has a slash, and its arguments
	Env  []string // all of the environment, as NAME=value
	Dir  string   // the working directory; empty: the runner's

	// An *os.File is handed to the command as it is. Anything else is copied
	// through a pipe, each write as soon as there is something to write. A nil
	// Stdin is empty, a nil Stdout or Stderr discards. Stdout and Stderr are
	// written to from goroutines of their own, or from one when they are equal:
	// they then share a pipe, and the command's order of writes is kept.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// Terminal, if not nil, is the terminal of the user. The command then runs
	// on a terminal of its own, a PTY, which takes what is typed on Terminal
	// and is copied to Stdout. Stdin is not used. The PTY is standard error too,
	// unless Stderr is something else than nil and a terminal.
	Terminal *os.File
}

// A Receipt says how a command ended.
type Receipt struct {
	Pid      int
	ExitCode int            // its own, or 128 and the number of the signal
	Signal   syscall.Signal // that ended it, or 0
	Time     time.Time
	Left     int // processes that could not be ended, because they have become another user's
}

// An ExecError is why a command could not be started.
type ExecError struct {
	Name string
	Err  syscall.Errno
}

func (e *ExecError) Error() string { return fmt.Sprintf("%s: %s", e.Name, e.Err.Error()) }

func (e *ExecError) Unwrap() error { return e.Err }

// ExitCode is what a shell ends with: 127 for what was not found, else 126.
func (e *ExecError) ExitCode() int {
	if e.Err == syscall.ENOENT {
		return 127
	}
	return 126
}

// A Process is a command that was started.
type Process struct {
	pid     int
	stop    chan time.Duration
	ended   chan struct{} // closed when there is nothing to stop any more
	done    chan struct{} // closed when all has been passed on
	receipt Receipt       // once ended is closed
}

// passed are the signals that go on to the command. The runner itself does not
// stop on TSTP: asleep, it could not end anything.
var passed = []os.Signal{
	syscall.SIGCONT, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM,
	syscall.SIGTSTP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH,
}

// running is true while there is a Process: what it leaves to the runner cannot
// be told from what another one leaves.
var running atomic.Bool

// Start starts the command. Until it has ended, the runner must start no other
// process: it would be ended too.
func Start(c Command) (*Process, error) {
	if len(c.Args) == 0 {
		return nil, errors.New("there is no command")
	}
	if !running.CompareAndSwap(false, true) {
		return nil, errors.New("a command is running already")
	}
	p := &Process{stop: make(chan time.Duration), ended: make(chan struct{}), done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel tells a process of the end of the thread that forked it.
		// This one ends with this goroutine.
		runtime.LockOSThread()
		err := p.run(&c, started)
		running.Store(false)
		if err != nil {
			started <- err
			return
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run sends nil when the command has started, and returns when it has ended.
func (p *Process) run(c *Command, started chan<- error) error {
	signals := make(chan os.Signal, 16)
	notify(signals)
	defer signal.Stop(signals)
	// A reader of the runner's output that goes away must not end the runner.
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	defer signal.Stop(pipes)
	s, err := c.open()
	if err != nil {
		return err
	}
	w, err := begin(c, s)
	if err != nil {
		s.abandon()
		return err
	}
	p.pid = w.pid()
	s.begin()
	started <- nil
	p.receipt = w.watch(p.stop, signals, s)
	close(p.ended)
	s.finish()
	return nil
}

// notify leaves alone what was ignored when this process started, as by nohup:
// the command is to inherit that.
func notify(c chan<- os.Signal) {
	for _, s := range passed {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
}

// Pid is that of the command, and of its process group.
func (p *Process) Pid() int { return p.pid }

// Stop sends SIGTERM to the process group of the command, and after grace
// SIGKILL to everything that the command ever started and that still lives. It
// does not wait. Of several calls, the earliest end counts.
func (p *Process) Stop(grace time.Duration) {
	select {
	case p.stop <- grace:
	case <-p.ended:
	}
}

// Wait waits until the command and everything that it started have ended, and
// what they wrote has been passed on.
func (p *Process) Wait() Receipt {
	<-p.done
	return p.receipt
}

// newReceipt is the receipt for the command, which has ended just now.
func newReceipt(pid int, status syscall.WaitStatus) *Receipt {
	r := &Receipt{Pid: pid, ExitCode: status.ExitStatus(), Time: time.Now()}
	if status.Signaled() {
		r.Signal = status.Signal()
		r.ExitCode = 128 + int(r.Signal)
	}
	return r
}

// unknownEnd is the receipt for a command whose end nobody saw. Nothing but
// SIGKILL ends it so.
func unknownEnd(pid int) *Receipt {
	return newReceipt(pid, syscall.WaitStatus(syscall.SIGKILL))
}

// A deadline is when the command is to have ended.
type deadline struct {
	at    time.Time
	timer <-chan time.Time
}

// set reports whether there was none before.
func (d *deadline) set(grace time.Duration) (first bool) {
	at := time.Now().Add(grace)
	first = d.timer == nil
	if first || at.Before(d.at) {
		d.at, d.timer = at, time.After(grace)
	}
	return first
}

// passOn sends a signal to the process group of the command.
func passOn(pid int, s syscall.Signal) {
	_ = syscall.Kill(-pid, s)
	switch s {
	case syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM:
		// What is stopped sees these only when it goes on.
		_ = syscall.Kill(-pid, syscall.SIGCONT)
	}
}
