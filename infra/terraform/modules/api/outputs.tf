output "url" {
  description = "Where clients reach the API."
  value       = var.domain == null ? aws_apigatewayv2_api.this.api_endpoint : "https://${var.domain.name}"
}

output "id" {
  description = "API Gateway's id of the API."
  value       = aws_apigatewayv2_api.this.id
}

output "domain_target" {
  description = "What a DNS record of your domain points at: its name and its hosted zone; null without a domain."
  value = var.domain == null ? null : {
    name    = aws_apigatewayv2_domain_name.this[0].domain_name_configuration[0].target_domain_name
    zone_id = aws_apigatewayv2_domain_name.this[0].domain_name_configuration[0].hosted_zone_id
  }
}
