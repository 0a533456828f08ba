# What a deployer of an HTTP API makes, all of it: TestTerraformMakesHTTPAPIs
# applies, changes and destroys it.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "endpoint" { type = string }
variable "function" { type = string } # an ARN
variable "queue" { type = string }    # a URL

# What the test changes.
variable "routes" { type = map(string) } # route key to authorization
variable "greeting" { type = string }
variable "origins" { type = list(string) }
variable "imported" { type = string } # a path of the imported API

provider "aws" {
  region                  = "us-east-1"
  skip_metadata_api_check = true
  endpoints {
    apigatewayv2 = var.endpoint
    lambda       = var.endpoint
    logs         = var.endpoint
    sts          = var.endpoint
  }
  default_tags {
    tags = { made-by = "terraform" }
  }
}

resource "aws_apigatewayv2_api" "shop" {
  name          = "shop"
  protocol_type = "HTTP"
  description   = "A shop"
  version       = "v1"
  cors_configuration {
    allow_origins = var.origins
    allow_methods = ["GET", "POST"]
    allow_headers = ["content-type"]
    max_age       = 300
  }
}

resource "aws_apigatewayv2_integration" "f" {
  api_id                 = aws_apigatewayv2_api.shop.id
  integration_type       = "AWS_PROXY"
  integration_uri        = var.function
  payload_format_version = "2.0"
  timeout_milliseconds   = 20000
  request_parameters = {
    "append:header.x-greeting" = var.greeting
    "overwrite:path"           = "$request.path"
  }
  response_parameters {
    status_code = 200
    mappings    = { "overwrite:header.x-stage" = "$context.stage" }
  }
}

resource "aws_apigatewayv2_integration" "http" {
  api_id             = aws_apigatewayv2_api.shop.id
  integration_type   = "HTTP_PROXY"
  integration_method = "ANY"
  integration_uri    = "https://backend.example/{proxy}"
}

resource "aws_apigatewayv2_integration" "queue" {
  api_id                 = aws_apigatewayv2_api.shop.id
  integration_type       = "AWS_PROXY"
  integration_subtype    = "SQS-SendMessage"
  credentials_arn        = "arn:aws:iam::000000000000:role/sender"
  payload_format_version = "1.0"
  request_parameters = {
    "QueueUrl"    = var.queue
    "MessageBody" = "$request.body.${var.greeting}"
  }
}

resource "aws_apigatewayv2_route" "queue" {
  api_id    = aws_apigatewayv2_api.shop.id
  route_key = "POST /orders"
  target    = "integrations/${aws_apigatewayv2_integration.queue.id}"
}

resource "aws_apigatewayv2_authorizer" "jwt" {
  api_id           = aws_apigatewayv2_api.shop.id
  authorizer_type  = "JWT"
  identity_sources = ["$request.header.Authorization"]
  name             = "jwt"
  jwt_configuration {
    audience = ["shop"]
    issuer   = "https://issuer.example"
  }
}

resource "aws_apigatewayv2_authorizer" "asked" {
  api_id                            = aws_apigatewayv2_api.shop.id
  authorizer_type                   = "REQUEST"
  authorizer_uri                    = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/${var.function}/invocations"
  identity_sources                  = ["$request.header.Authorization"]
  name                              = "asked"
  authorizer_payload_format_version = "2.0"
  enable_simple_responses           = true
  authorizer_result_ttl_in_seconds  = 60
}

resource "aws_apigatewayv2_route" "r" {
  for_each             = var.routes
  api_id               = aws_apigatewayv2_api.shop.id
  route_key            = each.key
  target               = "integrations/${aws_apigatewayv2_integration.f.id}"
  authorization_type   = each.value
  authorizer_id        = each.value == "JWT" ? aws_apigatewayv2_authorizer.jwt.id : each.value == "CUSTOM" ? aws_apigatewayv2_authorizer.asked.id : null
  authorization_scopes = each.value == "JWT" ? ["buy"] : null
}

resource "aws_apigatewayv2_route" "http" {
  api_id    = aws_apigatewayv2_api.shop.id
  route_key = "ANY /backend/{proxy+}"
  target    = "integrations/${aws_apigatewayv2_integration.http.id}"
}

resource "aws_cloudwatch_log_group" "access" {
  name = "/access/shop"
}

resource "aws_apigatewayv2_stage" "live" {
  api_id          = aws_apigatewayv2_api.shop.id
  name            = "$default"
  auto_deploy     = true
  stage_variables = { greeting = var.greeting }
  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.access.arn
    format          = jsonencode({ id = "$context.requestId", route = "$context.routeKey", status = "$context.status" })
  }
  default_route_settings {
    throttling_burst_limit = 500
    throttling_rate_limit  = 1000
  }
  route_settings {
    route_key              = "ANY /backend/{proxy+}"
    throttling_burst_limit = 5
    throttling_rate_limit  = 10
  }
  depends_on = [aws_apigatewayv2_route.http]
}

