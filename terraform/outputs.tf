output "roles" {
  description = "The paths of the AppRoles, by environment/chain/agent."
  value       = { for name, agent in local.agents : agent => vault_generic_endpoint.role[name].path }
}
