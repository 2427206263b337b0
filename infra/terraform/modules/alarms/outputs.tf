output "topic_arn" {
  description = "The topic of all notices, for a pager."
  value       = aws_sns_topic.this.arn
}

output "alarm_names" {
  description = "Every alarm's name."
  value       = sort([for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name])
}

output "dashboard_name" {
  description = "The dashboard's name."
  value       = aws_cloudwatch_dashboard.this.dashboard_name
}
