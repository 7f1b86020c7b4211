//go:build darwin || freebsd || netbsd || openbsd

package supervise

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Main does nothing: there is no supervisor on this system.
func Main() {}

// Harden forbids core dumps, of this process and of those that it starts. This
// system has no way to keep processes of the same user out of this one.
func Harden() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }

// A watcher is what the runner has of a command.
type watcher struct{ process *os.Process }

func (w *watcher) pid() int { return w.process.Pid }

func begin(c *Command, s *streams) (*watcher, error) {
	sys := &syscall.SysProcAttr{Setpgid: true}
	if c.Terminal != nil {
		sys = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	}
	path, errno := lookPath(c.Args[0], c.Env)
	if errno != 0 {
		return nil, &ExecError{c.Args[0], errno}
	}
	env := append([]string{}, c.Env...) // not nil, which would be the runner's
	process, err := os.StartProcess(path, c.Args, &os.ProcAttr{Dir: c.Dir, Env: env, Files: s.files[:], Sys: sys})
	if errors.As(err, &errno) {
		return nil, &ExecError{c.Args[0], errno}
	}
	return &watcher{process}, err
}

// watch returns when the command has ended, and its process group was killed.
func (w *watcher) watch(stop <-chan time.Duration, signals <-chan os.Signal, s *streams) Receipt {
	pid := w.process.Pid
	ended := make(chan Receipt)
	go func() {
		state, err := w.process.Wait()
		if err != nil {
			ended <- *unknownEnd(pid)
			return
		}
		ended <- *newReceipt(pid, state.Sys().(syscall.WaitStatus))
	}()
	var grace deadline
	for {
		select {
		case r := <-ended:
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			return r
		case <-grace.timer:
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		case d := <-stop:
			if grace.set(d) {
				passOn(pid, syscall.SIGTERM)
			}
		case sig := <-signals:
			if sig == syscall.SIGWINCH && s.terminal != nil {
				s.terminal.resize()
				continue
			}
			passOn(pid, sig.(syscall.Signal))
		}
	}
}
