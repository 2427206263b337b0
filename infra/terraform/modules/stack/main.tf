# The whole product: one stack is one environment.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  name = "zaphub-${var.environment}"
  tags = merge({ Project = "zaphub", Environment = var.environment }, var.tags)

  # From the one table of policies, shared/queues/policies.py; a test fails when the file is not its image.
  table   = jsondecode(file("${path.module}/../../../queues.json"))
  queues  = { for queue in local.table.queues : queue.name => queue }
  sweeper = local.table.sweeper
  api     = local.table.api

  # Whose the functions are. Their roles, logs and queues are Terraform's in either case.
  deploys_functions = var.functions_by == "terraform"

  concurrency = { for name, queue in local.queues : name => lookup(var.concurrency, name, queue.max_concurrency) }
  queue_arns  = [for name in sort(keys(local.queues)) : module.queue[name].arn]

  # What a function does with media; one that is not named here does nothing with it.
  media_actions = {
    message-send        = ["s3:GetObject", "s3:PutObject"]
    message-receive     = ["s3:GetObject", "s3:PutObject"]
    maintenance-cleanup = ["s3:GetObject", "s3:DeleteObject"]
  }

  settings = merge(
    {
      ZAPHUB_TRANSPORT             = "sqs"
      ZAPHUB_SQS_QUEUE_URLS        = jsonencode({ for name, queue in local.queues : queue.queue => module.queue[name].url })
      ZAPHUB_MEDIA_STORE           = "s3://${aws_s3_bucket.media.bucket}"
      ZAPHUB_DB_TRANSACTION_POOLER = tostring(var.database.proxy)
    },
    var.domain == null ? {} : { ZAPHUB_PUBLIC_URL = "https://${var.domain.name}" },
    var.settings,
  )
  # A container serves one invocation at a time; a drain needs five connections at most, and opens them as it needs them.
  function_settings = merge(local.settings, { ZAPHUB_DB_POOL_SIZE = tostring(local.function_pool) })
  function_pool     = 5
}

resource "terraform_data" "queues_are_known" {
  lifecycle {
    precondition {
      condition     = alltrue([for name in keys(var.concurrency) : contains(keys(local.queues), name)])
      error_message = "concurrency: the queues are ${join(", ", sort(keys(local.queues)))}."
    }
  }
}

# ---- the key of all that is encrypted

resource "aws_kms_key" "this" {
  description             = "ZapHub ${var.environment}: database, secrets, journal, media, logs"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  tags                    = local.tags

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "RolesOfThisAccountDecide"
        Effect    = "Allow"
        Principal = { AWS = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root" }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        Sid       = "LogsOfThisStack"
        Effect    = "Allow"
        Principal = { Service = "logs.${data.aws_region.current.region}.amazonaws.com" }
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
        Resource  = "*"
        Condition = {
          ArnLike = {
            "kms:EncryptionContext:aws:logs:arn" = "arn:${data.aws_partition.current.partition}:logs:*:${data.aws_caller_identity.current.account_id}:log-group:*${local.name}*"
          }
        }
      },
      {
        Sid       = "AlarmsWriteToTheTopic"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey*"]
        Resource  = "*"
        Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
      },
    ]
  })
}

resource "aws_kms_alias" "this" {
  name          = "alias/${local.name}"
  target_key_id = aws_kms_key.this.key_id
}

# ---- network, and who speaks with whom

module "network" {
  source                  = "../network"
  name                    = local.name
  cidr                    = var.cidr
  zones                   = var.zones
  nat                     = var.nat
  kms_key_arn             = aws_kms_key.this.arn
  flow_log_retention_days = var.log_retention_days
  tags                    = local.tags
}

resource "aws_security_group" "part" {
  #checkov:skip=CKV2_AWS_5:functions, API and hosts have them, in modules of their own
  for_each    = toset(["functions", "api", "session-host"])
  name        = "${local.name}-${each.key}"
  description = "ZapHub's ${each.key}"
  vpc_id      = module.network.vpc_id
  tags        = merge(local.tags, { Name = "${local.name}-${each.key}" })
}

# Webhooks and media go to ports of their receivers' choice, WhatsApp to 443 and 5222, all of them inside to each other.
resource "aws_vpc_security_group_egress_rule" "part" {
  for_each          = aws_security_group.part
  security_group_id = each.value.id
  description       = "out; what a tenant's URL may reach is judged by the product"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
  tags              = local.tags
}

