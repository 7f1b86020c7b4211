package rotator

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// render makes the values of an entry by templates: for each variable its text,
// in which {{name}} stands for the field of that name. A variable of a group that
// has no template keeps its old value.
func render(job *Job, templates map[string]string, fields map[string]sensitive.String) (map[string]sensitive.String, error) {
	if job.Variable != "" {
		text, ok := templates["value"]
		if !ok {
			return nil, fmt.Errorf("template has nothing under value, and %s is a secret", job.Path)
		}
		value, err := fill(text, fields)
		if err != nil {
			return nil, err
		}
		return map[string]sensitive.String{job.Variable: value}, nil
	}
	values := make(map[string]sensitive.String, len(job.Old.Values)+len(templates))
	maps.Copy(values, job.Old.Values)
	for name, text := range templates {
		if name == "value" {
			return nil, fmt.Errorf("template has the name value, and %s is a group: use the names of its variables", job.Path)
		}
		value, err := fill(text, fields)
		if err != nil {
			return nil, err
		}
		values[name] = value
	}
	return values, nil
}

var placeholder = regexp.MustCompile(`\{\{\s*([A-Za-z0-9_-]+)\s*\}\}`)

// fill replaces the placeholders of a template.
func fill(template string, fields map[string]sensitive.String) (sensitive.String, error) {
	var unknown string
	text := placeholder.ReplaceAllStringFunc(template, func(found string) string {
		name := placeholder.FindStringSubmatch(found)[1]
		value, ok := fields[name]
		if !ok {
			unknown = name
		}
		return value.Reveal()
	})
	if unknown != "" {
		return sensitive.String{}, fmt.Errorf("template has {{%s}}: there is only %s", unknown, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
	}
	return sensitive.New(text), nil
}
