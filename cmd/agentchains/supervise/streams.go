//go:build linux || darwin || freebsd || netbsd || openbsd

package supervise

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// drain is how long output may pause before it is taken for finished, when the
// command has ended but its output was not closed: a process out of reach may
// hold it.
const drain = time.Second

// streams are the standard streams of a command, and how they reach the runner.
type streams struct {
	files    [3]*os.File
	closing  []*os.File // the command's ends, which the runner closes
	outputs  []output
	inputs   []input
	terminal *terminal // nil without one
	copying  sync.WaitGroup
}

type output struct {
	from *os.File
	to   io.Writer
}

type input struct {
	from io.Reader
	to   *os.File
}

func (c *Command) open() (s *streams, err error) {
	s = &streams{}
	defer func() {
		if err != nil {
			s.abandon()
		}
	}()
	stdin, stderr := c.Stdin, c.Stderr
	if c.Terminal != nil {
		if s.terminal, err = openTerminal(c.Terminal); err != nil {
			return nil, err
		}
		s.closing = append(s.closing, s.terminal.slave)
		s.outputs = append(s.outputs, output{s.terminal.master, c.Stdout})
		s.files = [3]*os.File{s.terminal.slave, s.terminal.slave, s.terminal.slave}
		if f, ok := stderr.(*os.File); stderr == nil || ok && IsTerminal(f) {
			return s, nil
		}
	} else {
		// The command has a session of its own, where nothing keeps it from
		// taking what is typed for the shell.
		if f, ok := stdin.(*os.File); ok && !foreground(f) {
			stdin = nil
		}
		if s.files[0], err = s.openInput(stdin); err != nil {
			return nil, err
		}
		if s.files[1], err = s.openOutput(c.Stdout); err != nil {
			return nil, err
		}
		if stderr != nil && stderr == c.Stdout {
			s.files[2] = s.files[1]
			return s, nil
		}
	}
	s.files[2], err = s.openOutput(stderr)
	return s, err
}

func (s *streams) openInput(from io.Reader) (*os.File, error) {
	switch f := from.(type) {
	case nil:
		return s.openNull()
	case *os.File:
		return f, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.closing = append(s.closing, r)
	s.inputs = append(s.inputs, input{from, w})
	return r, nil
}

func (s *streams) openOutput(to io.Writer) (*os.File, error) {
	switch f := to.(type) {
	case nil:
		return s.openNull()
	case *os.File:
		return f, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.closing = append(s.closing, w)
	s.outputs = append(s.outputs, output{r, to})
	return w, nil
}

func (s *streams) openNull() (*os.File, error) {
	f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err == nil {
		s.closing = append(s.closing, f)
	}
	return f, err
}

// begin starts to copy. The command has its ends by now.
func (s *streams) begin() {
	s.closeCommandEnds()
	if s.terminal != nil {
		// First, since output has its line ends made by the PTY.
		s.terminal.begin()
	}
	for _, o := range s.outputs {
		s.copying.Go(o.copy)
	}
	for _, i := range s.inputs {
		// Not waited for: a read of the caller's stream may never return.
		go i.copy()
	}
}

// finish waits until all output has been passed on.
func (s *streams) finish() {
	for _, o := range s.outputs {
		// A failure means that the output has been closed already.
		_ = o.from.SetReadDeadline(time.Now())
	}
	s.copying.Wait()
	for _, i := range s.inputs {
		i.to.Close()
	}
	if s.terminal != nil {
		s.terminal.finish()
	}
}

// abandon closes everything for a command that did not start.
func (s *streams) abandon() {
	s.closeCommandEnds()
	for _, o := range s.outputs {
		o.from.Close()
	}
	for _, i := range s.inputs {
		i.to.Close()
	}
	if s.terminal != nil {
		s.terminal.abandon()
	}
}

func (s *streams) closeCommandEnds() {
	for _, f := range s.closing {
		f.Close()
	}
}

// copy passes output on as it comes. When nobody takes it any more, the next
// write of the command fails, as it would without the runner.
func (o output) copy() {
	defer o.from.Close()
	buf := make([]byte, 32*1024)
	for waited := false; ; {
		n, err := o.from.Read(buf)
		if n > 0 {
			waited = false
			if _, err := o.to.Write(buf[:n]); err != nil {
				return
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && !waited:
			waited = true
			_ = o.from.SetReadDeadline(time.Now().Add(drain))
		default:
			return
		}
	}
}

func (i input) copy() {
	// A failure is the command's to notice: its input ends.
	_, _ = io.Copy(i.to, i.from)
	i.to.Close()
}