resource "aws_apigatewayv2_deployment" "d" {
  api_id      = aws_apigatewayv2_api.shop.id
  description = "by hand"
  triggers    = { greeting = var.greeting }
  depends_on  = [aws_apigatewayv2_route.r, aws_apigatewayv2_route.http]
  lifecycle { create_before_destroy = true }
}

resource "aws_apigatewayv2_stage" "v1" {
  api_id        = aws_apigatewayv2_api.shop.id
  name          = "v1"
  deployment_id = aws_apigatewayv2_deployment.d.id
}

resource "aws_apigatewayv2_domain_name" "shop" {
  domain_name = "shop.example.com"
  domain_name_configuration {
    certificate_arn = "arn:aws:acm:us-east-1:000000000000:certificate/11111111-2222-3333-4444-555555555555"
    endpoint_type   = "REGIONAL"
    security_policy = "TLS_1_2"
  }
}

resource "aws_apigatewayv2_api_mapping" "shop" {
  api_id          = aws_apigatewayv2_api.shop.id
  domain_name     = aws_apigatewayv2_domain_name.shop.id
  stage           = aws_apigatewayv2_stage.live.id
  api_mapping_key = "shop/v1"
}

resource "aws_apigatewayv2_api" "chat" {
  name                       = "chat"
  protocol_type              = "WEBSOCKET"
  route_selection_expression = "$request.body.action"
}

resource "aws_apigatewayv2_integration" "chat" {
  api_id           = aws_apigatewayv2_api.chat.id
  integration_type = "AWS_PROXY"
  integration_uri  = var.function

  content_handling_strategy = "CONVERT_TO_TEXT"
  passthrough_behavior      = "WHEN_NO_TEMPLATES"
}

resource "aws_apigatewayv2_authorizer" "chat" {
  api_id           = aws_apigatewayv2_api.chat.id
  authorizer_type  = "REQUEST"
  authorizer_uri   = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/${var.function}/invocations"
  identity_sources = ["route.request.querystring.key"]
  name             = "asked"
}

resource "aws_apigatewayv2_route" "chat" {
  for_each           = toset(["$connect", "$default", var.greeting])
  api_id             = aws_apigatewayv2_api.chat.id
  route_key          = each.key
  target             = "integrations/${aws_apigatewayv2_integration.chat.id}"
  authorization_type = each.key == "$connect" ? "CUSTOM" : "NONE"
  authorizer_id      = each.key == "$connect" ? aws_apigatewayv2_authorizer.chat.id : null
  dynamic "request_parameter" {
    for_each = each.key == "$connect" ? [var.greeting] : []
    content {
      request_parameter_key = "route.request.querystring.${request_parameter.value}"
      required              = true
    }
  }
}

resource "aws_apigatewayv2_route" "asks" {
  api_id                              = aws_apigatewayv2_api.chat.id
  route_key                           = "asks"
  target                              = "integrations/${aws_apigatewayv2_integration.chat.id}"
  route_response_selection_expression = "$default"
}

resource "aws_apigatewayv2_route_response" "asks" {
  api_id             = aws_apigatewayv2_api.chat.id
  route_id           = aws_apigatewayv2_route.asks.id
  route_response_key = "$default"
}

resource "aws_apigatewayv2_stage" "chat" {
  api_id      = aws_apigatewayv2_api.chat.id
  name        = "live"
  auto_deploy = true
  default_route_settings {
    throttling_burst_limit = 500
    throttling_rate_limit  = 1000
  }
}

resource "aws_apigatewayv2_api" "quick" {
  name          = "quick"
  protocol_type = "HTTP"
  target        = var.function
}

resource "aws_apigatewayv2_api" "imported" {
  name          = "imported"
  protocol_type = "HTTP"
  version       = "1"
  body = jsonencode({
    openapi = "3.0.1"
    info    = { title = "imported", version = "1" }
    paths = {
      (var.imported) = {
        get = {
          responses = { default = { description = "all" } }
          x-amazon-apigateway-integration = {
            type                 = "AWS_PROXY"
            httpMethod           = "POST"
            uri                  = var.function
            payloadFormatVersion = "2.0"
          }
        }
      }
    }
  })
}

resource "aws_apigatewayv2_stage" "imported" {
  api_id      = aws_apigatewayv2_api.imported.id
  name        = "$default"
  auto_deploy = true
}

resource "aws_lambda_permission" "apis" {
  for_each = {
    shop     = aws_apigatewayv2_api.shop.execution_arn
    quick    = aws_apigatewayv2_api.quick.execution_arn
    imported = aws_apigatewayv2_api.imported.execution_arn
  }
  action        = "lambda:InvokeFunction"
  function_name = var.function
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${each.value}/*/*"
}

output "shop" { value = aws_apigatewayv2_api.shop.api_endpoint }
output "stage" { value = aws_apigatewayv2_stage.v1.invoke_url }
output "quick" { value = aws_apigatewayv2_api.quick.api_endpoint }
output "imported" { value = aws_apigatewayv2_api.imported.api_endpoint }
output "execution_arn" { value = aws_apigatewayv2_api.shop.execution_arn }
