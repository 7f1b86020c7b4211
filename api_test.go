package agentchains

import (
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

var updateReference = flag.Bool("update", false, "write docs/api.md anew")

const referenceFile = "docs/api.md"

// TestAPIReference checks that docs/api.md is what the paths say.
func TestAPIReference(t *testing.T) {
	t.Parallel()
	var doc strings.Builder
	doc.WriteString(referenceIntro)
	for _, p := range newEnv(t).b.Paths {
		describePath(&doc, p)
	}
	if strings.Contains(doc.String(), "` |  |") {
		t.Error("a field is of a type that typeNames lacks")
	}
	if *updateReference {
		if err := os.WriteFile(referenceFile, []byte(doc.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(stored) != doc.String() {
		t.Errorf("%s is not what the paths say: run go test -run TestAPIReference . -update", referenceFile)
	}
}

const referenceIntro = `# API reference

Paths are below the mount, which is ` + "`agentchains/`" + ` by default. This file is written by a test from
the paths themselves; the same is in ` + "`vault path-help agentchains/…`" + ` and in Vault's OpenAPI document.

Times are RFC 3339 strings. Durations are taken as ` + "`10m`, `7d`" + ` or a number of seconds, and answered in
seconds. An unknown field, or another JSON type than the one below, is a 400 that stores nothing; a
number or a boolean may be the string that the ` + "`vault`" + ` command makes of it. LIST without ` + "`limit`" + ` is
complete: keys with a slash at the end are segments with more below them.

What each status means is in the [README](../README.md#refusals).
`

var captureGroup = regexp.MustCompile(`\(\?P<([a-z]+)>[^)]*\)\??`)

func describePath(doc *strings.Builder, p *framework.Path) {
	pattern := strings.TrimSuffix(strings.TrimPrefix(p.Pattern, "^"), "$")
	fields, where := maps.Clone(p.Fields), ""
	for name := range captureNames(p) {
		description := fields[name].Description
		where += fmt.Sprintf("`<%s>` is %s%s\n\n", name, strings.ToLower(description[:1]), description[1:])
		delete(fields, name)
	}
	fmt.Fprintf(doc, "\n## `%s`\n\n%s\n\n%s```text\n%s\n```\n\n",
		captureGroup.ReplaceAllString(pattern, "<$1>"), p.HelpSynopsis, where, strings.TrimSpace(p.HelpDescription))
	fmt.Fprintf(doc, "| operation | does |\n|---|---|\n")
	answers := map[string]map[string]*framework.FieldSchema{}
	for _, op := range operationOrder {
		h, ok := p.Operations[op]
		if !ok {
			continue
		}
		properties := h.Properties()
		own := strings.TrimSuffix(properties.Description, strings.TrimSpace(p.HelpDescription)) // which is above
		fmt.Fprintf(doc, "| %s | %s |\n", verbs[op], strings.TrimSpace(properties.Summary+" "+own))
		if ok := properties.Responses[http.StatusOK]; ok != nil && ok[0].Fields != nil {
			answers[fmt.Sprint(slices.Sorted(maps.Keys(ok[0].Fields)))] = ok[0].Fields
		}
	}
	describeFields(doc, "request", fields)
	for _, key := range slices.Sorted(maps.Keys(answers)) {
		describeFields(doc, "answer", answers[key])
	}
}

var operationOrder = []logical.Operation{
	logical.CreateOperation, logical.UpdateOperation, logical.PatchOperation, logical.ReadOperation, logical.DeleteOperation, logical.ListOperation,
}

var verbs = map[logical.Operation]string{
	logical.CreateOperation: "POST (create)", logical.UpdateOperation: "POST (update)", logical.PatchOperation: "PATCH",
	logical.ReadOperation: "GET", logical.DeleteOperation: "DELETE", logical.ListOperation: "LIST",
}

func describeFields(doc *strings.Builder, title string, fields map[string]*framework.FieldSchema) {
	if len(fields) == 0 {
		return
	}
	fmt.Fprintf(doc, "\n| %s | type | |\n|---|---|---|\n", title)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f := fields[name]
		note := ""
		switch {
		case f.DisplayAttrs != nil && f.DisplayAttrs.Sensitive:
			note = " **Sensitive.**"
		case f.Query:
			note = " In the query."
		}
		fmt.Fprintf(doc, "| `%s` | %s | %s%s |\n", name, typeNames[f.Type], f.Description, note)
	}
}

var typeNames = map[framework.FieldType]string{
	framework.TypeString: "string", framework.TypeBool: "bool", framework.TypeInt: "integer", framework.TypeDurationSecond: "duration",
	framework.TypeCommaStringSlice: "list of strings", framework.TypeStringSlice: "list of strings", framework.TypeCommaIntSlice: "list of integers",
	framework.TypeMap: "object", framework.TypeSlice: "list",
}
