# How the gateway, people and agents log in. Made from the same source as main.tf: do not change here.

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
