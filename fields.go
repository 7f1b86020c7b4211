package agentchains

import (
	"net/http"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// operationPrefix begins the names of operations in OpenAPI.
const operationPrefix = "agentchains"

func displayAttrs(verb, suffix string) *framework.DisplayAttributes {
	return &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: verb, OperationSuffix: suffix}
}

// pathField is a capture of a path. A body can have no field of its name.
func pathField(description string) *framework.FieldSchema {
	return &framework.FieldSchema{Type: framework.TypeString, Description: description, Required: true}
}

const agentPathHelp = "An environment, a chain and one of its agents, such as prod/deploy-pipeline/Deployer."

func okResponse(fields map[string]*framework.FieldSchema) map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusOK: {{Description: http.StatusText(http.StatusOK), Fields: fields}}}
}

func noContent() map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusNoContent: {{Description: http.StatusText(http.StatusNoContent)}}}
}

// timeString gives a time as every answer does, and nothing for the zero time.
func timeString(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// addPresent adds to an answer those of its fields that there is something to
// say of.
func addPresent(data map[string]any, fields map[string]string) {
	for name, text := range fields {
		if text != "" {
			data[name] = text
		}
	}
}

// actor names who sent the request: the entity, else the display name of the token.
func actor(req *logical.Request) string {
	if req.EntityID != "" {
		return req.EntityID
	}
	return req.DisplayName
}

// stringMap returns a field of type TypeMap. A nil value means that a patch
// deletes the key.
func stringMap(req *logical.Request, d *framework.FieldData, name string) (map[string]*string, error) {
	raw, _ := d.Raw[name].(map[string]any)
	m := make(map[string]*string, len(raw))
	for key, v := range raw {
		s, ok := v.(string)
		switch {
		case ok:
			m[key] = &s
		case req.Operation == logical.PatchOperation:
			m[key] = nil
		default:
			return nil, badRequest("%s holds null, which only a patch takes: it deletes the key there", name)
		}
	}
	return m, nil
}
