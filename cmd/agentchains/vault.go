package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/cliconfig"
)

// newClient returns a client that is set up as the vault command's is, and the
// file that its token is in, if it is in one.
func newClient() (client *api.Client, file string, err error) {
	if client, err = api.NewClient(nil); err != nil {
		return nil, "", fmt.Errorf("settings of Vault: %w", err)
	}
	if client.Token() != "" {
		return client, "", nil
	}
	helper, err := cliconfig.DefaultTokenHelper()
	if err != nil {
		return nil, "", fmt.Errorf("token helper: %w", err)
	}
	token, err := helper.Get()
	if err != nil {
		return nil, "", fmt.Errorf("token helper: %w", err)
	}
	if token == "" {
		return nil, "", errors.New("there is no token: run vault login, or set VAULT_TOKEN")
	}
	client.SetToken(token)
	return client, helper.Path(), nil
}

// readVault reads a path below the mount, and returns the data of the answer.
func readVault(ctx context.Context, client *api.Client, mount, path string) (json.RawMessage, error) {
	path = strings.Trim(mount, "/") + "/" + path
	response, err := client.Logical().ReadRawWithContext(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, vaultError(err))
	}
	defer response.Body.Close()
	var answer struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("read %s: decode: %w", path, err)
	}
	return answer.Data, nil
}

// vaultError makes one line of an error of Vault's API, which takes several.
func vaultError(err error) error {
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		return err
	}
	texts := make([]string, len(answer.Errors))
	for i, text := range answer.Errors {
		texts[i] = oneLine(text)
	}
	text := strings.Join(texts, "; ")
	if text == "" {
		text = http.StatusText(answer.StatusCode)
	}
	return fmt.Errorf("%s (%d)", text, answer.StatusCode)
}

// oneLine returns the text of an error that Vault may have wrapped as a list.
func oneLine(text string) string {
	_, list, wrapped := strings.Cut(text, "occurred:")
	if !wrapped {
		list = text
	}
	var parts []string
	for line := range strings.Lines(list) {
		if line = strings.TrimPrefix(strings.TrimSpace(line), "* "); line != "" {
			parts = append(parts, line)
		}
	}
	return strings.Join(parts, "; ")
}
