package supervise

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A watcher is what the runner has of a command: the supervisor that started it.
type watcher struct {
	family     *family // what the supervisor leaves behind
	supervisor *os.Process
	link       *link
}

func (w *watcher) pid() int { return w.family.command }

func begin(c *Command, s *streams) (*watcher, error) {
	f, err := newFamily()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		f.children.Close()
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	w := &watcher{family: f, link: newLink(os.NewFile(uintptr(pair[0]), "supervisor"))}
	theirs := os.NewFile(uintptr(pair[1]), "runner")
	files := append(s.files[:], theirs)
	if c.Terminal != nil {
		files = append(files, c.Terminal)
	}
	w.supervisor, err = os.StartProcess("/proc/self/exe", []string{os.Args[0], supervisorArgument}, &os.ProcAttr{
		Files: files,
		Env:   []string{}, // not nil, which would be the runner's
		// With a session of its own, it gets no signal from the keyboard.
		Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM},
	})
	theirs.Close()
	if err != nil {
		w.close()
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	if err := w.begin(c); err != nil {
		w.endSupervisor()
		w.close()
		return nil, err
	}
	return w, nil
}

// begin lets the supervisor start the command.
func (w *watcher) begin(c *Command) error {
	err := w.link.send(beginning{c.Args, c.Env, c.Dir, c.Terminal != nil})
	if err != nil {
		return fmt.Errorf("reach the supervisor: %w", err)
	}
	var r report
	if err := w.link.dec.Decode(&r); err != nil {
		return fmt.Errorf("hear from the supervisor: %w", err)
	}
	switch {
	case r.Failure != "":
		return errors.New(r.Failure)
	case r.Errno != 0:
		return &ExecError{c.Args[0], r.Errno}
	}
	w.family.command = r.Pid
	return nil
}

// watch returns when the command, and everything it started, has ended.
func (w *watcher) watch(stop <-chan time.Duration, signals <-chan os.Signal, s *streams) Receipt {
	defer w.close()
	reports := receive[report](w.link)
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	var supervisor pulse
	for send := error(nil); send == nil; {
		select {
		case r, ok := <-reports:
			if !ok {
				return w.takeOver(reports)
			}
			supervisor.heard()
			if r.Ended != nil {
				w.endSupervisor()
				return *r.Ended
			}
		case grace := <-stop:
			send = w.link.send(order{Stop: true, Grace: grace})
		case sig := <-signals:
			if sig == syscall.SIGWINCH && s.terminal != nil {
				s.terminal.resize()
				continue
			}
			send = w.link.send(order{Signal: sig.(syscall.Signal)})
		case <-ticker.C:
			wake, dead := supervisor.tick(mayBeStopped(w.supervisor.Pid))
			if dead {
				return w.takeOver(reports)
			}
			if wake {
				_ = w.supervisor.Signal(syscall.SIGCONT)
			}
			send = w.link.send(order{})
		}
	}
	return w.takeOver(reports)
}

// takeOver ends what the supervisor can no longer end. Its descendants become
// the runner's when it is dead.
func (w *watcher) takeOver(reports <-chan report) Receipt {
	w.endSupervisor()
	end := unknownEnd(w.family.command)
	for r := range reports {
		// It was done, and gone before it could take another message.
		if r.Ended != nil {
			end = r.Ended
		}
	}
	end.Left = w.family.end()
	if w.family.receipt != nil {
		w.family.receipt.Left = end.Left
		end = w.family.receipt
	}
	return *end
}

func (w *watcher) endSupervisor() {
	_ = w.supervisor.Kill()
	_, _ = w.supervisor.Wait()
}

func (w *watcher) close() {
	w.link.conn.Close()
	w.family.children.Close()
}
