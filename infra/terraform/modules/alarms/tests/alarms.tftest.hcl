mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { region = "sa-east-1" }
  }
}

variables {
  name              = "zaphub-test"
  emails            = ["oncall@example.com"]
  queues            = { zaphub-test-message-send = { dead_letter_name = "zaphub-test-message-send-dlq", oldest_bell_alarm_s = 60 } }
  functions         = { zaphub-test-message-send = 60 }
  api_id            = "api"
  session_host      = { cluster = "hosts", service = "hosts", tasks = 2 }
  sweeper_log_group = "/aws/lambda/zaphub-test-sweeper"
  database          = { identifier = "zaphub-test", max_connections = 400 }
  kms_key_arn       = "arn:aws:kms:sa-east-1:123456789012:key/a"
}

run "every_part_has_its_alarms" {
  command = apply

  assert {
    condition = length(setsubtract([
      "zaphub-test-message-send-oldest", "zaphub-test-message-send-dead-letters", "zaphub-test-message-send-errors",
      "zaphub-test-message-send-throttles", "zaphub-test-message-send-duration", "zaphub-test-api-5xx",
      "zaphub-test-hosts-running", "zaphub-test-hosts-memory", "zaphub-test-sessions-offline", "zaphub-test-database-cpu",
      "zaphub-test-database-connections", "zaphub-test-database-storage",
    ], output.alarm_names)) == 0
    error_message = "an alarm is missing"
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : length(alarm.alarm_actions) == 1])
    error_message = "each alarm tells somebody"
  }

  assert {
    condition     = length(aws_sns_topic_subscription.email) == 1 && length(aws_budgets_budget.this) == 0
    error_message = "one address, no budget"
  }

  assert {
    condition     = length(jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets) == 8
    error_message = "eight charts"
  }
}

run "the_sweepers_count_is_what_alarms" {
  command = apply

  variables {
    sessions_offline_at_most = 3
  }

  assert {
    condition = alltrue([
      aws_cloudwatch_log_metric_filter.sessions_offline.log_group_name == "/aws/lambda/zaphub-test-sweeper",
      aws_cloudwatch_log_metric_filter.sessions_offline.pattern == "{ $.msg = \"sessions_counted\" }",
      aws_cloudwatch_log_metric_filter.sessions_offline.metric_transformation[0].value == "$.offline",
    ])
    error_message = "the number in the sweeper's line"
  }

  assert {
    condition = alltrue([
      aws_cloudwatch_metric_alarm.this["sessions-offline"].namespace == aws_cloudwatch_log_metric_filter.sessions_offline.metric_transformation[0].namespace,
      aws_cloudwatch_metric_alarm.this["sessions-offline"].metric_name == aws_cloudwatch_log_metric_filter.sessions_offline.metric_transformation[0].name,
      aws_cloudwatch_metric_alarm.this["sessions-offline"].threshold == 3,
    ])
    error_message = "the alarm looks at what the filter makes"
  }
}

run "a_budget" {
  command = apply

  variables {
    monthly_budget_usd = 100
  }

  assert {
    condition     = aws_budgets_budget.this[0].limit_amount == "100"
    error_message = "the budget's limit"
  }
}

run "an_address_that_is_none" {
  command = plan

  variables {
    emails = ["on call"]
  }

  expect_failures = [var.emails]
}
