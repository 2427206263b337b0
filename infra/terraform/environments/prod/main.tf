# Two of everything in two zones, a standby for the database, and two weeks of backups.

module "zaphub" {
  source       = "../../modules/stack"
  environment  = "prod"
  zones        = ["${var.region}a", "${var.region}c"]
  nat          = "per_zone"
  packages     = var.packages
  architecture = var.architecture
  runtime      = var.runtime
  functions_by = var.functions_by
  alarm_emails = var.alarm_emails
  domain       = var.domain
  settings     = var.settings

  session_host = {
    image      = var.session_host_image
    task_count = var.session_host_count
    cpu        = 1024
    memory_mb  = 4096
  }

  database = {
    instance_class  = var.database_instance_class
    storage_gb      = 100
    max_storage_gb  = 1000
    max_connections = 600
  }

  log_retention_days       = 90
  monthly_budget_usd       = var.monthly_budget_usd
  sessions_offline_at_most = var.sessions_offline_at_most

  database_password = var.database_password
  admin_key         = var.admin_key
  secret_key        = var.secret_key
  host_token        = var.host_token
  secrets_version   = var.secrets_version
}
