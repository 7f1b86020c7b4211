package rotator_test

import (
	"context"
	"strings"
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// TestTemplates gives the field password as a policy does, so that it is known.
func TestTemplates(t *testing.T) {
	t.Parallel()
	const password, kept = "p{{value}}$1-secret", "kept-secret"
	for _, test := range []struct {
		name     string
		template map[string]string
		variable string
		want     map[string]string
		err      string
	}{
		{"a secret", map[string]string{"value": "{{password}}"}, "KEY", map[string]string{"KEY": password}, ""},
		{"a secret by default", nil, "KEY", map[string]string{"KEY": password}, ""},
		{"a text", map[string]string{"value": "u:{{password}}@h"}, "KEY", map[string]string{"KEY": "u:" + password + "@h"}, ""},
		{"twice, with blanks", map[string]string{"value": "{{ password }}{{password}}"}, "KEY", map[string]string{"KEY": password + password}, ""},
		{"no field", map[string]string{"value": "fixed"}, "KEY", map[string]string{"KEY": "fixed"}, ""},
		{"half a field", map[string]string{"value": "{{password} {password}}"}, "KEY", map[string]string{"KEY": "{{password} {password}}"}, ""},
		{"a group", map[string]string{"A": "{{password}}", "B": "x"}, "", map[string]string{"A": password, "B": "x", "OLD": kept}, ""},
		{"over an old value", map[string]string{"OLD": "{{password}}"}, "", map[string]string{"OLD": password}, ""},
		{"an unknown field", map[string]string{"value": "{{username}}"}, "KEY", nil, "template has {{username}}: there is only password"},
		{"an unknown field of a group", map[string]string{"A": "{{password}}{{username}}"}, "", nil, "template has {{username}}"},
		{"a group's template for a secret", map[string]string{"KEY": "{{password}}"}, "KEY", nil, "nothing under value"},
		{"a secret's template for a group", map[string]string{"value": "{{password}}"}, "", nil, "has the name value"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, err := newRandom("password", map[string]any{"policy": "known", "template": test.template}, rotator.Host{
				Password: func(context.Context, string) (string, error) { return password, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			job := &rotator.Job{Path: "dev/org/entry", Variable: test.variable}
			job.Old.Values = map[string]sensitive.String{"OLD": sensitive.New(kept)}
			err = r.Create(t.Context(), job)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("the wrong error, want %s", test.err)
				} else if strings.Contains(err.Error(), "-secret") {
					t.Error("there is a value in the error")
				}
				return
			}
			if err != nil {
				t.Fatal("there is an error")
			}
			if len(job.New.Values) != len(test.want) {
				t.Errorf("%d values, want %d", len(job.New.Values), len(test.want))
			}
			for name, want := range test.want {
				if job.New.Values[name].Reveal() != want {
					t.Errorf("%s has another value", name)
				}
			}
		})
	}
}
