package clients

import (
	"crypto/rand"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	core "k8s.io/api/core/v1"
)

// worker is an agent in a mount of its own, and the service account of its pods.
type worker struct {
	*testing.T
	mount  string
	chain  string
	agent  string            // its path: prod/<chain>/<agent>
	values map[string]string // its environment
	known  []string          // every value that it ever had
}

// newWorker mounts the engine for an agent of a chain.
func newWorker(t *testing.T, chain, agent string) *worker {
	t.Helper()
	needVault(t)
	w := &worker{T: t, mount: "mount-" + rand.Text(), chain: chain, agent: "prod/" + chain + "/" + agent, values: map[string]string{}}
	must(t, vault.client.Sys().Mount(w.mount, &api.MountInput{Type: "agentchains"}))
	return w
}

// newChain stores a chain of one agent, Worker, that sees some secrets of the chain.
func newChain(t *testing.T, secrets map[string]string) *worker {
	t.Helper()
	w := newWorker(t, t.Name(), "Worker")
	for name, value := range secrets {
		w.give(name, value, "secrets", data{})
	}
	w.write("scopes/chain/"+w.chain, data{"agents": []data{{"name": "Worker", "secrets": slices.Collect(maps.Keys(secrets))}}})
	return w
}

// secret is the path of a secret of the chain.
func (w *worker) secret(name string) string { return "prod/chain/" + w.chain + "/" + name }

// give writes a value of a secret through one of the doors for it.
func (w *worker) give(name, value, door string, body data) {
	w.Helper()
	body["value"] = value
	w.write(door+"/"+w.secret(name), body)
	w.values[name], w.known = value, append(w.known, value)
}

// newPod is the pod of the examples with other annotations, in which AGENT
// stands for the agent's path.
func (w *worker) newPod(annotations map[string]string) *core.Pod {
	w.Helper()
	pod := examplePod(w.T)
	pod.Spec.ServiceAccountName = strings.ToLower(w.chain)
	pod.Annotations = map[string]string{annotation + "agent-inject": "true", annotation + "role": w.chain}
	for name, text := range annotations {
		pod.Annotations[annotation+name] = strings.ReplaceAll(text, "AGENT", w.agent)
	}
	return pod
}

// allow lets the service account of a pod log in, with the policy that the
// engine recommends for the worker.
func (w *worker) allow(pod *core.Pod) {
	w.Helper()
	w.allowSubject(kubernetesAuth, pod.Annotations[annotation+"role"], subject(pod), issuer)
}

// allowSubject is allow for any workload that has a signed token.
func (w *worker) allowSubject(mount, role, subject, audience string) {
	w.Helper()
	must(w.T, vault.client.Sys().PutPolicy(role, w.read("policy/"+w.agent, nil)["policy"].(string)))
	_, err := vault.client.Logical().Write("auth/"+mount+"/role/"+role, data{
		"role_type": "jwt", "user_claim": "sub", "bound_subject": subject, "bound_audiences": []string{audience},
		"token_policies": []string{role},
	})
	must(w.T, err)
}

// loggedIn returns a client with the token of a workload's role.
func (w *worker) loggedIn(mount, role, jwt string) *api.Client {
	w.Helper()
	client, err := vault.client.Clone()
	must(w.T, err)
	secret, err := client.Logical().Write("auth/"+mount+"/login", data{"role": role, "jwt": jwt})
	must(w.T, err)
	client.SetToken(secret.Auth.ClientToken)
	return client
}

func (w *worker) write(path string, body data) {
	w.Helper()
	_, err := vault.client.Logical().WriteWithContext(w.Context(), w.mount+"/"+path, body)
	must(w.T, err)
}

func (w *worker) read(path string, query map[string][]string) data {
	w.Helper()
	secret, err := vault.client.Logical().ReadWithDataWithContext(w.Context(), w.mount+"/"+path, query)
	must(w.T, err)
	if secret == nil {
		w.Fatalf("there is no %s", path)
	}
	return secret.Data
}
