variable "region" {
  description = "AWS's region."
  type        = string
  default     = "sa-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region: such as sa-east-1."
  }
}

variable "packages" {
  description = "The zips in S3: for each role its key and its SHA-256 in base64. `python -m local.packaging` writes this and the next two."
  type = object({
    bucket    = string
    functions = object({ key = string, sha256 = string })
    api       = object({ key = string, sha256 = string })
  })
}

variable "architecture" {
  description = "arm64 or x86_64, of the zips and the session host's image."
  type        = string
  default     = "arm64"
}

variable "runtime" {
  description = "Lambda's runtime, as the zips were built for."
  type        = string
  default     = "python3.12"
}

variable "functions_by" {
  description = "Who deploys the functions and their triggers: terraform, or serverless (serverless.yml, after this)."
  type        = string
  default     = "terraform"
}

variable "session_host_image" {
  description = "The session host's image, by digest or by a tag that never moves."
  type        = string
}

variable "alarm_emails" {
  description = "Who is told when something is wrong."
  type        = list(string)
}

variable "domain" {
  description = "The API's domain and its ACM certificate in the same region; null: API Gateway's own name."
  type = object({
    name            = string
    certificate_arn = string
  })
  default = null
}

variable "settings" {
  description = "More settings for every part, ZAPHUB_…."
  type        = map(string)
  default     = {}
}

# Give these as TF_VAR_…, from a password manager: they are in no file, no plan and no state.

variable "database_password" {
  description = "24 to 128 letters, digits, hyphens and underscores."
  type        = string
  ephemeral   = true
  sensitive   = true
}

variable "admin_key" {
  description = "The first API key, 32 characters at least."
  type        = string
  ephemeral   = true
  sensitive   = true
}

variable "secret_key" {
  description = "Encrypts secrets at rest, 32 characters at least. Keep a copy: without it they cannot be read again."
  type        = string
  ephemeral   = true
  sensitive   = true
}

variable "host_token" {
  description = "What functions show to session hosts, 32 characters at least."
  type        = string
  ephemeral   = true
  sensitive   = true
}

variable "secrets_version" {
  description = "A greater number writes password and secrets anew."
  type        = number
  default     = 1
}

variable "session_host_count" {
  description = "How many session hosts run; each holds a hundred sessions."
  type        = number
  default     = 2
}

variable "database_instance_class" {
  description = "The size of the database's machine."
  type        = string
  default     = "db.m7g.large"
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
