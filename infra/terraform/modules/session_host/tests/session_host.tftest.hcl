mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
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

run "a_new_host_is_asked_whether_it_works_before_an_old_one_goes" {
  command = apply

  variables {
    secret_version = "v2"
  }

  assert {
    condition     = strcontains(join(" ", jsondecode(aws_ecs_task_definition.this.container_definitions)[0].healthCheck.command), "range(7400, 7404)")
    error_message = "every child is asked"
  }

  assert {
    condition = contains(
      jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment, { name = "SECRETS_VERSION", value = "v2" }
    )
    error_message = "a new secret replaces the hosts"
  }
}

run "the_schema_is_migrated_by_a_task_of_its_own" {
  command = apply

  assert {
    condition = (
      jsondecode(aws_ecs_task_definition.migrate.container_definitions)[0].image == var.image &&
      jsondecode(aws_ecs_task_definition.migrate.container_definitions)[0].command == ["python", "-m", "shared.db.migrate"] &&
      strcontains(output.migrate_command, "--task-definition zaphub-test-session-host-migrate")
    )
    error_message = "so that a new version migrates before the first of its hosts starts"
  }
}

run "it_pulls_its_own_image_and_no_other" {
  command = apply

  assert {
    condition = flatten([
      for statement in jsondecode(aws_iam_role_policy.start.policy).Statement : statement.Resource
      if contains(statement.Action, "ecr:BatchGetImage")
    ]) == ["arn:aws:ecr:sa-east-1:123456789012:repository/zaphub-session-host"]
    error_message = "the repository of its image"
  }
}

run "an_image_of_another_registry_needs_no_right" {
  command = apply

  variables {
    image = "ghcr.io/zaphub/session-host:1.0.0"
  }

  assert {
    condition     = !strcontains(aws_iam_role_policy.start.policy, "ecr:")
    error_message = "nothing of ECR"
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
