# What wakes somebody, and the page that they then look at.

data "aws_region" "current" {}

resource "aws_sns_topic" "this" {
  name              = "${var.name}-alarms"
  kms_master_key_id = var.kms_key_arn
  tags              = var.tags
}

resource "aws_sns_topic_subscription" "email" {
  for_each  = toset(var.emails)
  topic_arn = aws_sns_topic.this.arn
  protocol  = "email"
  endpoint  = each.value
}

# The sweeper writes this line every minute; shared/queues/lambda_sweep.py.
resource "aws_cloudwatch_log_metric_filter" "sessions_offline" {
  name           = "${var.name}-sessions-offline"
  log_group_name = var.sweeper_log_group
  pattern        = "{ $.msg = \"sessions_counted\" }"

  metric_transformation {
    namespace = var.name
    name      = local.sessions_offline
    value     = "$.offline"
  }
}

locals {
  sessions_offline = "SessionsOffline"

  # One table of alarms; docs/runbook.md says what to do for each.
  alarms = merge(
    { for name, queue in var.queues : "${name}-oldest" => {
      description = "Bells of ${name} wait: its function is throttled, fails or is too slow."
      namespace   = "AWS/SQS", metric = "ApproximateAgeOfOldestMessage", statistic = "Maximum"
      dimensions  = { QueueName = name }
      threshold   = queue.oldest_bell_alarm_s, period = 60, periods = 3, comparison = "GreaterThanThreshold"
      missing     = "notBreaching"
    } },
    { for name, queue in var.queues : "${name}-dead-letters" => {
      description = "A function could not look at ${name} at all, several times over: read its log."
      namespace   = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", statistic = "Maximum"
      dimensions  = { QueueName = queue.dead_letter_name }
      threshold   = 0, period = 60, periods = 1, comparison = "GreaterThanThreshold"
      missing     = "notBreaching"
    } },
    { for name, timeout_s in var.functions : "${name}-errors" => {
      description = "${name} ends in errors."
      namespace   = "AWS/Lambda", metric = "Errors", statistic = "Sum"
      dimensions  = { FunctionName = name }
      threshold   = 0, period = 300, periods = 1, comparison = "GreaterThanThreshold"
      missing     = "notBreaching"
    } },
    { for name, timeout_s in var.functions : "${name}-throttles" => {
      description = "${name} is throttled: raise its concurrency, or the account's."
      namespace   = "AWS/Lambda", metric = "Throttles", statistic = "Sum"
      dimensions  = { FunctionName = name }
      threshold   = 10, period = 300, periods = 1, comparison = "GreaterThanThreshold"
      missing     = "notBreaching"
    } },
    { for name, timeout_s in var.functions : "${name}-duration" => {
      description = "${name} comes near its timeout of ${timeout_s} s."
      namespace   = "AWS/Lambda", metric = "Duration", statistic = "Maximum"
      dimensions  = { FunctionName = name }
      # A drain uses its invocation up to the margin when there is work, so only the timeout itself is news.
      threshold = timeout_s * 1000 - 500, period = 300, periods = 1, comparison = "GreaterThanThreshold"
      missing   = "notBreaching"
    } },
    {
      "api-5xx" = {
        description = "The API answers 5xx."
        namespace   = "AWS/ApiGateway", metric = "5xx", statistic = "Sum"
        dimensions  = { ApiId = var.api_id }
        threshold   = 5, period = 300, periods = 1, comparison = "GreaterThanThreshold"
        missing     = "notBreaching"
      }
      "hosts-running" = {
        description = "Fewer session hosts run than should: their sessions move to the others, or are offline."
        namespace   = "ECS/ContainerInsights", metric = "RunningTaskCount", statistic = "Minimum"
        dimensions  = { ClusterName = var.session_host.cluster, ServiceName = var.session_host.service }
        threshold   = var.session_host.tasks, period = 60, periods = 5, comparison = "LessThanThreshold"
        missing     = "breaching"
      }
      "hosts-memory" = {
        description = "A session host runs out of memory: fewer sessions for each, or larger tasks."
        namespace   = "AWS/ECS", metric = "MemoryUtilization", statistic = "Maximum"
        dimensions  = { ClusterName = var.session_host.cluster, ServiceName = var.session_host.service }
        threshold   = 85, period = 300, periods = 2, comparison = "GreaterThanThreshold"
        missing     = "notBreaching"
      }
      "sessions-offline" = {
        description = "Sessions that should be connected have not been for ten minutes: docs/runbook.md, A session is stuck."
        namespace   = var.name, metric = local.sessions_offline, statistic = "Minimum"
        dimensions  = {}
        threshold   = var.sessions_offline_at_most, period = 300, periods = 2, comparison = "GreaterThanThreshold"
        missing     = "notBreaching"
      }
      "database-cpu" = {
        description = "Postgres has used more than 80 % of its CPU for a quarter of an hour."
        namespace   = "AWS/RDS", metric = "CPUUtilization", statistic = "Average"
        dimensions  = { DBInstanceIdentifier = var.database.identifier }
        threshold   = 80, period = 300, periods = 3, comparison = "GreaterThanThreshold"
        missing     = "missing"
      }
      "database-connections" = {
        description = "Postgres' connections run out: count the pools, or put the proxy in front."
        namespace   = "AWS/RDS", metric = "DatabaseConnections", statistic = "Maximum"
        dimensions  = { DBInstanceIdentifier = var.database.identifier }
        threshold   = floor(var.database.max_connections * 0.8), period = 60, periods = 3, comparison = "GreaterThanThreshold"
        missing     = "missing"
      }
      "database-storage" = {
        description = "Less than 5 GB of storage are free."
        namespace   = "AWS/RDS", metric = "FreeStorageSpace", statistic = "Minimum"
        dimensions  = { DBInstanceIdentifier = var.database.identifier }
        threshold   = 5368709120, period = 300, periods = 1, comparison = "LessThanThreshold"
        missing     = "missing"
      }
    },
  )
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = local.alarms
  alarm_name          = startswith(each.key, var.name) ? each.key : "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = each.value.period
  evaluation_periods  = each.value.periods
  threshold           = each.value.threshold
  comparison_operator = each.value.comparison
  treat_missing_data  = each.value.missing
  alarm_actions       = [aws_sns_topic.this.arn]
  ok_actions          = [aws_sns_topic.this.arn]
  tags                = var.tags
}

