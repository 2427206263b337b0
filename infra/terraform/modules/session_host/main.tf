# The session hosts: Fargate tasks that hold the WhatsApp sockets, on private addresses, with a journal that outlives them.

data "aws_region" "current" {}
data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  # A private image's registry is an account and a region; an image of another registry needs no right here.
  ecr        = try(regex("^(?P<account>[0-9]{12})\\.dkr\\.ecr\\.(?P<region>[a-z0-9-]+)\\.amazonaws\\.com[a-z.]*/(?P<repository>[^:@]+)", var.image), null)
  repository = local.ecr == null ? null : "arn:${data.aws_partition.current.partition}:ecr:${local.ecr.region}:${local.ecr.account}:repository/${local.ecr.repository}"

  secrets = [for name in var.secret_names : { name = name, valueFrom = "${var.secret_arn}:${name}::" }]

  log = {
    logDriver = "awslogs"
    options = {
      awslogs-group         = aws_cloudwatch_log_group.this.name
      awslogs-region        = data.aws_region.current.region
      awslogs-stream-prefix = "host"
      mode                  = "non-blocking"
    }
  }

  # Each child's door is asked for anything at all: an answer, even a refusal, comes from the loop that does the work.
  asks_every_child = join("; ", [
    "from http.client import HTTPConnection as Door",
    "[(door := Door('127.0.0.1', port, timeout=2), door.request('GET', '/'), door.getresponse()) for port in range(${var.port}, ${var.port + var.sessions.children})]",
  ])
}

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_338:how long lines are kept is the environment's to say; they are for finding faults, not for audits
  name              = "/zaphub/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

resource "aws_ecs_cluster" "this" {
  name = var.name
  tags = var.tags

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

# ---- who may reach a host

resource "aws_vpc_security_group_ingress_rule" "commands" {
  for_each                     = var.client_security_group_ids
  security_group_id            = var.security_group_id
  description                  = "commands from ${each.key}"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = var.port
  to_port                      = var.port + var.sessions.children - 1 # each child listens on a port of its own
  tags                         = var.tags
}

# ---- the inbound journal: written before WhatsApp is answered, so it must outlive its task

resource "aws_security_group" "journal" {
  name        = "${var.name}-journal"
  description = "The journal's file system: the hosts, and nobody else"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-journal" })
}

resource "aws_vpc_security_group_ingress_rule" "journal" {
  security_group_id            = aws_security_group.journal.id
  description                  = "NFS from the hosts"
  referenced_security_group_id = var.security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
  tags                         = var.tags
}

resource "aws_efs_file_system" "journal" {
  encrypted       = true
  kms_key_id      = var.kms_key_arn
  throughput_mode = "elastic"
  tags            = merge(var.tags, { Name = "${var.name}-journal" })
}

resource "aws_efs_backup_policy" "journal" {
  file_system_id = aws_efs_file_system.journal.id

  backup_policy {
    status = "ENABLED"
  }
}

resource "aws_efs_file_system_policy" "tls_only" {
  file_system_id = aws_efs_file_system.journal.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "HostsMount"
        Effect    = "Allow"
        Principal = { AWS = aws_iam_role.task.arn }
        Action    = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
        Resource  = aws_efs_file_system.journal.arn
        Condition = { StringEquals = { "elasticfilesystem:AccessPointArn" = aws_efs_access_point.journal.arn } }
      },
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "*"
        Resource  = aws_efs_file_system.journal.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

resource "aws_efs_access_point" "journal" {
  file_system_id = aws_efs_file_system.journal.id
  tags           = var.tags

  posix_user {
    uid = 10001
    gid = 10001
  }

  root_directory {
    path = "/journal"

    creation_info {
      owner_uid   = 10001
      owner_gid   = 10001
      permissions = "0700"
    }
  }
}

resource "aws_efs_mount_target" "journal" {
  count           = length(var.subnet_ids)
  file_system_id  = aws_efs_file_system.journal.id
  subnet_id       = var.subnet_ids[count.index]
  security_groups = [aws_security_group.journal.id]
}

# ---- roles: one starts the task, the other is what the task may do

locals {
  by_tasks_of_this_account = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

resource "aws_iam_role" "start" {
  name               = "${var.name}-start"
  assume_role_policy = local.by_tasks_of_this_account
  tags               = var.tags
}

resource "aws_iam_role_policy" "start" {
  name = "start-a-task"
  role = aws_iam_role.start.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat([
      {
        Sid      = "WriteTheLog"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["${aws_cloudwatch_log_group.this.arn}:*"]
      },
      { Sid = "ReadTheSecret", Effect = "Allow", Action = ["secretsmanager:GetSecretValue"], Resource = [var.secret_arn] },
      { Sid = "OpenTheSecret", Effect = "Allow", Action = ["kms:Decrypt"], Resource = [var.kms_key_arn] },
      ], local.repository == null ? [] : [
      {
        # A login to the registry is not about any one image.
        Sid      = "LogInToTheRegistry"
        Effect   = "Allow"
        Action   = ["ecr:GetAuthorizationToken"]
        Resource = ["*"]
      },
      {
        Sid      = "PullItsImage"
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]
        Resource = [local.repository]
      },
    ])
  })
}

