# Sets Vault up for a Doorward gateway, as `doorward-gateway vault apply` does. Made from the same source: do not change here.

locals {
  login_mount = var.login_mount == "" ? var.login : var.login_mount
  # An empty list allows any.
  principals = contains(var.logins, "*") ? [] : var.logins
  host_life  = coalesce(var.host_life, var.host_certificates == "agents" ? 86400 : 2592000)
}

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

# where the gateway logs in
resource "vault_auth_backend" "gateway_kubernetes" {
  count = var.login == "kubernetes" ? 1 : 0

  description = "Doorward: where the gateway logs in"
  path        = local.login_mount
  type        = "kubernetes"
}

# where agents log in
resource "vault_auth_backend" "agents_jwt" {
  count = var.host_certificates == "agents" && var.agent_method == "jwt" ? 1 : 0

  description = "Doorward: where agents log in"
  path        = var.agent_mount
  type        = "jwt"
}

# where agents log in
resource "vault_auth_backend" "agents_kubernetes" {
  count = var.host_certificates == "agents" && var.agent_method == "kubernetes" ? 1 : 0

  description = "Doorward: where agents log in"
  path        = var.agent_mount
  type        = "kubernetes"
}

# where people log in
resource "vault_auth_backend" "people" {
  count = var.sign_as == "user" ? 1 : 0

  description = "Doorward: where people log in"
  path        = var.user_login_mount
  type        = "jwt"
}

# where the gateway logs in
resource "vault_auth_backend" "gateway_approle" {
  count = var.login == "approle" ? 1 : 0

  description = "Doorward: where the gateway logs in"
  path        = local.login_mount
  type        = "approle"
}

# where the gateway logs in
resource "vault_auth_backend" "gateway_jwt" {
  count = var.login == "jwt" ? 1 : 0

  description = "Doorward: where the gateway logs in"
  path        = local.login_mount
  type        = "jwt"
}

# the cluster that reviews service accounts' tokens
resource "vault_generic_endpoint" "gateway_config_kubernetes" {
  count = var.login == "kubernetes" ? 1 : 0

  path                 = "auth/${one(concat(vault_auth_backend.gateway_kubernetes, vault_auth_backend.gateway_approle, vault_auth_backend.gateway_jwt)).path}/config"
  ignore_absent_fields = true
  disable_delete       = true

  data_json = jsonencode({
    kubernetes_host = var.api_server
  })
}

# the cluster whose pods are believed
resource "vault_generic_endpoint" "agents_config_jwt" {
  count = var.host_certificates == "agents" && var.agent_method == "jwt" ? 1 : 0

  path                 = "auth/${one(concat(vault_auth_backend.agents_jwt, vault_auth_backend.agents_kubernetes)).path}/config"
  ignore_absent_fields = true
  disable_delete       = true

  data_json = jsonencode({
    bound_issuer          = var.agent_cluster
    oidc_discovery_ca_pem = var.agent_cluster_ca
    oidc_discovery_url    = var.agent_cluster
  })
}

# the cluster whose pods are believed
resource "vault_generic_endpoint" "agents_config_kubernetes" {
  count = var.host_certificates == "agents" && var.agent_method == "kubernetes" ? 1 : 0

  path                 = "auth/${one(concat(vault_auth_backend.agents_jwt, vault_auth_backend.agents_kubernetes)).path}/config"
  ignore_absent_fields = true
  disable_delete       = true

  data_json = jsonencode({
    kubernetes_ca_cert = var.agent_cluster_ca
    kubernetes_host    = var.agent_cluster
  })
}

# whose tokens are believed
resource "vault_generic_endpoint" "people_config" {
  count = var.sign_as == "user" ? 1 : 0

  path                 = "auth/${vault_auth_backend.people[0].path}/config"
  ignore_absent_fields = true
  disable_delete       = true

  data_json = jsonencode({
    bound_issuer          = var.issuer
    oidc_discovery_ca_pem = var.issuer_ca
    oidc_discovery_url    = var.issuer
  })
}

