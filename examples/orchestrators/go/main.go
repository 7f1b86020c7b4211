// Command orchestrator runs one agent as an execution, through Vault's API alone:
//
//	orchestrator ENVIRONMENT/CHAIN/AGENT KEY COMMAND [ARGUMENT...]
//
// KEY names this attempt, such as run-42/deploy/1. A start that is repeated with
// it, because its answer was lost, gives the same execution, and no second one.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/vault/api"
	"golang.org/x/sys/unix"
)

const (
	grace   = 10 * time.Second // between SIGTERM and SIGKILL
	stopped = 75               // exit code after an order to stop
)

var mount = cmp.Or(os.Getenv("AGENTCHAINS_MOUNT"), "agentchains")

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: orchestrator ENVIRONMENT/CHAIN/AGENT KEY COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	code, err := run(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// execution is a started one.
type execution struct {
	client          *api.Client // repeats what failed because Vault is away
	once            *api.Client // repeats nothing
	path, lease     string
	env             map[string]any
	generation      string
	renewAt, overAt time.Time
}

// order is why an execution is no longer active.
type order struct{ state, reason string }

func start(ctx context.Context, agent, key string) (*execution, error) {
	client, err := api.NewClient(nil)
	if err != nil {
		return nil, err
	}
	once, err := api.NewClient(nil)
	if err != nil {
		return nil, err
	}
	once.SetMaxRetries(0)
	once.SetClientTimeout(15 * time.Second)
	sent := time.Now()
	run, _, _ := strings.Cut(key, "/")
	secret, err := client.Logical().WriteWithContext(ctx, mount+"/executions/"+agent, map[string]any{
		"idempotency_key": key, "run": run, "workspace": "go-orchestrator",
	})
	if err != nil {
		return nil, err
	}
	x := &execution{client: client, once: once, lease: secret.LeaseID, generation: "1"}
	x.path = fmt.Sprintf("%s/execution/%v", mount, secret.Data["execution_id"])
	x.env, _ = secret.Data["env"].(map[string]any)
	x.extend(sent, secret.LeaseDuration)
	x.renew(ctx) // at once: Vault keeps a copy of env in the lease until then
	return x, nil
}

func (x *execution) extend(sent time.Time, seconds int) {
	step := time.Duration(seconds) * time.Second
	x.renewAt, x.overAt = sent.Add(step/3), sent.Add(step)
}

// renew renews the lease. When that fails, watch says why, or the next try helps.
func (x *execution) renew(ctx context.Context) {
	ctx, cancel := context.WithDeadline(ctx, x.overAt)
	defer cancel()
	sent := time.Now()
	secret, err := x.once.Sys().RenewWithContext(ctx, x.lease, 0)
	if err != nil {
		x.renewAt = sent.Add(time.Second)
		return
	}
	x.extend(sent, secret.LeaseDuration)
}

// watch renews, and waits until the execution is no longer active.
func (x *execution) watch(ctx context.Context) order {
	for time.Now().Before(x.overAt) {
		if !time.Now().Before(x.renewAt) {
			x.renew(ctx)
		}
		wait := max(1, min(5, int(time.Until(x.renewAt).Seconds())))
		pause := 200 * time.Millisecond
		leased, cancel := context.WithDeadline(ctx, x.overAt)
		secret, err := x.once.Logical().ReadWithDataWithContext(leased, x.path+"/watch",
			map[string][]string{"generation": {x.generation}, "wait": {strconv.Itoa(wait)}})
		cancel()
		var refused *api.ResponseError
		switch {
		case errors.As(err, &refused) && refused.StatusCode < http.StatusInternalServerError:
			return order{"refused", err.Error()}
		case err != nil:
			pause = time.Second // Vault is away
		case secret == nil:
			return order{"refused", "there is no such execution"} // what the client makes of a 404
		default:
			x.generation = fmt.Sprint(secret.Data["generation"])
			if state := fmt.Sprint(secret.Data["state"]); state != "active" {
				return order{state, fmt.Sprint(secret.Data["reason"])}
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return order{}
		}
	}
	return order{"expired", "the lease is over"}
}

func (x *execution) tell(verb string, fields map[string]any) error {
	_, err := x.client.Logical().Write(x.path+"/"+verb, fields)
	return err
}

func run(agent, key string, command []string) (code int, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	x, err := start(ctx, agent, key)
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for name, value := range x.env {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%s", name, value))
	}
	if err := cmd.Start(); err != nil {
		return 127, errors.Join(err, x.tell("finish", map[string]any{"exit_code": 127}))
	}
	// An error means that the group has gone.
	kill := func(signal syscall.Signal) { _ = syscall.Kill(-cmd.Process.Pid, signal) }

	orders := make(chan order, 1)
	go func() { orders <- x.watch(ctx) }()
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		close(ended)
	}()
	var told order
	select {
	case <-ended:
	case told = <-orders:
		kill(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(grace):
		}
	}
	kill(syscall.SIGKILL) // what it left behind in its process group
	<-ended

	code, signal := cmd.ProcessState.ExitCode(), ""
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		code, signal = 128+int(status.Signal()), unix.SignalName(status.Signal())
	}
	if told == (order{}) {
		return code, x.tell("finish", map[string]any{"exit_code": code})
	}
	fmt.Fprintln(os.Stderr, "stopped:", told.reason)
	if told.state == "terminating" {
		err = x.tell("ack", map[string]any{"pid": cmd.Process.Pid, "signal": signal, "exit_code": code})
	}
	return stopped, err
}
