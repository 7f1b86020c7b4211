//go:build linux

package main

import (
	"context"
	"fmt"
	"net/http"
	"path"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/sample"
	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/table"
)

// allow is the part of a policy that gives a capability on some paths.
func allow(capability string, paths ...string) string {
	policy := ""
	for _, path := range paths {
		policy += fmt.Sprintf("path %q { capabilities = [%q] }\n", path, capability)
	}
	return policy
}

// clients returns clients with one token, which has the policy and no other.
func (v *vault) clients(ctx context.Context, n int, policy string) ([]*client, error) {
	if err := v.put(ctx, "sys/policies/acl/bench", body{"policy": policy}); err != nil {
		return nil, err
	}
	token, err := v.createToken(ctx, "bench")
	if err != nil {
		return nil, err
	}
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = newClient(v.address, token)
	}
	return clients, nil
}

// createToken returns a token with one policy. It is not a lease of
// auth/token/create, of which all are revoked.
func (v *vault) createToken(ctx context.Context, policy string) (string, error) {
	var created struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		}
	}
	// Vault parses the default policy anew for each request, because it is a
	// template. That would level what is compared.
	wanted := body{"policies": []string{policy}, "no_default_policy": true}
	err := v.call(ctx, http.MethodPost, "auth/token/create-orphan", wanted, &created)
	return created.Auth.ClientToken, err
}

// putSample stores the secrets of the sample and the chain that refers to them.
func (v *vault) putSample(ctx context.Context, mount string) error {
	var names []string
	for _, s := range sample.Scopes {
		for _, name := range s.Names {
			if err := v.put(ctx, path.Join(mount, "secrets", s.Place, name), body{"value": sample.Value(name)}); err != nil {
				return err
			}
			names = append(names, name)
		}
	}
	group := path.Join(mount, "groups", sample.GroupPlace, sample.Group)
	if err := v.put(ctx, group, body{"values": sample.Values(sample.Members)}); err != nil {
		return err
	}
	project := path.Join(mount, "scopes/project", sample.Project)
	if err := v.put(ctx, project, body{"chains_allowed": []string{sample.Chain}}); err != nil {
		return err
	}
	return v.put(ctx, path.Join(mount, "scopes/chain", sample.Chain), body{
		"project": sample.Project,
		"agents":  []body{{"name": sample.Agent, "secrets": names, "groups": []string{sample.Group}}},
	})
}

// fill stores filling secrets, in as many requests as Vault's time limit asks for.
func (v *vault) fill(ctx context.Context, mount string, size int) error {
	const batch = 5_000
	for from := 0; from < size; from += batch {
		if from%(5*batch) == 0 {
			progress("filling %s: %s of %s", mount, table.Thousands(from), table.Thousands(size))
		}
		if err := v.put(ctx, fmt.Sprintf("%s/fill/%d/%d", mount, from, min(from+batch, size)), nil); err != nil {
			return err
		}
	}
	return nil
}