# whose tokens are believed
resource "vault_generic_endpoint" "gateway_config_jwt" {
  count = var.login == "jwt" ? 1 : 0

  path                 = "auth/${one(concat(vault_auth_backend.gateway_kubernetes, vault_auth_backend.gateway_approle, vault_auth_backend.gateway_jwt)).path}/config"
  ignore_absent_fields = true
  disable_delete       = true

  data_json = jsonencode({
    bound_issuer          = var.login_issuer
    oidc_discovery_ca_pem = ""
    oidc_discovery_url    = var.login_issuer
  })
}

# who is the gateway
resource "vault_generic_endpoint" "gateway_login_kubernetes" {
  count = var.login == "kubernetes" ? 1 : 0

  path                 = "auth/${one(concat(vault_auth_backend.gateway_kubernetes, vault_auth_backend.gateway_approle, vault_auth_backend.gateway_jwt)).path}/role/${var.login_role}"
  ignore_absent_fields = true

  data_json = jsonencode({
    bound_service_account_names      = [var.service_account]
    bound_service_account_namespaces = [var.namespace]
    token_max_ttl                    = 86400
    token_no_default_policy          = true
    token_policies                   = [var.login_role]
    token_ttl                        = 3600
  })
}

# which pods are agents
resource "vault_generic_endpoint" "agents_login_jwt" {
  count = var.host_certificates == "agents" && var.agent_method == "jwt" ? 1 : 0

  path                 = "auth/${one(concat(vault_auth_backend.agents_jwt, vault_auth_backend.agents_kubernetes)).path}/role/${var.agent_role}"
  ignore_absent_fields = true

  data_json = jsonencode({
    bound_audiences         = [var.agent_audience]
    bound_claims            = { "/kubernetes.io/namespace" = var.agent_namespaces }
    claim_mappings          = { "/kubernetes.io/pod/name" = "pod_name", "/kubernetes.io/pod/uid" = "pod_uid" }
    role_type               = "jwt"
    token_max_ttl           = 60
    token_no_default_policy = true
    token_policies          = [var.agent_role]
    token_ttl               = 60
    token_type              = "batch"
    user_claim              = "/kubernetes.io/pod/uid"
    user_claim_json_pointer = true
  })
}

# which pods are agents
resource "vault_generic_endpoint" "agents_login_kubernetes" {
  count = var.host_certificates == "agents" && var.agent_method == "kubernetes" ? 1 : 0

  path                 = "auth/${one(concat(vault_auth_backend.agents_jwt, vault_auth_backend.agents_kubernetes)).path}/role/${var.agent_role}"
  ignore_absent_fields = true

  data_json = jsonencode({
    audience                         = var.agent_audience
    bound_service_account_names      = ["*"]
    bound_service_account_namespaces = var.agent_namespaces
    token_max_ttl                    = 60
    token_no_default_policy          = true
    token_policies                   = [var.agent_role]
    token_ttl                        = 60
    token_type                       = "batch"
  })
}

# what a person's token is taken for
resource "vault_generic_endpoint" "people_login" {
  count = var.sign_as == "user" ? 1 : 0

  path                 = "auth/${vault_auth_backend.people[0].path}/role/${var.user_login_role}"
  ignore_absent_fields = true

  data_json = jsonencode({
    bound_audiences         = [var.audience]
    role_type               = "jwt"
    token_max_ttl           = 60
    token_no_default_policy = true
    token_policies          = [var.user_login_role]
    token_ttl               = 60
    token_type              = "batch"
    user_claim              = var.user_claim
    user_claim_json_pointer = true
  })
}

# who is the gateway
resource "vault_generic_endpoint" "gateway_login_approle" {
  count = var.login == "approle" ? 1 : 0

  path                 = "auth/${one(concat(vault_auth_backend.gateway_kubernetes, vault_auth_backend.gateway_approle, vault_auth_backend.gateway_jwt)).path}/role/${var.login_role}"
  ignore_absent_fields = true

  data_json = jsonencode({
    bind_secret_id          = true
    token_max_ttl           = 86400
    token_no_default_policy = true
    token_policies          = [var.login_role]
    token_ttl               = 3600
  })
}

