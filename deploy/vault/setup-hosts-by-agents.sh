#!/usr/bin/env bash
# Sets Vault up for a Doorward gateway. `doorward-gateway vault apply` does the same from gateway.toml, and shows first what
# would change; this is for those who would rather run Vault's own program. Both are made from one source: change neither here.
#
# LOGIN is how the gateway logs in (kubernetes, approle, jwt, token-file), SIGN_AS as whom sessions are signed (gateway, user).
# A second run changes nothing. It removes nothing and never touches a CA's key that is there.
# Agents have their host certificates signed themselves, and the gateway has no right to; otherwise it is
# setup-hosts-by-gateway.sh. AGENT_METHOD is how Vault knows agents: jwt binds name and uid of the pod; kubernetes the service
# account alone, which is safe where each workspace has one of its own, called as the workspace.
#
#   VAULT_ADDR=… VAULT_TOKEN=… LOGIN=kubernetes SIGN_AS=gateway AGENT_METHOD=jwt deploy/vault/setup-hosts-by-agents.sh
#
# What else may be set:
#
#   USER_MOUNT         SSH engine with the user CA (user-mount)
#   HOST_MOUNT         SSH engine with the host CA (host-mount)
#   SESSION_ROLE       role that signs sessions (session-role)
#   LINK_ROLE          role that signs the gateway's own certificate (link-role)
#   HOST_ROLE          role that signs host certificates (host-role)
#   LOGINS             accounts that sessions may be for: those of the workspaces and of the roles (commas between them)
#   HOSTS              names of host certificates: each workspace, and each with .doorward behind it; * for any (commas between them)
#   SESSION_LIFE       longest life of a session certificate in seconds (certificate-life)
#   LINK_LIFE          longest life of the gateway's own certificate in seconds
#   HOST_LIFE          longest life of a host certificate in seconds; a day where agents have them signed
#   LOGIN_MOUNT        mount of the gateway's auth method; default: the method's name
#   LOGIN_ROLE         the gateway's role there, and the name of its policy
#   SERVICE_ACCOUNT    kubernetes: the gateway's service account
#   NAMESPACE          kubernetes: the namespace of that account
#   API_SERVER         kubernetes: the API server as Vault reaches it
#   LOGIN_ISSUER       jwt: the issuer of the gateway's own token
#   LOGIN_SUBJECT      jwt: the `sub` of that token
#   LOGIN_AUDIENCE     jwt: the audience of that token
#   USER_LOGIN_MOUNT   sign-as user: mount of the JWT auth method
#   USER_LOGIN_ROLE    sign-as user: people's role there, and the name of their policy
#   ISSUER             sign-as user: the issuer of people's tokens
#   ISSUER_CA_FILE     sign-as user: CA of that issuer's TLS, PEM; empty for those of Vault's system
#   AUDIENCE           sign-as user: the audience of people's tokens
#   USER_CLAIM         sign-as user: where the person's name stands, as a JSON pointer
#   AGENT_MOUNT        host certificates for agents: the mount of their auth method, which nothing else uses
#   AGENT_ROLE         host certificates for agents: their role there, and the name of its policy
#   AGENT_AUDIENCE     host certificates for agents: the audience of the pods' tokens, which must not be the gateway's
#   AGENT_NAMESPACES   host certificates for agents: the namespaces of their pods (commas between them)
#   AGENT_CLUSTER      host certificates for agents: the issuer of the cluster's tokens (jwt), or its API server (kubernetes)
#   AGENT_CLUSTER_CA_FILE host certificates for agents: CA of that server's TLS, PEM; empty for those of Vault's system
set -euo pipefail

