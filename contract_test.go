package agentchains

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/testhelpers/schema"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
)

// TestPathContract holds every path to the same standard, so that OpenAPI, the
// help and generated clients are right.
func TestPathContract(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	seen := map[string]string{} // help → pattern
	for _, p := range e.b.Paths {
		t.Run(p.Pattern, func(t *testing.T) {
			if a := p.DisplayAttrs; a == nil || a.OperationPrefix != operationPrefix {
				t.Error("no OperationPrefix")
			}
			for _, help := range []string{p.HelpSynopsis, p.HelpDescription} {
				if twice := seen[help]; twice != "" || help == "" {
					t.Errorf("the help is empty, or that of %q", twice)
				}
				seen[help] = p.Pattern
			}
			captures := captureNames(p)
			for name, f := range p.Fields {
				if f.Description == "" {
					t.Errorf("field %s has no description", name)
				}
				if captures[name] != f.Required {
					t.Errorf("field %s: captures, and they alone, are required", name)
				}
				secret := name == "value" || name == "values" || name == "data" || name == "text" || sensitiveSetting(name)
				if secret != (f.DisplayAttrs != nil && f.DisplayAttrs.Sensitive) {
					t.Errorf("field %s: what holds a value, and that alone, is sensitive", name)
				}
				if _, special := fieldChecks[name]; !special && typeChecks[f.Type] == nil {
					t.Errorf("field %s: nothing checks its type", name)
				}
			}
			verbs := map[string]logical.Operation{}
			for op, h := range p.Operations {
				properties := h.Properties()
				if properties.Summary == "" || properties.DisplayAttrs == nil {
					t.Errorf("%s: no summary or no DisplayAttrs", op)
				}
				verb := properties.DisplayAttrs.OperationVerb + " " + properties.DisplayAttrs.OperationSuffix
				if twice := verbs[verb]; twice != "" {
					t.Errorf("%s is called %q, as %s is", op, verb, twice)
				}
				verbs[verb] = op
				schema.GetResponseSchema(t, p, op) // fatal without Responses
				if operationTakes[op] == nil {
					t.Errorf("%s: nothing checks its fields", op)
				}
			}
			if example(p) == "" || e.b.Route(example(p)) != p {
				t.Errorf("no example, or %q goes elsewhere", example(p))
			}
		})
	}
}

// sensitiveSetting reports whether a field is a sensitive one of rotators or of
// notifiers, which share all others.
func sensitiveSetting(name string) bool {
	if name == "routing_key" {
		return true
	}
	for _, t := range rotator.Types {
		for _, f := range t.Fields {
			if f.Name == name {
				return f.Sensitive
			}
		}
	}
	return false
}

// TestOpenAPI builds the document that Vault serves.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	resp, err := e.b.HandleRequest(t.Context(), &logical.Request{Operation: logical.HelpOperation, Path: "", Storage: e.s, Data: data{"requestResponsePrefix": "agentchains"}})
	if err != nil {
		t.Fatal(err)
	}
	doc, ok := resp.Data["openapi"].(*framework.OASDocument)
	if !ok {
		t.Fatalf("no document, but %T", resp.Data["openapi"])
	}
	ids := map[string]string{}
	for path, item := range doc.Paths {
		for _, op := range []*framework.OASOperation{item.Get, item.Post, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			if op.Summary == "" || op.Responses[http.StatusOK] == nil && op.Responses[http.StatusNoContent] == nil {
				t.Errorf("%s: no summary or no response", path)
			}
			if twice := ids[op.OperationID]; twice != "" {
				t.Errorf("%s and %s are both called %q", path, twice, op.OperationID)
			}
			ids[op.OperationID] = path
		}
	}
	if len(ids) < 25 {
		t.Errorf("only %d operations", len(ids))
	}
}

// TestHelp asks for the help of every path, as vault path-help does.
func TestHelp(t *testing.T) {
	both(t, func(e *env) {
		for _, p := range e.b.Paths {
			resp, err := e.handler.HandleRequest(e.Context(), e.request(logical.HelpOperation, example(p), nil))
			if err != nil || !strings.Contains(fmt.Sprint(resp.Data["help"]), p.HelpSynopsis) {
				e.Errorf("%s: %v", example(p), err)
			}
		}
	})
}

// TestSpecialPaths keeps the settings behind sudo, and values seal-wrapped.
func TestSpecialPaths(t *testing.T) {
	t.Parallel()
	special := newEnv(t).b.SpecialPaths()
	if fmt.Sprint(special.Root) != "[config revoke/all]" || special.Unauthenticated != nil {
		t.Errorf("%+v", special)
	}
}