# who is the gateway
resource "vault_generic_endpoint" "gateway_login_jwt" {
  count = var.login == "jwt" ? 1 : 0

  path                 = "auth/${one(concat(vault_auth_backend.gateway_kubernetes, vault_auth_backend.gateway_approle, vault_auth_backend.gateway_jwt)).path}/role/${var.login_role}"
  ignore_absent_fields = true

  data_json = jsonencode({
    bound_audiences         = [var.login_audience]
    bound_subject           = var.login_subject
    role_type               = "jwt"
    token_max_ttl           = 86400
    token_no_default_policy = true
    token_policies          = [var.login_role]
    token_ttl               = 3600
    user_claim              = "sub"
  })
}

# the role that signs sessions
resource "vault_generic_endpoint" "session_as_gateway" {
  count = var.sign_as == "gateway" ? 1 : 0

  path                 = "${vault_mount.user.path}/roles/${var.session_role}"
  ignore_absent_fields = true

  data_json = jsonencode({
    allow_bare_domains          = false
    allow_empty_principals      = false
    allow_host_certificates     = false
    allow_subdomains            = false
    allow_user_certificates     = true
    allow_user_key_ids          = true
    allowed_critical_options    = "none@doorward"
    allowed_domains             = ""
    allowed_domains_template    = false
    allowed_extensions          = "permit-pty,permit-agent-forwarding,permit-port-forwarding,permit-X11-forwarding,shell@doorward,exec@doorward,sftp@doorward,forward-to@doorward,remote-forward@doorward,recording@doorward,longest@doorward,session@doorward,workspace@doorward"
    allowed_user_key_lengths    = { ed25519 = [0] }
    allowed_users               = join(",", var.logins)
    allowed_users_template      = false
    default_critical_options    = {}
    default_extensions          = {}
    default_extensions_template = false
    default_user                = ""
    default_user_template       = false
    key_type                    = "ca"
    max_ttl                     = var.session_life
    not_before_duration         = 30
    ttl                         = var.session_life
  })
}

# the role that signs the gateway's own certificate
resource "vault_generic_endpoint" "link" {
  path                 = "${vault_mount.user.path}/roles/${var.link_role}"
  ignore_absent_fields = true

  data_json = jsonencode({
    allow_bare_domains          = false
    allow_empty_principals      = false
    allow_host_certificates     = false
    allow_subdomains            = false
    allow_user_certificates     = true
    allow_user_key_ids          = true
    allowed_critical_options    = "none@doorward"
    allowed_domains             = ""
    allowed_domains_template    = false
    allowed_extensions          = ""
    allowed_user_key_lengths    = { ed25519 = [0] }
    allowed_users               = "doorward-gateway"
    allowed_users_template      = false
    default_critical_options    = {}
    default_extensions          = {}
    default_extensions_template = false
    default_user                = ""
    default_user_template       = false
    key_type                    = "ca"
    max_ttl                     = var.link_life
    not_before_duration         = 30
    ttl                         = var.link_life
  })
}

# the role that signs host certificates
resource "vault_generic_endpoint" "host_hosts_by_gateway" {
  count = var.host_certificates == "gateway" ? 1 : 0

  path                 = "${vault_mount.host.path}/roles/${var.host_role}"
  ignore_absent_fields = true

  data_json = jsonencode({
    allow_bare_domains          = true
    allow_empty_principals      = false
    allow_host_certificates     = true
    allow_subdomains            = false
    allow_user_certificates     = false
    allow_user_key_ids          = true
    allowed_critical_options    = "none@doorward"
    allowed_domains             = join(",", var.hosts)
    allowed_domains_template    = false
    allowed_extensions          = "workspace@doorward"
    allowed_user_key_lengths    = { ed25519 = [0] }
    allowed_users               = ""
    allowed_users_template      = false
    default_critical_options    = {}
    default_extensions          = {}
    default_extensions_template = false
    default_user                = ""
    default_user_template       = false
    key_type                    = "ca"
    max_ttl                     = local.host_life
    not_before_duration         = 30
    ttl                         = local.host_life
  })
}

