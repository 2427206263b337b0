output "api_url" {
  description = "Where clients reach the API."
  value       = module.api.url
}

output "domain_target" {
  description = "What a DNS record of your domain points at; null without a domain."
  value       = module.api.domain_target
}

output "public_addresses" {
  description = "The addresses that receivers of webhooks and WhatsApp see."
  value       = module.network.public_addresses
}

output "queue_urls" {
  description = "The bells' queues by name."
  value       = { for name, queue in module.queue : name => queue.url }
}

output "session_capacity" {
  description = "How many sessions all hosts together hold."
  value       = module.session_host.capacity
}

output "media_bucket" {
  description = "The bucket of media."
  value       = aws_s3_bucket.media.bucket
}

output "database_address" {
  description = "The database's host name, inside the VPC."
  value       = module.database.address
}

output "alarm_topic_arn" {
  description = "The topic of all notices, for a pager."
  value       = module.alarms.topic_arn
}

output "dashboard_url" {
  description = "The page to look at."
  value       = "https://${data.aws_region.current.region}.console.aws.amazon.com/cloudwatch/home?region=${data.aws_region.current.region}#dashboards/dashboard/${module.alarms.dashboard_name}"
}

output "migrate_command" {
  description = "A shell command that starts a task which brings the database's schema up to date, and prints the task's ARN."
  value       = module.session_host.migrate_command
}

output "hosts" {
  description = "The cluster and the service of the session hosts, by name."
  value       = { cluster = module.session_host.cluster_name, service = module.session_host.service_name }
}
