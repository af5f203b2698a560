# Sets Vault up for a Doorward gateway, as `doorward-gateway vault apply` does. Made from the same source: do not change here.

locals {
  login_mount = var.login_mount == "" ? var.login : var.login_mount
  # An empty list allows any.
  principals = contains(var.logins, "*") ? [] : var.logins
  host_life  = coalesce(var.host_life, var.host_certificates == "agents" ? 86400 : 2592000)
}
