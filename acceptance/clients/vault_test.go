package clients

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hashicorp/vault/api"
)

// data is the body of a request or of an answer.
type data = map[string]any

const (
	pluginBinary = "../../bin/vault-plugin-secrets-agentchains"
	// The auth methods for the service accounts of a cluster, and for other workloads.
	kubernetesAuth, jwtAuth = "kubernetes", "jwt"
)

// server is a Vault in dev mode on a loopback port, with the engine in its catalog and
// auth methods for workloads. All it writes is in dir.
type server struct {
	*process
	dir     string
	binary  string
	address string
	client  *api.Client
	key     *rsa.PrivateKey // signs the tokens of workloads
}

// startServer starts Vault and waits until it serves.
func startServer(dir string) (_ *server, err error) {
	binary, err := exec.Command("../../scripts/vault").Output()
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
	s := &server{dir: dir, binary: strings.TrimSpace(string(binary)), address: "http://" + address}
	if s.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	config := api.DefaultConfig()
	config.Address = s.address
	if s.client, err = api.NewClient(config); err != nil {
		return nil, err
	}
	s.client.SetToken(rand.Text())
	if s.process, err = s.launch(address); err != nil {
		return nil, err
	}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// freeAddress returns a loopback address on which nothing listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

// launch starts the process. bin has the command vault, whatever its file is called.
func (s *server) launch(address string) (*process, error) {
	for _, dir := range []string{"plugins", "bin"} {
		if err := os.Mkdir(s.path(dir), 0o700); err != nil {
			return nil, err
		}
	}
	if err := os.Symlink(s.binary, s.path("bin/vault")); err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.path("vault.hcl"), fmt.Appendf(nil, "plugin_directory = %q\n", s.path("plugins")), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(s.path("vault.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(s.binary, "server", "-dev", "-dev-no-store-token", "-dev-root-token-id="+s.client.Token(),
		"-dev-listen-address="+address, "-config="+s.path("vault.hcl"))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.dir}
	cmd.Stdout, cmd.Stderr = log, log
	return start(cmd)
}

func (s *server) prepare() error {
	if err := eventually("Vault serves", func() (bool, error) {
		select {
		case <-s.exited:
			return false, fmt.Errorf("it ended: %w", s.err)
		default:
		}
		health, err := s.client.Sys().Health()
		return err == nil && health.Initialized && !health.Sealed, nil
	}); err != nil {
		return err
	}
	if err := s.register(); err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		return err
	}
	// The Kubernetes method asks a cluster whether a token is good. The JWT
	// method knows it from the signature, and answers the same request.
	for _, mount := range []string{kubernetesAuth, jwtAuth} {
		if err := s.client.Sys().EnableAuthWithOptions(mount, &api.EnableAuthOptions{Type: "jwt"}); err != nil {
			return err
		}
		if _, err := s.client.Logical().Write("auth/"+mount+"/config", data{
			"jwt_validation_pubkeys": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		}); err != nil {
			return err
		}
	}
	return nil
}

// register adds the engine to the catalog.
func (s *server) register() error {
	binary, err := os.ReadFile(pluginBinary)
	if err != nil {
		return fmt.Errorf("run make build first: %w", err)
	}
	if err := os.WriteFile(filepath.Join(s.path("plugins"), "agentchains"), binary, 0o700); err != nil {
		return err
	}
	sum := sha256.Sum256(binary)
	return s.client.Sys().RegisterPlugin(&api.RegisterPluginInput{
		Name: "agentchains", Type: api.PluginTypeSecrets, Command: "agentchains", SHA256: hex.EncodeToString(sum[:]),
	})
}
