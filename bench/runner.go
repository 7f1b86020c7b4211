//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/sample"
)

// commandResult is how long a command takes to its first output and to its end.
type commandResult struct {
	Command   string  `json:"command"`
	Runs      int     `json:"runs"`
	OutputP50 float64 `json:"first_output_p50_ms"`
	OutputP99 float64 `json:"first_output_p99_ms"`
	EndP50    float64 `json:"end_p50_ms"`
	EndP99    float64 `json:"end_p99_ms"`
}

// runnerCommand is the command that starts agents.
const runnerCommand = "agentchains"

// runner returns a runner of the sample's agent, with that command as the agent.
func (v *vault) runner(token, run string, agent ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(v.plugins, runnerCommand), append([]string{
		"run", "--env", sample.Environment, "--chain", sample.Chain, "--agent", sample.Agent, "--run", run, "--"}, agent...)...)
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+v.address, "VAULT_TOKEN="+token)
	return cmd
}

// measureCommands runs a command bare and by the runner. The runner's own binary,
// doing nothing of interest, tells what it costs to start that.
func (v *vault) measureCommands(ctx context.Context, token string, runs int) ([]commandResult, error) {
	commands := []struct {
		name string
		make func() *exec.Cmd
	}{
		{"echo", func() *exec.Cmd { return exec.Command("echo", "started") }},
		{"agentchains version", func() *exec.Cmd { return exec.Command(filepath.Join(v.plugins, runnerCommand), "version") }},
		{"agentchains run … -- echo", func() *exec.Cmd { return v.runner(token, "bench", "echo", "started") }},
	}
	output, end := make([][]time.Duration, len(commands)), make([][]time.Duration, len(commands))
	for range runs {
		for i, c := range commands {
			first, last, err := timeCommand(ctx, c.make())
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			output[i], end[i] = append(output[i], first), append(end[i], last)
		}
	}
	results := make([]commandResult, len(commands))
	for i, c := range commands {
		slices.Sort(output[i])
		slices.Sort(end[i])
		middle, high := runs/2, runs*99/100
		results[i] = commandResult{c.name, runs, milliseconds(output[i][middle]), milliseconds(output[i][high]), milliseconds(end[i][middle]), milliseconds(end[i][high])}
	}
	return results, v.revoke(ctx, executions(plugin))
}

// timeCommand returns how long a command takes to its first output and to its end.
func timeCommand(ctx context.Context, cmd *exec.Cmd) (output, end time.Duration, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	_, err = io.ReadFull(stdout, make([]byte, 1))
	output = time.Since(start)
	err = errors.Join(err, cmd.Wait())
	return output, time.Since(start), err
}

// agent is a process that a real runner has started.
type agent struct {
	runner *exec.Cmd
	pidfd  int
}

// stopRunners starts n real runners, tells all their executions to stop, and
// returns how long each order took to the end of the agent's process.
func (v *vault) stopRunners(ctx context.Context, token string, n int) (took []time.Duration, err error) {
	agents := make([]*agent, n)
	defer func() {
		for _, a := range agents {
			if a != nil {
				err = errors.Join(err, a.close())
			}
		}
	}()
	for i := range agents {
		if agents[i], err = v.startAgent(token, strconv.Itoa(i)); err != nil {
			return nil, err
		}
	}
	ids, err := v.liveExecutions(ctx, n)
	if err != nil {
		return nil, err
	}
	ended, errs := make([]time.Time, n), make([]error, n)
	var wg sync.WaitGroup
	for i, a := range agents {
		wg.Go(func() { ended[i], errs[i] = a.wait() })
	}
	sent, err := v.order(ctx, ids)
	wg.Wait()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	took = make([]time.Duration, n)
	for i := range took {
		took[i] = ended[i].Sub(sent[i])
	}
	for _, a := range agents {
		const told = 75
		if _ = a.runner.Wait(); a.runner.ProcessState.ExitCode() != told {
			return nil, fmt.Errorf("a runner that was told to stop ended with %s", a.runner.ProcessState)
		}
	}
	return took, v.revoke(ctx, executions(plugin))
}

// startAgent starts a runner, and waits until its agent runs.
func (v *vault) startAgent(token, run string) (*agent, error) {
	cmd := v.runner(token, run, "sh", "-c", "echo $$; exec sleep 600")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	a := &agent{runner: cmd, pidfd: -1}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err == nil {
		a.pidfd, err = unix.PidfdOpen(pid, 0)
	}
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

// wait returns when the agent's process ended.
func (a *agent) wait() (time.Time, error) {
	const limit = 30 * time.Second
	for deadline := time.Now().Add(limit); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(a.pidfd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
		switch {
		case n > 0:
			return time.Now(), nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return time.Time{}, err
		case !time.Now().Before(deadline):
			return time.Time{}, fmt.Errorf("an agent still runs %s after the order to stop", limit)
		}
	}
}

// close ends the runner, if it has not ended, and with it the agent.
func (a *agent) close() error {
	if a.runner.ProcessState == nil {
		_ = a.runner.Process.Kill()
		_ = a.runner.Wait()
	}
	if a.pidfd < 0 {
		return nil
	}
	return unix.Close(a.pidfd)
}

// liveExecutions returns the ids of the n executions that live, in the order of
// their run labels, which are numbers.
func (v *vault) liveExecutions(ctx context.Context, n int) ([]string, error) {
	var listed struct{ Data struct{ Keys []string } }
	if err := v.get(ctx, executions(plugin)+"?list=true", &listed); err != nil {
		return nil, err
	}
	if len(listed.Data.Keys) != n {
		return nil, fmt.Errorf("%d executions live, not %d", len(listed.Data.Keys), n)
	}
	ids := make([]string, n)
	for _, id := range listed.Data.Keys {
		var read struct {
			Data struct {
				Run int `json:",string"`
			}
		}
		if err := v.get(ctx, executions(plugin)+"?id="+id, &read); err != nil {
			return nil, err
		}
		ids[read.Data.Run] = id
	}
	return ids, nil
}
