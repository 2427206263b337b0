variable "name" {
  description = "The queue's name; its dead letters' is the same with -dlq."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,76}$", var.name))
    error_message = "name: 1 to 76 letters, digits, hyphens and underscores; SQS allows no colon."
  }
}

variable "function_timeout_seconds" {
  description = "The timeout of the function that drains this queue, in seconds."
  type        = number

  validation {
    condition     = var.function_timeout_seconds >= 1 && var.function_timeout_seconds <= 900
    error_message = "function_timeout_seconds: 1 to 900, Lambda's limit."
  }
}

variable "visibility_timeout_seconds" {
  description = "How long SQS hides a bell that a function has taken, in seconds."
  type        = number

  validation {
    condition     = var.visibility_timeout_seconds >= 6 * var.function_timeout_seconds && var.visibility_timeout_seconds <= 43200
    error_message = "visibility_timeout_seconds: at least six times the function's timeout, as AWS asks for, and at most 43200."
  }
}

variable "message_retention_seconds" {
  description = "How long an unheard bell is kept, in seconds; null: until it has been handed out max_receive_count times, and an hour."
  type        = number
  default     = null

  validation {
    condition     = var.message_retention_seconds == null || try(var.message_retention_seconds >= 60 && var.message_retention_seconds <= 1209600, false)
    error_message = "message_retention_seconds: 60 to 1209600 (14 days)."
  }

  validation {
    condition     = var.message_retention_seconds == null || try(var.message_retention_seconds > var.visibility_timeout_seconds * var.max_receive_count, false)
    error_message = "message_retention_seconds: more than visibility_timeout_seconds x max_receive_count; else a bell is gone before it is a dead letter, and nobody hears of it."
  }
}

variable "max_receive_count" {
  description = "How often a bell is handed out before it goes to the dead letters. Throttled invocations count too."
  type        = number
  default     = 5

  validation {
    condition     = var.max_receive_count >= 3 && var.max_receive_count <= 1000
    error_message = "max_receive_count: 3 to 1000; less would give up during a short throttle."
  }
}

variable "kms_key_arn" {
  description = "A KMS key for the queue; null: keys that SQS manages. A bell holds a queue's name and no data."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
