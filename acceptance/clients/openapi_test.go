package clients

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/hashicorp/vault/api"
)

// What Vault publishes of the engine is a document of OpenAPI 3, from which
// clients can be generated.
func TestOpenAPI(t *testing.T) {
	needVault(t)
	const mount = "openapi"
	must(t, vault.client.Sys().Mount(mount, &api.MountInput{Type: "agentchains"}))
	resp, err := vault.client.Logical().ReadRaw("sys/internal/specs/openapi")
	must(t, err)
	defer resp.Body.Close()
	var all map[string]any
	must(t, resp.DecodeJSON(&all))
	// Of Vault's own paths some schemas have a default of another type than theirs.
	ours := func(part any, prefix string) {
		maps.DeleteFunc(part.(map[string]any), func(name string, _ any) bool { return !strings.HasPrefix(name, prefix) })
	}
	ours(all["paths"], "/"+mount+"/")
	ours(all["components"].(map[string]any)["schemas"], "Agentchains")
	text, err := json.Marshal(all)
	must(t, err)
	doc, err := openapi3.NewLoader().LoadFromData(text)
	must(t, err)
	if err := doc.Validate(t.Context(), openapi3.EnableMultiError()); err != nil {
		t.Error(err)
	}
	if doc.Paths.Len() == 0 {
		t.Error("it has no path of the engine")
	}
}
