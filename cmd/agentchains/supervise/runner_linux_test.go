package supervise

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what should happen soon, on a machine
// that may be busy with other tests.
const patience = time.Minute

// TestMain makes the test binary a runner, a supervisor or an agent too. All
// of them are real processes; the test process only looks on.
func TestMain(m *testing.M) {
	Main()
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "runner":
			runnerMain()
		case "agent":
			agentMain(os.Args[2:])
		}
	}
	os.Exit(m.Run())
}

// An order to a runner under test. The first one says what to run.
type testOrder struct {
	Args     []string
	Env      []string
	Dir      string
	Copied   bool // the streams are not files
	Joined   bool // standard error goes where standard output goes
	Terminal bool
	Leak     bool // another process gets the runner's end of its socket
	Stop     time.Duration
}

// A told is what a runner under test tells.
type told struct {
	Pid     int
	Error   string
	Exit    int
	Receipt *Receipt
}

// runnerMain takes orders on descriptor 3, and tells on descriptor 4.
func runnerMain() {
	in, out := gob.NewDecoder(os.NewFile(3, "in")), gob.NewEncoder(os.NewFile(4, "out"))
	must(Harden())
	var o testOrder
	must(in.Decode(&o))
	c := Command{Args: o.Args, Env: o.Env, Dir: o.Dir, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if o.Copied || o.Terminal {
		c.Stdin, c.Stdout, c.Stderr = struct{ io.Reader }{os.Stdin}, struct{ io.Writer }{os.Stdout}, struct{ io.Writer }{os.Stderr}
	}
	if o.Joined {
		c.Stderr = c.Stdout
	}
	if o.Terminal {
		c.Terminal, c.Stderr = Terminal(os.Stdin, os.Stdout), os.Stderr
	}
	p, err := Start(c)
	if err != nil {
		t := told{Error: err.Error()}
		if exec := new(ExecError); errors.As(err, &exec) {
			t.Exit = exec.ExitCode()
		}
		must(out.Encode(t))
		os.Exit(1)
	}
	if o.Leak {
		leakSocket()
	}
	must(out.Encode(told{Pid: p.Pid()}))
	go func() {
		for {
			var o testOrder
			if in.Decode(&o) != nil {
				return
			}
			p.Stop(o.Stop)
		}
	}()
	r := p.Wait()
	must(out.Encode(told{Receipt: &r}))
	os.Exit(0)
}

func leakSocket() {
	holder := exec.Command("cat")
	holder.Stdin = os.Stdin
	for fd := 3; holder.ExtraFiles == nil; fd++ {
		if target, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); strings.HasPrefix(target, "socket:") {
			dup, err := syscall.Dup(fd)
			must(err)
			holder.ExtraFiles = []*os.File{os.NewFile(uintptr(dup), target)}
		}
	}
	must(holder.Start())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// A setup is what is unusual about a runner under test.
type setup struct {
	testOrder
	terminal  *os.File // its streams
	stderr    *os.File
	stderrToo bool   // is the terminal
	user      uint32 // of the runner, instead of nobody
	asRoot    bool
	wrapper   []string // started instead of it, and is to start self
}

// self is the test binary for who cannot reach it by its path.
const self = "/proc/self/fd/5"

// quick keeps a process built with -race from a second's sleep at its end.
const quick = "GORACE=atexit_sleep_ms=0"

// A run is a runner under test.
type run struct {
	*testing.T
	cmd        *exec.Cmd
	ended      chan struct{} // closed when the runner has ended
	secret     string        // in the environment of the command and of what it starts
	pid        int           // of the command
	supervisor int
	orders     *gob.Encoder
	told       chan told
	stdin      *os.File
	stdout     *os.File
	output     *bufio.Reader // of stdout
}

// runAgent starts a runner with an agent that follows a script.
func runAgent(t *testing.T, script ...string) *run {
	t.Helper()
	return setup{}.run(t, script...)
}

func (s setup) run(t *testing.T, script ...string) *run {
	t.Helper()
	r := s.start(t, script...)
	first := r.next()
	if first.Error != "" {
		t.Fatalf("the command was not started: %s", first.Error)
	}
	r.pid, r.supervisor = first.Pid, parentOf(first.Pid)
	return r
}

func (s setup) start(t *testing.T, script ...string) *run {
	t.Helper()
	r := &run{T: t, ended: make(chan struct{}), told: make(chan told)}
	r.secret = fmt.Sprintf("%s-%d", filepath.Base(t.Name()), time.Now().UnixNano())
	if s.Args == nil {
		s.Args = append([]string{"/proc/self/exe", "agent"}, script...)
		s.Env = append(s.Env, quick)
	}
	s.Env = append(s.Env, "SECRET="+r.secret)

	var theirs []*os.File
	pipe := func(read int) (their, our *os.File) {
		ends := [2]*os.File{}
		var err error
		ends[0], ends[1], err = os.Pipe()
		must(err)
		theirs = append(theirs, ends[read])
		return ends[read], ends[1-read]
	}
	binary, err := os.Open("/proc/self/exe")
	must(err)
	theirs = append(theirs, binary)
	in, orders := pipe(0)
	out, tells := pipe(1)
	r.cmd = exec.Command("/proc/self/exe", "runner")
	if s.wrapper != nil {
		r.cmd = exec.Command(s.wrapper[0], s.wrapper[1:]...)
	}
	r.cmd.Dir = "/"
	r.cmd.Env = append(os.Environ(), quick)
	r.cmd.ExtraFiles = []*os.File{in, out, binary}
	if os.Getuid() == 0 && !s.asRoot {
		if s.user == 0 {
			s.user = nobody
		}
		r.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.user, Gid: s.user}}
	}
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = s.terminal, s.terminal, os.Stderr
	if s.terminal == nil {
		r.cmd.Stdin, r.stdin = pipe(0)
		r.cmd.Stdout, r.stdout = pipe(1)
		r.output = bufio.NewReader(r.stdout)
		t.Cleanup(func() { r.stdout.Close(); r.stdin.Close() })
	}
	if s.stderrToo {
		s.stderr = s.terminal
	}
	if s.stderr != nil {
		r.cmd.Stderr = s.stderr
	}
	must(r.cmd.Start())
	for _, f := range theirs {
		f.Close()
	}
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.ended
		orders.Close()
		if r.supervisor != 0 {
			// A test may have left it stopped; now it ends.
			_ = syscall.Kill(r.supervisor, syscall.SIGCONT)
		}
		r.wait("nothing is left", func() bool {
			for _, pid := range r.living() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			return r.living() == nil
		})
	})
	go func() {
		defer close(r.told)
		defer tells.Close()
		for d := gob.NewDecoder(tells); ; {
			var m told
			if d.Decode(&m) != nil {
				return
			}
			r.told <- m
		}
	}()
	go func() {
		_ = r.cmd.Wait()
		close(r.ended)
	}()
	r.orders = gob.NewEncoder(orders)
	must(r.orders.Encode(s.testOrder))
	return r
}

