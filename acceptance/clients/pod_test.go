package clients

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch"
	"github.com/hashicorp/go-hclog"
	inject "github.com/hashicorp/vault-k8s/agent-inject"
	"github.com/hashicorp/vault-k8s/agent-inject/agent"
	admission "k8s.io/api/admission/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

const (
	annotation = "vault.hashicorp.com/"
	accounts   = "/var/run/secrets/kubernetes.io/serviceaccount"
	issuer     = "https://kubernetes.default.svc.cluster.local"
)

// examplePod is the pod of the examples as the API server shows it to webhooks:
// with the token of its service account mounted.
func examplePod(t *testing.T) *core.Pod {
	t.Helper()
	text, err := os.ReadFile("../../examples/kubernetes/pod.yaml")
	must(t, err)
	var pod core.Pod
	must(t, yaml.UnmarshalStrict(text, &pod))
	pod.Spec.Volumes = append(pod.Spec.Volumes, core.Volume{Name: "kube-api-access", VolumeSource: core.VolumeSource{
		Projected: &core.ProjectedVolumeSource{Sources: []core.VolumeProjection{
			{ServiceAccountToken: &core.ServiceAccountTokenProjection{Path: "token"}},
		}},
	}})
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		c.VolumeMounts = append(c.VolumeMounts, core.VolumeMount{Name: "kube-api-access", MountPath: accounts, ReadOnly: true})
	}
	return &pod
}

// admit sends a pod to the injector's webhook as the API server does, and
// returns it with the patch of the answer.
func admit(t *testing.T, pod *core.Pod) *core.Pod {
	t.Helper()
	handler := &inject.Handler{
		VaultAddress: vault.address, VaultAuthType: agent.DefaultVaultAuthType, VaultAuthPath: "auth/" + kubernetesAuth, ImageVault: agent.DefaultVaultImage,
		UserID: "100", GroupID: "1000", DefaultTemplate: agent.DefaultTemplateType, ExitOnRetryFailure: true, Log: hclog.NewNullLogger(),
	}
	object, err := json.Marshal(pod)
	must(t, err)
	review, err := json.Marshal(admission.AdmissionReview{
		TypeMeta: meta.TypeMeta{APIVersion: admission.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Request: &admission.AdmissionRequest{
			UID: "1", Kind: meta.GroupVersionKind{Version: "v1", Kind: "Pod"}, Operation: admission.Create,
			Namespace: pod.Namespace, Object: runtime.RawExtension{Raw: object},
		},
	})
	must(t, err)
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/mutate", bytes.NewReader(review))
	req.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	handler.Handle(recorder, req)
	var answer admission.AdmissionReview
	must(t, json.Unmarshal(recorder.Body.Bytes(), &answer))
	if answer.Response == nil || !answer.Response.Allowed || len(answer.Response.Patch) == 0 {
		t.Fatalf("the webhook does not inject: %s", recorder.Body)
	}
	patch, err := jsonpatch.DecodePatch(answer.Response.Patch)
	must(t, err)
	object, err = patch.Apply(object)
	must(t, err)
	var admitted core.Pod
	must(t, json.Unmarshal(object, &admitted))
	return &admitted
}

// containerOf finds a container, also among those that run first.
func containerOf(t *testing.T, pod *core.Pod, name string) core.Container {
	t.Helper()
	all := slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
	i := slices.IndexFunc(all, func(c core.Container) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("the pod has no container %s", name)
	}
	return all[i]
}

// subject is a service account as its tokens name it.
func subject(pod *core.Pod) string {
	return "system:serviceaccount:" + pod.Namespace + ":" + pod.Spec.ServiceAccountName
}

// accountToken signs the token of a pod's service account, as a cluster does.
func accountToken(t *testing.T, pod *core.Pod) string {
	t.Helper()
	return signed(t, subject(pod), issuer)
}

// signed returns the token of a workload, signed as its platform does.
func signed(t *testing.T, subject, audience string) string {
	t.Helper()
	now := time.Now()
	claims, err := json.Marshal(data{
		"iss": issuer, "sub": subject, "aud": []string{audience},
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	must(t, err)
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, vault.key, crypto.SHA256, sum[:])
	must(t, err)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
