package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/api"
	"github.com/spf13/cobra"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// agentFlags name one agent in one environment.
type agentFlags struct {
	environment, chain, agent string
}

func (f *agentFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.environment, "env", "", "environment, such as prod")
	cmd.Flags().StringVar(&f.chain, "chain", "", "chain, such as billing/dunning")
	cmd.Flags().StringVar(&f.agent, "agent", "", "agent of the chain")
	for _, name := range []string{"env", "chain", "agent"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flag was added above
		}
	}
}

// path returns the agent as paths of the engine name it.
func (f *agentFlags) path() (string, error) {
	if err := scope.CheckEnvironment(f.environment); err != nil {
		return "", fmt.Errorf("--env %w", err)
	}
	if err := scope.CheckChain(f.chain); err != nil {
		return "", fmt.Errorf("--chain %w", err)
	}
	if err := scope.CheckSegment(f.agent); err != nil {
		return "", fmt.Errorf("--agent %w", err)
	}
	return f.environment + "/" + f.chain + "/" + f.agent, nil
}

// An explanation is the answer of explain/.
type explanation struct {
	Resolves   bool        `json:"resolves"`
	Error      string      `json:"error"`
	References []reference `json:"references"`
}

type reference struct {
	Kind        string   `json:"kind"`
	Name        string   `json:"name"`
	Found       bool     `json:"found"`
	Scope       string   `json:"scope"`
	Environment string   `json:"environment"`
	Version     int      `json:"version"`
	Variables   []string `json:"variables"`
	Reason      string   `json:"reason"`
	Looked      []string `json:"looked"`
}

func newExplain(mount *string) *cobra.Command {
	var agent agentFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "explain --env ENVIRONMENT --chain CHAIN --agent AGENT",
		Short:   "Explain where an agent's variables come from, or why they do not",
		Long:    strings.TrimSpace(explainHelp),
		Example: "  agentchains explain --env prod --chain deploy-pipeline --agent Deployer",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := agent.path()
			if err != nil {
				return err
			}
			client, _, err := newClient()
			if err != nil {
				return err
			}
			e, data, err := readExplanation(cmd.Context(), client, *mount, path)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), data)
			} else {
				err = e.print(cmd.OutOrStdout(), path)
			}
			if err == nil && !e.Resolves {
				return exitNo
			}
			return err
		},
	}
	agent.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the engine's answer as JSON")
	return cmd
}

// readExplanation returns the answer of explain/, decoded and as it came.
func readExplanation(ctx context.Context, client *api.Client, mount, path string) (*explanation, json.RawMessage, error) {
	data, err := readVault(ctx, client, mount, "explain/"+path)
	if err != nil {
		return nil, nil, err
	}
	var e explanation
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, nil, fmt.Errorf("explain/%s: decode: %w", path, err)
	}
	return &e, data, nil
}

const explainHelp = `
Explain where each variable of an agent comes from: from which secret or group,
in which scope and environment, and in which version; or why it does not. The
token needs read on explain/. No value is read.

Exit codes: 0 the environment resolves, 1 it does not, 2 there is no answer.
`

// print prints what resolves as one table, and what does not as another.
func (e *explanation) print(w io.Writer, path string) error {
	var found, missing, looked [][]string
	for _, r := range e.References {
		for _, variable := range r.Variables {
			found = append(found, []string{variable, r.Kind + " " + r.Name, r.Scope, r.Environment, strconv.Itoa(r.Version)})
		}
		if r.Reason != "" {
			missing = append(missing, []string{r.Kind + " " + r.Name, r.Reason})
		}
		if !r.Found {
			looked = r.order()
		}
	}
	switch {
	case e.Resolves:
		variables := "variables"
		if len(found) == 1 {
			variables = "variable"
		}
		fmt.Fprintf(w, "%s resolves to %d %s.\n", path, len(found), variables)
	case len(missing) > 0:
		fmt.Fprintf(w, "%s does not resolve, so the agent gets nothing.\n", path)
	default:
		fmt.Fprintln(w, e.Error)
	}
	t := newTable(w)
	printSection(t, []string{"VARIABLE", "FROM", "SCOPE", "ENVIRONMENT", "VERSION"}, found)
	printSection(t, []string{"NOT FOUND OR NOT GIVEN", "WHY"}, missing)
	printSection(t, []string{"LOOKED IN", "FIRST IN", "THEN IN"}, looked)
	return t.Flush()
}

// order returns the places where the reference was looked for: one row for each
// scope, with its environments. It is the same for all that were not found.
func (r *reference) order() [][]string {
	var rows [][]string
	for _, place := range r.Looked {
		environment, scope, _ := strings.Cut(place, " ")
		last := len(rows) - 1
		if last < 0 || rows[last][0] != scope {
			rows = append(rows, []string{scope, environment})
		} else {
			rows[last] = append(rows[last], environment)
		}
	}
	return rows
}