// next is what the runner tells next.
func (r *run) next() told {
	r.Helper()
	select {
	case m, ok := <-r.told:
		if !ok {
			r.Fatal("the runner ended and told nothing")
		}
		return m
	case <-time.After(patience):
		r.Fatal("the runner tells nothing")
	}
	panic("unreachable")
}

func (r *run) stop(grace time.Duration) {
	must(r.orders.Encode(testOrder{Stop: grace}))
}

// receipt waits until the command has ended.
func (r *run) receipt() Receipt {
	r.Helper()
	got := r.next().Receipt
	if got.Pid != r.pid {
		r.Errorf("receipt for process %d, want %d", got.Pid, r.pid)
	}
	return *got
}

// ends checks how the command ended, and that nothing of it lives.
func (r *run) ends(code int, sig syscall.Signal) Receipt {
	r.Helper()
	got := r.receipt()
	if got.ExitCode != code || got.Signal != sig {
		r.Errorf("exit code %d, signal %d, want %d, %d", got.ExitCode, got.Signal, code, sig)
	}
	if left := r.living(); left != nil || got.Left != 0 {
		r.Errorf("%d processes live, and the receipt says %d", len(left), got.Left)
	}
	<-r.ended
	if code := r.cmd.ProcessState.ExitCode(); code != 0 {
		r.Errorf("the runner ends with %d", code)
	}
	return got
}

// line reads a line of output.
func (r *run) line() string {
	r.Helper()
	must(r.stdout.SetReadDeadline(time.Now().Add(patience)))
	line, err := r.output.ReadString('\n')
	if err != nil {
		r.Fatalf("no line of output: %v", err)
	}
	return strings.TrimSuffix(line, "\n")
}

func (r *run) expect(want string) {
	r.Helper()
	if got := r.line(); got != want {
		r.Fatalf("the agent says %q, want %q", got, want)
	}
}

// needRoot skips a test for others.
func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may " + why)
	}
}

// proceed lets an agent go on that awaits it.
func (r *run) proceed() {
	_, err := r.stdin.WriteString("\n")
	must(err)
}

// wait waits for a condition.
func (r *run) wait(what string, condition func() bool) {
	r.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !condition(); {
		select {
		case <-tick.C:
		case <-late:
			r.Fatalf("not in time: %s", what)
		}
	}
}

// gone waits until the command, what it started and the supervisor have ended.
func (r *run) gone() {
	r.Helper()
	r.wait("all have ended", func() bool { return r.living() == nil && !alive(r.supervisor) })
}

// living are the processes that have the secret in their environment. One that
// has ended has no environment.
func (r *run) living() (pids []int) {
	return holders(r.secret, "environ")
}

// holders are the processes that have a text in a file below /proc.
func holders(text, file string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/" + file)
	for _, f := range files {
		if data, _ := os.ReadFile(f); bytes.Contains(data, []byte(text)) {
			pid, _ := strconv.Atoi(strings.Split(f, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// state is R, S, D, T or the like, and 0 for a process that has ended.
func state(pid int) byte {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 || stat[i+2] == 'Z' {
		return 0
	}
	return stat[i+2]
}

func alive(pid int) bool { return state(pid) != 0 }
