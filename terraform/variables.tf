variable "layer_name" {
  description = "The layer's name in the account and region."
  type        = string
  default     = "middy-post-invoke"
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
