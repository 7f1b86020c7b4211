package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/spf13/cobra"
)

// A login says how a runner gets its token. Secrets come from files and from
// standard input, never from an argument.
type login struct {
	method, mount, role                         string
	roleIDFile, secretIDFile, jwtFile, sinkFile string
	wrapped                                     string
}

const kubernetesToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"

func (l *login) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&l.method, "auth", "", "log in first: approle, jwt, kubernetes or token-file")
	flags.StringVar(&l.mount, "auth-mount", "", "path of the auth method; without it: its name")
	flags.StringVar(&l.role, "auth-role", "", "role, for jwt and kubernetes")
	flags.StringVar(&l.roleIDFile, "role-id-file", "", "file with the role id, for approle")
	flags.StringVar(&l.secretIDFile, "secret-id-file", "", "file with the secret id, for approle")
	flags.StringVar(&l.jwtFile, "jwt-file", kubernetesToken, "file with the token of the workload, for jwt and kubernetes")
	flags.StringVar(&l.sinkFile, "token-file", "", "file with a Vault token, such as Vault Agent's sink, for token-file")
	flags.StringVar(&l.wrapped, "wrapped-token", "", "-: read a wrapped token as the first line of standard input")
}

// client returns a client with the runner's token, and says where an agent could
// find that token.
func (l *login) client(cmd *cobra.Command) (*api.Client, error) {
	client, file, err := l.loggedIn(cmd.Context())
	if err != nil {
		return nil, err
	}
	if file != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "agentchains: the runner's token lies in %s, where the agent can read it: use --auth or VAULT_TOKEN\n", file)
	}
	return client, nil
}

// loggedIn also returns the file that the token stays in, if it does.
func (l *login) loggedIn(ctx context.Context) (client *api.Client, file string, err error) {
	if l.wrapped == "" && l.method == "" {
		return newClient()
	}
	if client, err = api.NewClient(nil); err != nil {
		return nil, "", fmt.Errorf("settings of Vault: %w", err)
	}
	client.ClearToken()
	switch {
	case l.wrapped != "" && l.method != "":
		return nil, "", errors.New("--wrapped-token and --auth exclude each other")
	case l.wrapped == "-":
		return client, "", unwrap(ctx, client, os.Stdin)
	case l.wrapped != "":
		return nil, "", errors.New("--wrapped-token takes - only: a token in an argument can be read by everybody")
	case l.method == "token-file":
		token, err := readSecretFile("--token-file", l.sinkFile)
		client.SetToken(token)
		return client, l.sinkFile, err
	}
	fields, err := l.fields()
	if err != nil {
		return nil, "", err
	}
	mount := l.mount
	if mount == "" {
		mount = l.method
	}
	secret, err := client.Logical().WriteWithContext(ctx, "auth/"+strings.Trim(mount, "/")+"/login", fields)
	if err != nil {
		return nil, "", fmt.Errorf("log in at auth/%s: %w", mount, vaultError(err))
	}
	if secret == nil || secret.Auth == nil {
		return nil, "", fmt.Errorf("auth/%s gives no token", mount)
	}
	client.SetToken(secret.Auth.ClientToken)
	return client, "", nil
}

// fields are what the auth method is logged in with.
func (l *login) fields() (map[string]any, error) {
	switch l.method {
	case "approle":
		id, err := readSecretFile("--role-id-file", l.roleIDFile)
		if err != nil {
			return nil, err
		}
		fields := map[string]any{"role_id": id}
		if l.secretIDFile != "" {
			if fields["secret_id"], err = readSecretFile("--secret-id-file", l.secretIDFile); err != nil {
				return nil, err
			}
		}
		return fields, nil
	case "jwt", "kubernetes":
		jwt, err := readSecretFile("--jwt-file", l.jwtFile)
		return map[string]any{"role": l.role, "jwt": jwt}, err
	}
	return nil, errors.New("--auth must be approle, jwt, kubernetes or token-file")
}

func readSecretFile(flag, path string) (string, error) {
	if path == "" {
		return "", fmt.Errorf("%s is needed", flag)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// unwrap reads one line and takes the token that it wraps. It reads byte by
// byte: what follows the line is the agent's.
func unwrap(ctx context.Context, client *api.Client, in io.Reader) error {
	const most = 4096
	var line []byte
	for one := make([]byte, 1); len(line) < most; {
		if _, err := io.ReadFull(in, one); err != nil {
			return fmt.Errorf("the wrapped token on standard input: %w", err)
		}
		if one[0] == '\n' {
			break
		}
		line = append(line, one[0])
	}
	secret, err := client.Logical().UnwrapWithContext(ctx, string(bytes.TrimSpace(line)))
	if err != nil {
		return fmt.Errorf("unwrap the token: %w", vaultError(err))
	}
	if secret == nil || secret.Auth == nil {
		return errors.New("what was wrapped is no token")
	}
	client.SetToken(secret.Auth.ClientToken)
	return nil
}

func newExecToken() *cobra.Command {
	var role string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:     "exec-token --role ROLE",
		Short:   "Make a wrapped token for a runner on another machine",
		Long:    strings.TrimSpace(execTokenHelp),
		Example: "  agentchains exec-token --role prod-deployer | ssh host agentchains run --wrapped-token - … -- python agent.py",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, _, err := newClient()
			if err != nil {
				return err
			}
			const wrapTTL = "5m"
			client.SetWrappingLookupFunc(func(string, string) string { return wrapTTL })
			fields := map[string]any{}
			if ttl > 0 {
				fields["explicit_max_ttl"] = ttl.String()
			}
			secret, err := client.Logical().WriteWithContext(cmd.Context(), "auth/token/create/"+role, fields)
			if err != nil {
				return fmt.Errorf("create a token of role %s: %w", role, vaultError(err))
			}
			if secret == nil || secret.WrapInfo == nil {
				return errors.New("the token was not wrapped")
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), secret.WrapInfo.Token)
			return err
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "token role, which has the policy of the agent and no other")
	cmd.Flags().DurationVar(&ttl, "max-ttl", 0, "the longest time that the token lives; 0: the role's")
	if err := cmd.MarkFlagRequired("role"); err != nil {
		panic(err) // the flag was added above
	}
	return cmd
}

const execTokenHelp = `
Make a child of this token, of a token role, and print a wrapping token for it,
which can be unwrapped once within 5 minutes. Whoever reads it on its way can
use it, but then the runner cannot, and says so.
`
