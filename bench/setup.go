package main

import (
	"context"
	"fmt"
	"net/http"
	"path"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/sample"
)

// readers returns clients with a token that may read what is measured, and no more.
func (v *vault) readers(ctx context.Context, n int) ([]*client, error) {
	policy := ""
	for _, allowed := range []string{"+/env/*", "+/reveal/*", "floor/constant", "secret/data/*"} {
		policy += fmt.Sprintf("path %q { capabilities = [\"read\"] }\n", allowed)
	}
	if err := v.put(ctx, "sys/policies/acl/bench", body{"policy": policy}); err != nil {
		return nil, err
	}
	var created struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		}
	}
	// Vault parses the default policy anew for each request, because it is a
	// template. That would level what is compared.
	wanted := body{"policies": []string{"bench"}, "no_default_policy": true}
	if err := v.call(ctx, http.MethodPost, "auth/token/create", wanted, &created); err != nil {
		return nil, err
	}
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = newClient(v.address, created.Auth.ClientToken)
	}
	return clients, nil
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
	const batch = 25_000
	for from := 0; from < size; from += batch {
		progress("filling %s: %s of %s", mount, thousands(from), thousands(size))
		if err := v.put(ctx, fmt.Sprintf("%s/fill/%d/%d", mount, from, min(from+batch, size)), nil); err != nil {
			return err
		}
	}
	return nil
}