resource "aws_iam_role" "task" {
  name               = var.name
  assume_role_policy = local.by_tasks_of_this_account
  tags               = var.tags
}

resource "aws_iam_role_policy" "task" {
  name = "what-it-does"
  role = aws_iam_role.task.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "RingBells", Effect = "Allow", Action = ["sqs:SendMessage"], Resource = var.rings_queue_arns },
      { Sid = "ReadMedia", Effect = "Allow", Action = ["s3:GetObject"], Resource = ["${var.media_bucket_arn}/*"] },
      # Without it S3 answers "forbidden" for a file that is gone, which would be tried again and again.
      { Sid = "HearThatAFileIsGone", Effect = "Allow", Action = ["s3:ListBucket"], Resource = [var.media_bucket_arn] },
      { Sid = "OpenMedia", Effect = "Allow", Action = ["kms:Decrypt"], Resource = [var.kms_key_arn] },
    ]
  })
}

# ---- the name by which people and Prometheus find the hosts; workers read addresses from Postgres

resource "aws_service_discovery_private_dns_namespace" "this" {
  name        = "${var.name}.internal"
  description = "The session hosts"
  vpc         = var.vpc_id
  tags        = var.tags
}

resource "aws_service_discovery_service" "hosts" {
  name = "hosts"
  tags = var.tags

  dns_config {
    namespace_id   = aws_service_discovery_private_dns_namespace.this.id
    routing_policy = "MULTIVALUE"

    dns_records {
      type = "A"
      ttl  = 10
    }
  }
}

# ---- the task and the service

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = tostring(var.size.cpu)
  memory                   = tostring(var.size.memory_mb)
  execution_role_arn       = aws_iam_role.start.arn
  task_role_arn            = aws_iam_role.task.arn
  tags                     = var.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture == "arm64" ? "ARM64" : "X86_64"
  }

  volume {
    name = "journal"

    efs_volume_configuration {
      file_system_id     = aws_efs_file_system.journal.id
      transit_encryption = "ENABLED"

      authorization_config {
        access_point_id = aws_efs_access_point.journal.id
        iam             = "ENABLED"
      }
    }
  }

  volume {
    name = "scratch"
  }

  container_definitions = jsonencode([{
    name                   = "session-host"
    image                  = var.image
    essential              = true
    user                   = "10001:10001"
    readonlyRootFilesystem = true
    stopTimeout            = 120 # its sessions are handed over before it ends
    portMappings           = [for child in range(var.sessions.children) : { containerPort = var.port + child, protocol = "tcp" }]
    linuxParameters        = { initProcessEnabled = true }
    mountPoints = [
      { sourceVolume = "journal", containerPath = "/data", readOnly = false },
      { sourceVolume = "scratch", containerPath = "/tmp", readOnly = false },
    ]
    environment = [for name, value in merge(var.environment, {
      ZAPHUB_DATA_DIR       = "/data"
      ZAPHUB_HOST_CHILDREN  = tostring(var.sessions.children)
      ZAPHUB_HOST_SESSIONS  = tostring(var.sessions.per_child)
      ZAPHUB_HOST_BIND      = "0.0.0.0"
      ZAPHUB_HOST_PORT      = tostring(var.port)
      ZAPHUB_HOST_ADVERTISE = "auto"
      }, var.secret_version == null ? {} : {
      # A task reads its secret when it starts. A new version is a new definition, for which the hosts are replaced.
      SECRETS_VERSION = var.secret_version
    }) : { name = name, value = value }]
    secrets          = local.secrets
    logConfiguration = local.log
    # A deployment waits for it before it stops the hosts of the version before.
    healthCheck = {
      command     = ["CMD", "python", "-c", local.asks_every_child]
      interval    = 30
      timeout     = 10
      retries     = 4
      startPeriod = 120
    }
  }])
}

# The schema, by the same image; apart, so that a new version migrates before the first of its hosts starts.
resource "aws_ecs_task_definition" "migrate" {
  family                   = "${var.name}-migrate"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = "256"
  memory                   = "512"
  execution_role_arn       = aws_iam_role.start.arn
  tags                     = var.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture == "arm64" ? "ARM64" : "X86_64"
  }

  container_definitions = jsonencode([{
    name                   = "migrate"
    image                  = var.image
    essential              = true
    user                   = "10001:10001"
    readonlyRootFilesystem = true
    linuxParameters        = { initProcessEnabled = true }
    command                = ["python", "-m", "shared.db.migrate"]
    secrets                = local.secrets
    logConfiguration       = local.log
  }])
}

resource "aws_ecs_service" "this" {
  name                   = var.name
  cluster                = aws_ecs_cluster.this.id
  task_definition        = aws_ecs_task_definition.this.arn
  desired_count          = var.task_count
  launch_type            = "FARGATE"
  enable_execute_command = false
  tags                   = var.tags
  propagate_tags         = "SERVICE"

  # The next task is up before a session loses its host; a lease sees to it that two never hold one.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [var.security_group_id]
    assign_public_ip = false
  }

  service_registries {
    registry_arn = aws_service_discovery_service.hosts.arn
  }

  depends_on = [aws_efs_mount_target.journal, aws_iam_role_policy.start, aws_iam_role_policy.task]
}
