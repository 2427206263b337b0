variable "name" {
  description = "The function's name."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.name))
    error_message = "name: 1 to 64 letters, digits, hyphens and underscores."
  }
}

variable "description" {
  description = "What the function does, for the console."
  type        = string
  default     = ""
}

variable "handler" {
  description = "The Python handler, such as functions.message_send.handler."
  type        = string
}

variable "package" {
  description = "The zip in S3, and its SHA-256 in base64, which makes a change of it a deployment."
  type = object({
    bucket = string
    key    = string
    sha256 = string
  })
}

variable "is_deployed" {
  description = "Whether the function is deployed here; false: its role and its log alone, for a tool that deploys it."
  type        = bool
  default     = true
}

variable "runtime" {
  description = "Lambda's runtime."
  type        = string
  default     = "python3.12"

  validation {
    condition     = can(regex("^python3\\.1[2-4]$", var.runtime))
    error_message = "runtime: python3.12, python3.13 or python3.14; the zips' wheels need what Lambda has since 3.12."
  }
}

variable "architecture" {
  description = "arm64 or x86_64, as the zip was built."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture: arm64 or x86_64."
  }
}

variable "memory_mb" {
  description = "Memory in MB; the share of a CPU grows with it."
  type        = number
  default     = 512

  validation {
    condition     = var.memory_mb >= 256 && var.memory_mb <= 10240
    error_message = "memory_mb: 256 to 10240; below 256 a cold start takes longer than the time it saves."
  }
}

variable "timeout_seconds" {
  description = "When an invocation is ended, in seconds."
  type        = number

  validation {
    condition     = var.timeout_seconds >= 5 && var.timeout_seconds <= 900
    error_message = "timeout_seconds: 5 to 900."
  }
}

variable "reserved_concurrency" {
  description = "The most invocations at once, of all its triggers; null: no limit of its own."
  type        = number
  default     = null
}

variable "environment" {
  description = "Settings, ZAPHUB_…; secrets do not belong here."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([
      for name in keys(var.environment) :
      !contains(["ZAPHUB_SECRET_KEY", "ZAPHUB_ADMIN_KEY", "ZAPHUB_HOST_TOKEN", "ZAPHUB_DATABASE_URL"], name)
    ])
    error_message = "environment: secrets come from secret_arn, where the console and the state do not show them."
  }
}

variable "secret_arn" {
  description = "The secret of Secrets Manager that holds the secret settings, as JSON of name to value."
  type        = string
}

variable "secret_version" {
  description = "The secret's version, which makes a new one a deployment; null: containers keep what they have read."
  type        = string
  default     = null
}

variable "kms_key_arn" {
  description = "The KMS key of the secret, the environment and the log."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids: two subnets at least, in two zones."
  }
}

variable "security_group_ids" {
  description = "Security groups of the function."
  type        = list(string)
}

variable "queue" {
  description = "The queue whose bells start the function, and how many invocations run at once; null: another trigger."
  type = object({
    arn             = string
    max_concurrency = number
    batch_size      = optional(number, 10)
  })
  default = null

  validation {
    condition     = var.queue == null || try(var.queue.max_concurrency >= 2 && var.queue.max_concurrency <= 1000, false)
    error_message = "queue.max_concurrency: 2 to 1000; an event source mapping takes no less than 2."
  }

  validation {
    condition     = var.queue == null || try(var.queue.batch_size >= 1 && var.queue.batch_size <= 10, false)
    error_message = "queue.batch_size: 1 to 10; bells say nothing that a larger batch would tell."
  }

  validation {
    condition = (
      var.queue == null || var.reserved_concurrency == null ||
      try(var.reserved_concurrency >= var.queue.max_concurrency, false)
    )
    error_message = "reserved_concurrency: at least queue.max_concurrency, else throttled bells go to the dead letters."
  }
}

variable "rings_queue_arns" {
  description = "The queues whose bells the function rings."
  type        = list(string)
  default     = []
}

variable "media" {
  description = "The bucket of media, and what the function may do with its objects; null: nothing."
  type = object({
    bucket_arn = string
    actions    = list(string)
  })
  default = null

  validation {
    condition = alltrue([
      for action in try(var.media.actions, []) :
      contains(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], action)
    ])
    error_message = "media.actions: s3:GetObject, s3:PutObject, s3:DeleteObject."
  }
}

variable "schedule" {
  description = "A schedule that starts the function, such as rate(1 minute); null: none."
  type        = string
  default     = null

  validation {
    condition     = var.schedule == null || can(regex("^(rate|cron)\\(.+\\)$", var.schedule))
    error_message = "schedule: rate(…) or cron(…)."
  }
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
