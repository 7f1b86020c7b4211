package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/agentchains/vault-plugin-secrets-agentchains/cmd/agentchains/supervise"
)

// The exit codes of run that are not the agent's.
const (
	exitUnwritten = exitCode(74) // not all of its output could be written
	exitStopped   = exitCode(75) // it was told to stop
)

// A runOptions says what to run, and how.
type runOptions struct {
	agent                             agentFlags
	login                             login
	run, workspace, user, idempotency string
	ttl, grace                        time.Duration
	pass                              []string
	redact, eventsDir                 string
	dryRun, verbose                   bool
	printEnv                          string
}

func newRun(mount *string) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:     "run --env ENVIRONMENT --chain CHAIN --agent AGENT -- COMMAND [ARGUMENT...]",
		Short:   "Run an agent with its secrets, for one execution",
		Long:    strings.TrimSpace(runHelp),
		Example: "  agentchains run --env prod --chain deploy-pipeline --agent Deployer -- python agent.py",
		RunE:    func(cmd *cobra.Command, args []string) error { return o.do(cmd, *mount, args) },
	}
	o.agent.add(cmd)
	o.login.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.run, "run", "", "label of the run of the chain that this belongs to")
	flags.StringVar(&o.workspace, "workspace", "", "label of where the agent runs, such as docker:ci-7")
	flags.StringVar(&o.user, "user", "", "label of for whom the agent runs")
	flags.StringVar(&o.idempotency, "idempotency-key", "", "start no second execution for the same key")
	flags.DurationVar(&o.ttl, "ttl", 0, "step of the lease; 0: the mount's execution_ttl")
	flags.DurationVar(&o.grace, "grace", 10*time.Second, "time between SIGTERM and SIGKILL when the agent is told to stop")
	flags.StringSliceVar(&o.pass, "pass", nil, "further variables of this environment to give to the agent")
	flags.StringVar(&o.redact, "redact", "on", "on: take secrets out of what the agent writes; off: hand it the streams as they are")
	flags.StringVar(&o.eventsDir, "events-dir", "", "publish the files that the agent leaves in $AGENTCHAINS_EVENTS_DIR here, redacted; must be empty")
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "say which variables are not redacted, and why")
	flags.BoolVar(&o.dryRun, "dry-run", false, "show which secrets would be given, from where, and run nothing")
	flags.StringVar(&o.printEnv, "print-env", "", "names: print the names of the variables that would be given, and run nothing")
	return cmd
}

const runHelp = `
Run an agent as one execution: it gets its secrets as environment variables, and
its own command ends when the execution does.

The agent's environment is PATH, HOME, LANG, LC_*, TERM, TZ, USER, SHELL and
TMPDIR of this one, what --pass names, and its secrets. Its input, output and
exit code are passed through; on a terminal it runs on one of its own. When the
execution is told to stop, the agent and everything that it started get SIGTERM
and, after --grace, SIGKILL. When Vault is out of reach the agent runs until its
lease is over, and not longer.

Its secrets, and keys of known formats, are taken out of its output as it comes,
in all the forms in which programs print them. What was found is said in the end
and told to the engine, without the value. With --redact=off the output is not
touched, and the record of the execution says so.

Exit codes: the agent's own; 128 and the number of the signal that ended it; 127
its command was not found, 126 it cannot be executed; 75 it was told to stop; 74
it ended with 0, but not all of its output or of its files of events could be
written; 2 it was not started.
`

// do starts the execution and the agent, and waits for the end of both.
func (o *runOptions) do(cmd *cobra.Command, mount string, args []string) error {
	agent, err := o.agent.path()
	if err != nil {
		return err
	}
	if o.dryRun || o.printEnv != "" {
		return o.show(cmd, mount, agent)
	}
	switch {
	case len(args) == 0:
		return errors.New("run needs a command after --")
	case o.redact != "on" && o.redact != "off":
		return errors.New("--redact must be on or off")
	case o.redact == "off" && o.eventsDir != "":
		return errors.New("--events-dir publishes nothing that is not redacted: it needs --redact=on")
	}
	client, err := o.login.client(cmd)
	if err != nil {
		return err
	}
	var files *events
	if o.eventsDir != "" {
		if files, err = newEvents(o.eventsDir); err != nil {
			return fmt.Errorf("--events-dir: %w", err)
		}
		defer files.remove() // unless finish has
	}
	x, err := startExecution(cmd.Context(), client, strings.Trim(mount, "/"), agent, o.fields())
	if err != nil {
		return err
	}
	out := &output{findings: newFindings(x.env), events: files}
	command := o.command(x, args, out, cmd.ErrOrStderr())
	process, err := supervise.Start(command)
	if err != nil {
		code := exitFailed
		var unstarted *supervise.ExecError
		if errors.As(err, &unstarted) {
			code = unstarted.ExitCode()
		}
		ctx, cancel := context.WithTimeout(context.Background(), tellLimit)
		defer cancel()
		_ = x.tell(ctx, "finish", map[string]any{"exit_code": code})
		fmt.Fprintf(cmd.ErrOrStderr(), "agentchains: %s\n", err)
		return exitCode(code)
	}
	return o.attend(cmd.Context(), cmd.ErrOrStderr(), x, process, out)
}

