output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "cidr" {
  description = "The VPC's addresses."
  value       = aws_vpc.this.cidr_block
}

output "private_subnet_ids" {
  description = "The private subnets, one for each zone."
  value       = [for zone in var.zones : aws_subnet.private[zone].id]
}

output "public_addresses" {
  description = "The addresses that receivers of webhooks see."
  value       = [for address in aws_eip.nat : address.public_ip]
}
