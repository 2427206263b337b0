output "api_url" {
  description = "Where clients reach the API."
  value       = module.zaphub.api_url
}

output "domain_target" {
  description = "What a DNS record of your domain points at; null without a domain."
  value       = module.zaphub.domain_target
}

output "public_addresses" {
  description = "The addresses that receivers of webhooks and WhatsApp see."
  value       = module.zaphub.public_addresses
}

output "queue_urls" {
  description = "The bells' queues by name."
  value       = module.zaphub.queue_urls
}

output "session_capacity" {
  description = "How many sessions all hosts together hold."
  value       = module.zaphub.session_capacity
}

output "media_bucket" {
  description = "The bucket of media."
  value       = module.zaphub.media_bucket
}

output "alarm_topic_arn" {
  description = "The topic of all notices, for a pager."
  value       = module.zaphub.alarm_topic_arn
}

output "dashboard_url" {
  description = "The page to look at."
  value       = module.zaphub.dashboard_url
}

output "migrate_command" {
  description = "A shell command that starts a task which brings the database's schema up to date, and prints the task's ARN."
  value       = module.zaphub.migrate_command
}

output "hosts" {
  description = "The cluster and the service of the session hosts, by name."
  value       = module.zaphub.hosts
}
