package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/vault/api"
)

const (
	// LogFile is what Vault and its plugins write, in the directory of a node.
	LogFile = "vault.log"
	// AuditFile is what the audit device of a node writes there.
	AuditFile = "audit.log"
)

// Node is a Vault on a loopback port. All that it stores and writes is in Dir.
type Node struct {
	Dir     string
	Binary  string // of Vault
	Address string
	Client  *api.Client

	key string // to unseal
	cmd *exec.Cmd
	pid atomic.Int64
}

// NewNode returns a node that listens on an address once it is started, with a
// directory for plugins. Its client does not repeat a request by itself, and
// follows no redirection: a test sees the first answer of this node.
func NewNode(dir, binary, address, token string) (*Node, error) {
	// Vault wants the directory of plugins without symbolic links.
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	n := &Node{Dir: dir, Binary: binary, Address: "http://" + address}
	if err := os.Mkdir(n.Path("plugins"), 0o700); err != nil {
		return nil, err
	}
	n.Client, err = n.NewClient(token)
	return n, err
}

// NewClient returns a client as that of the node, with another token.
func (n *Node) NewClient(token string) (*api.Client, error) {
	config := api.DefaultConfig()
	config.Address, config.MaxRetries, config.DisableRedirects = n.Address, 0, true
	client, err := api.NewClient(config)
	if err != nil {
		return nil, err
	}
	client.SetToken(token)
	return client, nil
}

// Path is that of a file of the node.
func (n *Node) Path(name string) string { return filepath.Join(n.Dir, name) }

// Plugin is where the binary of a plugin is.
func (n *Node) Plugin(name string) string { return filepath.Join(n.Path("plugins"), name) }

// Environ is all that Vault and its command inherit: no token or address of
// whoever runs the tests.
func (n *Node) Environ(more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + n.Dir, "TMPDIR=" + n.Dir, "VAULT_ADDR=" + n.Address}, more...)
}

// FreeAddress returns a loopback address on which nothing listens.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// Register adds a binary to the catalog as a version of a plugin; an empty version
// is none. Each has a file, and so a process, of its own.
func (n *Node) Register(name, version, binary string) error {
	body, err := os.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("run make build first: %w", err)
	}
	command := name + version
	if err := os.WriteFile(n.Plugin(command), body, 0o700); err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	return n.Client.Sys().RegisterPlugin(&api.RegisterPluginInput{
		Name: name, Type: api.PluginTypeSecrets, Command: command, SHA256: hex.EncodeToString(sum[:]), Version: version,
	})
}

// Plugins returns the processes that Vault has started, those of one binary or all.
func (n *Node) Plugins(name string) ([]int, error) {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, link := range links {
		// A process that has gone meanwhile is not one that counts.
		exe, _ := os.Readlink(link)
		if filepath.Dir(exe) != n.Path("plugins") || name != "" && exe != n.Plugin(name) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// Launch starts the process, which ends with the tests at the latest.
func (n *Node) Launch() error {
	log, err := os.OpenFile(n.Path(LogFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	n.cmd = exec.Command(n.Binary, "server", "-config="+n.Path("vault.hcl"), "-log-level=trace")
	n.cmd.Dir, n.cmd.Env = n.Dir, n.Environ()
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.pid.Store(int64(n.cmd.Process.Pid))
	return nil
}

// Start launches the process again, and waits until it is unsealed.
func (n *Node) Start() error {
	if err := n.Launch(); err != nil {
		return err
	}
	return n.Unseal()
}

// Running reports whether the process was launched and not ended.
func (n *Node) Running() bool { return n.cmd != nil && n.cmd.ProcessState == nil }

// Signal sends one to the process.
func (n *Node) Signal(signal syscall.Signal) error { return n.cmd.Process.Signal(signal) }

// End ends Vault with a signal, and its plugins: they outlive a Vault that is
// killed. It may be called again.
func (n *Node) End(signal syscall.Signal) error {
	if !n.Running() {
		return nil
	}
	if err := n.Signal(signal); err != nil {
		return err
	}
	if err := n.cmd.Wait(); err != nil && signal != syscall.SIGKILL {
		return err
	}
	return Eventually("the plugins have ended", func() (bool, error) {
		pids, err := n.Plugins("")
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
		}
		return len(pids) == 0, err
	})
}

// initialize makes the storage and unseals it the first time.
func (n *Node) initialize() error {
	var keys *api.InitResponse
	if err := Eventually("Vault is initialized", func() (_ bool, err error) {
		keys, err = n.Client.Sys().Init(&api.InitRequest{SecretShares: 1, SecretThreshold: 1})
		var refusal *api.ResponseError
		if errors.As(err, &refusal) {
			return false, err
		}
		return err == nil, nil // it may not listen yet
	}); err != nil {
		return err
	}
	n.key = keys.KeysB64[0]
	n.Client.SetToken(keys.RootToken)
	return n.Unseal()
}

// health asks with a bound of its own: a process that is stopped accepts connections.
func (n *Node) health() (*api.HealthResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return n.Client.Sys().HealthWithContext(ctx)
}

// Unseal waits until the node is unsealed and knows who is active.
func (n *Node) Unseal() error {
	return Eventually("Vault is unsealed", func() (bool, error) {
		health, err := n.health()
		if err != nil {
			return false, nil // it does not listen yet
		}
		if health.Sealed {
			_, _ = n.Client.Sys().Unseal(n.key) // it may not know the others yet
			return false, nil
		}
		leader, err := n.Client.Sys().Leader()
		return err == nil && leader.LeaderAddress != "", nil
	})
}
