output "name" {
  description = "The function's name."
  value       = var.name
}

output "arn" {
  description = "The function's ARN."
  value       = var.is_deployed ? aws_lambda_function.this[0].arn : local.arn
}

output "invoke_arn" {
  description = "The ARN by which API Gateway calls it."
  value       = var.is_deployed ? aws_lambda_function.this[0].invoke_arn : "arn:${data.aws_partition.current.partition}:apigateway:${data.aws_region.current.region}:lambda:path/2015-03-31/functions/${local.arn}/invocations"
}

output "log_group_name" {
  description = "The function's log group."
  value       = aws_cloudwatch_log_group.this.name
}

output "role_arn" {
  description = "The function's role."
  value       = aws_iam_role.this.arn
}
