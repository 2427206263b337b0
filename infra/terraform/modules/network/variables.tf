variable "name" {
  description = "The name of the VPC and the beginning of its parts' names."
  type        = string
}

variable "cidr" {
  description = "The VPC's addresses."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 22, false)
    error_message = "cidr: an IPv4 range from /16 to /22, such as 10.40.0.0/16."
  }
}

variable "zones" {
  description = "Availability zones, two or three, of the region."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 2 && length(var.zones) <= 3 && length(distinct(var.zones)) == length(var.zones)
    error_message = "zones: two or three, each once."
  }
}

variable "nat" {
  description = "NAT gateways, for webhooks and WhatsApp: single (one zone's end stops both), or per_zone."
  type        = string
  default     = "single"

  validation {
    condition     = contains(["single", "per_zone"], var.nat)
    error_message = "nat: single or per_zone. Without one neither WhatsApp nor a webhook's receiver can be reached."
  }
}

variable "kms_key_arn" {
  description = "The KMS key of the flow log."
  type        = string
}

variable "flow_log_retention_days" {
  description = "How long the flow log (refused packets only) is kept, in days."
  type        = number
  default     = 30
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
