package acceptance

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/cluster"
)

const pluginBinary = "../bin/vault-plugin-secrets-agentchains"

// server is a Vault in dev mode on a loopback port, with a file audit device,
// AppRole and userpass, and the engine in its catalog.
type server struct {
	*cluster.Node
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
	address, err := cluster.FreeAddress()
	if err != nil {
		return nil, err
	}
	node, err := cluster.NewNode(dir, strings.TrimSpace(string(binary)), address, rand.Text())
	if err != nil {
		return nil, err
	}
	s := &server{Node: node, exited: make(chan struct{})}
	if err := os.WriteFile(s.Path("vault.hcl"), fmt.Appendf(nil, "plugin_directory = %q\n", s.Path("plugins")), 0o600); err != nil {
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

// launch starts the process, and beside it one that ends it when the lifeline is
// closed: by stop, or because the tests died.
func (s *server) launch(address string) error {
	log, err := os.Create(s.Path(cluster.LogFile))
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(s.Binary, "server", "-dev", "-dev-no-store-token", "-dev-root-token-id="+s.Client.Token(),
		"-dev-listen-address="+address, "-config="+s.Path("vault.hcl"), "-log-level=trace")
	s.cmd.Env = s.Environ()
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

func (s *server) prepare() error {
	if err := eventually("Vault serves", func() (bool, error) {
		select {
		case <-s.exited:
			log, err := os.ReadFile(s.Path(cluster.LogFile))
			return false, errors.Join(fmt.Errorf("it ended: %s", log), err)
		default:
		}
		health, err := s.Client.Sys().Health()
		return err == nil && health.Initialized && !health.Sealed, nil
	}); err != nil {
		return err
	}
	if err := s.Client.Sys().EnableAuditWithOptions("file", &api.EnableAuditOptions{
		Type: "file", Options: map[string]string{"file_path": s.Path(cluster.AuditFile)},
	}); err != nil {
		return err
	}
	for _, method := range []string{"approle", "userpass"} {
		if err := s.Client.Sys().EnableAuthWithOptions(method, &api.EnableAuthOptions{Type: method}); err != nil {
			return err
		}
	}
	return s.Register("agentchains", "", pluginBinary)
}

// stop ends Vault and waits until it and the plugins have gone.
func (s *server) stop() error {
	pids, err := s.Plugins("")
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

// patience bounds what is waited for in one request.
const patience = 20 * time.Second

// eventually waits until done, or until patience is over.
func eventually(what string, done func() (bool, error)) error { return cluster.Eventually(what, done) }
