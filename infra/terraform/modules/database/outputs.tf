output "address" {
  description = "The instance's host name."
  value       = aws_db_instance.this.address
}

output "function_address" {
  description = "The host name that functions use: the proxy's when there is one."
  value       = var.proxy == null ? aws_db_instance.this.address : aws_db_proxy.this[0].endpoint
}

output "user" {
  description = "The owner's name."
  value       = local.user
}

output "database" {
  description = "The database's name."
  value       = local.database
}

output "identifier" {
  description = "The instance's name, for alarms."
  value       = aws_db_instance.this.identifier
}

output "has_proxy" {
  description = "Whether functions reach it through a proxy, in transaction mode."
  value       = var.proxy != null
}