LOGIN=${LOGIN:-kubernetes}
case $LOGIN in kubernetes | approle | jwt | token-file) ;; *) echo "LOGIN: kubernetes, approle, jwt or token-file" >&2; exit 64 ;; esac
SIGN_AS=${SIGN_AS:-gateway}
case $SIGN_AS in gateway | user) ;; *) echo "SIGN_AS: gateway or user" >&2; exit 64 ;; esac
AGENT_METHOD=${AGENT_METHOD:-jwt}
case $AGENT_METHOD in jwt | kubernetes) ;; *) echo "AGENT_METHOD: jwt or kubernetes" >&2; exit 64 ;; esac
LOGIN_MOUNT=${LOGIN_MOUNT:-$LOGIN}
USER_MOUNT=${USER_MOUNT:-ssh}
HOST_MOUNT=${HOST_MOUNT:-ssh-host}
SESSION_ROLE=${SESSION_ROLE:-doorward-session}
LINK_ROLE=${LINK_ROLE:-doorward-link}
HOST_ROLE=${HOST_ROLE:-doorward-host}
LOGINS=${LOGINS:-node}
HOSTS=${HOSTS:-'*'}
SESSION_LIFE=${SESSION_LIFE:-180}
LINK_LIFE=${LINK_LIFE:-86400}
HOST_LIFE=${HOST_LIFE:-86400}
LOGIN_ROLE=${LOGIN_ROLE:-doorward-gateway}
SERVICE_ACCOUNT=${SERVICE_ACCOUNT:-doorward-gateway}
NAMESPACE=${NAMESPACE:-doorward}
API_SERVER=${API_SERVER:-https://kubernetes.default.svc}
LOGIN_ISSUER=${LOGIN_ISSUER:-}
LOGIN_SUBJECT=${LOGIN_SUBJECT:-}
LOGIN_AUDIENCE=${LOGIN_AUDIENCE:-vault}
USER_LOGIN_MOUNT=${USER_LOGIN_MOUNT:-jwt}
USER_LOGIN_ROLE=${USER_LOGIN_ROLE:-doorward-user}
ISSUER=${ISSUER:-}
AUDIENCE=${AUDIENCE:-doorward-gateway}
USER_CLAIM=${USER_CLAIM:-/preferred_username}
AGENT_MOUNT=${AGENT_MOUNT:-doorward-agents}
AGENT_ROLE=${AGENT_ROLE:-doorward-agent}
AGENT_AUDIENCE=${AGENT_AUDIENCE:-vault}
AGENT_NAMESPACES=${AGENT_NAMESPACES:-devenv}
AGENT_CLUSTER=${AGENT_CLUSTER:-https://kubernetes.default.svc}
pem() { [ -z "$1" ] || awk '{ printf "%s\\n", $0 }' "$1"; }
issuer_ca=$(pem "${ISSUER_CA_FILE:-}")
if [ "$SIGN_AS" = user ] && [ -z "$ISSUER" ]; then
  echo "ISSUER is needed with SIGN_AS=user" >&2
  exit 64
fi
if [ "$LOGIN" = jwt ] && { [ -z "$LOGIN_ISSUER" ] || [ -z "$LOGIN_SUBJECT" ]; }; then
  echo "LOGIN_ISSUER and LOGIN_SUBJECT are needed with LOGIN=jwt" >&2
  exit 64
fi
# The same names as a list; an empty one allows any.
principals=\"${LOGINS//,/\", \"}\"
[ "$LOGINS" != '*' ] || principals=
agent_cluster_ca=$(pem "${AGENT_CLUSTER_CA_FILE:-}")
namespaces=\"${AGENT_NAMESPACES//,/\", \"}\"
# Whoever may log in as an agent must be no one else to Vault, and pods of every namespace no agents.
for other in "$LOGIN_ROLE" "$USER_LOGIN_ROLE"; do
  if [ "$AGENT_ROLE" = "$other" ]; then echo "AGENT_ROLE: $other is somebody else's" >&2; exit 64; fi
done
for other in "$LOGIN_MOUNT" "$USER_LOGIN_MOUNT"; do
  if [ "$AGENT_MOUNT" = "$other" ]; then echo "AGENT_MOUNT: $other is somebody else's" >&2; exit 64; fi
done
case $AGENT_NAMESPACES in *'*'*) echo "AGENT_NAMESPACES: name each" >&2; exit 64 ;; esac

there() { vault read "$1" >/dev/null 2>&1; }
# put PATH: writes the JSON on stdin.
put() { vault write "$1" - >/dev/null && echo "written: $1"; }
# once PATH: the same, only where nothing is yet.
once() {
  if there "$1"; then
    cat >/dev/null
    echo "there:   $1"
  else
    put "$1"
  fi
}
# ours PATH: the same, only at a mount that was made for Doorward: on another one others live.
ours() {
  local mount=${1%/tune}
  case $1 in auth/*) mount=sys/${1%/config} ;; esac
  case $(vault read -field=description "$mount") in
    Doorward:*) put "$1" ;;
    *)
      cat >/dev/null
      echo "left:    $1 belongs to somebody else; see that it fits" >&2
      ;;
  esac
}
policy() { vault policy write "$1" - >/dev/null && echo "written: policy $1"; }

# the engine with the user CA
once "sys/mounts/$USER_MOUNT" <<EOF
{
  "description": "Doorward: signs sessions and links", "type": "ssh"
}
EOF

# the user CA's key, made in Vault
once "$USER_MOUNT/config/ca" <<EOF
{
  "generate_signing_key": true, "key_type": "ed25519"
}
EOF

# what the audit log shows of a signing
ours "sys/mounts/$USER_MOUNT/tune" <<EOF
{
  "audit_non_hmac_request_keys": ["cert_type","key_id","valid_principals"],
  "audit_non_hmac_response_keys": ["serial_number"]
}
EOF

# the engine with the host CA
once "sys/mounts/$HOST_MOUNT" <<EOF
{
  "description": "Doorward: signs host certificates", "type": "ssh"
}
EOF

# the host CA's key, made in Vault
once "$HOST_MOUNT/config/ca" <<EOF
{
  "generate_signing_key": true, "key_type": "ed25519"
}
EOF

# what the audit log shows of a signing
ours "sys/mounts/$HOST_MOUNT/tune" <<EOF
{
  "audit_non_hmac_request_keys": ["cert_type","key_id","valid_principals"],
  "audit_non_hmac_response_keys": ["serial_number"]
}
EOF

if [ "$SIGN_AS" = gateway ]; then
# what the gateway may do
policy "$LOGIN_ROLE" <<EOF
# Doorward's gateway: asks for certificates, looks at the roles that sign them.

path "$USER_MOUNT/sign/$SESSION_ROLE" {
  capabilities = ["update"]
  required_parameters = ["public_key", "valid_principals", "cert_type", "key_id", "ttl"]
  allowed_parameters = {
    "public_key" = []
    "valid_principals" = [$principals]
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

path "$USER_MOUNT/sign/$LINK_ROLE" {
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
path "$HOST_MOUNT/sign/*" {
  capabilities = ["deny"]
}
path "$HOST_MOUNT/issue/*" {
  capabilities = ["deny"]
}

path "sys/capabilities-self" {
  capabilities = ["update"]
}

path "$USER_MOUNT/config/ca" {
  capabilities = ["read"]
}

path "$HOST_MOUNT/config/ca" {
  capabilities = ["read"]
}

path "$USER_MOUNT/roles/$SESSION_ROLE" {
  capabilities = ["read"]
}

path "$USER_MOUNT/roles/$LINK_ROLE" {
  capabilities = ["read"]
}

path "$HOST_MOUNT/roles/$HOST_ROLE" {
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
EOF
fi

# what an agent may do
policy "$AGENT_ROLE" <<EOF
# An agent of Doorward: asks for its own host certificate, nothing else.

path "$HOST_MOUNT/sign/$HOST_ROLE" {
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
EOF

if [ "$SIGN_AS" = user ]; then
# what a person may do
policy "$USER_LOGIN_ROLE" <<EOF
# A person at Doorward: asks for the certificate of a session, nothing else.

path "$USER_MOUNT/sign/$SESSION_ROLE" {
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
EOF
# what the gateway may do
policy "$LOGIN_ROLE" <<EOF
# Doorward's gateway: asks for certificates, looks at the roles that sign them.

path "$USER_MOUNT/sign/$LINK_ROLE" {
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
path "$HOST_MOUNT/sign/*" {
  capabilities = ["deny"]
}
path "$HOST_MOUNT/issue/*" {
  capabilities = ["deny"]
}

path "sys/capabilities-self" {
  capabilities = ["update"]
}

path "$USER_MOUNT/config/ca" {
  capabilities = ["read"]
}

path "$HOST_MOUNT/config/ca" {
  capabilities = ["read"]
}

path "$USER_MOUNT/roles/$SESSION_ROLE" {
  capabilities = ["read"]
}

path "$USER_MOUNT/roles/$LINK_ROLE" {
  capabilities = ["read"]
}

path "$HOST_MOUNT/roles/$HOST_ROLE" {
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
EOF
fi

if [ "$LOGIN" = kubernetes ]; then
# where the gateway logs in
once "sys/auth/$LOGIN_MOUNT" <<EOF
{
  "description": "Doorward: where the gateway logs in", "type": "kubernetes"
}
EOF
# the cluster that reviews service accounts' tokens
once "auth/$LOGIN_MOUNT/config" <<EOF
{
  "kubernetes_host": "$API_SERVER"
}
EOF
# who is the gateway
put "auth/$LOGIN_MOUNT/role/$LOGIN_ROLE" <<EOF
{
  "bound_service_account_names": ["$SERVICE_ACCOUNT"], "bound_service_account_namespaces": ["$NAMESPACE"],
  "token_max_ttl": 86400, "token_no_default_policy": true, "token_policies": ["$LOGIN_ROLE"], "token_ttl": 3600
}
EOF
fi

if [ "$AGENT_METHOD" = jwt ]; then
# where agents log in
once "sys/auth/$AGENT_MOUNT" <<EOF
{
  "description": "Doorward: where agents log in", "type": "jwt"
}
EOF
# the cluster whose pods are believed
once "auth/$AGENT_MOUNT/config" <<EOF
{
  "bound_issuer": "$AGENT_CLUSTER", "oidc_discovery_ca_pem": "$agent_cluster_ca",
  "oidc_discovery_url": "$AGENT_CLUSTER"
}
EOF
# which pods are agents
put "auth/$AGENT_MOUNT/role/$AGENT_ROLE" <<EOF
{
  "bound_audiences": ["$AGENT_AUDIENCE"], "bound_claims": {"/kubernetes.io/namespace":[$namespaces]},
  "claim_mappings": {"/kubernetes.io/pod/name":"pod_name","/kubernetes.io/pod/uid":"pod_uid"}, "role_type": "jwt",
  "token_max_ttl": 60, "token_no_default_policy": true, "token_policies": ["$AGENT_ROLE"], "token_ttl": 60,
  "token_type": "batch", "user_claim": "/kubernetes.io/pod/uid", "user_claim_json_pointer": true
}
EOF
fi

if [ "$AGENT_METHOD" = kubernetes ]; then
# where agents log in
once "sys/auth/$AGENT_MOUNT" <<EOF
{
  "description": "Doorward: where agents log in", "type": "kubernetes"
}
EOF
# the cluster whose pods are believed
once "auth/$AGENT_MOUNT/config" <<EOF
{
  "kubernetes_ca_cert": "$agent_cluster_ca", "kubernetes_host": "$AGENT_CLUSTER"
}
EOF
# which pods are agents
put "auth/$AGENT_MOUNT/role/$AGENT_ROLE" <<EOF
{
  "audience": "$AGENT_AUDIENCE", "bound_service_account_names": ["*"],
  "bound_service_account_namespaces": [$namespaces], "token_max_ttl": 60, "token_no_default_policy": true,
  "token_policies": ["$AGENT_ROLE"], "token_ttl": 60, "token_type": "batch"
}
EOF
fi

if [ "$SIGN_AS" = user ]; then
# where people log in
once "sys/auth/$USER_LOGIN_MOUNT" <<EOF
{
  "description": "Doorward: where people log in", "type": "jwt"
}
EOF
# whose tokens are believed
ours "auth/$USER_LOGIN_MOUNT/config" <<EOF
{
  "bound_issuer": "$ISSUER", "oidc_discovery_ca_pem": "$issuer_ca", "oidc_discovery_url": "$ISSUER"
}
EOF
# what a person's token is taken for
put "auth/$USER_LOGIN_MOUNT/role/$USER_LOGIN_ROLE" <<EOF
{
  "bound_audiences": ["$AUDIENCE"], "role_type": "jwt", "token_max_ttl": 60, "token_no_default_policy": true,
  "token_policies": ["$USER_LOGIN_ROLE"], "token_ttl": 60, "token_type": "batch", "user_claim": "$USER_CLAIM",
  "user_claim_json_pointer": true
}
EOF
fi

if [ "$LOGIN" = approle ]; then
# where the gateway logs in
once "sys/auth/$LOGIN_MOUNT" <<EOF
{
  "description": "Doorward: where the gateway logs in", "type": "approle"
}
EOF
# who is the gateway
put "auth/$LOGIN_MOUNT/role/$LOGIN_ROLE" <<EOF
{
  "bind_secret_id": true, "token_max_ttl": 86400, "token_no_default_policy": true, "token_policies": ["$LOGIN_ROLE"],
  "token_ttl": 3600
}
EOF
fi

if [ "$LOGIN" = jwt ]; then
# where the gateway logs in
once "sys/auth/$LOGIN_MOUNT" <<EOF
{
  "description": "Doorward: where the gateway logs in", "type": "jwt"
}
EOF
# whose tokens are believed
ours "auth/$LOGIN_MOUNT/config" <<EOF
{
  "bound_issuer": "$LOGIN_ISSUER", "oidc_discovery_ca_pem": "", "oidc_discovery_url": "$LOGIN_ISSUER"
}
EOF
# who is the gateway
put "auth/$LOGIN_MOUNT/role/$LOGIN_ROLE" <<EOF
{
  "bound_audiences": ["$LOGIN_AUDIENCE"], "bound_subject": "$LOGIN_SUBJECT", "role_type": "jwt", "token_max_ttl": 86400,
  "token_no_default_policy": true, "token_policies": ["$LOGIN_ROLE"], "token_ttl": 3600, "user_claim": "sub"
}
EOF
fi

if [ "$SIGN_AS" = gateway ]; then
# the role that signs sessions
put "$USER_MOUNT/roles/$SESSION_ROLE" <<EOF
{
  "allow_bare_domains": false, "allow_empty_principals": false, "allow_host_certificates": false,
  "allow_subdomains": false, "allow_user_certificates": true, "allow_user_key_ids": true,
  "allowed_critical_options": "none@doorward", "allowed_domains": "", "allowed_domains_template": false,
  "allowed_extensions": "permit-pty,permit-agent-forwarding,permit-port-forwarding,permit-X11-forwarding,shell@doorward,exec@doorward,sftp@doorward,forward-to@doorward,remote-forward@doorward,recording@doorward,longest@doorward,session@doorward,workspace@doorward",
  "allowed_user_key_lengths": {"ed25519":[0]}, "allowed_users": "$LOGINS", "allowed_users_template": false,
  "default_critical_options": {}, "default_extensions": {}, "default_extensions_template": false, "default_user": "",
  "default_user_template": false, "key_type": "ca", "max_ttl": $SESSION_LIFE, "not_before_duration": 30,
  "ttl": $SESSION_LIFE
}
EOF
fi

# the role that signs the gateway's own certificate
put "$USER_MOUNT/roles/$LINK_ROLE" <<EOF
{
  "allow_bare_domains": false, "allow_empty_principals": false, "allow_host_certificates": false,
  "allow_subdomains": false, "allow_user_certificates": true, "allow_user_key_ids": true,
  "allowed_critical_options": "none@doorward", "allowed_domains": "", "allowed_domains_template": false,
  "allowed_extensions": "", "allowed_user_key_lengths": {"ed25519":[0]}, "allowed_users": "doorward-gateway",
  "allowed_users_template": false, "default_critical_options": {}, "default_extensions": {},
  "default_extensions_template": false, "default_user": "", "default_user_template": false, "key_type": "ca",
  "max_ttl": $LINK_LIFE, "not_before_duration": 30, "ttl": $LINK_LIFE
}
EOF

if [ "$AGENT_METHOD" = jwt ]; then
accessor=$(vault read -field=accessor "sys/auth/$AGENT_MOUNT")
# the role that signs an agent's own host certificate
put "$HOST_MOUNT/roles/$HOST_ROLE" <<EOF
{
  "allow_bare_domains": true, "allow_empty_principals": false, "allow_host_certificates": true,
  "allow_subdomains": false, "allow_user_certificates": false, "allow_user_key_ids": true,
  "allowed_critical_options": "none@doorward",
  "allowed_domains": "{{identity.entity.aliases.$accessor.metadata.pod_name}},{{identity.entity.aliases.$accessor.metadata.pod_name}}.doorward",
  "allowed_domains_template": true, "allowed_extensions": "", "allowed_user_key_lengths": {"ed25519":[0]},
  "allowed_users": "", "allowed_users_template": false, "default_critical_options": {},
  "default_extensions": {"workspace@doorward":"{{identity.entity.aliases.$accessor.metadata.pod_uid}}"},
  "default_extensions_template": true, "default_user": "", "default_user_template": false, "key_type": "ca",
  "max_ttl": $HOST_LIFE, "not_before_duration": 30, "ttl": $HOST_LIFE
}
EOF
fi

if [ "$AGENT_METHOD" = kubernetes ]; then
accessor=$(vault read -field=accessor "sys/auth/$AGENT_MOUNT")
# the role that signs an agent's own host certificate
put "$HOST_MOUNT/roles/$HOST_ROLE" <<EOF
{
  "allow_bare_domains": true, "allow_empty_principals": false, "allow_host_certificates": true,
  "allow_subdomains": false, "allow_user_certificates": false, "allow_user_key_ids": true,
  "allowed_critical_options": "none@doorward",
  "allowed_domains": "{{identity.entity.aliases.$accessor.metadata.service_account_name}},{{identity.entity.aliases.$accessor.metadata.service_account_name}}.doorward",
  "allowed_domains_template": true, "allowed_extensions": "workspace@doorward",
  "allowed_user_key_lengths": {"ed25519":[0]}, "allowed_users": "", "allowed_users_template": false,
  "default_critical_options": {}, "default_extensions": {}, "default_extensions_template": false, "default_user": "",
  "default_user_template": false, "key_type": "ca", "max_ttl": $HOST_LIFE, "not_before_duration": 30, "ttl": $HOST_LIFE
}
EOF
fi

if [ "$SIGN_AS" = user ]; then
accessor=$(vault read -field=accessor "sys/auth/$USER_LOGIN_MOUNT")
# the role that signs sessions
put "$USER_MOUNT/roles/$SESSION_ROLE" <<EOF
{
  "allow_bare_domains": false, "allow_empty_principals": false, "allow_host_certificates": false,
  "allow_subdomains": false, "allow_user_certificates": true, "allow_user_key_ids": true,
  "allowed_critical_options": "none@doorward", "allowed_domains": "", "allowed_domains_template": false,
  "allowed_extensions": "permit-pty,permit-agent-forwarding,permit-port-forwarding,permit-X11-forwarding,shell@doorward,exec@doorward,sftp@doorward,forward-to@doorward,remote-forward@doorward,recording@doorward,longest@doorward,session@doorward,workspace@doorward",
  "allowed_user_key_lengths": {"ed25519":[0]}, "allowed_users": "{{identity.entity.aliases.$accessor.name}},$LOGINS",
  "allowed_users_template": true, "default_critical_options": {}, "default_extensions": {},
  "default_extensions_template": false, "default_user": "", "default_user_template": false, "key_type": "ca",
  "max_ttl": $SESSION_LIFE, "not_before_duration": 30, "ttl": $SESSION_LIFE
}
EOF
fi
