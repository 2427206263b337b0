variable "name" {
  description = "The beginning of every alarm's name, and the dashboard's."
  type        = string
}

variable "emails" {
  description = "Who is told. AWS asks each address once whether it agrees."
  type        = list(string)

  validation {
    condition     = alltrue([for address in var.emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", address))])
    error_message = "emails: write them as person@example.com."
  }
}

variable "queues" {
  description = "Queues by name: their dead letters, and after how many seconds the oldest bell is too old."
  type = map(object({
    dead_letter_name    = string
    oldest_bell_alarm_s = number
  }))
}

variable "functions" {
  description = "Functions by name: their timeout in seconds."
  type        = map(number)
}

variable "api_id" {
  description = "API Gateway's id of the API."
  type        = string
}

variable "session_host" {
  description = "The ECS cluster and service of the hosts, and how many should run."
  type = object({
    cluster = string
    service = string
    tasks   = number
  })
}

variable "sweeper_log_group" {
  description = "The log group of the sweeper, which counts the sessions every minute."
  type        = string
}

variable "sessions_offline_at_most" {
  description = "So many sessions may be offline for ten minutes before somebody is told; more than a few reconnect at any time where there are thousands."
  type        = number
  default     = 0

  validation {
    condition     = var.sessions_offline_at_most >= 0
    error_message = "sessions_offline_at_most: 0 or more."
  }
}

variable "database" {
  description = "The database instance, and the connections that it allows."
  type = object({
    identifier      = string
    max_connections = number
  })
}

variable "monthly_budget_usd" {
  description = "A mail goes out at 80 % of it, and when the forecast passes it; 0: no budget."
  type        = number
  default     = 0

  validation {
    condition     = var.monthly_budget_usd >= 0
    error_message = "monthly_budget_usd: 0 or more."
  }
}

variable "kms_key_arn" {
  description = "The KMS key of the notices."
  type        = string
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
