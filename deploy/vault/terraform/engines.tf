# The SSH engines and the keys of their CAs. Made from the same source as main.tf: do not change here.

# the engine with the user CA
resource "vault_mount" "user" {
  audit_non_hmac_request_keys  = ["cert_type", "key_id", "valid_principals"]
  audit_non_hmac_response_keys = ["serial_number"]
  description                  = "Doorward: signs sessions and links"
  path                         = var.user_mount
  type                         = "ssh"
}

# the user CA's key, made in Vault
resource "vault_generic_endpoint" "user_ca" {
  path                 = "${vault_mount.user.path}/config/ca"
  ignore_absent_fields = true
  disable_read         = true
  disable_delete       = true

  data_json = jsonencode({
    generate_signing_key = true
    key_type             = "ed25519"
  })

  lifecycle {
    prevent_destroy = true
  }
}

# the engine with the host CA
resource "vault_mount" "host" {
  audit_non_hmac_request_keys  = ["cert_type", "key_id", "valid_principals"]
  audit_non_hmac_response_keys = ["serial_number"]
  description                  = "Doorward: signs host certificates"
  path                         = var.host_mount
  type                         = "ssh"
}

# the host CA's key, made in Vault
resource "vault_generic_endpoint" "host_ca" {
  path                 = "${vault_mount.host.path}/config/ca"
  ignore_absent_fields = true
  disable_read         = true
  disable_delete       = true

  data_json = jsonencode({
    generate_signing_key = true
    key_type             = "ed25519"
  })

  lifecycle {
    prevent_destroy = true
  }
}
