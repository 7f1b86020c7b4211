package rotator_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
)

// What reads settings of all types together takes a name for one thing.
func TestFieldsAgree(t *testing.T) {
	t.Parallel()
	seen := map[string]rotator.Field{}
	for name, kind := range rotator.Types {
		if kind.Name != name {
			t.Errorf("%s is listed as %s", kind.Name, name)
		}
		for _, f := range kind.Fields {
			if other, ok := seen[f.Name]; ok && (other.Kind != f.Kind || other.Sensitive != f.Sensitive || other.Address != f.Address) {
				t.Errorf("%s of %s is something else in another type", f.Name, name)
			}
			seen[f.Name] = f
		}
	}
}

// Each default has the type that Get asks for.
func TestDefaults(t *testing.T) {
	t.Parallel()
	for name, kind := range rotator.Types {
		for _, f := range kind.Fields {
			ok := f.Default == nil
			switch f.Default.(type) {
			case string:
				ok = f.Kind == rotator.Text && !f.Sensitive
			case int:
				ok = f.Kind == rotator.Number
			case time.Duration:
				ok = f.Kind == rotator.Duration
			}
			if !ok || f.Default != nil && f.Required {
				t.Errorf("%s of %s must not have the default %v", f.Name, name, f.Default)
			}
		}
	}
}

// TestFieldsAreDocumented compares docs/rotators.md with the types.
func TestFieldsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/rotators.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for section := range strings.SplitSeq(string(text), "\n## ") {
		title, body, _ := strings.Cut(section, "\n")
		sections[strings.Trim(title, "`")] = body
	}
	for _, name := range slices.Sorted(maps.Keys(rotator.Types)) {
		table := "| field | | |\n|---|---|---|\n"
		for _, f := range rotator.Types[name].Fields {
			about := string(f.Kind)
			if f.Required {
				about += ", required"
			}
			if f.Sensitive {
				about += ", sensitive"
			}
			if f.Default != nil {
				about += fmt.Sprintf(", `%v`", f.Default)
			}
			table += fmt.Sprintf("| `%s` | %s | %s |\n", f.Name, about, f.Description)
		}
		if !strings.Contains(sections[name], "\n"+table+"\n") {
			t.Errorf("docs/rotators.md has not under `%s`:\n%s", name, table)
		}
	}
}
