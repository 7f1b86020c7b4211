package clients

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	core "k8s.io/api/core/v1"
)

// node runs the containers of one pod as processes: the volumes are directories
// below root, and commands and configurations name them there.
type node struct {
	*worker
	pod  *core.Pod
	root string
}

// schedule admits a pod of the worker, whose annotations name the mount
// agentchains, and makes its volumes.
func (w *worker) schedule(pod *core.Pod) *node {
	w.Helper()
	w.allow(pod)
	for name, text := range pod.Annotations {
		pod.Annotations[name] = strings.ReplaceAll(text, "agentchains/", w.mount+"/")
	}
	n := &node{w, admit(w.T, pod), w.TempDir()}
	for _, volume := range n.pod.Spec.Volumes {
		must(w.T, os.Mkdir(n.path(volume.Name), 0o700))
	}
	must(w.T, os.WriteFile(n.path("kube-api-access/token"), []byte(accountToken(w.T, pod)), 0o600))
	return n
}

func (n *node) path(name string) string { return filepath.Join(n.root, name) }

// command is a command of a container, with what the container's image sets.
func (n *node) command(c core.Container, argv ...string) *exec.Cmd {
	n.Helper()
	at := []string{"/bin/vault", vault.path("bin/vault")}
	for _, m := range c.VolumeMounts {
		at = append(at, m.MountPath, n.path(m.Name))
	}
	paths := strings.NewReplacer(at...)
	var args []string
	for _, arg := range argv {
		args = append(args, paths.Replace(arg))
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = []string{"PATH=" + vault.path("bin") + ":" + os.Getenv("PATH"), "HOME=" + paths.Replace("/home/vault")}
	for _, v := range c.Env {
		value := v.Value
		if v.Name == "VAULT_CONFIG" {
			config, err := base64.StdEncoding.DecodeString(value)
			must(n.T, err)
			value = base64.StdEncoding.EncodeToString([]byte(paths.Replace(string(config))))
		}
		cmd.Env = append(cmd.Env, v.Name+"="+value)
	}
	return cmd
}

// launch starts a container. The test fails when what it writes holds a value.
func (n *node) launch(name string) *process {
	n.Helper()
	c := containerOf(n.T, n.pod, name)
	cmd := n.command(c, append(c.Command, c.Args...)...)
	log, err := os.Create(n.path(name + ".log"))
	must(n.T, err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	p, err := start(cmd)
	must(n.T, err)
	n.Cleanup(func() {
		if err := p.stop(); err != nil {
			n.Error(err)
		}
		n.audit(log.Name())
	})
	return p
}

// audit searches what a container wrote for values, and shows it when the test
// has failed otherwise.
func (n *node) audit(log string) {
	text, err := os.ReadFile(log)
	if err != nil {
		n.Error(err)
	}
	for _, value := range n.known {
		if strings.Contains(string(text), value) {
			n.Errorf("%s holds a value", filepath.Base(log))
			return
		}
	}
	if n.Failed() {
		n.Logf("%s:\n%s", filepath.Base(log), text)
	}
}

// initialise runs the injected container that renders the files once.
func (n *node) initialise() {
	n.Helper()
	n.ends(n.launch("vault-agent-init"))
}

// ends waits until a container has ended without an error.
func (n *node) ends(p *process) {
	n.Helper()
	must(n.T, eventually("the container has ended", func() (bool, error) {
		select {
		case <-p.exited:
			return true, p.err
		default:
			return false, nil
		}
	}))
}

// file returns a rendered file, or nothing when there is none yet.
func (n *node) file(name string) string {
	n.Helper()
	text, err := os.ReadFile(n.path("vault-secrets/" + name))
	if !os.IsNotExist(err) {
		must(n.T, err)
	}
	return string(text)
}

// renders waits until a file is as it should be.
func (n *node) renders(name, want string) {
	n.Helper()
	must(n.T, eventually(name+" is rendered", func() (bool, error) { return n.file(name) == want, nil }))
}
