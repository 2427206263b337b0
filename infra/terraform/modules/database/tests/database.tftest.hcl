mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_resource "aws_db_instance" {
    defaults = { address = "zaphub-test.example.sa-east-1.rds.amazonaws.com" }
  }
  mock_resource "aws_db_proxy" {
    defaults = { endpoint = "zaphub-test.proxy-example.sa-east-1.rds.amazonaws.com" }
  }
}

variables {
  name                      = "zaphub-test"
  password                  = "not-a-real-password-1234"
  vpc_id                    = "vpc-a"
  subnet_ids                = ["subnet-a", "subnet-b"]
  client_security_group_ids = { functions = "sg-functions", session-host = "sg-hosts" }
  kms_key_arn               = "arn:aws:kms:sa-east-1:123456789012:key/a"
}

run "private_encrypted_and_kept" {
  command = apply

  assert {
    condition = (
      aws_db_instance.this.storage_encrypted && !aws_db_instance.this.publicly_accessible &&
      aws_db_instance.this.deletion_protection && aws_db_instance.this.backup_retention_period == 14 &&
      aws_db_instance.this.multi_az
    )
    error_message = "encrypted, private, protected, backed up, with a standby"
  }

  assert {
    condition     = contains([for parameter in aws_db_parameter_group.this.parameter : "${parameter.name}=${parameter.value}"], "rds.force_ssl=1")
    error_message = "no connection without TLS"
  }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.clients) == 2 && length(aws_db_proxy.this) == 0
    error_message = "its clients only, and no proxy unless it is wanted"
  }

  assert {
    condition     = output.function_address == output.address
    error_message = "functions go straight to Postgres"
  }
}

run "its_log_ends" {
  command = apply

  assert {
    condition = alltrue([
      for name in aws_db_instance.this.enabled_cloudwatch_logs_exports :
      aws_cloudwatch_log_group.this[name].retention_in_days == 30 && aws_cloudwatch_log_group.this[name].name == "/aws/rds/instance/zaphub-test/${name}"
    ])
    error_message = "each log that RDS writes is kept for so long and no longer"
  }
}

run "a_proxy_for_many_functions" {
  command = apply

  variables {
    proxy = { secret_arn = "arn:aws:secretsmanager:sa-east-1:123456789012:secret:zaphub-test/proxy" }
  }

  assert {
    condition     = aws_db_proxy.this[0].require_tls && output.function_address != output.address && output.has_proxy
    error_message = "functions go through the proxy, with TLS"
  }
}

run "a_dev_database_may_be_destroyed" {
  command = apply

  variables {
    deletion_protection = false
  }

  assert {
    condition     = aws_db_instance.this.skip_final_snapshot && !aws_db_instance.this.deletion_protection
    error_message = "no last snapshot"
  }
}

run "a_password_that_a_url_can_hold" {
  command = plan

  variables {
    password = "p@ss/word:with?odd#characters"
  }

  expect_failures = [var.password]
}

run "no_old_postgres" {
  command = plan

  variables {
    engine_version = "12"
  }

  expect_failures = [var.engine_version]
}
