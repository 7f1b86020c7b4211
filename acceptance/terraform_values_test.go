package acceptance

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// copies are secrets that get what ephemeral resources read, which only write-only
// arguments can take.
const copies = `
ephemeral "vault_generic_endpoint" "run" {
  path         = "agentchains/executions/prod/deploy-pipeline/Deployer"
  data_json    = jsonencode({ workspace = "terraform" })
  write_fields = ["env"]
}

ephemeral "vault_generic_endpoint" "wrapped" {
  path          = "agentchains/executions/prod/deploy-pipeline/Deployer"
  data_json     = jsonencode({ workspace = "elsewhere" })
  path_wrap_ttl = "5m"
  write_fields  = ["token"]
}

resource "vault_kv_secret_v2" "copy" {
  for_each             = toset(["READ", "STARTED", "WRAPPED"])
  mount                = var.mount
  name                 = "dev/org/${each.key}"
  data_json_wo_version = 1
  data_json_wo = jsonencode({ value = {
    READ    = ephemeral.vault_generic_secret.deployer.data["DB_URL"]
    STARTED = jsondecode(ephemeral.vault_generic_endpoint.run.write_data["env"])["DB_URL"]
    WRAPPED = ephemeral.vault_generic_endpoint.wrapped.write_data["token"]
  }[each.key] })
}
`

// Values that Terraform writes and reads are not in its state. The variables of an
// execution come as one text in JSON, or wrapped: whoever unwraps them can renew
// the lease by its id, but is not who started the execution.
func TestTerraformKeepsNoValue(t *testing.T) {
	e := newEngine(t)
	e.write("config", data{"execution_ttl": "1h"})
	tf := e.terraform("terraform-5", "terraform/secrets")
	key, id := e.value("OPENAI_API_KEY"), e.value("AWS_ACCESS_KEY_ID")
	group := data{"AWS_ACCESS_KEY_ID": id, "AWS_REGION": "us-west-2"}
	tf.env = append(tf.env, "TF_VAR_openai_api_key="+key, fmt.Sprintf("TF_VAR_aws_deploy={AWS_ACCESS_KEY_ID=%q,AWS_REGION=%q}", id, group["AWS_REGION"]))
	tf.apply()
	e.same("the secret", e.read("reveal/all/org/OPENAI_API_KEY")["value"], key)
	e.same("the group", e.read("reveal/prod/project/platform/aws-deploy")["values"], group)

	e.write("scopes/project/platform", data{"chains_allowed": "deploy-pipeline"})
	e.writeJSON("scopes/chain/deploy-pipeline", deployPipeline)
	url := e.secret(database, nil)
	copiesFile := tf.file("copies.tf", e.example("ephemeral")+strings.ReplaceAll(copies, "agentchains/", e.mount+"/"))
	tf.apply()
	e.same("the value that was read", e.read("reveal/dev/org/READ")["value"], url)
	e.same("that of the execution", e.read("reveal/dev/org/STARTED")["value"], url)
	other := e.agent("prod/deploy-pipeline/CodeAnalyzer")
	secret, err := other.client.Logical().Unwrap(e.read("reveal/dev/org/WRAPPED")["value"].(string))
	e.must(err)
	e.same("the variables", secret.Data["env"], data{"OPENAI_API_KEY": key, "DB_URL": url, "AWS_ACCESS_KEY_ID": id, "AWS_REGION": "us-west-2"})
	x := &execution{other, secret.Data["execution_id"].(string), secret.LeaseID, nil}
	if refusal := x.renew(0); refusal != "" {
		t.Errorf("the renewal: %s", refusal)
	}
	other.refused(http.StatusNotFound, "", read, "execution/"+x.id, nil)

	// Another value waits until the version is raised. A plan starts executions too.
	next, running := e.value("the next OPENAI_API_KEY"), len(e.live(deployer))
	tf.env = append(tf.env, "TF_VAR_openai_api_key="+next)
	tf.run(0, "plan", "-detailed-exitcode")
	e.same("what a plan starts", len(e.live(deployer))-running, 2)
	main, err := os.ReadFile(filepath.Join(tf.dir, "main.tf"))
	e.must(err)
	tf.file("main.tf", strings.ReplaceAll(string(main), "data_json_wo_version = 1", "data_json_wo_version = 2"))
	tf.apply()
	e.same("the secret", e.read("reveal/all/org/OPENAI_API_KEY")["value"], next)
	e.same("the version of the group, which is the same", e.read("metadata/prod/project/platform/aws-deploy")["current_version"], 1)

	// Nothing is deleted that an execution holds.
	e.must(os.Remove(copiesFile))
	tf.run(1, "destroy", "-auto-approve")
	e.read("secrets/all/org/OPENAI_API_KEY")
	e.must(e.client.Sys().RevokePrefix(e.mount + "/executions"))
	e.must(eventually("the executions have ended", func() (bool, error) { return len(e.live(deployer)) == 0, nil }))
	e.write("promote/all/org/OPENAI_API_KEY", data{"force": true})
	tf.run(0, "destroy", "-auto-approve")
	e.refused(http.StatusNotFound, "", read, "secrets/all/org/OPENAI_API_KEY", nil)
}
