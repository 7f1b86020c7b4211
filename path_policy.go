package agentchains

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathPolicy() *framework.Path {
	return &framework.Path{
		Pattern:      "policy/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs("", "policy"),
		Fields:       map[string]*framework.FieldSchema{"path": pathField(agentPathHelp)},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback:     b.policyRead,
				Summary:      "Read the least policy that an agent needs.",
				DisplayAttrs: displayAttrs("read", "policy"),
				Responses: okResponse(map[string]*framework.FieldSchema{
					"policy": {Type: framework.TypeString, Description: "The policy in HCL, ready for vault policy write.", Required: true},
				}),
			},
		},
		HelpSynopsis:    "The Vault policy of an agent.",
		HelpDescription: policyHelp,
	}
}

const policyHelp = `
Answers the least ACL policy with which an agent can read its environment and
run. Write it with

    vault read -field=policy agentchains/policy/prod/deploy-pipeline/Deployer |
        vault policy write prod-deployer -
`

// policyTemplate takes the environment's path with the mount, such as
// agentchains/, and the agent's, such as prod/deploy-pipeline/Deployer.
// execution/ answers only who started an execution, so the * is safe.
const policyTemplate = `# The agent {agent}: its environment, and the executions it starts.
path "{mount}env/{agent}" {
  capabilities = ["read"]
}
path "{mount}creds/{agent}" {
  capabilities = ["read"]
}
path "{mount}executions/{agent}" {
  capabilities = ["update"]
}
path "{mount}execution/*" {
  capabilities = ["read", "update"]
}
path "sys/leases/renew" {
  capabilities = ["update"]
}
`

func (b *backend) policyRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	environment, chain, agent, err := b.requireAgent(ctx, req.Storage, d.Get("path").(string))
	if err != nil {
		return respond(err)
	}
	path := fmt.Sprintf("%s/%s/%s", environment, chain.Chain, agent.Name)
	policy := strings.NewReplacer("{mount}", req.MountPoint, "{agent}", path).Replace(policyTemplate)
	return &logical.Response{Data: map[string]any{"policy": policy}}, nil
}
