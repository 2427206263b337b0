mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_region" {
    defaults = { region = "sa-east-1" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/a" }
  }
}

variables {
  name                      = "zaphub-test-session-host"
  image                     = "123456789012.dkr.ecr.sa-east-1.amazonaws.com/zaphub-session-host:1.0.0"
  secret_arn                = "arn:aws:secretsmanager:sa-east-1:123456789012:secret:zaphub-test/session-host"
  rings_queue_arns          = ["arn:aws:sqs:sa-east-1:123456789012:zaphub-test-message-receive"]
  media_bucket_arn          = "arn:aws:s3:::media"
  vpc_id                    = "vpc-a"
  subnet_ids                = ["subnet-a", "subnet-b"]
  security_group_id         = "sg-hosts"
  client_security_group_ids = { functions = "sg-functions", api = "sg-api" }
  kms_key_arn               = "arn:aws:kms:sa-east-1:123456789012:key/a"
}

run "private_and_with_a_journal_that_stays" {
  command = apply

  assert {
    condition     = aws_ecs_service.this.network_configuration[0].assign_public_ip == false
    error_message = "no public address"
  }

  assert {
    condition     = aws_efs_file_system.journal.encrypted && length(aws_efs_mount_target.journal) == 2
    error_message = "the journal is encrypted and reachable in each zone"
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].readonlyRootFilesystem && jsondecode(aws_ecs_task_definition.this.container_definitions)[0].user == "10001:10001"
    error_message = "an unprivileged user and a file system that cannot be written"
  }

  assert {
    condition = alltrue([
      for variable in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment :
      !contains(var.secret_names, variable.name)
    ])
    error_message = "secrets are no plain settings"
  }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.commands) == 2
    error_message = "functions and API may give commands, and nobody else"
  }

  assert {
    condition = alltrue([
      for rule in aws_vpc_security_group_ingress_rule.commands : rule.from_port == 7400 && rule.to_port == 7403
    ]) && length(jsondecode(aws_ecs_task_definition.this.container_definitions)[0].portMappings) == 4
    error_message = "each of the four children is reached, and nothing else"
  }

  assert {
    condition = contains(
      jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment,
      { name = "ZAPHUB_HOST_ADVERTISE", value = "auto" }
    )
    error_message = "workers are told the task's own address"
  }

  assert {
    condition     = aws_ecs_service.this.deployment_minimum_healthy_percent == 100
    error_message = "the next task is up before the last one goes"
  }

  assert {
    condition     = output.capacity == 200
    error_message = "two tasks of four children of twenty-five sessions"
  }
}

run "two_tasks_never_run_two_versions_by_chance" {
  command = plan

  variables {
    image = "zaphub-session-host:latest"
  }

  expect_failures = [var.image]
}

run "no_size_that_fargate_does_not_have" {
  command = plan

  variables {
    size = { cpu = 700, memory_mb = 2048 }
  }

  expect_failures = [var.size]
}
