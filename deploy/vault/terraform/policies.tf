# What the gateway, people and agents may do. Made from the same source as main.tf: do not change here.

# what the gateway may do
resource "vault_policy" "gateway_as_gateway_hosts_by_gateway" {
  count = var.sign_as == "gateway" && var.host_certificates == "gateway" ? 1 : 0

  name   = var.login_role
  policy = <<-EOT
    # Doorward's gateway: asks for certificates, looks at the roles that sign them.

    path "${var.user_mount}/sign/${var.session_role}" {
      capabilities = ["update"]
      required_parameters = ["public_key", "valid_principals", "cert_type", "key_id", "ttl"]
      allowed_parameters = {
        "public_key" = []
        "valid_principals" = ${jsonencode(local.principals)}
        "cert_type" = ["user"]
        "key_id" = []
        "ttl" = []
        "extensions" = []
        "critical_options" = []
      }
      denied_parameters = {
        "valid_principals" = ["", "*,*", "* *"]
      }
    }

    path "${var.user_mount}/sign/${var.link_role}" {
      capabilities = ["update"]
      required_parameters = ["public_key", "valid_principals", "cert_type", "key_id", "ttl"]
      allowed_parameters = {
        "public_key" = []
        "valid_principals" = ["doorward-gateway"]
        "cert_type" = ["user"]
        "key_id" = []
        "ttl" = []
        "extensions" = []
        "critical_options" = []
      }
      denied_parameters = {
        "valid_principals" = [""]
      }
    }

    path "${var.host_mount}/sign/${var.host_role}" {
      capabilities = ["update"]
      required_parameters = ["public_key", "valid_principals", "cert_type", "key_id", "ttl"]
      allowed_parameters = {
        "public_key" = []
        "valid_principals" = []
        "cert_type" = ["host"]
        "key_id" = []
        "ttl" = []
        "extensions" = []
        "critical_options" = []
      }
      denied_parameters = {
        "valid_principals" = ["", ",*", " *"]
      }
    }

    path "${var.user_mount}/config/ca" {
      capabilities = ["read"]
    }

    path "${var.host_mount}/config/ca" {
      capabilities = ["read"]
    }

    path "${var.user_mount}/roles/${var.session_role}" {
      capabilities = ["read"]
    }

    path "${var.user_mount}/roles/${var.link_role}" {
      capabilities = ["read"]
    }

    path "${var.host_mount}/roles/${var.host_role}" {
      capabilities = ["read"]
    }

    path "auth/token/lookup-self" {
      capabilities = ["read"]
    }

    path "auth/token/renew-self" {
      capabilities = ["update"]
    }

    path "auth/token/revoke-self" {
      capabilities = ["update"]
    }
  EOT
}

# what the gateway may do
resource "vault_policy" "gateway_as_gateway_hosts_by_agents" {
  count = var.sign_as == "gateway" && var.host_certificates == "agents" ? 1 : 0

  name   = var.login_role
  policy = <<-EOT
    # Doorward's gateway: asks for certificates, looks at the roles that sign them.

    path "${var.user_mount}/sign/${var.session_role}" {
      capabilities = ["update"]
      required_parameters = ["public_key", "valid_principals", "cert_type", "key_id", "ttl"]
      allowed_parameters = {
        "public_key" = []
        "valid_principals" = ${jsonencode(local.principals)}
        "cert_type" = ["user"]
        "key_id" = []
        "ttl" = []
        "extensions" = []
        "critical_options" = []
      }
      denied_parameters = {
        "valid_principals" = ["", "*,*", "* *"]
      }
    }

    path "${var.user_mount}/sign/${var.link_role}" {
      capabilities = ["update"]
      required_parameters = ["public_key", "valid_principals", "cert_type", "key_id", "ttl"]
      allowed_parameters = {
        "public_key" = []
        "valid_principals" = ["doorward-gateway"]
        "cert_type" = ["user"]
        "key_id" = []
        "ttl" = []
        "extensions" = []
        "critical_options" = []
      }
      denied_parameters = {
        "valid_principals" = [""]
      }
    }

    # Host certificates are signed for agents alone.
    path "${var.host_mount}/sign/*" {
      capabilities = ["deny"]
    }
    path "${var.host_mount}/issue/*" {
      capabilities = ["deny"]
    }

    path "sys/capabilities-self" {
      capabilities = ["update"]
    }

    path "${var.user_mount}/config/ca" {
      capabilities = ["read"]
    }

    path "${var.host_mount}/config/ca" {
      capabilities = ["read"]
    }

    path "${var.user_mount}/roles/${var.session_role}" {
      capabilities = ["read"]
    }

    path "${var.user_mount}/roles/${var.link_role}" {
      capabilities = ["read"]
    }

    path "${var.host_mount}/roles/${var.host_role}" {
      capabilities = ["read"]
    }

    path "auth/token/lookup-self" {
      capabilities = ["read"]
    }

    path "auth/token/renew-self" {
      capabilities = ["update"]
    }

    path "auth/token/revoke-self" {
      capabilities = ["update"]
    }
  EOT
}

