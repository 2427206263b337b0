output "cluster_name" {
  description = "The ECS cluster's name."
  value       = aws_ecs_cluster.this.name
}

output "service_name" {
  description = "The ECS service's name."
  value       = aws_ecs_service.this.name
}

output "capacity" {
  description = "How many sessions all hosts together hold."
  value       = var.task_count * var.sessions.children * var.sessions.per_child
}

output "dns_name" {
  description = "A name that resolves to every host's private address."
  value       = "${aws_service_discovery_service.hosts.name}.${aws_service_discovery_private_dns_namespace.this.name}"
}

output "task_role_arn" {
  description = "The role of a running host."
  value       = aws_iam_role.task.arn
}

output "migrate_command" {
  description = "A shell command that starts a task which brings the database's schema up to date, and prints the task's ARN."
  value = join(" ", [
    "aws ecs run-task --region ${data.aws_region.current.region} --cluster ${aws_ecs_cluster.this.name}",
    "--task-definition ${aws_ecs_task_definition.migrate.family} --launch-type FARGATE --started-by migrate",
    "--network-configuration 'awsvpcConfiguration={subnets=[${join(",", var.subnet_ids)}],securityGroups=[${var.security_group_id}]}'",
    "--query 'tasks[0].taskArn' --output text",
  ])
}