# ---- the page

locals {
  region = data.aws_region.current.region
  charts = [
    {
      title = "Oldest bell of each queue, s"
      stat  = "Maximum"
      lines = [for name, queue in var.queues : ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", name]]
    },
    {
      title = "Dead letters"
      stat  = "Maximum"
      lines = [for name, queue in var.queues : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queue.dead_letter_name]]
    },
    {
      title = "Invocations at once"
      stat  = "Maximum"
      lines = [for name, timeout_s in var.functions : ["AWS/Lambda", "ConcurrentExecutions", "FunctionName", name]]
    },
    {
      title = "Errors and throttles"
      stat  = "Sum"
      lines = concat(
        [for name, timeout_s in var.functions : ["AWS/Lambda", "Errors", "FunctionName", name]],
        [for name, timeout_s in var.functions : ["AWS/Lambda", "Throttles", "FunctionName", name]],
      )
    },
    {
      title = "API: requests, 4xx, 5xx"
      stat  = "Sum"
      lines = [for metric in ["Count", "4xx", "5xx"] : ["AWS/ApiGateway", metric, "ApiId", var.api_id]]
    },
    {
      title = "API: latency, ms (p95)"
      stat  = "p95"
      lines = [["AWS/ApiGateway", "Latency", "ApiId", var.api_id]]
    },
    {
      title = "Session hosts: running, and memory in %"
      stat  = "Average"
      lines = [
        ["ECS/ContainerInsights", "RunningTaskCount", "ClusterName", var.session_host.cluster, "ServiceName", var.session_host.service],
        ["AWS/ECS", "MemoryUtilization", "ClusterName", var.session_host.cluster, "ServiceName", var.session_host.service],
      ]
    },
    {
      title = "Postgres: CPU in %, connections"
      stat  = "Maximum"
      lines = [for metric in ["CPUUtilization", "DatabaseConnections"] : ["AWS/RDS", metric, "DBInstanceIdentifier", var.database.identifier]]
    },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name

  dashboard_body = jsonencode({
    widgets = [for index, chart in local.charts : {
      type   = "metric"
      x      = (index % 2) * 12
      y      = floor(index / 2) * 6
      width  = 12
      height = 6
      properties = {
        title   = chart.title
        view    = "timeSeries"
        region  = local.region
        period  = 60
        stat    = chart.stat
        metrics = chart.lines
      }
    }]
  })
}

# ---- money

resource "aws_budgets_budget" "this" {
  count        = var.monthly_budget_usd > 0 ? 1 : 0
  name         = var.name
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_unit   = "USD"
  limit_amount = tostring(var.monthly_budget_usd)
  tags         = var.tags

  dynamic "notification" {
    for_each = length(var.emails) == 0 ? {} : { ACTUAL = 80, FORECASTED = 100 }

    content {
      notification_type          = notification.key
      threshold                  = notification.value
      threshold_type             = "PERCENTAGE"
      comparison_operator        = "GREATER_THAN"
      subscriber_email_addresses = var.emails
    }
  }
}
