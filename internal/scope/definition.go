package scope

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	mostAgents     = 256
	mostReferences = 1000 // of one agent: no more variables fit an environment
)

// A Definition is a chain: a pipeline of agents and what each of them may see.
type Definition struct {
	Chain      string        `json:"chain"`
	Project    string        `json:"project,omitempty"`
	MaxRuntime time.Duration `json:"max_runtime,omitempty"` // zero: the mount's limit
	Agents     []Agent       `json:"agents"`
	WrittenAt  time.Time     `json:"written_at"`
}

// An Agent is one step of a chain.
type Agent struct {
	Name    string      `json:"name"`
	Secrets []Reference `json:"secrets,omitempty"`
	Groups  []Reference `json:"groups,omitempty"`
}

// A Reference names a secret or a group that an agent sees.
type Reference struct {
	Name     string `json:"name"`
	As       string `json:"as,omitempty"` // the variable's name in the environment; empty: Name
	Optional bool   `json:"optional,omitempty"`
}

// Variable returns the name of the variable that a reference to a secret gives.
func (r Reference) Variable() string {
	if r.As != "" {
		return r.As
	}
	return r.Name
}

// Agent returns the agent of that name, or nil.
func (d *Definition) Agent(name string) *Agent {
	for i := range d.Agents {
		if d.Agents[i].Name == name {
			return &d.Agents[i]
		}
	}
	return nil
}

// ParseAgents reads the agents of a definition from decoded JSON. Its errors
// name the place of what is wrong, as in agents[0].secrets[1], and never repeat
// what stands there.
func ParseAgents(v any) ([]Agent, error) {
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, errors.New("agents must be a list of at least one agent")
	}
	if len(list) > mostAgents {
		return nil, fmt.Errorf("agents must be at most %d", mostAgents)
	}
	agents := make([]Agent, len(list))
	seen := map[string]string{} // name → place
	for i, v := range list {
		place := fmt.Sprintf("agents[%d]", i)
		if err := agents[i].parse(place, v); err != nil {
			return nil, err
		}
		if first, twice := seen[agents[i].Name]; twice {
			return nil, fmt.Errorf("%s.name is the name of %s too: give each agent its own", place, first)
		}
		seen[agents[i].Name] = place
	}
	return agents, nil
}

func (a *Agent) parse(place string, v any) error {
	fields, err := object(place, "an object", v, "name", "secrets", "groups")
	if err != nil {
		return err
	}
	if a.Name, err = text(place, fields, "name"); err != nil {
		return err
	}
	if err := CheckSegment(a.Name); err != nil {
		return fmt.Errorf("%s.name %w", place, err)
	}
	if a.Secrets, err = parseReferences(place+".secrets", fields["secrets"], Secret); err != nil {
		return err
	}
	if a.Groups, err = parseReferences(place+".groups", fields["groups"], Group); err != nil {
		return err
	}
	if len(a.Secrets)+len(a.Groups) > mostReferences {
		return fmt.Errorf("%s must have at most %d secrets and groups", place, mostReferences)
	}
	return nil
}

func parseReferences(place string, v any, kind Kind) ([]Reference, error) {
	if v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%s must be a list", place)
	}
	references := make([]Reference, len(list))
	seen := map[string]string{} // what must be unique → place
	for i, v := range list {
		place := fmt.Sprintf("%s[%d]", place, i)
		r := &references[i]
		if err := r.parse(place, v, kind); err != nil {
			return nil, err
		}
		if first, twice := seen[r.Variable()]; twice {
			return nil, fmt.Errorf("%s gives the same variable or group as %s: remove one, or rename one with as", place, first)
		}
		seen[r.Variable()] = place
	}
	return references, nil
}

func (r *Reference) parse(place string, v any, kind Kind) error {
	check, known := CheckGroup, []string{"name", "optional"}
	if kind == Secret {
		check, known = CheckVariable, append(known, "as")
	}
	if name, ok := v.(string); ok {
		r.Name = name
		return prefix(place+" ", check(name))
	}
	fields, err := object(place, "a name or an object", v, known...)
	if err != nil {
		return err
	}
	if r.Name, err = text(place, fields, "name"); err != nil {
		return err
	}
	if err := check(r.Name); err != nil {
		return fmt.Errorf("%s.name %w", place, err)
	}
	if _, given := fields["as"]; given {
		if r.As, err = text(place, fields, "as"); err != nil {
			return err
		}
		if err := CheckVariable(r.As); err != nil {
			return fmt.Errorf("%s.as %w", place, err)
		}
	}
	if v, given := fields["optional"]; given {
		optional, ok := v.(bool)
		if !ok {
			return fmt.Errorf("%s.optional must be true or false", place)
		}
		r.Optional = optional
	}
	return nil
}

// object returns v as an object that has no fields but the known ones. The
// expected form is for the error.
func object(place, expected string, v any, known ...string) (map[string]any, error) {
	fields, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s must be %s", place, expected)
	}
	for name := range fields {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%s has an unknown field: it knows %s, and has no place for prompts, models or values", place, strings.Join(known, ", "))
		}
	}
	return fields, nil
}

func text(place string, fields map[string]any, name string) (string, error) {
	s, ok := fields[name].(string)
	if !ok {
		return "", fmt.Errorf("%s.%s must be a string", place, name)
	}
	return s, nil
}

// Plain returns the agents as decoded JSON, in the form people write them.
func Plain(agents []Agent) []any {
	list := make([]any, len(agents))
	for i, a := range agents {
		fields := map[string]any{"name": a.Name}
		if len(a.Secrets) > 0 {
			fields["secrets"] = plainReferences(a.Secrets)
		}
		if len(a.Groups) > 0 {
			fields["groups"] = plainReferences(a.Groups)
		}
		list[i] = fields
	}
	return list
}

func plainReferences(references []Reference) []any {
	list := make([]any, len(references))
	for i, r := range references {
		if r.As == "" && !r.Optional {
			list[i] = r.Name
			continue
		}
		fields := map[string]any{"name": r.Name}
		if r.As != "" {
			fields["as"] = r.As
		}
		if r.Optional {
			fields["optional"] = true
		}
		list[i] = fields
	}
	return list
}
