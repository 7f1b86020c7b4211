# Runs the Deployer with its environment through Vault Agent's process supervisor:
#
#     vault agent -config=vault-agent.hcl
#
# The address is VAULT_ADDR. The three files are in the working directory.

auto_auth {
  method "approle" {
    config = {
      role_id_file_path   = "role_id"
      secret_id_file_path = "secret_id"
    }
  }
}

template_config {
  exit_on_retry_failure = true
}

exec {
  command                   = ["./agent"]
  restart_on_secret_changes = "always"
}

# One block for each variable. All of them together are one read.

env_template "OPENAI_API_KEY" {
  contents             = "{{ with secret \"agentchains/env/prod/deploy-pipeline/Deployer\" }}{{ .Data.OPENAI_API_KEY }}{{ end }}"
  error_on_missing_key = true
}

env_template "DB_URL" {
  contents             = "{{ with secret \"agentchains/env/prod/deploy-pipeline/Deployer\" }}{{ .Data.DB_URL }}{{ end }}"
  error_on_missing_key = true
}

env_template "DEPLOY_TOKEN" {
  contents             = "{{ with secret \"agentchains/env/prod/deploy-pipeline/Deployer\" }}{{ .Data.DEPLOY_TOKEN }}{{ end }}"
  error_on_missing_key = true
}

env_template "AWS_ACCESS_KEY_ID" {
  contents             = "{{ with secret \"agentchains/env/prod/deploy-pipeline/Deployer\" }}{{ .Data.AWS_ACCESS_KEY_ID }}{{ end }}"
  error_on_missing_key = true
}

env_template "AWS_SECRET_ACCESS_KEY" {
  contents             = "{{ with secret \"agentchains/env/prod/deploy-pipeline/Deployer\" }}{{ .Data.AWS_SECRET_ACCESS_KEY }}{{ end }}"
  error_on_missing_key = true
}

env_template "AWS_REGION" {
  contents             = "{{ with secret \"agentchains/env/prod/deploy-pipeline/Deployer\" }}{{ .Data.AWS_REGION }}{{ end }}"
  error_on_missing_key = true
}
