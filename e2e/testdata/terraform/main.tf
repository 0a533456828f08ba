# What a deployer of a function makes, all of it: TestTerraform… applies,
# changes, imports and destroys it.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "endpoint" { type = string }

# What the test changes.
variable "code" { type = string }
variable "stage" { type = string }
variable "canary" {
  type    = map(number)
  default = {}
}
variable "origins" { type = list(string) }
variable "retention" { type = number }
variable "batch" { type = number }
variable "reserved" { type = number }
variable "provisioned" { type = number }

provider "aws" {
  region                  = "us-east-1"
  skip_metadata_api_check = true
  endpoints {
    eventbridge = var.endpoint
    iam         = var.endpoint
    lambda      = var.endpoint
    logs        = var.endpoint
    scheduler   = var.endpoint
    sts         = var.endpoint
  }
  default_tags {
    tags = { made-by = "terraform" }
  }
}

data "aws_caller_identity" "me" {}
data "aws_region" "here" {}

locals {
  role_of_schedules = "arn:aws:iam::${data.aws_caller_identity.me.account_id}:role/schedules"

  queue = "arn:aws:sqs:${data.aws_region.here.name}:${data.aws_caller_identity.me.account_id}:jobs"
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "f" {
  name                 = "terraform-f"
  path                 = "/service/"
  description          = "of the function (${var.stage})"
  assume_role_policy   = data.aws_iam_policy_document.trust.json
  max_session_duration = 7200
  tags                 = { stage = var.stage }
}

resource "aws_iam_role_policy" "inline" {
  name = "queue"
  role = aws_iam_role.f.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["sqs:SendMessage"]
      Resource = local.queue
    }]
  })
}

resource "aws_iam_policy" "own" {
  name        = "terraform-own"
  description = "of our own"
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "Read${var.stage}"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = "*"
    }]
  })
}

resource "aws_iam_role_policy_attachment" "own" {
  role       = aws_iam_role.f.name
  policy_arn = aws_iam_policy.own.arn
}

resource "aws_iam_role_policy_attachment" "basic" {
  role       = aws_iam_role.f.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
}

resource "aws_iam_user" "deployer" {
  name = "deployer"
  path = "/people/"
  tags = { stage = var.stage }
}

resource "aws_iam_user_policy" "deployer" {
  name = "invoke"
  user = aws_iam_user.deployer.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["lambda:InvokeFunction"]
      Resource = "*"
    }]
  })
}

resource "aws_iam_user_policy_attachment" "deployer" {
  user       = aws_iam_user.deployer.name
  policy_arn = aws_iam_policy.own.arn
}

resource "aws_iam_access_key" "deployer" {
  user = aws_iam_user.deployer.name
}

resource "aws_iam_group" "people" {
  name = "people"
}

resource "aws_iam_group_membership" "people" {
  name  = "people"
  group = aws_iam_group.people.name
  users = [aws_iam_user.deployer.name]
}

resource "aws_cloudwatch_log_group" "f" {
  name              = "/aws/lambda/terraform"
  retention_in_days = var.retention
  tags              = { stage = var.stage }
}

resource "aws_lambda_layer_version" "lib" {
  layer_name          = "terraform-lib"
  description         = "what the function imports"
  filename            = "layer.zip"
  source_code_hash    = filebase64sha256("layer.zip")
  compatible_runtimes = ["python3.11", "python3.12"]
  license_info        = "Apache-2.0"
  lifecycle {
    # A layer that was imported does not tell what file it came from.
    ignore_changes = [filename, source_code_hash]
  }
}

resource "aws_lambda_layer_version_permission" "lib" {
  layer_name     = aws_lambda_layer_version.lib.layer_name
  version_number = aws_lambda_layer_version.lib.version
  statement_id   = "everybody"
  action         = "lambda:GetLayerVersion"
  principal      = "*"
}

resource "aws_lambda_function" "f" {
  function_name    = "terraform"
  description      = "made by Terraform"
  role             = aws_iam_role.f.arn
  runtime          = "python3.11"
  handler          = "index.handler"
  filename         = var.code
  source_code_hash = filebase64sha256(var.code)
  publish          = true
  memory_size      = 256
  timeout          = 10
  layers           = [aws_lambda_layer_version.lib.arn]

  reserved_concurrent_executions = var.reserved

  code_signing_config_arn = aws_lambda_code_signing_config.signed.arn
  environment {
    variables = { STAGE = var.stage }
  }
  ephemeral_storage { size = 1024 }
  tracing_config { mode = "PassThrough" }
  dead_letter_config { target_arn = local.queue }
  logging_config {
    log_format            = "JSON"
    application_log_level = "INFO"
    system_log_level      = "WARN"
    log_group             = aws_cloudwatch_log_group.f.name
  }
  tags = { stage = var.stage }
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  description      = "what clients call"
  function_name    = aws_lambda_function.f.function_name
  function_version = "1"
  dynamic "routing_config" {
    for_each = length(var.canary) > 0 ? [1] : []
    content { additional_version_weights = var.canary }
  }
}

resource "aws_lambda_alias" "steady" {
  name             = "steady"
  function_name    = aws_lambda_function.f.function_name
  function_version = "1"
}

