package clients

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// definitions are the modules that publish the kinds of the clients, and the
// files with their schemas. The Go types of some bring hundreds of packages, and
// know less than a schema: which fields a kind must have, and what each takes.
var definitions = map[string][]string{
	"github.com/external-secrets/external-secrets@v1.3.2": {
		"config/crds/bases/external-secrets.io_secretstores.yaml",
		"config/crds/bases/external-secrets.io_externalsecrets.yaml",
		"config/crds/bases/generators.external-secrets.io_vaultdynamicsecrets.yaml",
	},
	"github.com/hashicorp/vault-secrets-operator@v0.10.0": {
		"chart/crds/secrets.hashicorp.com_vaultconnections.yaml",
		"chart/crds/secrets.hashicorp.com_vaultauths.yaml",
		"chart/crds/secrets.hashicorp.com_vaultstaticsecrets.yaml",
		"chart/crds/secrets.hashicorp.com_vaultdynamicsecrets.yaml",
	},
	"sigs.k8s.io/secrets-store-csi-driver@v1.4.8": {
		"config/crd/bases/secrets-store.csi.x-k8s.io_secretproviderclasses.yaml",
	},
}

// kind is the apiVersion of a kind and its name.
type kind struct{ apiVersion, name string }

// kinds returns the schemas of the clients' kinds.
func kinds(t *testing.T) map[kind]*openapi3.Schema {
	t.Helper()
	all := map[kind]*openapi3.Schema{}
	for module, files := range definitions {
		download := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
		download.Dir = t.TempDir() // in no module
		out, err := download.Output()
		if err != nil {
			t.Fatalf("%s cannot be had: %v\n%s", module, err, out)
		}
		var got struct{ Dir string }
		must(t, json.Unmarshal(out, &got))
		for _, file := range files {
			text, err := os.ReadFile(filepath.Join(got.Dir, file))
			must(t, err)
			var definition struct {
				Spec struct {
					Group    string
					Names    struct{ Kind string }
					Versions []struct {
						Name   string
						Served bool
						Schema struct{ OpenAPIV3Schema *openapi3.Schema }
					}
				}
			}
			must(t, yaml.Unmarshal(text, &definition))
			for _, version := range definition.Spec.Versions {
				if version.Served {
					strict(version.Schema.OpenAPIV3Schema)
					all[kind{definition.Spec.Group + "/" + version.Name, definition.Spec.Names.Kind}] = version.Schema.OpenAPIV3Schema
				}
			}
		}
	}
	return all
}

// strict makes a schema refuse the fields that it does not name, as kubectl does.
func strict(schema *openapi3.Schema) {
	for _, property := range schema.Properties {
		strict(property.Value)
	}
	if schema.Items != nil {
		strict(schema.Items.Value)
	}
	if of := schema.AdditionalProperties.Schema; of != nil {
		strict(of.Value)
	} else if _, open := schema.Extensions["x-kubernetes-preserve-unknown-fields"]; !open && len(schema.Properties) > 0 {
		schema.AdditionalProperties.Has = new(bool)
	}
}

// manifest is an object of an example.
type manifest struct {
	APIVersion, Kind string
	Metadata         struct{ Name, Namespace string }
	Spec             json.RawMessage
}

// spec reads what a client needs to know of a manifest.
func spec[T any](t *testing.T, m manifest) (s T) {
	t.Helper()
	must(t, json.Unmarshal(m.Spec, &s))
	return s
}

// defaults has absent fields take their defaults first, as the API server does.
var defaults = []openapi3.SchemaValidationOption{openapi3.VisitAsRequest(), openapi3.DefaultsSet(func() {})}

// manifests reads a file of the examples. Each kind that a client brings must be
// as its schema says, and the others as Kubernetes does.
func manifests(t *testing.T, file string) (all []manifest) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(examples, "kubernetes", file))
	must(t, err)
	known := kinds(t)
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var m manifest
		var object any
		must(t, yaml.Unmarshal(document, &m))
		must(t, yaml.UnmarshalStrict(document, &object))
		if m.APIVersion == "v1" && m.Kind == "Pod" {
			must(t, yaml.UnmarshalStrict(document, &core.Pod{}))
		} else if schema := known[kind{m.APIVersion, m.Kind}]; schema == nil {
			t.Errorf("%s: no client has the kind %s of %s", file, m.Kind, m.APIVersion)
		} else if err := schema.VisitJSON(object, defaults...); err != nil {
			t.Errorf("%s: %s %s: %v", file, m.Kind, m.Metadata.Name, err)
		}
		all = append(all, m)
	}
	return all
}
