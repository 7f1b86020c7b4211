package supervise

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// A user sits at a terminal.
type user struct {
	*run
	keys, terminal *os.File
	before         unix.Termios
}

// sit starts a runner with an agent on a terminal.
func sit(t *testing.T, script ...string) *user {
	t.Helper()
	return seat(t, setup{}, script...)
}

func seat(t *testing.T, s setup, script ...string) *user {
	t.Helper()
	u := &user{}
	keys, terminal, err := pty.Open()
	must(err)
	u.terminal = terminal
	u.keys, err = nonblocking(keys)
	must(err)
	keys.Close()
	t.Cleanup(func() { u.keys.Close(); u.terminal.Close() })
	must(pty.Setsize(u.terminal, &pty.Winsize{Rows: 10, Cols: 20}))
	mode, err := readMode(u.terminal)
	must(err)
	u.before = mode.Termios
	s.Terminal, s.terminal = true, u.terminal
	u.run = s.run(t, script...)
	u.stdout, u.output = u.keys, bufio.NewReader(u.keys)
	return u
}

// says reads a line from the screen.
func (u *user) says(want string) {
	u.Helper()
	if got := strings.TrimSuffix(u.line(), "\r"); got != want {
		u.Fatalf("the screen shows %q, want %q", got, want)
	}
}

func (u *user) types(keys string) {
	_, err := u.keys.WriteString(keys)
	must(err)
}

func (u *user) raw() bool {
	now, err := readMode(u.terminal)
	must(err)
	return now.Termios == terminalMode{u.before}.raw()
}

// restored waits until the terminal is as it was.
func (u *user) restored() {
	u.Helper()
	u.wait("the terminal is as it was", func() bool {
		now, err := readMode(u.terminal)
		must(err)
		return now.Termios == u.before
	})
}

func TestSizeFollows(t *testing.T) {
	t.Parallel()
	u := sit(t, "size")
	u.says("10×20")
	must(pty.Setsize(u.terminal, &pty.Winsize{Rows: 30, Cols: 40}))
	// The kernel tells the foreground of a session; this one has none.
	must(u.cmd.Process.Signal(syscall.SIGWINCH))
	u.says("30×40")
}

// The terminal passes keys on as they are; the PTY makes signals of them.
func TestKeys(t *testing.T) {
	t.Parallel()
	u := sit(t, "on")
	u.says("ready")
	u.wait("raw mode", u.raw)
	for key, want := range map[string]string{"\x03": "SIGINT", "\x1c": "SIGQUIT"} {
		u.types(key)
		// The kernel echoes the key too, before or after.
		if got := u.line(); !strings.HasSuffix(got, want+"\r") {
			t.Fatalf("the screen shows %q, want %s", got, want)
		}
	}
	must(u.cmd.Process.Signal(syscall.SIGTERM))
	u.ends(3, 0)
	u.restored()
}

func TestTerminalIsRestored(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(u *user){
		"the command ends":         func(u *user) { u.types("\r") },
		"the command is stopped":   func(u *user) { u.stop(0) },
		"the runner is told":       func(u *user) { must(u.cmd.Process.Signal(syscall.SIGTERM)) },
		"the runner is killed":     func(u *user) { must(u.cmd.Process.Kill()) },
		"the supervisor is killed": func(u *user) { must(unix.Kill(u.supervisor, unix.SIGKILL)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := sit(t, "say:ready", "await")
			u.says("ready")
			u.wait("raw mode", u.raw)
			end(u)
			u.restored()
			u.gone()
		})
	}
}

// Standard error is the PTY when it was the terminal, and else what it was.
func TestStandardErrorOnATerminal(t *testing.T) {
	t.Parallel()
	s := setup{testOrder: testOrder{Args: []string{"/bin/sh", "-c", "[ -t 2 ] && [ $(tty) = $(tty <&2) ]; echo $?"}, Env: []string{"PATH=/bin:/usr/bin"}}}
	u := seat(t, s)
	u.says("1")
	u.ends(0, 0)
	s.stderrToo = true
	u = seat(t, s)
	u.says("0")
	u.ends(0, 0)
}

