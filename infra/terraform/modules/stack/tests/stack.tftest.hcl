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
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:sa-east-1:123456789012:key/a" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/a" }
  }
}

variables {
  environment = "test"
  zones       = ["sa-east-1a", "sa-east-1c"]
  packages = {
    bucket    = "zips"
    functions = { key = "functions.zip", sha256 = "Zg==" }
    api       = { key = "api.zip", sha256 = "YQ==" }
  }
  session_host      = { image = "zaphub-session-host:1.0.0" }
  alarm_emails      = ["oncall@example.com"]
  database_password = "not-a-real-password-1234"
  admin_key         = "not-a-real-key-not-a-real-key-not-a-real-key"
  secret_key        = "not-a-real-key-not-a-real-key-not-a-real-key"
  host_token        = "not-a-real-key-not-a-real-key-not-a-real-key"
}

run "a_function_for_every_queue_of_the_table" {
  command = apply

  assert {
    condition     = length(module.queue) == 7 && length(module.function) == 7
    error_message = "seven queues, a function each"
  }

  assert {
    condition     = toset(keys(module.function)) == toset(keys(local.queues))
    error_message = "the functions are those of infra/queues.json"
  }

  assert {
    condition     = toset(keys(jsondecode(local.settings.ZAPHUB_SQS_QUEUE_URLS))) == toset([for queue in local.queues : queue.queue])
    error_message = "every part knows every queue's URL by the queue's own name"
  }

  assert {
    condition     = local.settings.ZAPHUB_TRANSPORT == "sqs" && local.settings.ZAPHUB_DB_TRANSACTION_POOLER == "false"
    error_message = "SQS rings, and Postgres is reached without a pooler"
  }

  assert {
    condition     = aws_kms_key.this.enable_key_rotation && aws_s3_bucket_public_access_block.media.restrict_public_buckets
    error_message = "the key rotates, and media are private"
  }
}

run "a_proxy_is_known_to_the_functions" {
  command = apply

  variables {
    database = { proxy = true }
  }

  assert {
    condition     = local.settings.ZAPHUB_DB_TRANSACTION_POOLER == "true" && length(aws_secretsmanager_secret.proxy) == 1
    error_message = "functions behind a proxy keep no state in a connection"
  }
}

run "another_tool_deploys_the_functions" {
  command = apply

  variables {
    functions_by = "serverless"
  }

  assert {
    condition     = length(module.function) == 7 && module.function["message-send"].name == "zaphub-test-message-send"
    error_message = "their roles and logs stay here, under the names that serverless.yml gives the functions"
  }

  assert {
    condition = toset([for parameter in aws_ssm_parameter.for_serverless : parameter.name]) == toset([
      "/zaphub-test/api-id", "/zaphub-test/secrets-arn", "/zaphub-test/subnet-ids",
      "/zaphub-test/functions-security-group-ids", "/zaphub-test/api-security-group-ids",
    ])
    error_message = "what serverless.yml reads"
  }
}

run "a_tool_that_nobody_knows" {
  command = plan

  variables {
    functions_by = "hand"
  }

  expect_failures = [var.functions_by]
}

run "a_queue_that_does_not_exist" {
  command = plan

  variables {
    concurrency = { message-sent = 10 }
  }

  expect_failures = [terraform_data.queues_are_known]
}

run "one_at_a_time_is_no_mapping" {
  command = plan

  variables {
    concurrency = { message-send = 1 }
  }

  expect_failures = [var.concurrency]
}

run "connections_are_counted_before_they_run_out" {
  command = plan

  variables {
    concurrency = { message-send = 300 }
  }

  expect_failures = [terraform_data.connections_suffice]
}

run "the_apis_connections_count_too" {
  command = plan

  variables {
    api_concurrency = 80
  }

  expect_failures = [terraform_data.connections_suffice]
}

run "a_proxy_leaves_room_for_the_hosts" {
  command = plan

  variables {
    database     = { proxy = true, max_connections = 200 }
    session_host = { image = "zaphub-session-host:1.0.0", children = 9 }
  }

  expect_failures = [terraform_data.connections_suffice]
}

run "a_key_that_is_too_short" {
  command = plan

  variables {
    secret_key = "short"
  }

  expect_failures = [var.secret_key]
}

run "a_name_that_aws_would_refuse" {
  command = plan

  variables {
    environment = "Prod!"
  }

  expect_failures = [var.environment]
}
