//go:build linux

package main

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
	"syscall"
	"time"
)

// The plugins, by the names of their binaries.
const (
	engineCommand = "vault-plugin-secrets-agentchains"
	floorCommand  = "floor"
	loaderCommand = "loader"
)

// vault is a Vault in dev mode with a file audit device. All it writes is below dir.
type vault struct {
	*client
	dir     string
	plugins string
	audit   string
	process *exec.Cmd
	ended   chan struct{}
}

func startVault(ctx context.Context, o options) (*vault, error) {
	dir, err := os.MkdirTemp("", "bench.")
	if err != nil {
		return nil, err
	}
	// Vault refuses a plugin directory that is reached through a link.
	plugins, err := filepath.EvalSymlinks(o.plugins)
	if err == nil {
		plugins, err = filepath.Abs(plugins)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	v := &vault{dir: dir, plugins: plugins, audit: filepath.Join(dir, "audit.log"), ended: make(chan struct{})}
	if err := v.start(ctx, o); err != nil {
		return nil, errors.Join(err, v.stop())
	}
	return v, nil
}

func (v *vault) start(ctx context.Context, o options) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	v.client = newClient("http://"+address, "root")
	settings := fmt.Sprintf("plugin_directory = %q\n", v.plugins)
	if o.storage == "raft" {
		cluster, err := freeAddress()
		if err != nil {
			return err
		}
		settings += fmt.Sprintf("cluster_addr = %q\ndisable_mlock = true\nstorage \"raft\" {\n  path = %q\n  node_id = \"bench\"\n  performance_multiplier = 1\n}\n",
			"https://"+cluster, v.dir)
	}
	file := filepath.Join(v.dir, "vault.hcl")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(v.dir, "vault.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	v.process = exec.Command(o.vault, "server", "-dev", "-dev-no-store-token",
		"-dev-root-token-id="+v.token, "-dev-listen-address="+address, "-config="+file)
	v.process.Env = append(os.Environ(), "HOME="+v.dir)
	v.process.Stdout, v.process.Stderr = log, log
	// In a group of its own, Vault does not get the terminal's Ctrl-C.
	v.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := v.process.Start(); err != nil {
		return err
	}
	go func() {
		_ = v.process.Wait() // how it ended is in its state
		close(v.ended)
	}()
	if err := v.ready(ctx); err != nil {
		return err
	}
	return v.put(ctx, "sys/audit/file", body{"type": "file", "options": body{"file_path": v.audit}})
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// ready waits until Vault answers.
func (v *vault) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if v.get(ctx, "sys/health", nil) == nil {
			return nil
		}
		select {
		case <-v.ended:
			return fmt.Errorf("start vault: %s; its last words:\n%s", v.process.ProcessState, v.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("start vault: %w; its last words:\n%s", ctx.Err(), v.lastWords())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (v *vault) lastWords() []byte {
	log, _ := os.ReadFile(filepath.Join(v.dir, "vault.log"))
	return log[max(0, len(log)-2000):]
}

// stop ends Vault and its plugins, and removes what they wrote.
func (v *vault) stop() error {
	if v.process != nil && v.process.Process != nil {
		plugins := children(v.process.Process.Pid)
		_ = v.process.Process.Signal(syscall.SIGTERM)
		select {
		case <-v.ended:
		case <-time.After(20 * time.Second):
			_ = v.process.Process.Kill()
			<-v.ended
		}
		// Vault ends its plugins, but not when it is killed.
		for pid, binary := range plugins {
			if binaryOf(pid) == binary {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	return os.RemoveAll(v.dir)
}

// register makes command the plugin of that name.
func (v *vault) register(ctx context.Context, name, command string) error {
	binary, err := os.ReadFile(filepath.Join(v.plugins, command))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(binary)
	return v.put(ctx, "sys/plugins/catalog/secret/"+name, body{"sha256": hex.EncodeToString(sum[:]), "command": command})
}

func (v *vault) mount(ctx context.Context, path, plugin string) error {
	return v.put(ctx, "sys/mounts/"+path, body{"type": plugin})
}
