mock_provider "aws" {
  mock_resource "aws_apigatewayv2_api" {
    defaults = {
      api_endpoint  = "https://example.execute-api.sa-east-1.amazonaws.com"
      execution_arn = "arn:aws:execute-api:sa-east-1:123456789012:example"
    }
  }
}

variables {
  name        = "zaphub-test"
  function    = { name = "zaphub-test-api", invoke_arn = "arn:aws:apigateway:sa-east-1:lambda:path/functions/example/invocations" }
  kms_key_arn = "arn:aws:kms:sa-east-1:123456789012:key/a"
}

run "every_request_goes_to_the_function" {
  command = apply

  assert {
    condition     = aws_apigatewayv2_route.everything.route_key == "$default" && aws_apigatewayv2_integration.function.payload_format_version == "2.0"
    error_message = "one route for all"
  }

  assert {
    condition     = !strcontains(aws_apigatewayv2_stage.default.access_log_settings[0].format, "path")
    error_message = "no path in the access log: it holds ids"
  }

  assert {
    condition     = output.url == "https://example.execute-api.sa-east-1.amazonaws.com" && output.domain_target == null
    error_message = "API Gateway's own name"
  }
}

run "a_domain_of_ones_own_closes_the_other_door" {
  command = apply

  variables {
    domain = { name = "api.example.com", certificate_arn = "arn:aws:acm:sa-east-1:123456789012:certificate/a" }
  }

  assert {
    condition     = aws_apigatewayv2_api.this.disable_execute_api_endpoint && output.url == "https://api.example.com"
    error_message = "one way in"
  }
}

run "a_throttle_that_lets_nothing_through" {
  command = plan

  variables {
    throttle = { rate = 0 }
  }

  expect_failures = [var.throttle]
}