locals {
  clients = {
    functions    = aws_security_group.part["functions"].id
    api          = aws_security_group.part["api"].id
    session-host = aws_security_group.part["session-host"].id
  }
}

# ---- database and secrets

module "database" {
  source                    = "../database"
  name                      = local.name
  instance_class            = var.database.instance_class
  storage_gb                = { initial = var.database.storage_gb, maximum = var.database.max_storage_gb }
  multi_az                  = var.database.multi_az
  backup_retention_days     = var.database.backup_retention_days
  deletion_protection       = var.database.deletion_protection
  max_connections           = var.database.max_connections
  password                  = var.database_password
  password_version          = var.secrets_version
  proxy                     = var.database.proxy ? { secret_arn = aws_secretsmanager_secret.proxy[0].arn, connections_percent = local.proxy_percent } : null
  log_retention_days        = var.log_retention_days
  vpc_id                    = module.network.vpc_id
  subnet_ids                = module.network.private_subnet_ids
  client_security_group_ids = local.clients
  kms_key_arn               = aws_kms_key.this.arn
  tags                      = local.tags
}

locals {
  login = "postgresql://${module.database.user}"
  at    = "/${module.database.database}?sslmode=verify-full"
  # The roots that sign RDS's certificates, where Lambda unpacks a zip and where the image has its code.
  roots_of_functions = "&sslrootcert=/var/task/shared/db/certificates/rds.pem"
  roots_of_image     = "&sslrootcert=/opt/zaphub/app/shared/db/certificates/rds.pem"
}

resource "aws_secretsmanager_secret" "part" {
  #checkov:skip=CKV2_AWS_57:its values are the operator's; secrets_version writes them anew
  for_each                = toset(["functions", "session-host"])
  name                    = "${local.name}/${each.key}"
  description             = "ZapHub's secret settings for ${each.key}"
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = 30
  tags                    = local.tags
}

resource "aws_secretsmanager_secret_version" "functions" {
  secret_id                = aws_secretsmanager_secret.part["functions"].id
  secret_string_wo_version = var.secrets_version

  # A function that another tool deploys has all its settings from here.
  secret_string_wo = jsonencode(merge(local.deploys_functions ? {} : local.function_settings, {
    ZAPHUB_DATABASE_URL = "${local.login}:${var.database_password}@${module.database.function_address}:5432${local.at}${local.roots_of_functions}"
    ZAPHUB_ADMIN_KEY    = var.admin_key
    ZAPHUB_SECRET_KEY   = var.secret_key
    ZAPHUB_HOST_TOKEN   = var.host_token
  }))
}

resource "aws_secretsmanager_secret_version" "session_host" {
  secret_id                = aws_secretsmanager_secret.part["session-host"].id
  secret_string_wo_version = var.secrets_version

  # Straight to Postgres: the library's own connections and its locks want a connection to themselves.
  secret_string_wo = jsonencode({
    ZAPHUB_DATABASE_URL = "${local.login}:${var.database_password}@${module.database.address}:5432${local.at}${local.roots_of_image}"
    ZAPHUB_SECRET_KEY   = var.secret_key
    ZAPHUB_HOST_TOKEN   = var.host_token
  })
}

resource "aws_secretsmanager_secret" "proxy" {
  #checkov:skip=CKV2_AWS_57:its values are the operator's; secrets_version writes them anew
  count                   = var.database.proxy ? 1 : 0
  name                    = "${local.name}/proxy"
  description             = "The database's owner, for RDS Proxy"
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = 30
  tags                    = local.tags
}

resource "aws_secretsmanager_secret_version" "proxy" {
  count                    = var.database.proxy ? 1 : 0
  secret_id                = aws_secretsmanager_secret.proxy[0].id
  secret_string_wo_version = var.secrets_version
  secret_string_wo         = jsonencode({ username = module.database.user, password = var.database_password })
}

# ---- media

resource "aws_s3_bucket" "media" {
  #checkov:skip=CKV_AWS_18:every reader goes through the API, which logs; the bucket is private
  #checkov:skip=CKV_AWS_144:media are kept for days; another region is the operator's to add
  #checkov:skip=CKV_AWS_21:what retention deletes must be gone: no old versions
  #checkov:skip=CKV2_AWS_62:nobody waits for its events
  bucket = "${local.name}-media-${data.aws_caller_identity.current.account_id}"
  tags   = local.tags
}

resource "aws_s3_bucket_public_access_block" "media" {
  bucket                  = aws_s3_bucket.media.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "media" {
  bucket = aws_s3_bucket.media.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.this.arn
    }
  }
}

