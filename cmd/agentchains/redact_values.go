package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// valueSources say where the values to redact come from. An argument can be
// read by everybody, so none of them holds a value.
type valueSources struct {
	agent     agentFlags
	login     login
	fd        int
	variables []string
}

func (s *valueSources) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&s.agent.environment, "env", "", "redact what an agent is given: in this environment, such as prod")
	flags.StringVar(&s.agent.chain, "chain", "", "the chain of that agent, such as billing/dunning")
	flags.StringVar(&s.agent.agent, "agent", "", "the agent of the chain")
	cmd.MarkFlagsRequiredTogether("env", "chain", "agent")
	s.login.add(cmd)
	flags.IntVar(&s.fd, "values-fd", 0, "redact the values that can be read from this file descriptor")
	flags.StringSliceVar(&s.variables, "variables", nil, "redact the values of these variables of this environment")
}

// read returns the values of all sources. filter says that standard input is
// the text.
func (s *valueSources) read(cmd *cobra.Command, mount string, filter bool) ([]redact.Secret, error) {
	var list []redact.Secret
	if s.agent.environment != "" {
		env, err := s.vault(cmd, mount)
		if err != nil {
			return nil, err
		}
		list = append(list, env...)
	} else if s.login.method != "" || s.login.wrapped != "" {
		return nil, errors.New("--auth and --wrapped-token need --env, --chain and --agent")
	}
	if cmd.Flags().Changed("values-fd") {
		given, err := s.descriptor(filter)
		if err != nil {
			return nil, fmt.Errorf("--values-fd: %w", err)
		}
		list = append(list, given...)
	}
	for _, name := range s.variables {
		value, ok := os.LookupEnv(name)
		if !ok {
			return nil, fmt.Errorf("--variables: there is no %s in this environment", name)
		}
		list = append(list, redact.Secret{Name: name, Value: value})
	}
	return list, nil
}

func (s *valueSources) descriptor(filter bool) ([]redact.Secret, error) {
	if s.fd < 0 || s.fd == 1 || s.fd == 2 || s.fd == 0 && filter {
		return nil, errors.New("the descriptor must be one of its own, such as 3")
	}
	from := os.NewFile(uintptr(s.fd), "descriptor")
	defer from.Close()
	return readValues(from)
}

// vault reads what the agent is given now.
func (s *valueSources) vault(cmd *cobra.Command, mount string) ([]redact.Secret, error) {
	path, err := s.agent.path()
	if err != nil {
		return nil, err
	}
	client, _, err := s.login.loggedIn(cmd.Context())
	if err != nil {
		return nil, err
	}
	data, err := readVault(cmd.Context(), client, mount, "env/"+path)
	if err != nil {
		return nil, err
	}
	return parseObject(data)
}

const (
	mostValues = 1 << 20 // bytes
	notValues  = "the values must be a JSON object of strings, or lines NAME=value"
)

// valueName is what may stand in a marker.
var valueName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,127}$`)

// readValues reads a JSON object or lines. Its errors name no content, which
// may be a value in the wrong place.
func readValues(from io.Reader) ([]redact.Secret, error) {
	text, err := io.ReadAll(io.LimitReader(from, mostValues+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > mostValues:
		return nil, errors.New("the values are longer than 1 MiB")
	case bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")):
		return parseObject(text)
	}
	var list []redact.Secret
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || !valueName.MatchString(name) {
			return nil, fmt.Errorf("line %d: %s", number, notValues)
		}
		list = append(list, redact.Secret{Name: name, Value: value})
	}
	return list, nil
}

func parseObject(text []byte) ([]redact.Secret, error) {
	var values map[string]string
	if json.Unmarshal(text, &values) != nil {
		return nil, errors.New(notValues)
	}
	var list []redact.Secret
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !valueName.MatchString(name) {
			return nil, errors.New(notValues)
		}
		list = append(list, redact.Secret{Name: name, Value: values[name]})
	}
	return list, nil
}
