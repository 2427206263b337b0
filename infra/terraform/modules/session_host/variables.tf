variable "name" {
  description = "The service's name."
  type        = string
}

variable "image" {
  description = "The container image of the session host, by digest or by a tag that never moves."
  type        = string

  validation {
    condition     = !endswith(var.image, ":latest") && can(regex("(:|@sha256:)", var.image))
    error_message = "image: name a tag or a digest, not latest: two tasks must never run two versions by chance."
  }
}

variable "task_count" {
  description = "How many hosts run. Each holds up to children x sessions_per_child sessions."
  type        = number
  default     = 2

  validation {
    condition     = var.task_count >= 1 && var.task_count <= 200
    error_message = "task_count: 1 to 200; with one, its end is an outage until the next has started."
  }
}

variable "size" {
  description = "CPU (1024 is one core) and memory of a task, in the pairs that Fargate offers."
  type = object({
    cpu       = optional(number, 512)
    memory_mb = optional(number, 2048)
  })
  default = {}

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.size.cpu) && var.size.memory_mb >= var.size.cpu * 2
    error_message = "size: cpu is one of 256, 512, 1024, 2048, 4096, 8192, 16384; memory_mb is at least twice that."
  }
}

variable "sessions" {
  description = "Child processes of a host, and sessions of a child."
  type = object({
    children  = optional(number, 4)
    per_child = optional(number, 25)
  })
  default = {}

  validation {
    condition     = var.sessions.children >= 1 && var.sessions.children <= 100 && var.sessions.per_child >= 1 && var.sessions.per_child <= 200
    error_message = "sessions: children is 1 to 100, per_child 1 to 200."
  }
}

variable "architecture" {
  description = "arm64 or x86_64, as the image was built."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture: arm64 or x86_64."
  }
}

variable "environment" {
  description = "Settings, ZAPHUB_…; secrets do not belong here."
  type        = map(string)
  default     = {}
}

variable "secret_arn" {
  description = "The secret of Secrets Manager that holds the secret settings, as JSON of name to value."
  type        = string
}

variable "secret_version" {
  description = "The secret's version, which replaces the hosts when it changes; null: hosts keep what they have read."
  type        = string
  default     = null
}

variable "secret_names" {
  description = "The names in that secret which a host needs."
  type        = list(string)
  default     = ["ZAPHUB_DATABASE_URL", "ZAPHUB_SECRET_KEY", "ZAPHUB_HOST_TOKEN"]
}

variable "rings_queue_arns" {
  description = "The queues whose bells a host rings."
  type        = list(string)
}

variable "media_bucket_arn" {
  description = "The bucket of media that a host reads."
  type        = string
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

variable "security_group_id" {
  description = "The security group of the hosts, made outside so that the database may name it."
  type        = string
}

variable "client_security_group_ids" {
  description = "Who may give a host commands, by a name of your choice."
  type        = map(string)
}

variable "port" {
  description = "Where a host's first child listens for commands; the next child has the next port."
  type        = number
  default     = 7400
}

variable "kms_key_arn" {
  description = "The KMS key of the secret, the journal and the log."
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
