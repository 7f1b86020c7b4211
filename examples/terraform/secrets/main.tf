# Stores values that are in no state and no plan. This needs a newer provider than
# the configuration above.
terraform {
  required_version = ">= 1.11"

  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = ">= 5.0"
    }
  }
}

variable "mount" {
  type    = string
  default = "agentchains"
}

variable "openai_api_key" {
  type      = string
  ephemeral = true
}

variable "aws_deploy" {
  description = "AWS_ACCESS_KEY_ID, AWS_REGION and AWS_SECRET_ACCESS_KEY."
  type        = map(string)
  ephemeral   = true
}

# The value of a secret is named value. Raise the version to have another written.
resource "vault_kv_secret_v2" "openai_api_key" {
  mount                = var.mount
  name                 = "all/org/OPENAI_API_KEY"
  data_json_wo         = jsonencode({ value = var.openai_api_key })
  data_json_wo_version = 1
}

# Those of a group are named as its variables.
resource "vault_kv_secret_v2" "aws_deploy" {
  mount                = var.mount
  name                 = "prod/project/platform/aws-deploy"
  data_json_wo         = jsonencode(var.aws_deploy)
  data_json_wo_version = 1
}
