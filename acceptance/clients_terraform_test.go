package acceptance

import (
	"testing"
	"time"
)

// TestTerraformWritesAndForgets sends what the Vault provider of Terraform sends for
// a vault_kv_secret_v2 with data_json_wo, and reads as it does: the value gets in,
// and nothing that the provider stores holds it.
func TestTerraformWritesAndForgets(t *testing.T) {
	e := newEngine(t)
	const name = "prod/org/API_KEY"
	value := e.value(name)
	body := data{"data": data{"value": value}, "options": data{}, "cas": 0}
	e.same("the version", e.write("data/"+name, body)["version"], 1)
	e.same("the value", e.read("reveal/" + name)["value"], value)

	// The provider takes these without looking at their types.
	answer := e.read("data/" + name)
	e.same("names", answer["data"], data{"value": nil})
	created, ok := answer["metadata"].(data)["created_time"].(string)
	if _, err := time.Parse(time.RFC3339, created); !ok || err != nil {
		t.Errorf("created_time: %v", err)
	}
	metadata := e.read("metadata/" + name)
	e.same("delete_version_after", metadata["delete_version_after"], "0s")
	e.same("cas_required", metadata["cas_required"], false)
	e.same("max_versions", metadata["max_versions"], 0)
	e.write("metadata/"+name, data{"custom_metadata": data{"managed-by": "terraform"}, "max_versions": 0, "cas_required": false, "delete_version_after": "0s"})
	e.same("custom metadata", e.read("data/" + name)["metadata"].(data)["custom_metadata"], data{"managed-by": "terraform"})

	// The same again changes nothing; another value is the next version.
	e.same("the version", e.write("data/"+name, body)["version"], 1)
	e.same("the version", e.write("data/"+name, data{"data": data{"value": e.value("next")}, "options": data{}, "cas": 0})["version"], 2)
	e.same("what is listed", e.keys("metadata/prod/org", nil), []string{"API_KEY"})
	e.ok(remove, "data/"+name, data{"force": true})
	e.refused(404, "", read, "data/"+name, nil)
}

// A client of KV version 2 patches what it names, and removes an entry with all
// its versions by its metadata.
func TestVersionTwoOfAGroup(t *testing.T) {
	e := newEngine(t)
	const name = "prod/org/pair"
	first, second := e.value("first"), e.value("second")
	e.write("data/"+name, data{"data": data{"ONE": first, "TWO": first}})
	e.ok(patch, "data/"+name, data{"data": data{"TWO": second}, "options": data{"cas": 1}})
	e.same("the values", e.read("reveal/" + name)["values"], data{"ONE": first, "TWO": second})
	e.ok(patch, "metadata/"+name, data{"custom_metadata": data{"team": "billing"}})
	e.ok(patch, "metadata/"+name, data{"custom_metadata": data{"ticket": "T-1"}})
	e.same("custom metadata", e.read("metadata/" + name)["custom_metadata"], data{"team": "billing", "ticket": "T-1"})
	e.ok(remove, "metadata/"+name, data{"force": true})
	e.refused(404, "there is no", read, "groups/"+name, nil)
}
