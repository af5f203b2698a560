# What is signed, and for how long. Made from the same source as main.tf: do not change here.

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
