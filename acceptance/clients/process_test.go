package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// process is a program under test and all that it starts.
type process struct {
	group    int
	lifeline io.Closer
	exited   chan struct{}
	err      error // how it ended, once it has exited
}

// start starts a command in a process group of its own, and beside it one that
// ends the group when the lifeline is closed: by stop, or because the tests died.
func start(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{group: cmd.Process.Pid, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		p.err = cmd.Wait()
	}()
	watch := exec.Command("sh", "-c", `read -r _; kill -- "-$0"`, strconv.Itoa(p.group))
	var err error
	if p.lifeline, err = watch.StdinPipe(); err == nil {
		err = watch.Start()
	}
	if err != nil {
		return nil, errors.Join(err, syscall.Kill(-p.group, syscall.SIGKILL))
	}
	go func() { _ = watch.Wait() }()
	return p, nil
}

// stop ends the process and waits until it and all that it started have gone.
func (p *process) stop() error {
	if err := p.lifeline.Close(); err != nil {
		return err
	}
	err := eventually("the process has ended", func() (bool, error) {
		return errors.Is(syscall.Kill(-p.group, 0), syscall.ESRCH), nil
	})
	if err != nil {
		return errors.Join(err, syscall.Kill(-p.group, syscall.SIGKILL))
	}
	<-p.exited
	return nil
}

// patience bounds every wait.
const patience = time.Minute

// eventually waits until done, or until patience is over.
func eventually(what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s in vain until %s", patience, what)
		case <-tick.C:
		}
	}
}
