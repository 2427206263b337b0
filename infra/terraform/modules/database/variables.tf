variable "name" {
  description = "The instance's name."
  type        = string
}

variable "engine_version" {
  description = "Postgres' version; a major one alone takes its minor updates by itself."
  type        = string
  default     = "17"

  validation {
    condition     = can(regex("^1[5-9](\\.[0-9]+)?$", var.engine_version))
    error_message = "engine_version: Postgres 15 or newer, such as 17."
  }
}

variable "instance_class" {
  description = "The size of the machine."
  type        = string
  default     = "db.t4g.small"
}

variable "storage_gb" {
  description = "Storage at the start, and the most to which it grows by itself, in GB."
  type = object({
    initial = optional(number, 20)
    maximum = optional(number, 200)
  })
  default = {}

  validation {
    condition     = var.storage_gb.initial >= 20 && var.storage_gb.maximum > var.storage_gb.initial
    error_message = "storage_gb: initial is 20 or more, and maximum is greater."
  }
}

variable "multi_az" {
  description = "Whether a standby in another zone takes over."
  type        = bool
  default     = true
}

variable "backup_retention_days" {
  description = "How long backups are kept, in days: what was linked and sent can be brought back to any second of them."
  type        = number
  default     = 14

  validation {
    condition     = var.backup_retention_days >= 1 && var.backup_retention_days <= 35
    error_message = "backup_retention_days: 1 to 35."
  }
}

variable "deletion_protection" {
  description = "Whether a destroy is refused, and a last snapshot taken before one that is not."
  type        = bool
  default     = true
}

variable "password" {
  description = "The owner's password; never in the plan or the state."
  type        = string
  ephemeral   = true
  sensitive   = true

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{24,128}$", var.password))
    error_message = "password: 24 to 128 letters, digits, hyphens and underscores, as it stands in a URL."
  }
}

variable "password_version" {
  description = "A greater number sets the password anew."
  type        = number
  default     = 1
}

variable "proxy" {
  description = "An RDS Proxy in front, with the secret that holds `username` and `password`, and its part of max_connections; null: no proxy."
  type = object({
    secret_arn          = string
    connections_percent = optional(number, 60)
  })
  default = null

  validation {
    condition     = var.proxy == null || try(var.proxy.connections_percent >= 10 && var.proxy.connections_percent <= 90, false)
    error_message = "proxy.connections_percent: 10 to 90; hosts and migrations go past the proxy and need the rest."
  }
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets in two zones at least."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids: two subnets at least, in two zones."
  }
}

variable "client_security_group_ids" {
  description = "Who may connect, by a name of your choice."
  type        = map(string)
}

variable "max_connections" {
  description = "What Postgres allows; all pools of functions and hosts together must stay below."
  type        = number
  default     = 400

  validation {
    condition     = var.max_connections >= 50 && var.max_connections <= 5000
    error_message = "max_connections: 50 to 5000."
  }
}

variable "kms_key_arn" {
  description = "The KMS key of storage, backups, insights and logs."
  type        = string
}

variable "log_retention_days" {
  description = "How long log lines are kept, in days."
  type        = number
  default     = 30
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
