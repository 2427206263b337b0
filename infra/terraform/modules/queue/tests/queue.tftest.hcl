mock_provider "aws" {
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:sa-east-1:123456789012:a-queue" }
  }
}

variables {
  name                       = "zaphub-test-message-send"
  function_timeout_seconds   = 60
  visibility_timeout_seconds = 360
}

run "a_queue_with_its_dead_letters" {
  command = apply

  assert {
    condition     = aws_sqs_queue.dead_letters.name == "zaphub-test-message-send-dlq"
    error_message = "the dead letters' name"
  }

  assert {
    condition     = jsondecode(aws_sqs_queue.this.redrive_policy).maxReceiveCount == 5
    error_message = "bells go to the dead letters after five receives"
  }

  assert {
    condition     = aws_sqs_queue.this.sqs_managed_sse_enabled && aws_sqs_queue.dead_letters.sqs_managed_sse_enabled
    error_message = "encrypted with keys of SQS unless a key is given"
  }

  assert {
    condition     = aws_sqs_queue.dead_letters.message_retention_seconds > aws_sqs_queue.this.message_retention_seconds
    error_message = "dead letters outlive their queue's bells"
  }

  assert {
    condition = alltrue([
      for policy in aws_sqs_queue_policy.tls_only :
      jsondecode(policy.policy).Statement[0].Effect == "Deny" &&
      jsondecode(policy.policy).Statement[0].Condition.Bool["aws:SecureTransport"] == "false"
    ]) && length(aws_sqs_queue_policy.tls_only) == 2
    error_message = "neither queue is used without TLS"
  }
}

run "a_key_of_ones_own" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:sa-east-1:123456789012:key/a"
  }

  assert {
    condition     = aws_sqs_queue.this.kms_master_key_id == var.kms_key_arn && aws_sqs_queue.this.kms_data_key_reuse_period_seconds == 3600
    error_message = "the key given is the key used"
  }
}

run "a_bell_is_not_handed_out_twice_while_its_function_runs" {
  command = plan

  variables {
    visibility_timeout_seconds = 359
  }

  expect_failures = [var.visibility_timeout_seconds]
}

run "no_colon_in_a_name" {
  command = plan

  variables {
    name = "message:send"
  }

  expect_failures = [var.name]
}

run "a_bell_that_nobody_hears_is_a_dead_letter_before_it_is_too_old" {
  command = plan

  variables {
    message_retention_seconds = 1800
  }

  expect_failures = [var.message_retention_seconds]
}

run "a_slow_functions_bell_is_kept_for_longer" {
  command = plan

  variables {
    function_timeout_seconds   = 300
    visibility_timeout_seconds = 1800
  }

  assert {
    condition     = aws_sqs_queue.this.message_retention_seconds == 5 * 1800 + 3600
    error_message = "five times hidden, and an hour"
  }
}

run "a_short_throttle_kills_no_bell" {
  command = plan

  variables {
    max_receive_count = 1
  }

  expect_failures = [var.max_receive_count]
}