resource "aws_lambda_provisioned_concurrency_config" "steady" {
  function_name                     = aws_lambda_function.f.function_name
  qualifier                         = aws_lambda_alias.steady.name
  provisioned_concurrent_executions = var.provisioned
}

resource "aws_lambda_permission" "bucket" {
  statement_id   = "bucket"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.f.function_name
  qualifier      = aws_lambda_alias.live.name
  principal      = "s3.amazonaws.com"
  source_arn     = "arn:aws:s3:::terraform-bucket"
  source_account = data.aws_caller_identity.me.account_id
}

resource "aws_lambda_function_event_invoke_config" "live" {
  function_name                = aws_lambda_function.f.function_name
  qualifier                    = aws_lambda_alias.live.name
  maximum_event_age_in_seconds = 120
  maximum_retry_attempts       = 1
  destination_config {
    on_failure { destination = local.queue }
  }
}

resource "aws_lambda_runtime_management_config" "f" {
  function_name     = aws_lambda_function.f.function_name
  update_runtime_on = "FunctionUpdate"
}

resource "aws_lambda_function_recursion_config" "f" {
  function_name  = aws_lambda_function.f.function_name
  recursive_loop = "Allow"
}

resource "aws_lambda_function_url" "live" {
  function_name      = aws_lambda_function.f.function_name
  qualifier          = aws_lambda_alias.live.name
  authorization_type = "NONE"
  invoke_mode        = "BUFFERED"
  cors {
    allow_credentials = true
    allow_origins     = var.origins
    allow_methods     = ["GET", "POST"]
    allow_headers     = ["date", "keep-alive"]
    expose_headers    = ["keep-alive", "date"]
    max_age           = 86400
  }
}

resource "aws_lambda_code_signing_config" "signed" {
  description = "warns of what is not signed"
  allowed_publishers {
    signing_profile_version_arns = ["arn:aws:signer:us-east-1:${data.aws_caller_identity.me.account_id}:/signing-profiles/terraform/abcdefghij"]
  }
  policies {
    untrusted_artifact_on_deployment = "Warn"
  }
}

resource "aws_lambda_event_source_mapping" "jobs" {
  event_source_arn        = local.queue
  function_name           = aws_lambda_alias.live.arn
  batch_size              = var.batch
  enabled                 = false
  function_response_types = ["ReportBatchItemFailures"]
  filter_criteria {
    filter {
      pattern = jsonencode({ body = { kind = ["job"] } })
    }
  }
  scaling_config { maximum_concurrency = 5 }
  tags = { stage = var.stage }
}

data "aws_lambda_invocation" "live" {
  function_name = aws_lambda_function.f.function_name
  qualifier     = aws_lambda_function.f.version
  input         = jsonencode({ from = "terraform" })
}

output "answer" { value = jsondecode(data.aws_lambda_invocation.live.result) }
output "role" { value = aws_iam_role.f.unique_id }
output "url" { value = aws_lambda_function_url.live.function_url }
output "mapping" { value = aws_lambda_event_source_mapping.jobs.uuid }
output "signing" { value = aws_lambda_code_signing_config.signed.arn }
output "key" { value = aws_iam_access_key.deployer.id }

resource "aws_cloudwatch_event_bus" "side" {
  name        = "side"
  description = "of our own"
}

resource "aws_cloudwatch_event_rule" "orders" {
  name           = "orders"
  description    = "of ${var.stage}"
  event_bus_name = aws_cloudwatch_event_bus.side.name
  event_pattern  = jsonencode({ source = ["shop"], detail = { total = [{ numeric = [">", 10] }] } })
}

resource "aws_cloudwatch_event_target" "f" {
  rule           = aws_cloudwatch_event_rule.orders.name
  event_bus_name = aws_cloudwatch_event_bus.side.name
  target_id      = "f"
  arn            = aws_lambda_alias.live.arn
  input_transformer {
    input_paths    = { n = "$.detail.n" }
    input_template = "{\"n\": <n>}"
  }
  retry_policy {
    maximum_event_age_in_seconds = 600
    maximum_retry_attempts       = 3
  }
}

resource "aws_cloudwatch_event_rule" "often" {
  name                = "often"
  schedule_expression = var.stage == "test" ? "rate(5 minutes)" : "rate(2 hours)"
}

resource "aws_scheduler_schedule_group" "g" {
  name = "g"
}

resource "aws_scheduler_schedule" "daily" {
  name                         = "daily"
  group_name                   = aws_scheduler_schedule_group.g.name
  schedule_expression          = "cron(0 9 ? * MON-FRI *)"
  schedule_expression_timezone = "Europe/Berlin"
  description                  = "of ${var.stage}"
  flexible_time_window {
    mode                      = "FLEXIBLE"
    maximum_window_in_minutes = 15
  }
  target {
    arn      = aws_lambda_alias.live.arn
    role_arn = local.role_of_schedules
    input    = jsonencode({ a = 1 })
    retry_policy {
      maximum_event_age_in_seconds = 600
      maximum_retry_attempts       = 3
    }
  }
}
