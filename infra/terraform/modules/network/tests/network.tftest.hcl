mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_region" {
    defaults = { region = "sa-east-1" }
  }
}

variables {
  name        = "zaphub-test"
  zones       = ["sa-east-1a", "sa-east-1c"]
  kms_key_arn = "arn:aws:kms:sa-east-1:123456789012:key/a"
}

run "one_gateway_for_all" {
  command = apply

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_route.private) == 2
    error_message = "one NAT gateway, a route from each private subnet"
  }

  assert {
    condition     = alltrue([for subnet in concat(values(aws_subnet.public), values(aws_subnet.private)) : subnet.map_public_ip_on_launch != true])
    error_message = "nothing gets a public address by itself"
  }

  assert {
    condition     = length(distinct(concat(values(local.public), values(local.private)))) == 4
    error_message = "no two subnets have the same addresses"
  }

  assert {
    condition     = aws_vpc_endpoint.s3.service_name == "com.amazonaws.sa-east-1.s3"
    error_message = "S3 without NAT"
  }
}

run "a_gateway_for_each_zone" {
  command = apply

  variables {
    nat = "per_zone"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 2 && length(output.public_addresses) == 2
    error_message = "a NAT gateway and an address for each zone"
  }
}

run "one_zone_is_none" {
  command = plan

  variables {
    zones = ["sa-east-1a"]
  }

  expect_failures = [var.zones]
}

run "whatsapp_is_outside" {
  command = plan

  variables {
    nat = "none"
  }

  expect_failures = [var.nat]
}

run "too_few_addresses" {
  command = plan

  variables {
    cidr = "10.0.0.0/26"
  }

  expect_failures = [var.cidr]
}
