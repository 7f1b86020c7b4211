package supervise

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	supervisorArgument = "__supervise"

	linkFD     = 3
	terminalFD = 4
)

func isSupervisor() bool { return len(os.Args) == 2 && os.Args[1] == supervisorArgument }

// init runs on the first thread. The supervisor stays there: the command ends
// with the thread that starts it, and is to be a child of the thread that gets
// the orphans.
func init() {
	if isSupervisor() {
		runtime.LockOSThread()
	}
}

// Main must be the first call in main. It returns at once, unless this process
// was started as a supervisor: then it supervises, and does not return.
func Main() {
	if !isSupervisor() {
		return
	}
	if err := supervise(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", supervisorArgument, err)
		os.Exit(1)
	}
	os.Exit(0)
}

type supervisor struct {
	*family
	runner int
	link   *link
	orders <-chan order // nil when the runner is gone
	user   *os.File     // the user's terminal, nil without one
	mode   terminalMode
	look   chan os.Signal // whatever the signal: something may have ended

	grace   deadline
	killing bool
	giveUp  <-chan time.Time
}

func supervise() error {
	err := Harden()
	// It shares the mode with the other end, which the start has changed.
	if err := unix.SetNonblock(linkFD, true); err != nil {
		return errors.New("this is for the runner to start")
	}
	s := &supervisor{runner: unix.Getppid(), link: newLink(os.NewFile(linkFD, "runner"))}
	var b beginning
	if err := s.link.dec.Decode(&b); err != nil {
		return fmt.Errorf("read the order to begin: %w", err)
	}
	if err == nil {
		err = s.start(&b)
	}
	var exec *ExecError
	switch {
	case errors.As(err, &exec):
		return s.link.send(report{Errno: exec.Err})
	case err != nil:
		return s.link.send(report{Failure: err.Error()})
	}
	if err := s.link.send(report{Pid: s.command}); err != nil {
		// The runner is gone, which watch sees too.
		s.startKilling()
	}
	s.watch()
	return nil
}

func (s *supervisor) start(b *beginning) (err error) {
	if s.family, err = newFamily(); err != nil {
		return err
	}
	sys := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if b.Terminal {
		s.user = os.NewFile(terminalFD, "terminal")
		if s.mode, err = readMode(s.user); err != nil {
			return err
		}
		sys.Setpgid, sys.Setsid, sys.Setctty = false, true, true
	}
	// Before there is a command, which may send signals.
	s.look = make(chan os.Signal, 1)
	signal.Notify(s.look, syscall.SIGCHLD)
	notify(s.look)
	if b.Dir != "" {
		if err := os.Chdir(b.Dir); err != nil {
			return err
		}
	}
	path, errno := lookPath(b.Args[0], b.Env)
	if errno == 0 {
		s.command, err = syscall.ForkExec(path, b.Args, &syscall.ProcAttr{Env: b.Env, Files: []uintptr{0, 1, 2}, Sys: sys})
		if err != nil && !errors.As(err, &errno) {
			return err
		}
	}
	if errno != 0 {
		return &ExecError{b.Args[0], errno}
	}
	return s.letGo()
}

// letGo keeps the supervisor from holding what is the command's: its streams
// are to end with it, its directory is not to be in use.
func (s *supervisor) letGo() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for fd := range 3 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return err
		}
	}
	return os.Chdir("/")
}

// watch returns when the command, and everything it started, has ended.
func (s *supervisor) watch() {
	s.orders = receive[order](s.link)
	ticker := time.NewTicker(beat)
	var runner pulse
	left := 0
	for s.reap() {
		var again <-chan time.Time
		if s.commandIsOver() {
			s.startKilling()
		}
		if s.killing {
			left = s.kill()
			again = time.After(lookAgain)
		}
		select {
		case <-s.look:
			if unix.Getppid() != s.runner {
				s.startKilling()
			}
		case <-again:
		case <-s.grace.timer:
			s.startKilling()
		case o, ok := <-s.orders:
			runner.heard()
			s.obey(o)
			if !ok {
				s.orders = nil
				s.startKilling()
			}
		case <-ticker.C:
			wake, dead := runner.tick(mayBeStopped(s.runner))
			if wake {
				s.wakeRunner()
			}
			if err := s.link.send(report{}); err != nil || dead {
				s.startKilling()
			}
		case <-s.giveUp:
			s.finish(left)
			return
		}
	}
	s.finish(0)
}

// commandIsOver is true when the command has ended, and its group too if it was
// told to: a shell is gone at once, what it runs may be cleaning up.
func (s *supervisor) commandIsOver() bool {
	return s.receipt != nil && (s.grace.timer == nil || unix.Kill(-s.command, 0) != nil)
}

func (s *supervisor) obey(o order) {
	alive := s.receipt == nil
	switch {
	case o.Stop:
		if s.grace.set(o.Grace) && alive {
			passOn(s.command, syscall.SIGTERM)
		}
	case o.Signal != 0 && alive:
		passOn(s.command, o.Signal)
	}
}

func (s *supervisor) startKilling() {
	if !s.killing {
		s.killing = true
		s.giveUp = time.After(giveUp)
	}
}

// wakeRunner continues the runner. While it is the parent, nobody else has its
// number.
func (s *supervisor) wakeRunner() {
	if unix.Getppid() == s.runner {
		_ = unix.Kill(s.runner, syscall.SIGCONT)
	}
}

// finish reports to the runner, which ends the supervisor when it has the
// report. If it ends itself, its terminal is left to the supervisor.
func (s *supervisor) finish(left int) {
	// It may have been stopped a moment ago.
	s.wakeRunner()
	if s.receipt == nil {
		s.receipt = unknownEnd(s.command)
	}
	s.receipt.Left = left
	// A failure shows below: without a runner there is nobody to tell.
	_ = s.link.send(report{Ended: s.receipt})
	for ok := s.orders != nil; ok && unix.Getppid() == s.runner; {
		select {
		case _, ok = <-s.orders:
		case <-s.look:
		}
	}
	if s.user != nil {
		s.mode.restore(s.user)
	}
}
