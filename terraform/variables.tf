variable "layer_name" {
  description = "The layer's name in the account and region."
  type        = string
  default     = "middy-post-invoke"
}

variable "compatible_runtimes" {
  description = "The runtimes that the layer is listed for, which keeps it from no other. Newer versions of the provider take nodejs26.x."
  type        = list(string)
  default     = ["nodejs22.x", "nodejs24.x"]
}

variable "keep_versions" {
  description = "Whether versions that are no longer the newest stay published, for functions that still have them."
  type        = bool
  default     = true
}

variable "ssm_parameter" {
  description = "The name of an SSM parameter that is to hold the ARN, or null for none."
  type        = string
  default     = null
}
