variable "name" {
  description = "The API's name."
  type        = string
}

variable "function" {
  description = "The function that answers: its name, the ARN by which API Gateway calls it, and whether it is deployed here: who deploys it lets API Gateway call it."
  type = object({
    name        = string
    invoke_arn  = string
    is_deployed = optional(bool, true)
  })
}

variable "throttle" {
  description = "Requests a second of all clients together, and how many at once after a quiet time."
  type = object({
    rate  = optional(number, 200)
    burst = optional(number, 400)
  })
  default = {}

  validation {
    condition     = var.throttle.rate >= 1 && var.throttle.burst >= 1
    error_message = "throttle: rate and burst are 1 or more."
  }
}

variable "domain" {
  description = "A domain of yours and its ACM certificate in the same region; null: API Gateway's own name."
  type = object({
    name            = string
    certificate_arn = string
  })
  default = null
}

variable "kms_key_arn" {
  description = "The KMS key of the access log."
  type        = string
}

variable "log_retention_days" {
  description = "How long the access log is kept, in days."
  type        = number
  default     = 30
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
