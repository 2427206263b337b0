variable "environment" {
  description = "What this is: dev, prod, or a name of yours. All names begin with zaphub-<environment>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,15}$", var.environment))
    error_message = "environment: 2 to 16 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "zones" {
  description = "Availability zones, two or three, of the region."
  type        = list(string)
}

variable "cidr" {
  description = "The VPC's addresses."
  type        = string
  default     = "10.40.0.0/16"
}

variable "nat" {
  description = "NAT gateways: single or per_zone."
  type        = string
  default     = "per_zone"
}

variable "functions_by" {
  description = "Who deploys the functions and their triggers: terraform, or serverless (serverless.yml, after this)."
  type        = string
  default     = "terraform"

  validation {
    condition     = contains(["terraform", "serverless"], var.functions_by)
    error_message = "functions_by: terraform or serverless."
  }
}

variable "packages" {
  description = "The zips in S3, from packages.tfvars.json of `python -m local.packaging`: for each role its key and its SHA-256 in base64."
  type = object({
    bucket    = string
    functions = object({ key = string, sha256 = string })
    api       = object({ key = string, sha256 = string })
  })
}

variable "architecture" {
  description = "arm64 or x86_64, as zips and image were built."
  type        = string
  default     = "arm64"
}

variable "runtime" {
  description = "Lambda's runtime, as the zips were built for."
  type        = string
  default     = "python3.12"
}

variable "session_host" {
  description = "The session hosts: image, tasks, size of a task, sessions of a task."
  type = object({
    image      = string
    task_count = optional(number, 2)
    cpu        = optional(number, 512)
    memory_mb  = optional(number, 2048)
    children   = optional(number, 4)
    per_child  = optional(number, 25)
  })
}

variable "database" {
  description = "The database's machine, and whether functions reach it through a proxy."
  type = object({
    instance_class        = optional(string, "db.t4g.small")
    storage_gb            = optional(number, 20)
    max_storage_gb        = optional(number, 200)
    multi_az              = optional(bool, true)
    backup_retention_days = optional(number, 14)
    deletion_protection   = optional(bool, true)
    max_connections       = optional(number, 400)
    proxy                 = optional(bool, false)
  })
  default = {}
}

variable "concurrency" {
  description = "Invocations at once for a queue, by its name on SQS; a queue that is not named has its policy's."
  type        = map(number)
  default     = {}

  validation {
    condition     = alltrue([for most in values(var.concurrency) : most >= 2 && most <= 1000])
    error_message = "concurrency: 2 to 1000; an event source mapping takes no less than 2."
  }
}

variable "api_concurrency" {
  description = "Requests that the API's function works on at once; reserved from the account's concurrency. More are answered 429 or 503."
  type        = number
  default     = 20

  validation {
    condition     = var.api_concurrency >= 1 && floor(var.api_concurrency) == var.api_concurrency
    error_message = "api_concurrency: a whole number from 1 on."
  }
}

variable "settings" {
  description = "More settings for every part, ZAPHUB_…, such as ZAPHUB_SEND_RATE_PER_MINUTE."
  type        = map(string)
  default     = {}
}

variable "domain" {
  description = "The API's domain and its ACM certificate in the same region; null: API Gateway's own name."
  type = object({
    name            = string
    certificate_arn = string
  })
  default = null
}

variable "throttle" {
  description = "Requests a second of all clients together, and how many at once after a quiet time."
  type = object({
    rate  = optional(number, 200)
    burst = optional(number, 400)
  })
  default = {}
}

variable "alarm_emails" {
  description = "Who is told when something is wrong."
  type        = list(string)
}

variable "sessions_offline_at_most" {
  description = "So many sessions may be offline for ten minutes before somebody is told; more than a few reconnect at any time where there are thousands."
  type        = number
  default     = 0
}

variable "monthly_budget_usd" {
  description = "A mail goes out at 80 % of it, and when the forecast passes it; 0: no budget."
  type        = number
  default     = 0
}

variable "log_retention_days" {
  description = "How long log lines are kept, in days."
  type        = number
  default     = 30
}

variable "database_password" {
  description = "24 to 128 letters, digits, hyphens and underscores; never in the plan or the state."
  type        = string
  ephemeral   = true
  sensitive   = true
}

variable "admin_key" {
  description = "ZAPHUB_ADMIN_KEY, the first API key, 32 characters at least."
  type        = string
  ephemeral   = true
  sensitive   = true

  validation {
    condition     = length(var.admin_key) >= 32
    error_message = "admin_key: 32 characters at least; `openssl rand -hex 32` makes one."
  }
}

variable "secret_key" {
  description = "ZAPHUB_SECRET_KEY, which encrypts secrets at rest; lost, they cannot be read again. 32 characters at least."
  type        = string
  ephemeral   = true
  sensitive   = true

  validation {
    condition     = length(var.secret_key) >= 32
    error_message = "secret_key: 32 characters at least; `openssl rand -hex 32` makes one."
  }
}

variable "host_token" {
  description = "ZAPHUB_HOST_TOKEN, which functions show to session hosts. 32 characters at least."
  type        = string
  ephemeral   = true
  sensitive   = true

  validation {
    condition     = length(var.host_token) >= 32
    error_message = "host_token: 32 characters at least; `openssl rand -hex 32` makes one."
  }
}

variable "secrets_version" {
  description = "A greater number writes password and secrets anew. Values that are ephemeral cannot be compared."
  type        = number
  default     = 1

  validation {
    condition     = var.secrets_version >= 1 && floor(var.secrets_version) == var.secrets_version
    error_message = "secrets_version: a whole number from 1 on."
  }
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
