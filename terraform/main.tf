# The layer of middy-post-invoke, published in the account and region of the AWS provider. One more version is published
# when the package's layer has changed; the versions before stay for the functions that still have them.
#
#   module "post_invoke" {
#     source = "./node_modules/middy-post-invoke/terraform"
#   }
#
#   resource "aws_lambda_function" "orders" {
#     layers = [module.post_invoke.layer_arn]
#   }

locals {
  zip     = "${path.module}/../dist/layer.zip"
  version = jsondecode(file("${path.module}/../package.json")).version
}

resource "aws_lambda_layer_version" "this" {
  layer_name               = var.layer_name
  description              = "middy-post-invoke ${local.version}"
  filename                 = local.zip
  source_code_hash         = filebase64sha256(local.zip)
  compatible_runtimes      = var.compatible_runtimes
  compatible_architectures = ["x86_64", "arm64"]
  skip_destroy             = var.keep_versions
}

resource "aws_ssm_parameter" "layer_arn" {
  count = var.ssm_parameter == null ? 0 : 1

  name        = var.ssm_parameter
  description = "The ARN of the layer of middy-post-invoke ${local.version}."
  type        = "String"
  value       = aws_lambda_layer_version.this.arn
}