# what an agent may do
resource "vault_policy" "agents" {
  count = var.host_certificates == "agents" ? 1 : 0

  name   = var.agent_role
  policy = <<-EOT
    # An agent of Doorward: asks for its own host certificate, nothing else.

    path "${var.host_mount}/sign/${var.host_role}" {
      capabilities = ["update"]
      required_parameters = ["public_key", "valid_principals", "cert_type", "key_id", "ttl"]
      allowed_parameters = {
        "public_key" = []
        "valid_principals" = []
        "cert_type" = ["host"]
        "key_id" = []
        "ttl" = []
        "extensions" = []
        "critical_options" = []
      }
      denied_parameters = {
        "valid_principals" = ["", ",*", " *"]
      }
    }
  EOT
}

# what the gateway may do
resource "vault_policy" "gateway_as_user_hosts_by_gateway" {
  count = var.sign_as == "user" && var.host_certificates == "gateway" ? 1 : 0

  name   = var.login_role
  policy = <<-EOT
    # Doorward's gateway: asks for certificates, looks at the roles that sign them.

    path "${var.user_mount}/sign/${var.link_role}" {
      capabilities = ["update"]
      required_parameters = ["public_key", "valid_principals", "cert_type", "key_id", "ttl"]
      allowed_parameters = {
        "public_key" = []
        "valid_principals" = ["doorward-gateway"]
        "cert_type" = ["user"]
        "key_id" = []
        "ttl" = []
        "extensions" = []
        "critical_options" = []
      }
      denied_parameters = {
        "valid_principals" = [""]
      }
    }

    path "${var.host_mount}/sign/${var.host_role}" {
      capabilities = ["update"]
      required_parameters = ["public_key", "valid_principals", "cert_type", "key_id", "ttl"]
      allowed_parameters = {
        "public_key" = []
        "valid_principals" = []
        "cert_type" = ["host"]
        "key_id" = []
        "ttl" = []
        "extensions" = []
        "critical_options" = []
      }
      denied_parameters = {
        "valid_principals" = ["", ",*", " *"]
      }
    }

    path "${var.user_mount}/config/ca" {
      capabilities = ["read"]
    }

    path "${var.host_mount}/config/ca" {
      capabilities = ["read"]
    }

    path "${var.user_mount}/roles/${var.session_role}" {
      capabilities = ["read"]
    }

    path "${var.user_mount}/roles/${var.link_role}" {
      capabilities = ["read"]
    }

    path "${var.host_mount}/roles/${var.host_role}" {
      capabilities = ["read"]
    }

    path "auth/token/lookup-self" {
      capabilities = ["read"]
    }

    path "auth/token/renew-self" {
      capabilities = ["update"]
    }

    path "auth/token/revoke-self" {
      capabilities = ["update"]
    }
  EOT
}

# what a person may do
resource "vault_policy" "people" {
  count = var.sign_as == "user" ? 1 : 0

  name   = var.user_login_role
  policy = <<-EOT
    # A person at Doorward: asks for the certificate of a session, nothing else.

    path "${var.user_mount}/sign/${var.session_role}" {
      capabilities = ["update"]
      required_parameters = ["public_key", "valid_principals", "cert_type", "key_id", "ttl"]
      allowed_parameters = {
        "public_key" = []
        "valid_principals" = []
        "cert_type" = ["user"]
        "key_id" = []
        "ttl" = []
        "extensions" = []
        "critical_options" = []
      }
      denied_parameters = {
        "valid_principals" = ["", "*,*", "* *"]
      }
    }
  EOT
}

# what the gateway may do
resource "vault_policy" "gateway_as_user_hosts_by_agents" {
  count = var.sign_as == "user" && var.host_certificates == "agents" ? 1 : 0

  name   = var.login_role
  policy = <<-EOT
    # Doorward's gateway: asks for certificates, looks at the roles that sign them.

    path "${var.user_mount}/sign/${var.link_role}" {
      capabilities = ["update"]
      required_parameters = ["public_key", "valid_principals", "cert_type", "key_id", "ttl"]
      allowed_parameters = {
        "public_key" = []
        "valid_principals" = ["doorward-gateway"]
        "cert_type" = ["user"]
        "key_id" = []
        "ttl" = []
        "extensions" = []
        "critical_options" = []
      }
      denied_parameters = {
        "valid_principals" = [""]
      }
    }

    # Host certificates are signed for agents alone.
    path "${var.host_mount}/sign/*" {
      capabilities = ["deny"]
    }
    path "${var.host_mount}/issue/*" {
      capabilities = ["deny"]
    }

    path "sys/capabilities-self" {
      capabilities = ["update"]
    }

    path "${var.user_mount}/config/ca" {
      capabilities = ["read"]
    }

    path "${var.host_mount}/config/ca" {
      capabilities = ["read"]
    }

    path "${var.user_mount}/roles/${var.session_role}" {
      capabilities = ["read"]
    }

    path "${var.user_mount}/roles/${var.link_role}" {
      capabilities = ["read"]
    }

    path "${var.host_mount}/roles/${var.host_role}" {
      capabilities = ["read"]
    }

    path "auth/token/lookup-self" {
      capabilities = ["read"]
    }

    path "auth/token/renew-self" {
      capabilities = ["update"]
    }

    path "auth/token/revoke-self" {
      capabilities = ["update"]
    }
  EOT
}
