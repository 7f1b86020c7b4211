package clients

import (
	"crypto/rand"
	"slices"
	"testing"
)

// leased is a pod whose sidecar starts an execution: a secret with an argument
// is a write. An init container would start one of its own.
func leased(argument string) map[string]string {
	template := `{{ with secret "agentchains/executions/AGENT" "` + argument + `" }}`
	return map[string]string{
		"agent-pre-populate":          "false",
		"agent-revoke-on-shutdown":    "true",
		"agent-revoke-grace":          "1",
		"agent-inject-secret-token":   "agentchains/executions/AGENT",
		"agent-inject-template-token": template + `{{ .Data.env.TOKEN }}{{ end }}`,
		"agent-inject-secret-id":      "agentchains/executions/AGENT",
		"agent-inject-template-id":    template + `{{ .Data.execution_id }}{{ end }}`,
	}
}

// The leased form is one execution, however many templates read it. The sidecar
// renews its lease at once, so Vault keeps no copy of the environment, and it
// ends when the hook of the pod revokes the token.
func TestLeasedForm(t *testing.T) {
	w := newChain(t, map[string]string{"TOKEN": rand.Text()})
	n := w.schedule(w.newPod(leased("workspace=kubernetes")))
	n.launch("vault-agent")
	n.renders("token", w.values["TOKEN"])
	id := n.started("")
	if x := n.execution(id); x["state"] != "active" || x["workspace"] != "kubernetes" {
		t.Errorf("the execution is %v in %v", x["state"], x["workspace"])
	}
	must(t, eventually("the lease is renewed", func() (bool, error) { return n.lease()["last_renewal"] != nil, nil }))

	sidecar := containerOf(t, n.pod, "vault-agent")
	must(t, n.command(sidecar, sidecar.Lifecycle.PreStop.Exec.Command...).Run())
	must(t, eventually("the execution has ended", func() (bool, error) { return n.execution(id)["state"] == "expired", nil }))
}

// After an emergency the lease is not renewed, and the sidecar starts the pod's
// next execution, with the new value. Nobody acknowledges the end of the first.
func TestLeasedFormAfterAnEmergency(t *testing.T) {
	w := newChain(t, map[string]string{"TOKEN": rand.Text()})
	n := w.schedule(w.newPod(leased("ttl=6s")))
	n.launch("vault-agent")
	n.renders("token", w.values["TOKEN"])
	id := n.started("")
	w.give("TOKEN", rand.Text(), "revoke/secret", data{"reason": "a test"})
	n.renders("token", w.values["TOKEN"])
	n.started(id)
	must(t, eventually("the first execution is lost", func() (bool, error) { return n.execution(id)["state"] == "lost", nil }))
}

// started waits for the id of an execution that is not the one before, and is
// the only active one.
func (n *node) started(before string) (id string) {
	n.Helper()
	must(n.T, eventually("another id is rendered", func() (bool, error) {
		id = n.file("id")
		return id != "" && id != before, nil
	}))
	active := slices.DeleteFunc(list(n.T, n.mount+"/executions/"+n.agent), func(id string) bool { return n.execution(id)["state"] != "active" })
	if !slices.Equal(active, []string{id}) {
		n.Fatalf("the active executions are %v, want %s alone", active, id)
	}
	return id
}

func (n *node) execution(id string) data {
	n.Helper()
	return n.read("executions/"+n.agent, map[string][]string{"id": {id}})
}

// lease is the only lease of the agent, as Vault knows it.
func (n *node) lease() data {
	n.Helper()
	path := n.mount + "/executions/" + n.agent
	ids := list(n.T, "sys/leases/lookup/"+path)
	if len(ids) != 1 {
		n.Fatalf("there are %d leases, want one", len(ids))
	}
	secret, err := vault.client.Logical().WriteWithContext(n.Context(), "sys/leases/lookup", data{"lease_id": path + "/" + ids[0]})
	must(n.T, err)
	return secret.Data
}

func list(t *testing.T, path string) (keys []string) {
	t.Helper()
	secret, err := vault.client.Logical().ListWithContext(t.Context(), path)
	must(t, err)
	if secret == nil {
		t.Fatalf("there is nothing in %s", path)
	}
	for _, key := range secret.Data["keys"].([]any) {
		keys = append(keys, key.(string))
	}
	return keys
}
