# Small and cheap: one NAT gateway, one host, one database without a standby. It may be destroyed.

module "zaphub" {
  source       = "../../modules/stack"
  environment  = "dev"
  zones        = ["${var.region}a", "${var.region}b"]
  nat          = "single"
  packages     = var.packages
  architecture = var.architecture
  runtime      = var.runtime
  functions_by = var.functions_by
  alarm_emails = var.alarm_emails
  domain       = var.domain
  settings     = var.settings

  session_host = {
    image      = var.session_host_image
    task_count = 1
    cpu        = 256
    memory_mb  = 1024
    children   = 1
  }

  database = {
    instance_class        = "db.t4g.micro"
    multi_az              = false
    backup_retention_days = 1
    deletion_protection   = false
    max_connections       = 180
  }

  # Few connections at once, for a database of 1 GB.
  concurrency = {
    for queue in ["session-init", "session-close", "message-receive", "message-send", "message-status", "webhook-delivery"] : queue => 2
  }
  api_concurrency = 10

  log_retention_days = 7
  monthly_budget_usd = 100

  database_password = var.database_password
  admin_key         = var.admin_key
  secret_key        = var.secret_key
  host_token        = var.host_token
  secrets_version   = var.secrets_version
}
