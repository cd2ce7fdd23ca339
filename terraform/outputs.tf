output "layer_arn" {
  description = "The ARN of this version of the layer, for the layers of a function."
  value       = aws_lambda_layer_version.this.arn
}

output "package_version" {
  description = "The version of middy-post-invoke: the functions have to bundle the same one."
  value       = local.version
}
