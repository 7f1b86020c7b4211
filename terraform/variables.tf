variable "mount" {
  description = "Where the engine is mounted."
  type        = string
  default     = "agentchains"
}

variable "approle" {
  description = "Where the auth method AppRole is enabled, below auth/."
  type        = string
  default     = "approle"
}

variable "chain" {
  description = "The name of the chain, 1 to 4 segments, such as billing/invoice-generator."
  type        = string
}

variable "project" {
  description = "The project that the chain belongs to, or an empty string."
  type        = string
  default     = ""
}

variable "max_runtime" {
  description = "The longest time that an execution lives, in seconds. 0: the mount's limit."
  type        = number
  default     = 0
}

variable "agents" {
  description = "The agents, as a definition has them. What says nothing is left out: empty lists, optional = false."
  type        = any # a reference is a name or an object
}

variable "environments" {
  description = "The environments in which each agent gets a policy and an AppRole."
  type        = set(string)
}

variable "role" {
  description = "Fields of the AppRoles beside token_policies. Durations are in seconds."
  type        = any
  default     = { token_ttl = 3600 }
}
