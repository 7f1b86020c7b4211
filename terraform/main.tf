locals {
  # vault_auth_backend of an old provider gives its path with a slash at the end.
  mount   = trimsuffix(var.mount, "/")
  approle = trimsuffix(var.approle, "/")

  # By the name of the policy and the role, which Vault keeps in lower case. No
  # segment has a dot, so two agents never share a name: two that differ only in
  # case are an error here.
  agents = {
    for pair in setproduct(var.environments, var.agents[*].name) :
    lower(replace("${local.mount}.${pair[0]}.${var.chain}.${pair[1]}", "/", ".")) => "${pair[0]}/${var.chain}/${pair[1]}"
  }
}

resource "vault_generic_endpoint" "chain" {
  path = "${local.mount}/scopes/chain/${var.chain}"

  # All fields, in the shape in which the engine answers them.
  data_json = jsonencode({
    chain       = var.chain
    project     = var.project
    max_runtime = var.max_runtime
    agents      = var.agents
  })
}

# What policy/ answers for the agent, in full, so that a plan shows it.
resource "vault_policy" "agent" {
  for_each = local.agents

  name   = each.key
  policy = <<-EOT
    # The agent ${each.value}: its environment, and the executions it starts.
    path "${local.mount}/env/${each.value}" {
      capabilities = ["read"]
    }
    path "${local.mount}/creds/${each.value}" {
      capabilities = ["read"]
    }
    path "${local.mount}/executions/${each.value}" {
      capabilities = ["update"]
    }
    path "${local.mount}/execution/*" {
      capabilities = ["read", "update"]
    }
    path "sys/leases/renew" {
      capabilities = ["update"]
    }
  EOT
}

# Not vault_approle_auth_backend_role, whose fields have other names in an old
# provider.
resource "vault_generic_endpoint" "role" {
  for_each = local.agents

  path                 = "auth/${local.approle}/role/${each.key}"
  ignore_absent_fields = true
  data_json            = jsonencode(merge(var.role, { token_policies = [vault_policy.agent[each.key].name] }))
}
