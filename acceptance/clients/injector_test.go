package clients

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"
)

// The init container renders what the agent's definition says, in the forms that
// the injector has and in those that a pod brings.
func TestTemplates(t *testing.T) {
	w := newChain(t, map[string]string{"TOKEN": rand.Text(), "SSH_KEY": sshKey(t)})
	all, err := json.Marshal(w.values)
	must(t, err)
	for form, row := range map[string]struct {
		annotations map[string]string
		file        string
		mode        fs.FileMode
		want        string
	}{
		"default": {
			map[string]string{"agent-inject-secret-env": "agentchains/env/AGENT"},
			"env", 0o644, "SSH_KEY: " + w.values["SSH_KEY"] + "\nTOKEN: " + w.values["TOKEN"] + "\n",
		},
		"json": {
			map[string]string{"agent-inject-secret-env.json": "agentchains/env/AGENT", "agent-inject-default-template": "json"},
			"env.json", 0o644, string(all) + "\n",
		},
		"custom": {
			map[string]string{
				"agent-inject-secret-url":   "agentchains/env/AGENT",
				"agent-inject-template-url": `{{ with secret "agentchains/env/AGENT" }}https://agent:{{ .Data.TOKEN }}@example.com{{ end }}`,
			},
			"url", 0o644, "https://agent:" + w.values["TOKEN"] + "@example.com",
		},
		"several lines": {
			map[string]string{
				"agent-inject-secret-ssh":   "agentchains/env/AGENT",
				"agent-inject-template-ssh": `{{ with secret "agentchains/env/AGENT" }}{{ .Data.SSH_KEY }}{{ end }}`,
				"agent-inject-file-ssh":     "id_ed25519",
				"agent-inject-perms-ssh":    "0400",
			},
			"id_ed25519", 0o400, w.values["SSH_KEY"],
		},
	} {
		t.Run(form, func(t *testing.T) {
			own := *w
			own.T = t
			n := own.schedule(own.newPod(row.annotations))
			n.initialise()
			if n.file(row.file) != row.want {
				t.Errorf("%s is not what the environment is", row.file)
			}
			info, err := os.Stat(n.path("vault-secrets/" + row.file))
			must(t, err)
			if info.Mode().Perm() != row.mode {
				t.Errorf("%s has mode %v, want %v", row.file, info.Mode().Perm(), row.mode)
			}
		})
	}
}

// sshKey is a new private key, which has several lines.
func sshKey(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	text, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}))
}

// The pod waits for an environment that does not resolve yet, and gets no part of it.
func TestEnvironmentThatDoesNotResolve(t *testing.T) {
	w := newChain(t, map[string]string{"TOKEN": rand.Text()})
	w.write("scopes/chain/"+w.chain, data{"agents": []data{{"name": "Worker", "secrets": []string{"TOKEN", "LATER"}}}})
	n := w.schedule(w.newPod(map[string]string{"agent-inject-secret-env": "agentchains/env/AGENT"}))
	p := n.launch("vault-agent-init")
	must(t, eventually("the container is told why", func() (bool, error) {
		log, err := os.ReadFile(n.path("vault-agent-init.log"))
		return strings.Contains(string(log), "LATER is in no scope"), err
	}))
	if n.file("env") != "" {
		t.Error("a part of the environment is rendered")
	}
	w.give("LATER", rand.Text(), "secrets", data{})
	n.ends(p)
	if n.file("env") != "LATER: "+w.values["LATER"]+"\nTOKEN: "+w.values["TOKEN"]+"\n" {
		t.Error("env is not what the environment is")
	}
}

// While the sidecar runs, a new version is rendered, and the pod's command run,
// before the old version is destroyed.
func TestRotation(t *testing.T) {
	w := newChain(t, map[string]string{"TOKEN": rand.Text()})
	n := w.schedule(w.newPod(map[string]string{
		"agent-inject-secret-token":              "agentchains/env/AGENT",
		"agent-inject-template-token":            `{{ with secret "agentchains/env/AGENT" }}{{ .Data.TOKEN }}{{ end }}`,
		"agent-inject-command-token":             "cp /vault/secrets/token /vault/secrets/seen",
		"template-static-secret-render-interval": "2s",
	}))
	n.launch("vault-agent")
	n.renders("seen", w.values["TOKEN"])
	n.rotates("token")
	n.renders("seen", w.values["TOKEN"])
}

// The timed shape says itself when it changes: without an interval of its own a
// sidecar reads again after creds_max_ttl, not after its five minutes.
func TestRotationOfTheTimedShape(t *testing.T) {
	w := newChain(t, map[string]string{"TOKEN": rand.Text()})
	w.write("config", data{"creds_max_ttl": "5s"})
	n := w.schedule(w.newPod(map[string]string{
		"agent-inject-secret-token":   "agentchains/creds/AGENT",
		"agent-inject-template-token": `{{ with secret "agentchains/creds/AGENT" }}{{ .Data.TOKEN }}{{ end }}`,
	}))
	n.launch("vault-agent")
	n.renders("token", w.values["TOKEN"])
	n.rotates("token")
}

// rotates gives TOKEN a new value, and waits until a file holds it. The old one
// must still be good then.
func (n *node) rotates(file string) {
	n.Helper()
	began := time.Now()
	n.give("TOKEN", rand.Text(), "rotate", data{"min_overlap": "30s"})
	n.renders(file, n.values["TOKEN"])
	n.Logf("%s is rendered after %s", file, time.Since(began).Round(100*time.Millisecond))
	if state := n.read("rotate/"+n.secret("TOKEN"), nil)["state"]; state != "serving" {
		n.Errorf("the rotation is %v by then, want serving", state)
	}
}
