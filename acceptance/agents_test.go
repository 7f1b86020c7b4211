package acceptance

import (
	"testing"
)

// Each agent logs in by AppRole with the policy that the engine recommends for
// it, and no other.
func TestAgentsReadTheirOwn(t *testing.T) {
	e := newEngine(t)
	e.deployPipeline()
	e.chain("billing/invoices", "", "OPENAI_API_KEY")
	e.chain("billing", "", "OPENAI_API_KEY")
	agents := []string{
		"prod/deploy-pipeline/Deployer", "prod/deploy-pipeline/CodeAnalyzer", "dev/deploy-pipeline/CodeAnalyzer",
		"prod/billing/invoices/Worker", "prod/billing/Worker",
	}
	for _, own := range agents {
		as := e.appRole(e.policy(e.read("policy/" + own)["policy"].(string)))
		e.same("env of "+own, as.read("env/"+own), e.read("env/"+own))
		as.read("creds/" + own)
		for _, other := range agents {
			if other != own {
				as.denied(read, "env/"+other)
				as.denied(read, "creds/"+other)
			}
		}
		for _, path := range []string{"reveal/all/org/OPENAI_API_KEY", "secrets/all/org/OPENAI_API_KEY", "groups/prod/project/platform/aws-deploy", "scopes/chain/deploy-pipeline", "config", "status", "explain/" + own, "policy/" + own} {
			as.denied(read, path)
		}
		as.denied(list, "env/prod")
		as.denied(list, "secrets/prod")
		as.denied(update, "secrets/prod/org/OPENAI_API_KEY")
		as.denied(update, "scopes/chain/deploy-pipeline")
		as.denied(remove, "secrets/all/org/OPENAI_API_KEY")
	}
}

// config needs the sudo capability beside read and update.
func TestConfigNeedsSudo(t *testing.T) {
	e := newEngine(t)
	plain := e.withToken(e.policy(`path "` + e.mount + `/config" { capabilities = ["read", "update"] }`))
	plain.denied(read, "config")
	plain.denied(update, "config")
	sudo := e.withToken(e.policy(`path "` + e.mount + `/config" { capabilities = ["read", "update", "sudo"] }`))
	sudo.read("config")
	e.same("creds_max_ttl", sudo.write("config", data{"creds_max_ttl": "30s"})["creds_max_ttl"], 30)
}
