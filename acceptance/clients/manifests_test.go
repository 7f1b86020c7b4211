package clients

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// account logs in as the service account of an example does, with the role that
// it names.
func (w *worker) account(namespace, name, mount, role string) *api.Client {
	w.Helper()
	pod := &core.Pod{ObjectMeta: meta.ObjectMeta{Namespace: namespace, Annotations: map[string]string{annotation + "role": role}}}
	pod.Spec.ServiceAccountName = name
	w.allow(pod)
	return w.loggedIn(mount, role, accountToken(w.T, pod))
}

// answer is what a client gets at a path.
func (w *worker) answer(client *api.Client, path string) *api.Secret {
	w.Helper()
	secret, err := client.Logical().ReadWithContext(w.Context(), path)
	must(w.T, err)
	if secret == nil {
		w.Fatalf("there is nothing at %s", path)
	}
	return secret
}

// same compares environments, whose values it does not print.
func (w *worker) same(what string, got, want data) {
	w.Helper()
	if !reflect.DeepEqual(got, want) {
		w.Errorf("%s has the variables %v, want those of the agent, which are %v, and their values",
			what, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// timed takes the times of creds/ out of an answer.
func (w *worker) timed(answer *api.Secret) data {
	w.Helper()
	values := maps.Clone(answer.Data)
	for _, name := range []string{"ttl", "rotation_period", "last_vault_rotation"} {
		if values[name] == nil {
			w.Errorf("creds/ answers no %s", name)
		}
		delete(values, name)
	}
	return values
}

// vaultLogin is how the providers of External Secrets name a login.
type vaultLogin struct {
	Kubernetes struct {
		MountPath, Role   string
		ServiceAccountRef struct{ Name string }
	}
}

// External Secrets reads the key of a remote reference below the path of the
// store, of which a property is one field; a generator reads its path.
func testExternalSecrets(w *worker, env data) {
	logins := func(m manifest, l vaultLogin) *api.Client {
		return w.account(m.Metadata.Namespace, l.Kubernetes.ServiceAccountRef.Name, l.Kubernetes.MountPath, l.Kubernetes.Role)
	}
	type remote struct{ Key, Property string }
	stores, generated := map[string]func(remote) data{}, map[string]data{}
	for _, m := range manifests(w.T, "external-secrets.yaml") {
		switch m.Kind {
		case "SecretStore":
			vault := spec[struct {
				Provider struct {
					Vault struct {
						Path, Version string
						Auth          vaultLogin
					}
				}
			}](w.T, m).Provider.Vault
			if vault.Version != "v1" {
				w.Errorf("the store has version %s, want v1", vault.Version)
			}
			client := logins(m, vault.Auth)
			stores[m.Metadata.Name] = func(r remote) data { return w.answer(client, vault.Path+"/"+r.Key).Data }
		case "VaultDynamicSecret":
			s := spec[struct {
				Path, Method, ResultType string
				Provider                 struct{ Auth vaultLogin }
			}](w.T, m)
			if s.Method != "GET" || s.ResultType != "Data" {
				w.Errorf("the generator sends %s and takes %s", s.Method, s.ResultType)
			}
			generated[m.Metadata.Name] = w.timed(w.answer(logins(m, s.Provider.Auth), s.Path))
		case "ExternalSecret":
			s := spec[struct {
				SecretStoreRef struct{ Name string }
				DataFrom       []struct {
					Extract   *remote
					SourceRef struct{ GeneratorRef struct{ Name string } }
				}
				Data []struct {
					SecretKey string
					RemoteRef remote
				}
			}](w.T, m)
			for _, from := range s.DataFrom {
				if from.Extract != nil {
					w.same(m.Metadata.Name, stores[s.SecretStoreRef.Name](*from.Extract), env)
				} else {
					w.same(m.Metadata.Name, generated[from.SourceRef.GeneratorRef.Name], env)
				}
			}
			for _, one := range s.Data {
				if value := stores[s.SecretStoreRef.Name](one.RemoteRef)[one.RemoteRef.Property]; value == nil || value != env[one.RemoteRef.Property] {
					w.Errorf("%s is not the value of %s", one.SecretKey, one.RemoteRef.Property)
				}
			}
		}
	}
}

// The Vault Secrets Operator reads the path of a secret below its mount, with the
// login that the secret names.
func testVaultSecretsOperator(w *worker, env data) {
	clients, read := map[string]*api.Client{}, 0
	for _, m := range manifests(w.T, "vault-secrets-operator.yaml") {
		switch m.Kind {
		case "VaultAuth":
			auth := spec[struct {
				Mount      string
				Kubernetes struct{ Role, ServiceAccount string }
			}](w.T, m)
			clients[m.Metadata.Name] = w.account(m.Metadata.Namespace, auth.Kubernetes.ServiceAccount, auth.Mount, auth.Kubernetes.Role)
		case "VaultStaticSecret", "VaultDynamicSecret":
			s := spec[struct {
				VaultAuthRef, Type, Mount, Path string
				AllowStaticCreds                bool
			}](w.T, m)
			answer := w.answer(clients[s.VaultAuthRef], s.Mount+"/"+s.Path)
			if m.Kind == "VaultStaticSecret" {
				if s.Type != "kv-v1" {
					w.Errorf("the static secret is of type %s", s.Type)
				}
				w.same(m.Metadata.Name, answer.Data, env)
			} else {
				rotated, err := time.Parse(time.RFC3339Nano, fmt.Sprint(answer.Data["last_vault_rotation"]))
				if err != nil || rotated.Unix() <= 0 || answer.Renewable || !s.AllowStaticCreds {
					w.Errorf("it is no static credential of %s: %v", rotated, err)
				}
				w.same(m.Metadata.Name, w.timed(answer), env)
			}
			read++
		}
	}
	if read != 2 {
		w.Errorf("%d secrets were read, want a static and a dynamic one", read)
	}
}

// The Vault provider of the CSI driver reads each object's path, and writes the
// field secretKey to a file.
func testSecretsStore(w *worker, env data) {
	all := manifests(w.T, "secrets-store.yaml")
	class, pod := all[0], spec[core.PodSpec](w.T, all[1])
	if volume := pod.Volumes[0].CSI; volume == nil || volume.VolumeAttributes["secretProviderClass"] != class.Metadata.Name {
		w.Errorf("the pod mounts nothing of %s", class.Metadata.Name)
	}
	s := spec[struct{ Parameters map[string]string }](w.T, class)
	var objects []struct {
		ObjectName, SecretPath, SecretKey string
	}
	must(w.T, yaml.UnmarshalStrict([]byte(s.Parameters["objects"]), &objects))
	delete(s.Parameters, "objects")
	if names := slices.Sorted(maps.Keys(s.Parameters)); !slices.Equal(names, []string{"roleName", "vaultAddress"}) {
		w.Errorf("the class has the parameters %v", names)
	}
	client := w.account(class.Metadata.Namespace, pod.ServiceAccountName, kubernetesAuth, s.Parameters["roleName"])
	for _, o := range objects {
		if value := w.answer(client, o.SecretPath).Data[o.SecretKey]; value == nil || value != env[o.ObjectName] {
			w.Errorf("the file %s is not the value of the variable", o.ObjectName)
		}
	}
	if len(objects) == 0 {
		w.Error("the class has no objects")
	}
}

// Whoever takes the examples as they are gets the environment of the agent.
func TestExamples(t *testing.T) {
	needVault(t)
	w := &worker{T: t, mount: "agentchains", chain: "deploy-pipeline", agent: "prod/deploy-pipeline/Deployer", values: map[string]string{}}
	must(t, vault.client.Sys().Mount(w.mount, &api.MountInput{Type: "agentchains"}))
	w.writeExamples()
	w.give("DATABASE_URL", "several\nlines of $HOME", "secrets", data{})
	env := w.read("env/"+w.agent, nil)
	for name, test := range map[string]func(*worker, data){
		"External Secrets":       testExternalSecrets,
		"Vault Secrets Operator": testVaultSecretsOperator,
		"Secrets Store":          testSecretsStore,
		"Docker Compose":         testCompose,
		"GitHub Actions":         testWorkflow,
	} {
		t.Run(name, func(t *testing.T) {
			own := *w
			own.T = t
			test(&own, env)
		})
	}
}
