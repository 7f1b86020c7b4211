//go:build linux || darwin || freebsd || netbsd || openbsd

package supervise

import (
	"errors"
	"fmt"
	"os"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// Terminal returns the terminal to run a command on: stdin, if it and stdout
// are terminals and the runner is in their foreground, else nil.
func Terminal(stdin, stdout *os.File) *os.File {
	if IsTerminal(stdin) && IsTerminal(stdout) && foreground(stdin) {
		return stdin
	}
	return nil
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool {
	_, err := readMode(f)
	return err == nil
}

// foreground is true for everything but the terminal of a shell that has put
// the runner into its background.
func foreground(f *os.File) bool {
	group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// A terminal is that of the user, and the PTY of the command.
type terminal struct {
	user          *os.File
	mode          terminalMode // of the user's, as it was
	master, slave *os.File
	typing        chan struct{} // closed when input is no longer copied
	stopR, stopW  *os.File      // end of file stops the copying
}

func openTerminal(user *os.File) (*terminal, error) {
	mode, err := readMode(user)
	if err != nil {
		return nil, err
	}
	t := &terminal{user: user, mode: mode, typing: make(chan struct{})}
	var blocking *os.File
	if blocking, t.slave, err = pty.Open(); err != nil {
		return nil, fmt.Errorf("open a PTY: %w", err)
	}
	t.master, err = nonblocking(blocking)
	blocking.Close()
	if err != nil {
		t.slave.Close()
		return nil, fmt.Errorf("open a PTY: %w", err)
	}
	if t.stopR, t.stopW, err = os.Pipe(); err != nil {
		t.master.Close()
		t.slave.Close()
		return nil, err
	}
	// A PTY that takes neither works all the same, with the kernel's own.
	_ = unix.IoctlSetTermios(int(t.slave.Fd()), setTermios, &mode.Termios)
	t.resize()
	return t, nil
}

// nonblocking returns a copy of a file whose reads heed a deadline.
func nonblocking(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	// Before NewFile, which looks.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// resize gives the PTY the size of the user's terminal. It must not use Fd of
// the master, which would make it block.
func (t *terminal) resize() {
	size, err := unix.IoctlGetWinsize(int(t.user.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return
	}
	conn, err := t.master.SyscallConn()
	if err != nil {
		return
	}
	// A PTY that is closed by now needs no size.
	_ = conn.Control(func(fd uintptr) { _ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size) })
}

func (t *terminal) begin() {
	raw := t.mode.raw()
	// Without raw mode input comes in lines, which is worse than nothing else.
	_ = unix.IoctlSetTermios(int(t.user.Fd()), setTermios, &raw)
	go t.copyInput()
}

// finish comes after the last output, which is in raw mode still, and after the
// master was closed, so that the copying of input is not held up there.
func (t *terminal) finish() {
	t.stopW.Close()
	<-t.typing
	t.stopR.Close()
	t.mode.restore(t.user)
}

// abandon is for a command that did not start. The ends of the PTY are closed
// with the other streams.
func (t *terminal) abandon() {
	t.stopR.Close()
	t.stopW.Close()
}

// copyInput waits before it reads, so that it takes nothing that is typed after
// the command has ended.
func (t *terminal) copyInput() {
	defer close(t.typing)
	buf := make([]byte, 4096)
	for {
		fds := []unix.PollFd{
			{Fd: int32(t.stopR.Fd()), Events: unix.POLLIN},
			{Fd: int32(t.user.Fd()), Events: unix.POLLIN},
		}
		timeout := -1
		if !foreground(t.user) {
			// A read would stop the runner.
			fds, timeout = fds[:1], 1000
		}
		_, err := unix.Poll(fds, timeout)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || fds[0].Revents != 0:
			return
		case len(fds) == 1 || fds[1].Revents == 0:
			continue
		}
		n, err := t.user.Read(buf)
		if err != nil {
			return
		}
		if _, err := t.master.Write(buf[:n]); err != nil {
			return
		}
	}
}

// A terminalMode is the mode that a terminal had before the runner.
type terminalMode struct{ unix.Termios }

func readMode(f *os.File) (terminalMode, error) {
	t, err := unix.IoctlGetTermios(int(f.Fd()), getTermios)
	if err != nil {
		return terminalMode{}, fmt.Errorf("read the mode of the terminal: %w", err)
	}
	return terminalMode{*t}, nil
}

// raw passes every key on as it is typed, and shows what comes as it comes.
func (m terminalMode) raw() unix.Termios {
	raw := m.Termios
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag &^= unix.CSIZE | unix.PARENB
	raw.Cflag |= unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	return raw
}

// restore gives the terminal its mode back, unless another program, such as the
// shell, has changed it since.
func (m terminalMode) restore(f *os.File) {
	now, err := readMode(f)
	if err == nil && now.Termios == m.raw() {
		_ = unix.IoctlSetTermios(int(f.Fd()), setTermios, &m.Termios)
	}
}
