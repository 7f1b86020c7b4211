terraform {
  required_providers {
    vault = {
      source = "hashicorp/vault"
    }
  }
}

variable "mount" {
  type    = string
  default = "agentchains"
}

variable "approle" {
  type    = string
  default = "approle"
}

resource "vault_mount" "agentchains" {
  path = var.mount
  type = "agentchains"
}

resource "vault_auth_backend" "approle" {
  path = var.approle
  type = "approle"
}

# config has no delete, and more fields than these.
resource "vault_generic_endpoint" "config" {
  path                 = "${vault_mount.agentchains.path}/config"
  disable_delete       = true
  ignore_absent_fields = true
  data_json = jsonencode({
    environments  = ["dev", "staging", "prod"]
    allowed_hosts = ["hooks.example.com"]
  })
}

resource "vault_generic_endpoint" "platform" {
  path      = "${vault_mount.agentchains.path}/scopes/project/platform"
  data_json = jsonencode({ chains_allowed = ["deploy-pipeline"] })
}

module "deploy_pipeline" {
  source = "../../terraform"

  mount        = vault_mount.agentchains.path
  approle      = vault_auth_backend.approle.path
  environments = ["staging", "prod"]
  chain        = "deploy-pipeline"
  project      = "platform"
  max_runtime  = 7200
  agents = [
    { name = "CodeAnalyzer", secrets = ["OPENAI_API_KEY"] },
    { name = "Deployer", groups = ["aws-deploy"],
    secrets = ["OPENAI_API_KEY", { name = "DATABASE_URL", as = "DB_URL" }, { name = "SENTRY_DSN", optional = true }] },
  ]
}

resource "vault_generic_endpoint" "password" {
  path                 = "${vault_mount.agentchains.path}/rotators/password"
  ignore_absent_fields = true
  data_json            = jsonencode({ type = "password", length = 40 })
}

resource "vault_generic_endpoint" "schedule" {
  path                 = "${vault_mount.agentchains.path}/schedules/prod/chain/deploy-pipeline/DATABASE_URL"
  ignore_absent_fields = true
  data_json = jsonencode({
    rotation_period = 2592000
    rotator         = basename(vault_generic_endpoint.password.path)
    min_overlap     = 1800
  })
}

output "roles" {
  value = module.deploy_pipeline.roles
}