# the role that signs an agent's own host certificate
resource "vault_generic_endpoint" "host_hosts_by_agents_jwt" {
  count = var.host_certificates == "agents" && var.agent_method == "jwt" ? 1 : 0

  path                 = "${vault_mount.host.path}/roles/${var.host_role}"
  ignore_absent_fields = true

  data_json = jsonencode({
    allow_bare_domains          = true
    allow_empty_principals      = false
    allow_host_certificates     = true
    allow_subdomains            = false
    allow_user_certificates     = false
    allow_user_key_ids          = true
    allowed_critical_options    = "none@doorward"
    allowed_domains             = "{{identity.entity.aliases.${one(concat(vault_auth_backend.agents_jwt, vault_auth_backend.agents_kubernetes)).accessor}.metadata.pod_name}},{{identity.entity.aliases.${one(concat(vault_auth_backend.agents_jwt, vault_auth_backend.agents_kubernetes)).accessor}.metadata.pod_name}}.doorward"
    allowed_domains_template    = true
    allowed_extensions          = ""
    allowed_user_key_lengths    = { ed25519 = [0] }
    allowed_users               = ""
    allowed_users_template      = false
    default_critical_options    = {}
    default_extensions          = { workspace@doorward = "{{identity.entity.aliases.${one(concat(vault_auth_backend.agents_jwt, vault_auth_backend.agents_kubernetes)).accessor}.metadata.pod_uid}}" }
    default_extensions_template = true
    default_user                = ""
    default_user_template       = false
    key_type                    = "ca"
    max_ttl                     = local.host_life
    not_before_duration         = 30
    ttl                         = local.host_life
  })
}

# the role that signs an agent's own host certificate
resource "vault_generic_endpoint" "host_hosts_by_agents_kubernetes" {
  count = var.host_certificates == "agents" && var.agent_method == "kubernetes" ? 1 : 0

  path                 = "${vault_mount.host.path}/roles/${var.host_role}"
  ignore_absent_fields = true

  data_json = jsonencode({
    allow_bare_domains          = true
    allow_empty_principals      = false
    allow_host_certificates     = true
    allow_subdomains            = false
    allow_user_certificates     = false
    allow_user_key_ids          = true
    allowed_critical_options    = "none@doorward"
    allowed_domains             = "{{identity.entity.aliases.${one(concat(vault_auth_backend.agents_jwt, vault_auth_backend.agents_kubernetes)).accessor}.metadata.service_account_name}},{{identity.entity.aliases.${one(concat(vault_auth_backend.agents_jwt, vault_auth_backend.agents_kubernetes)).accessor}.metadata.service_account_name}}.doorward"
    allowed_domains_template    = true
    allowed_extensions          = "workspace@doorward"
    allowed_user_key_lengths    = { ed25519 = [0] }
    allowed_users               = ""
    allowed_users_template      = false
    default_critical_options    = {}
    default_extensions          = {}
    default_extensions_template = false
    default_user                = ""
    default_user_template       = false
    key_type                    = "ca"
    max_ttl                     = local.host_life
    not_before_duration         = 30
    ttl                         = local.host_life
  })
}

# the role that signs sessions
resource "vault_generic_endpoint" "session_as_user" {
  count = var.sign_as == "user" ? 1 : 0

  path                 = "${vault_mount.user.path}/roles/${var.session_role}"
  ignore_absent_fields = true

  data_json = jsonencode({
    allow_bare_domains          = false
    allow_empty_principals      = false
    allow_host_certificates     = false
    allow_subdomains            = false
    allow_user_certificates     = true
    allow_user_key_ids          = true
    allowed_critical_options    = "none@doorward"
    allowed_domains             = ""
    allowed_domains_template    = false
    allowed_extensions          = "permit-pty,permit-agent-forwarding,permit-port-forwarding,permit-X11-forwarding,shell@doorward,exec@doorward,sftp@doorward,forward-to@doorward,remote-forward@doorward,recording@doorward,longest@doorward,session@doorward,workspace@doorward"
    allowed_user_key_lengths    = { ed25519 = [0] }
    allowed_users               = "{{identity.entity.aliases.${vault_auth_backend.people[0].accessor}.name}},${join(",", var.logins)}"
    allowed_users_template      = true
    default_critical_options    = {}
    default_extensions          = {}
    default_extensions_template = false
    default_user                = ""
    default_user_template       = false
    key_type                    = "ca"
    max_ttl                     = var.session_life
    not_before_duration         = 30
    ttl                         = var.session_life
  })
}
