package supervise

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const nobody = 65534

// agentMain follows a script of steps such as "kill:runner:KILL".
func agentMain(script []string) {
	for _, step := range script {
		name, argument, _ := strings.Cut(step, ":")
		steps[name](argument)
	}
	os.Exit(0)
}

var steps = map[string]func(argument string){
	"say":  func(text string) { fmt.Println(text) },
	"wait": func(string) { wait() },
	// root becomes root, as sudo does, if the program may.
	"root": func(string) { must(syscall.Setresuid(0, 0, 0)) },
	// below starts another agent as nobody.
	"below": func(step string) {
		cmd := exec.Command("/proc/self/exe", "agent", step)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		must(cmd.Start())
	},
	// await waits for a line from the test.
	"await": func(string) {
		_, err := bufio.NewReader(os.Stdin).ReadString('\n')
		must(err)
	},
	"exit":   func(code string) { os.Exit(number(code)) },
	"ignore": func(string) { ignore() },
	// on says when a signal comes, and ends if that is TERM.
	"on": func(string) {
		c := make(chan os.Signal, 16)
		signal.Notify(c, passed...)
		fmt.Println("ready")
		for s := range c {
			fmt.Println(unix.SignalName(s.(syscall.Signal)))
			if s == syscall.SIGTERM {
				os.Exit(3)
			}
		}
	},
	// cleanup takes a while to end after TERM.
	"cleanup": func(string) {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("ready")
		<-c
		<-time.After(300 * time.Millisecond)
		fmt.Println("cleaned up")
	},
	// child starts another agent in the same group.
	"child": func(step string) { fork(step, false) },
	// daemon starts one that leaves the group, the session and its parent.
	"daemon": func(string) { fork("orphan", true) },
	// orphan is the first half of a daemon; the second one is its own child.
	"orphan": func(string) { fork("deaf", true) },
	"deaf": func(string) {
		ignore()
		fmt.Println("deaf")
		wait()
	},
	// kill sends a signal to the runner, the supervisor, or both.
	"kill": func(argument string) {
		who, name, _ := strings.Cut(argument, ":")
		for _, pid := range pids(who) {
			must(unix.Kill(pid, unix.SignalNum("SIG"+name)))
		}
	},
	// pester stops one of them over and over.
	"pester": func(who string) {
		victims := pids(who)
		fmt.Println("pestering")
		for range time.Tick(time.Millisecond) {
			for _, pid := range victims {
				_ = unix.Kill(pid, unix.SIGSTOP)
			}
		}
	},
	// close forbids both to open any file.
	"close": func(string) {
		for _, pid := range pids("both") {
			must(unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{}, nil))
		}
	},
	// chain forks, leaves its session and exits, and what it forked does the
	// same, faster than anyone can look. It ends after a while, lest a failing
	// test leaves it for good.
	"chain": func(string) {
		fmt.Println("chained")
		for range 50_000 {
			if pid, _, _ := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0); pid != 0 {
				syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
			syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
		}
	},
	// bomb doubles as fast as it can, up to a limit of processes, for a while.
	"bomb": func(limit string) {
		n := uint64(number(limit))
		must(unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: n, Max: n}))
		fmt.Println("ticking")
		for range 10_000_000 {
			if pid, _, _ := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0); pid == 0 {
				syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
			}
		}
	},
	// read tries to read a file of a process, and says what comes of it.
	"read": func(argument string) {
		who, file, _ := strings.Cut(argument, ":")
		for _, pid := range pids(who) {
			f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, file))
			if err == nil {
				_, err = f.Read(make([]byte, 1))
			}
			fmt.Println(err)
		}
	},
	"trace": func(who string) {
		for _, pid := range pids(who) {
			fmt.Println(unix.PtraceSeize(pid))
		}
	},
	// seat says whether it has a terminal to run a command on.
	"seat": func(string) { fmt.Println(Terminal(os.Stdin, os.Stdout) != nil) },
	// nest is a runner itself, whose command reads all its input.
	"nest": func(string) {
		p, err := Start(Command{Args: []string{"/bin/cat"}, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
		must(err)
		fmt.Println("exit code", p.Wait().ExitCode)
	},
	// overlap starts one command, another one meanwhile, and a third one after.
	"overlap": func(string) {
		p, err := Start(Command{Args: []string{"/proc/self/exe", "agent", "wait"}})
		must(err)
		_, err = Start(Command{Args: []string{"/bin/true"}})
		fmt.Println(err)
		p.Stop(0)
		p.Wait()
		p, err = Start(Command{Args: []string{"/bin/true"}})
		fmt.Println(err)
		p.Wait()
	},
	// background runs another agent in the background of its terminal.
	"background": func(step string) {
		cmd := exec.Command("/proc/self/exe", "agent", step)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		must(cmd.Run())
	},
	// size says when the size of its terminal changes.
	"size": func(string) {
		c := make(chan os.Signal, 16)
		signal.Notify(c, syscall.SIGWINCH)
		for ; ; <-c {
			size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
			must(err)
			fmt.Printf("%d×%d\n", size.Row, size.Col)
		}
	},
}

// wait waits for a signal that ends the agent.
func wait() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGURG)
	select {}
}

// ignore makes the agent deaf to all that asks for an end.
func ignore() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGTSTP)
}

// pids are the numbers of the runner, the supervisor, or both. The supervisor
// comes last: the command does not outlive it.
func pids(who string) []int {
	supervisor := os.Getppid()
	both := []int{parentOf(supervisor), supervisor}
	switch who {
	case "supervisor":
		return both[1:]
	case "runner":
		return both[:1]
	case "self":
		return []int{os.Getpid()}
	}
	return both
}

// fork starts another agent with a script of one step.
func fork(step string, session bool) {
	cmd := exec.Command("/proc/self/exe", "agent", step)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: session}
	must(cmd.Start())
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	must(err)
	return n
}
