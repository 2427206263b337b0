# One Lambda function, with a role that can do what this function does and nothing else. Another tool may own the code.

data "aws_partition" "current" {}
data "aws_caller_identity" "current" {}
data "aws_region" "current" {}

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_338:how long lines are kept is the environment's to say; they are for finding faults, not for audits
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

resource "aws_iam_role" "this" {
  name = var.name
  tags = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

locals {
  # As AWS names what has this name, deployed or not yet.
  arn = "arn:${data.aws_partition.current.partition}:lambda:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}:function:${var.name}"

  consumes = var.queue == null ? [] : [{
    Sid      = "HearItsBells"
    Effect   = "Allow"
    Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
    Resource = [var.queue.arn]
  }]
  rings = length(var.rings_queue_arns) == 0 ? [] : [{
    Sid      = "RingBells"
    Effect   = "Allow"
    Action   = ["sqs:SendMessage"]
    Resource = var.rings_queue_arns
  }]
  media = var.media == null ? [] : [{
    Sid      = "UseMedia"
    Effect   = "Allow"
    Action   = var.media.actions
    Resource = ["${var.media.bucket_arn}/*"]
    }, {
    # Without it S3 answers "forbidden" for a file that is gone, which would be tried again and again.
    Sid      = "HearThatAFileIsGone"
    Effect   = "Allow"
    Action   = ["s3:ListBucket"]
    Resource = [var.media.bucket_arn]
  }]
  # Objects are encrypted with the key: who writes them makes data keys.
  writes_media = contains(try(var.media.actions, []), "s3:PutObject")
  always = [
    {
      Sid      = "WriteItsLog"
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = ["${aws_cloudwatch_log_group.this.arn}:*"]
    },
    {
      Sid      = "ReadItsSecret"
      Effect   = "Allow"
      Action   = ["secretsmanager:GetSecretValue"]
      Resource = [var.secret_arn]
    },
    {
      Sid      = "OpenWhatIsEncrypted"
      Effect   = "Allow"
      Action   = local.writes_media ? ["kms:Decrypt", "kms:GenerateDataKey"] : ["kms:Decrypt"]
      Resource = [var.kms_key_arn]
    },
    {
      # Lambda's own calls for a function in a VPC; EC2 offers no resource to narrow them to.
      Sid    = "StandInTheVpc"
      Effect = "Allow"
      Action = [
        "ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets",
        "ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
      ]
      Resource = ["*"]
    },
    {
      # The code itself has no use for them: AWS's advice for functions in a VPC.
      Sid    = "ButNotFromItsCode"
      Effect = "Deny"
      Action = [
        "ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets",
        "ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
      ]
      Resource = ["*"]
      Condition = {
        ArnEquals = {
          "lambda:SourceFunctionArn" = [
            "arn:${data.aws_partition.current.partition}:lambda:*:${data.aws_caller_identity.current.account_id}:function:${var.name}"
          ]
        }
      }
    },
  ]
}

resource "aws_iam_role_policy" "this" {
  name = "what-it-does"
  role = aws_iam_role.this.id

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat(local.always, local.consumes, local.rings, local.media)
  })
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_272:the zip's hash is pinned here; a signing profile is the account's to have
  #checkov:skip=CKV_AWS_116:SQS keeps the dead letters of bells; API and schedule need none, as the next call or minute looks again
  #checkov:skip=CKV_AWS_115:event source mappings bound it; a reservation would take from the account's other functions
  count                          = var.is_deployed ? 1 : 0
  function_name                  = var.name
  description                    = var.description
  role                           = aws_iam_role.this.arn
  handler                        = var.handler
  runtime                        = var.runtime
  architectures                  = [var.architecture]
  memory_size                    = var.memory_mb
  timeout                        = var.timeout_seconds
  reserved_concurrent_executions = var.reserved_concurrency
  s3_bucket                      = var.package.bucket
  s3_key                         = var.package.key
  source_code_hash               = var.package.sha256
  kms_key_arn                    = var.kms_key_arn
  tags                           = var.tags

  environment {
    variables = merge(
      var.environment,
      { ZAPHUB_SECRETS_ARN = var.secret_arn },
      # A container reads its secret once. A new version of it is a new environment, for which AWS replaces them all.
      var.secret_version == null ? {} : { SECRETS_VERSION = var.secret_version },
    )
  }

  vpc_config {
    subnet_ids         = var.subnet_ids
    security_group_ids = var.security_group_ids
  }

  # What calls it may trace; nothing of ours would add to a trace, and each one costs.
  tracing_config {
    mode = "PassThrough"
  }

  logging_config {
    log_format = "Text" # the lines are JSON already
    log_group  = aws_cloudwatch_log_group.this.name
  }

  # Before its first invocation it must be able to write and to read.
  depends_on = [aws_iam_role_policy.this]
}

# A schedule's start waits in Lambda's own queue, which would repeat one that failed, for hours.
resource "aws_lambda_function_event_invoke_config" "schedule" {
  count                        = var.schedule == null || !var.is_deployed ? 0 : 1
  function_name                = aws_lambda_function.this[0].function_name
  maximum_event_age_in_seconds = 60
  maximum_retry_attempts       = 0
}

resource "aws_lambda_event_source_mapping" "bells" {
  count                   = var.queue == null || !var.is_deployed ? 0 : 1
  event_source_arn        = var.queue.arn
  function_name           = aws_lambda_function.this[0].arn
  batch_size              = var.queue.batch_size
  function_response_types = ["ReportBatchItemFailures"]
  tags                    = var.tags

  scaling_config {
    maximum_concurrency = var.queue.max_concurrency
  }
}

resource "aws_iam_role" "scheduler" {
  count = var.schedule == null || !var.is_deployed ? 0 : 1
  name  = "${var.name}-schedule"
  tags  = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "scheduler.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

resource "aws_iam_role_policy" "scheduler" {
  count = var.schedule == null || !var.is_deployed ? 0 : 1
  name  = "start-it"
  role  = aws_iam_role.scheduler[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["lambda:InvokeFunction"]
      Resource = [aws_lambda_function.this[0].arn]
    }]
  })
}

resource "aws_scheduler_schedule" "this" {
  #checkov:skip=CKV_AWS_297:it says nothing but when; with a key of ours its role would need the right to decrypt nothing
  count               = var.schedule == null || !var.is_deployed ? 0 : 1
  name                = var.name
  schedule_expression = var.schedule

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.this[0].arn
    role_arn = aws_iam_role.scheduler[0].arn

    # The next minute looks again: an old start is worth nothing.
    retry_policy {
      maximum_event_age_in_seconds = 60
      maximum_retry_attempts       = 0
    }
  }
}
