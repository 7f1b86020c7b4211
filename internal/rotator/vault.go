package rotator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// vaultType reads dynamic credentials of another engine of a Vault. Each version
// has a token of its own there, and ends with it.
var vaultType = &Type{
	Name: "vault",
	Fields: []Field{
		{Name: "address", Kind: Text, Required: true, Address: true, Description: "The address of the Vault."},
		{Name: "namespace", Kind: Text, Description: "The namespace of the auth method and of the engine."},
		{Name: "mount", Kind: Text, Default: "approle", Description: "Where AppRole is mounted, below auth/."},
		{Name: "role_id", Kind: Text, Required: true, Description: "The RoleID of the AppRole, whose tokens must be of the type service and have the policy default."},
		{Name: "secret_id", Kind: Text, Required: true, Sensitive: true, Description: "A SecretID of the AppRole."},
		{Name: "path", Kind: Text, Required: true, Description: "What is read, such as database/creds/reader."},
		caField,
		templateField,
	},
	FarSide: true,
	New: func(s Settings, h Host) (Rotator, error) {
		u, err := endpoint(s, h, "address")
		if err != nil {
			return nil, err
		}
		client, err := httpClient(s, h)
		if err != nil {
			return nil, err
		}
		v := &vault{
			client: client, address: u, namespace: Get[string](s, "namespace"), path: Get[string](s, "path"), mount: Get[string](s, "mount"),
			roleID: Get[string](s, "role_id"), secretID: Get[sensitive.String](s, "secret_id"), templates: Get[map[string]string](s, "template"),
		}
		for field, path := range map[string]string{"path": v.path, "mount": v.mount} {
			if path == "" || strings.Contains(path, "..") {
				return nil, fmt.Errorf("%s must be a path in Vault", field)
			}
		}
		if len(v.templates) == 0 {
			return nil, errors.New("template must be given, since each engine names the fields of its credentials")
		}
		return v, nil
	},
	Keep: func(ctx context.Context, r Rotator, version *Version) (again, end time.Time, err error) {
		return r.(*vault).keep(ctx, version)
	},
}

type vault struct {
	client                 *http.Client
	address                *url.URL
	namespace, path, mount string
	roleID                 string
	secretID               sensitive.String
	templates              map[string]string
}

// What the memo of a version holds.
const (
	vaultToken = "token"
	vaultLease = "lease_id"
)

func (v *vault) Create(ctx context.Context, job *Job) error {
	if job.New.Values != nil {
		return nil
	}
	// With its token goes what the last try may have read.
	if err := v.revoke(ctx, &job.New); err != nil {
		return err
	}
	token, err := v.login(ctx)
	if err != nil {
		return err
	}
	job.New.Memo = map[string]sensitive.String{vaultToken: token}
	if err := job.Save(ctx); err != nil {
		return err
	}
	answer, err := v.call(ctx, token, http.MethodGet, v.path, nil)
	if err != nil {
		return err
	}
	if answer.LeaseID == "" {
		return fmt.Errorf("path: %s gives no lease, so nothing could remove what it gave", v.path)
	}
	job.New.Memo[vaultLease] = sensitive.New(answer.LeaseID)
	fields := make(map[string]sensitive.String, len(answer.Data))
	for name, value := range answer.Data {
		fields[name] = asText(value)
	}
	values, err := render(job, v.templates, fields)
	if err != nil {
		return err
	}
	job.New.Values = values
	return nil
}

func (*vault) Set(context.Context, *Job) error { return nil }

// Test asks for the lease, which ends with the credential.
func (v *vault) Test(ctx context.Context, job *Job) error {
	_, err := v.call(ctx, job.New.Memo[vaultToken], http.MethodPost, "sys/leases/lookup", leaseOf(&job.New))
	return err
}

func (v *vault) Finish(ctx context.Context, job *Job) error {
	if job.Promoted {
		return v.revoke(ctx, &job.Old)
	}
	return v.revoke(ctx, &job.New)
}

// login returns a token for one version.
func (v *vault) login(ctx context.Context) (sensitive.String, error) {
	answer, err := v.call(ctx, sensitive.String{}, http.MethodPost, "auth/"+v.mount+"/login", map[string]string{
		"role_id": v.roleID, "secret_id": v.secretID.Reveal(),
	})
	if err != nil {
		return sensitive.String{}, err
	}
	if answer.Auth.TokenType != "service" || answer.Auth.NumUses != 0 {
		return sensitive.String{}, errors.New("role_id: the role must give tokens of the type service, without a limit of uses, so that they can be revoked")
	}
	return sensitive.New(answer.Auth.ClientToken), nil
}