// Somebody else has the PTY open: the end does not wait for that.
func TestThePTYIsHeld(t *testing.T) {
	t.Parallel()
	u := sit(t, "say:ready", "await", "say:end")
	u.says("ready")
	held, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/1", u.pid), os.O_WRONLY|syscall.O_NOCTTY, 0)
	must(err)
	defer held.Close()
	u.types("\n")
	u.says("")
	u.says("end")
	u.ends(0, 0)
}

// More is typed than a PTY holds, and nobody reads it.
func TestKeysThatNobodyReads(t *testing.T) {
	t.Parallel()
	u := sit(t, "say:ready", "wait")
	u.says("ready")
	u.wait("raw mode", u.raw)
	// The screen shows what it can.
	go func() { _, _ = io.Copy(io.Discard, u.output) }()
	for range 20 {
		u.types(strings.Repeat("x", 1000))
	}
	u.stop(patience)
	u.ends(143, syscall.SIGTERM)
	u.restored()
}

// What another program did to the terminal meanwhile is left alone.
func TestTerminalOfTheShell(t *testing.T) {
	t.Parallel()
	u := sit(t, "say:ready", "await")
	u.says("ready")
	u.wait("raw mode", u.raw)
	shell := u.before
	shell.Lflag &^= unix.ECHO
	must(unix.IoctlSetTermios(int(u.terminal.Fd()), setTermios, &shell))
	must(u.cmd.Process.Kill())
	u.gone()
	now, err := readMode(u.terminal)
	must(err)
	if now.Termios != shell {
		t.Error("the mode of the terminal has changed")
	}
}

// What is typed when the command has ended is for who reads next.
func TestTypedAfterTheEnd(t *testing.T) {
	t.Parallel()
	keys, user, err := pty.Open()
	must(err)
	defer keys.Close()
	defer user.Close()
	terminal, err := openTerminal(user)
	must(err)
	terminal.begin()
	_, err = keys.WriteString("command\r")
	must(err)
	slave := bufio.NewReader(terminal.slave)
	if line, err := slave.ReadString('\n'); line != "command\n" {
		t.Errorf("the command reads %q (%v)", line, err)
	}
	terminal.finish()
	terminal.master.Close()
	terminal.slave.Close()
	_, err = keys.WriteString("next\r")
	must(err)
	if line, err := bufio.NewReader(user).ReadString('\n'); line != "next\n" {
		t.Errorf("the next one reads %q (%v)", line, err)
	}
}

func TestThePTYHasTheModeOfTheTerminal(t *testing.T) {
	t.Parallel()
	keys, user, err := pty.Open()
	must(err)
	defer keys.Close()
	defer user.Close()
	mode, err := readMode(user)
	must(err)
	mode.Cc[unix.VERASE] = '#'
	must(unix.IoctlSetTermios(int(user.Fd()), setTermios, &mode.Termios))
	terminal, err := openTerminal(user)
	must(err)
	defer terminal.abandon()
	defer terminal.master.Close()
	defer terminal.slave.Close()
	if got, err := readMode(terminal.slave); err != nil || got != mode {
		t.Errorf("the PTY erases with %q (%v)", got.Cc[unix.VERASE], err)
	}
}

// In the background of a terminal there is none to use, nor to read from.
func TestBackground(t *testing.T) {
	t.Parallel()
	u := sit(t, "seat", "background:seat", "background:nest", "say:end", "wait")
	u.says("true")
	u.says("false")
	u.says("exit code 0")
	u.says("end")
	u.stop(patience)
	u.ends(143, syscall.SIGTERM)
}

func TestNoTerminal(t *testing.T) {
	t.Parallel()
	keys, terminal, err := pty.Open()
	must(err)
	defer keys.Close()
	defer terminal.Close()
	r, w, err := os.Pipe()
	must(err)
	defer r.Close()
	defer w.Close()
	for _, tt := range []struct{ stdin, stdout, want *os.File }{
		{terminal, terminal, terminal},
		{r, terminal, nil},
		{terminal, w, nil},
	} {
		if got := Terminal(tt.stdin, tt.stdout); got != tt.want {
			t.Errorf("on %s and %s: %v", tt.stdin.Name(), tt.stdout.Name(), got)
		}
	}
}