resource "aws_s3_bucket_policy" "media" {
  bucket = aws_s3_bucket.media.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.media.arn, "${aws_s3_bucket.media.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.media]
}

# maintenance:cleanup deletes what retention lets go; this takes what an upload left half done.
resource "aws_s3_bucket_lifecycle_configuration" "media" {
  bucket = aws_s3_bucket.media.id

  rule {
    id     = "unfinished-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

# ---- queues and functions

module "queue" {
  source                     = "../queue"
  for_each                   = local.queues
  name                       = "${local.name}-${each.key}"
  function_timeout_seconds   = each.value.function_timeout_s
  visibility_timeout_seconds = each.value.visibility_timeout_s
  max_receive_count          = each.value.max_receive_count
  tags                       = local.tags
}

module "function" {
  source             = "../function"
  for_each           = local.queues
  name               = "${local.name}-${each.key}"
  description        = "Drains ${each.value.queue}"
  handler            = each.value.handler
  package            = merge(var.packages.functions, { bucket = var.packages.bucket })
  architecture       = var.architecture
  memory_mb          = each.value.memory_mb
  is_deployed        = local.deploys_functions
  runtime            = var.runtime
  timeout_seconds    = each.value.function_timeout_s
  environment        = local.function_settings
  secret_arn         = aws_secretsmanager_secret.part["functions"].arn
  secret_version     = aws_secretsmanager_secret_version.functions.version_id
  kms_key_arn        = aws_kms_key.this.arn
  subnet_ids         = module.network.private_subnet_ids
  security_group_ids = [aws_security_group.part["functions"].id]
  log_retention_days = var.log_retention_days
  tags               = local.tags

  queue = {
    arn             = module.queue[each.key].arn
    max_concurrency = local.concurrency[each.key]
    batch_size      = each.value.batch_size
  }

  # A bell holds no data, and any job may make work for any queue.
  rings_queue_arns = local.queue_arns

  media = !contains(keys(local.media_actions), each.key) ? null : {
    bucket_arn = aws_s3_bucket.media.arn
    actions    = local.media_actions[each.key]
  }
}

module "sweeper" {
  source               = "../function"
  name                 = "${local.name}-sweeper"
  description          = "Every minute: what lapsed, fell due or was never rung for"
  handler              = local.sweeper.handler
  package              = merge(var.packages.functions, { bucket = var.packages.bucket })
  architecture         = var.architecture
  is_deployed          = local.deploys_functions
  runtime              = var.runtime
  memory_mb            = local.sweeper.memory_mb
  timeout_seconds      = local.sweeper.function_timeout_s
  schedule             = local.sweeper.schedule
  reserved_concurrency = 1
  environment          = local.function_settings
  secret_arn           = aws_secretsmanager_secret.part["functions"].arn
  secret_version       = aws_secretsmanager_secret_version.functions.version_id
  kms_key_arn          = aws_kms_key.this.arn
  subnet_ids           = module.network.private_subnet_ids
  security_group_ids   = [aws_security_group.part["functions"].id]
  rings_queue_arns     = local.queue_arns
  log_retention_days   = var.log_retention_days
  tags                 = local.tags
}

# ---- the API

module "api_function" {
  source      = "../function"
  name        = "${local.name}-api"
  description = "The HTTP API"
  # Requests come as they please: unbounded, a burst of them would take every connection to Postgres.
  reserved_concurrency = var.api_concurrency
  handler              = local.api.handler
  package              = merge(var.packages.api, { bucket = var.packages.bucket })
  architecture         = var.architecture
  is_deployed          = local.deploys_functions
  runtime              = var.runtime
  memory_mb            = local.api.memory_mb
  timeout_seconds      = local.api.function_timeout_s
  environment          = local.function_settings
  secret_arn           = aws_secretsmanager_secret.part["functions"].arn
  secret_version       = aws_secretsmanager_secret_version.functions.version_id
  kms_key_arn          = aws_kms_key.this.arn
  subnet_ids           = module.network.private_subnet_ids
  security_group_ids   = [aws_security_group.part["api"].id]
  rings_queue_arns     = local.queue_arns
  log_retention_days   = var.log_retention_days
  tags                 = local.tags

  media = {
    bucket_arn = aws_s3_bucket.media.arn
    actions    = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
  }
}

module "api" {
  source             = "../api"
  name               = local.name
  throttle           = var.throttle
  domain             = var.domain
  kms_key_arn        = aws_kms_key.this.arn
  log_retention_days = var.log_retention_days
  tags               = local.tags

  function = {
    name        = module.api_function.name
    invoke_arn  = module.api_function.invoke_arn
    is_deployed = local.deploys_functions
  }
}

# ---- what serverless.yml must know of this stack, beside the names that follow from the environment's

resource "aws_ssm_parameter" "for_serverless" {
  #checkov:skip=CKV2_AWS_34:ids and ARNs, no secret; CloudFormation reads no parameter that is encrypted
  #checkov:skip=CKV_AWS_337:as above
  for_each = local.deploys_functions ? {} : {
    api-id                       = module.api.id
    secrets-arn                  = aws_secretsmanager_secret.part["functions"].arn
    subnet-ids                   = join(",", module.network.private_subnet_ids)
    functions-security-group-ids = aws_security_group.part["functions"].id
    api-security-group-ids       = aws_security_group.part["api"].id
  }

  name        = "/${local.name}/${each.key}"
  description = "For serverless.yml"
  type        = "String"
  value       = each.value
  tags        = local.tags
}

# ---- the session hosts

module "session_host" {
  source             = "../session_host"
  name               = "${local.name}-session-host"
  image              = var.session_host.image
  task_count         = var.session_host.task_count
  size               = { cpu = var.session_host.cpu, memory_mb = var.session_host.memory_mb }
  sessions           = { children = var.session_host.children, per_child = var.session_host.per_child }
  architecture       = var.architecture
  environment        = local.settings
  secret_arn         = aws_secretsmanager_secret.part["session-host"].arn
  secret_version     = aws_secretsmanager_secret_version.session_host.version_id
  rings_queue_arns   = local.queue_arns
  media_bucket_arn   = aws_s3_bucket.media.arn
  vpc_id             = module.network.vpc_id
  subnet_ids         = module.network.private_subnet_ids
  security_group_id  = aws_security_group.part["session-host"].id
  kms_key_arn        = aws_kms_key.this.arn
  log_retention_days = var.log_retention_days
  tags               = local.tags

  client_security_group_ids = {
    functions = aws_security_group.part["functions"].id
    api       = aws_security_group.part["api"].id
  }
}

# ---- alarms

module "alarms" {
  source             = "../alarms"
  name               = local.name
  emails             = var.alarm_emails
  api_id             = module.api.id
  monthly_budget_usd = var.monthly_budget_usd
  kms_key_arn        = aws_kms_key.this.arn
  tags               = local.tags

  sweeper_log_group        = module.sweeper.log_group_name
  sessions_offline_at_most = var.sessions_offline_at_most

  queues = {
    for name, queue in local.queues : module.queue[name].name => {
      dead_letter_name    = module.queue[name].dead_letter_name
      oldest_bell_alarm_s = queue.oldest_bell_alarm_s
    }
  }

  functions = merge(
    { for name, queue in local.queues : "${local.name}-${name}" => queue.function_timeout_s },
    { for one in [local.sweeper, local.api] : "${local.name}-${one.name}" => one.function_timeout_s },
  )

  session_host = {
    cluster = module.session_host.cluster_name
    service = module.session_host.service_name
    tasks   = var.session_host.task_count
  }

  database = {
    identifier      = module.database.identifier
    max_connections = var.database.max_connections
  }
}

# ---- what would fail at night is refused at plan

locals {
  function_connections = local.function_pool * (sum(values(local.concurrency)) + 1 + var.api_concurrency)
  # Per host: the supervisor's and each child's own pool, and what the library opens for itself.
  host_connections = var.session_host.task_count * (1 + var.session_host.children) * 10
  # For RDS itself, a migration, and a person who looks.
  spare_connections = 20
  # What a proxy opens for all functions together; the rest is for who goes past it.
  proxy_percent = 60
}

resource "terraform_data" "connections_suffice" {
  lifecycle {
    precondition {
      condition = (
        (var.database.proxy ? ceil(var.database.max_connections * local.proxy_percent / 100) : local.function_connections)
        + local.host_connections + local.spare_connections <= var.database.max_connections
      )
      error_message = "database.max_connections: ${var.database.proxy ? "${local.proxy_percent} % for the proxy" : "${local.function_connections} for functions"}, ${local.host_connections} for hosts and ${local.spare_connections} to spare are more than ${var.database.max_connections}; raise it, or set database.proxy."
    }
  }
}