// revoke ends the token of a version, which ends its leases. That it has ended
// before is as good.
func (v *vault) revoke(ctx context.Context, version *Version) error {
	token := version.Memo[vaultToken]
	if token.Len() == 0 {
		return nil
	}
	_, err := v.call(ctx, token, http.MethodPost, "auth/token/revoke-self", nil)
	// A policy that does not let it revoke itself has the same status.
	if r := (*refusal)(nil); errors.As(err, &r) && r.status == http.StatusForbidden && bytes.Contains(r.body, []byte("invalid token")) {
		return nil
	}
	return err
}

// keep renews the token and the lease of a version. The lease ends with its
// token, whatever its own time is. A version that was not read here has neither,
// and no end.
func (v *vault) keep(ctx context.Context, version *Version) (again, end time.Time, err error) {
	if version.Memo[vaultToken].Len() == 0 {
		return time.Time{}, time.Time{}, nil
	}
	now := time.Now()
	token, err := v.renew(ctx, version, http.MethodGet, "auth/token/lookup-self", "auth/token/renew-self", nil)
	if err != nil {
		return time.Time{}, time.Time{}, err
	}
	lease, err := v.renew(ctx, version, http.MethodPost, "sys/leases/lookup", "sys/leases/renew", leaseOf(version))
	if err != nil {
		return time.Time{}, time.Time{}, err
	}
	left := time.Duration(min(token, lease)) * time.Second
	return now.Add(max(left/2, time.Second)), now.Add(left), nil
}

// renew returns how many seconds a token or a lease has left, after it was
// renewed if it can be.
func (v *vault) renew(ctx context.Context, version *Version, lookupMethod, lookupPath, renewPath string, body map[string]string) (left int, err error) {
	token := version.Memo[vaultToken]
	answer, err := v.call(ctx, token, lookupMethod, lookupPath, body)
	if err != nil {
		return 0, err
	}
	var renewable bool
	if json.Unmarshal(answer.Data["renewable"], &renewable) != nil || json.Unmarshal(answer.Data["ttl"], &left) != nil {
		return 0, fmt.Errorf("%s says nothing of renewable and ttl", lookupPath)
	}
	if !renewable {
		return left, nil
	}
	answer, err = v.call(ctx, token, http.MethodPost, renewPath, body)
	if err != nil {
		return 0, err
	}
	return max(answer.LeaseDuration, answer.Auth.LeaseDuration), nil
}

func leaseOf(version *Version) map[string]string {
	return map[string]string{"lease_id": version.Memo[vaultLease].Reveal()}
}

// vaultAnswer is what of Vault's answers is of use here.
type vaultAnswer struct {
	LeaseID       string                     `json:"lease_id"`
	LeaseDuration int                        `json:"lease_duration"`
	Data          map[string]json.RawMessage `json:"data"`
	Auth          struct {
		ClientToken   string `json:"client_token"`
		LeaseDuration int    `json:"lease_duration"`
		TokenType     string `json:"token_type"`
		NumUses       int    `json:"num_uses"`
	} `json:"auth"`
}

// asText returns a JSON string's text, and anything else as it is written.
func asText(value json.RawMessage) sensitive.String {
	var text string
	if json.Unmarshal(value, &text) != nil {
		text = string(value)
	}
	return sensitive.New(text)
}

// call sends a request to a path of the API.
func (v *vault) call(ctx context.Context, token sensitive.String, method, path string, body map[string]string) (*vaultAnswer, error) {
	header := http.Header{"X-Vault-Request": {"true"}}
	if v.namespace != "" {
		header.Set("X-Vault-Namespace", v.namespace)
	}
	if token.Len() > 0 {
		header.Set("X-Vault-Token", token.Reveal())
	}
	var sent []byte
	if body != nil {
		sent, _ = json.Marshal(body) // strings only
	}
	var answer vaultAnswer
	if err := call(ctx, v.client, method, v.address.JoinPath("v1", path), header, sent, &answer); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &answer, nil
}
