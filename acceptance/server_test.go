package acceptance

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/vault/api"
)

const (
	pluginBinary = "../bin/vault-plugin-secrets-agentchains"
	auditFile    = "audit.log"
	logFile      = "vault.log"
)

// server is a Vault in dev mode on a loopback port, with a file audit device,
// AppRole and userpass, and the engine in its catalog. All it writes is in dir.
type server struct {
	dir      string
	binary   string
	address  string
	token    string // of root
	client   *api.Client
	cmd      *exec.Cmd
	lifeline io.Closer
	exited   chan struct{}
}

// startServer starts Vault and waits until it serves.
func startServer(dir string) (_ *server, err error) {
	binary, err := exec.Command("../scripts/vault").Output()
	if err != nil {
		return nil, fmt.Errorf("scripts/vault: %w", err)
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	// Vault wants the directory of plugins without symbolic links.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	s := &server{dir: dir, binary: strings.TrimSpace(string(binary)), address: "http://" + address, token: rand.Text(), exited: make(chan struct{})}
	if err := os.Mkdir(s.path("plugins"), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.path("vault.hcl"), fmt.Appendf(nil, "plugin_directory = %q\n", s.path("plugins")), 0o600); err != nil {
		return nil, err
	}
	if s.client, err = s.newClient(s.token); err != nil {
		return nil, err
	}
	if err := s.launch(address); err != nil {
		return nil, err
	}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

// freeAddress returns a loopback address on which nothing listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// launch starts the process, and beside it one that ends it when the lifeline is
// closed: by stop, or because the tests died.
func (s *server) launch(address string) error {
	log, err := os.Create(s.path(logFile))
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(s.binary, "server", "-dev", "-dev-no-store-token", "-dev-root-token-id="+s.token,
		"-dev-listen-address="+address, "-config="+s.path("vault.hcl"), "-log-level=trace")
	s.cmd.Env = s.environ()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(s.exited)
		_ = s.cmd.Wait() // the caller learns from the log why
	}()
	watch := exec.Command("sh", "-c", `read -r _; kill "$0"`, strconv.Itoa(s.cmd.Process.Pid))
	if s.lifeline, err = watch.StdinPipe(); err == nil {
		err = watch.Start()
	}
	if err != nil {
		return errors.Join(err, s.cmd.Process.Kill())
	}
	go func() { _ = watch.Wait() }()
	return nil
}

// environ is all that Vault and its command inherit: no token or address of
// whoever runs the tests.
func (s *server) environ(more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.dir, "VAULT_ADDR=" + s.address}, more...)
}

func (s *server) prepare() error {
	if err := eventually("Vault serves", func() (bool, error) {
		select {
		case <-s.exited:
			log, err := os.ReadFile(s.path(logFile))
			return false, errors.Join(fmt.Errorf("it ended: %s", log), err)
		default:
		}
		health, err := s.client.Sys().Health()
		return err == nil && health.Initialized && !health.Sealed, nil
	}); err != nil {
		return err
	}
	if err := s.client.Sys().EnableAuditWithOptions("file", &api.EnableAuditOptions{
		Type: "file", Options: map[string]string{"file_path": s.path(auditFile)},
	}); err != nil {
		return err
	}
	for _, method := range []string{"approle", "userpass"} {
		if err := s.client.Sys().EnableAuthWithOptions(method, &api.EnableAuthOptions{Type: method}); err != nil {
			return err
		}
	}
	return s.register("agentchains")
}

// register adds the engine to the catalog under a name. Each name has a file,
// and so a process, of its own.
func (s *server) register(name string) error {
	binary, err := os.ReadFile(pluginBinary)
	if err != nil {
		return fmt.Errorf("run make build first: %w", err)
	}
	if err := os.WriteFile(s.plugin(name), binary, 0o700); err != nil {
		return err
	}
	sum := sha256.Sum256(binary)
	return s.client.Sys().RegisterPlugin(&api.RegisterPluginInput{
		Name: name, Type: api.PluginTypeSecrets, Command: name, SHA256: hex.EncodeToString(sum[:]),
	})
}

func (s *server) plugin(name string) string { return filepath.Join(s.path("plugins"), name) }

// newClient returns a client that does not repeat a request by itself: a test
// sees the first answer.
func (s *server) newClient(token string) (*api.Client, error) {
	config := api.DefaultConfig()
	config.Address, config.MaxRetries = s.address, 0
	client, err := api.NewClient(config)
	if err != nil {
		return nil, err
	}
	client.SetToken(token)
	return client, nil
}

// stop ends Vault and waits until it and the plugins have gone.
func (s *server) stop() error {
	pids, err := s.plugins("")
	if err != nil {
		return err
	}
	if err := s.lifeline.Close(); err != nil {
		return err
	}
	select {
	case <-s.exited:
	case <-time.After(patience):
		return errors.Join(errors.New("Vault does not end"), s.cmd.Process.Kill())
	}
	return eventually("the plugins have ended", func() (bool, error) {
		for _, pid := range pids {
			if !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				return false, nil
			}
		}
		return true, nil
	})
}

// plugins returns the processes of the engine that Vault has started, those of
// one name of the catalog or all of them.
func (s *server) plugins(name string) ([]int, error) {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, link := range links {
		// A process that has gone meanwhile is not one that counts.
		exe, _ := os.Readlink(link)
		if filepath.Dir(exe) != s.path("plugins") || name != "" && exe != s.plugin(name) {
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

// patience bounds every wait.
const patience = 20 * time.Second

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
