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
  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:sa-east-1:123456789012:function:zaphub-test-message-send" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:sa-east-1:123456789012:log-group:/aws/lambda/zaphub-test-message-send" }
  }
}

variables {
  name               = "zaphub-test-message-send"
  handler            = "functions.message_send.handler"
  package            = { bucket = "zips", key = "functions.zip", sha256 = "c2hh" }
  timeout_seconds    = 60
  environment        = { ZAPHUB_TRANSPORT = "sqs" }
  secret_arn         = "arn:aws:secretsmanager:sa-east-1:123456789012:secret:zaphub-test/functions"
  kms_key_arn        = "arn:aws:kms:sa-east-1:123456789012:key/a"
  subnet_ids         = ["subnet-a", "subnet-b"]
  security_group_ids = ["sg-a"]
  queue              = { arn = "arn:aws:sqs:sa-east-1:123456789012:zaphub-test-message-send", max_concurrency = 5 }
  rings_queue_arns   = ["arn:aws:sqs:sa-east-1:123456789012:zaphub-test-webhook-delivery"]
}

run "it_hears_the_bells_of_its_own_queue_alone" {
  command = apply

  assert {
    condition = flatten([
      for statement in jsondecode(aws_iam_role_policy.this.policy).Statement : statement.Resource
      if contains(statement.Action, "sqs:ReceiveMessage")
    ]) == [var.queue.arn]
    error_message = "it receives from its own queue and from no other"
  }

  assert {
    condition = join(" ", flatten([
      for statement in jsondecode(aws_iam_role_policy.this.policy).Statement : statement.Resource
      if contains(statement.Action, "sqs:SendMessage")
    ])) == join(" ", var.rings_queue_arns)
    error_message = "it rings what it was told and nothing else"
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.this.policy).Statement :
      !contains(statement.Resource, "*") || contains(["StandInTheVpc", "ButNotFromItsCode"], statement.Sid)
    ])
    error_message = "a wildcard is allowed for Lambda's own network interfaces only"
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.this.policy).Statement : !anytrue([for action in statement.Action : startswith(action, "s3:")])
    ])
    error_message = "without media there is nothing of S3"
  }

  assert {
    condition     = aws_lambda_event_source_mapping.bells[0].scaling_config[0].maximum_concurrency == 5
    error_message = "the queue's concurrency"
  }

  assert {
    condition     = contains(aws_lambda_event_source_mapping.bells[0].function_response_types, "ReportBatchItemFailures")
    error_message = "what failed of a batch is told record by record"
  }

  assert {
    condition     = aws_lambda_function.this[0].environment[0].variables["ZAPHUB_SECRETS_ARN"] == var.secret_arn
    error_message = "it knows where its secrets are"
  }

  assert {
    condition     = !contains(keys(aws_lambda_function.this[0].environment[0].variables), "SECRETS_VERSION")
    error_message = "no version unless one is given"
  }

  assert {
    condition     = length(aws_scheduler_schedule.this) == 0
    error_message = "no schedule unless one is given"
  }
}

run "a_new_secret_replaces_the_containers_that_read_the_old_one" {
  command = apply

  variables {
    secret_version = "v2"
  }

  assert {
    condition     = aws_lambda_function.this[0].environment[0].variables["SECRETS_VERSION"] == "v2"
    error_message = "a version is part of the environment"
  }
}

run "it_writes_media_with_data_keys_of_its_own" {
  command = apply

  variables {
    media = { bucket_arn = "arn:aws:s3:::media", actions = ["s3:GetObject", "s3:PutObject"] }
  }

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_iam_role_policy.this.policy).Statement :
      contains(statement.Action, "s3:PutObject") && statement.Resource == ["arn:aws:s3:::media/*"]
    ])
    error_message = "objects of the bucket, and no other bucket"
  }

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_iam_role_policy.this.policy).Statement :
      contains(statement.Action, "s3:ListBucket") && statement.Resource == ["arn:aws:s3:::media"]
    ])
    error_message = "a file that is gone is told from one that is forbidden"
  }

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_iam_role_policy.this.policy).Statement : contains(statement.Action, "kms:GenerateDataKey")
    ])
    error_message = "who writes encrypted objects makes data keys"
  }
}

run "it_starts_by_a_schedule" {
  command = apply

  variables {
    queue    = null
    schedule = "rate(1 minute)"
  }

  assert {
    condition     = aws_scheduler_schedule.this[0].target[0].retry_policy[0].maximum_retry_attempts == 0
    error_message = "the next minute looks again"
  }

  assert {
    condition     = aws_lambda_function_event_invoke_config.schedule[0].maximum_retry_attempts == 0
    error_message = "and Lambda's own queue does not repeat it either, as serverless.yml says"
  }

  assert {
    condition     = length(aws_lambda_event_source_mapping.bells) == 0
    error_message = "no queue, no mapping"
  }
}

run "another_tool_deploys_it" {
  command = apply

  variables {
    is_deployed = false
  }

  assert {
    condition     = length(aws_lambda_function.this) == 0 && length(aws_lambda_event_source_mapping.bells) == 0
    error_message = "no function and no trigger"
  }

  assert {
    condition     = aws_iam_role.this.name == var.name && aws_cloudwatch_log_group.this.name == "/aws/lambda/${var.name}"
    error_message = "the role and the log that the other tool's function uses"
  }

  assert {
    condition     = output.arn == "arn:aws:lambda:sa-east-1:123456789012:function:${var.name}" && endswith(output.invoke_arn, "${output.arn}/invocations")
    error_message = "the name that it will have"
  }
}

run "one_invocation_at_a_time_is_no_mapping" {
  command = plan

  variables {
    queue = { arn = "arn:aws:sqs:sa-east-1:123456789012:q", max_concurrency = 1 }
  }

  expect_failures = [var.queue]
}

run "less_reserved_than_the_queue_starts_would_kill_bells" {
  command = plan

  variables {
    reserved_concurrency = 4
  }

  expect_failures = [var.queue]
}

run "no_secret_in_the_environment" {
  command = plan

  variables {
    environment = { ZAPHUB_SECRET_KEY = "in plain sight" }
  }

  expect_failures = [var.environment]
}

run "no_schedule_in_other_words" {
  command = plan

  variables {
    queue    = null
    schedule = "every minute"
  }

  expect_failures = [var.schedule]
}

run "no_python_that_is_too_old" {
  command = plan

  variables {
    runtime = "python3.11"
  }

  expect_failures = [var.runtime]
}