// fields are those of the request to start the execution.
func (o *runOptions) fields() map[string]any {
	fields := map[string]any{}
	for name, value := range map[string]string{"run": o.run, "workspace": o.workspace, "user": o.user, "idempotency_key": o.idempotency} {
		if value != "" {
			fields[name] = value
		}
	}
	if o.ttl > 0 {
		fields["ttl"] = int(o.ttl / time.Second)
	}
	if o.redact == "off" {
		fields["redact"] = false
	}
	return fields
}

// command describes the agent's process. Its output passes here and nowhere
// else on its way out: it is redacted unless somebody asked for it as it is.
func (o *runOptions) command(x *execution, args []string, out *output, stderr io.Writer) supervise.Command {
	// A program may take the first of two of one name: a secret is the only one.
	env := slices.DeleteFunc(o.inherited(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		_, secret := x.env[name]
		return secret || name == eventsVariable && out.events != nil
	})
	for _, name := range slices.Sorted(maps.Keys(x.env)) {
		env = append(env, name+"="+x.env[name].value)
	}
	if out.events != nil {
		env = append(env, eventsVariable+"="+out.events.private.path())
	}
	c := supervise.Command{
		Args: args, Env: env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Terminal: supervise.Terminal(os.Stdin, os.Stdout),
	}
	if o.redact == "off" {
		fmt.Fprintln(stderr, "agentchains: the agent's output is not redacted")
		return c
	}
	var gaps []string
	out.set, gaps = newSet(x.env, o.verbose)
	for _, gap := range gaps {
		fmt.Fprintf(stderr, "agentchains: %s\n", gap)
	}
	out.take(&c)
	return c
}

var inheritedNames = []string{"PATH", "HOME", "LANG", "TERM", "TZ", "USER", "SHELL", "TMPDIR"}

// inherited returns what the agent gets of the runner's own environment.
func (o *runOptions) inherited() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return !slices.Contains(inheritedNames, name) && !strings.HasPrefix(name, "LC_") && !slices.Contains(o.pass, name)
	})
}

const tellLimit = 30 * time.Second

// attend watches over the execution until the agent has ended.
func (o *runOptions) attend(ctx context.Context, stderr io.Writer, x *execution, process *supervise.Process, out *output) error {
	// A reader of the output that has gone must not keep the end from being told.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	orders := make(chan *order, 2)
	for _, wait := range []func(context.Context) *order{x.keep, x.watch} {
		go func() { orders <- wait(ctx) }()
	}
	go x.keepToken(ctx)
	endReports := out.findings.report(x.tellFinding)
	if out.events != nil {
		out.events.follow(out.set, out.findings)
	}
	ended := make(chan supervise.Receipt, 1)
	go func() { ended <- process.Wait() }()

	var stopped *order
	var receipt supervise.Receipt
	select {
	case receipt = <-ended:
	case stopped = <-orders:
		process.Stop(o.grace)
		receipt = <-ended
	}
	unwritten := out.close()
	cancel()
	patience := tellLimit
	if stopped != nil && !stopped.told {
		patience = requestLimit
	}
	telling, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	untold := endReports(patience / 3)

	out.findings.print(stderr, o.verbose)
	say := func(format string, args ...any) { fmt.Fprintf(stderr, "agentchains: "+format+"\n", args...) }
	if untold != nil {
		say("the engine could not be told of that: %s", vaultError(untold))
	}
	for _, err := range unwritten {
		say("not all output could be written: %s", err)
	}
	if receipt.Left > 0 {
		say("%d processes of the agent could not be ended", receipt.Left)
	}
	if stopped != nil {
		say("the agent was stopped: %s", stopped)
	}
	if stopped == nil || !stopped.told {
		_ = x.tell(telling, "finish", map[string]any{"exit_code": receipt.ExitCode})
		if len(unwritten) > 0 && receipt.ExitCode == exitOK {
			return exitUnwritten
		}
		return exitCode(receipt.ExitCode)
	}
	err := x.tell(telling, "ack", map[string]any{
		"pid": receipt.Pid, "signal": unix.SignalName(receipt.Signal), "exit_code": receipt.ExitCode, "time": receipt.Time.UTC().Format(time.RFC3339),
	})
	if err != nil {
		say("the stop could not be acknowledged: %s", vaultError(err))
	}
	return exitStopped
}

// show prints what the agent would be given, and from where, or the names alone.
func (o *runOptions) show(cmd *cobra.Command, mount, agent string) error {
	if o.printEnv != "" && o.printEnv != "names" {
		return errors.New("--print-env takes names only: values are never printed")
	}
	client, err := o.login.client(cmd)
	if err != nil {
		return err
	}
	e, _, err := readExplanation(cmd.Context(), client, mount, agent)
	if err != nil {
		return err
	}
	if o.dryRun || !e.Resolves {
		if err := e.print(cmd.OutOrStdout(), agent); err != nil || e.Resolves {
			return err
		}
		return exitNo
	}
	var names []string
	for _, variable := range o.inherited() {
		name, _, _ := strings.Cut(variable, "=")
		names = append(names, name)
	}
	for _, r := range e.References {
		names = append(names, r.Variables...)
	}
	slices.Sort(names)
	_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.Join(slices.Compact(names), "\n"))
	return err
}
