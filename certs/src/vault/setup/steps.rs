//! From needs to steps: everything that Vault has to hold, in the order in which it can be made.
//!
//! The traps of Vault's SSH roles are closed here, each where it opens:
//! * an empty `allowed_critical_options` allows *any*: it names an option that no server knows, and servers refuse
//!   certificates with such;
//! * a certificate without principals opens every account of an OpenSSH server (CVE-2024-7594): `allow_empty_principals` is
//!   off, and because old servers do not know that field, the policies demand principals as well;
//! * `ttl` 0 means the mount's default, often 32 days: each role says its own;
//! * defaults replace what is not asked for: there are none;
//! * `allowed_users = "*"` would let the session's role sign the gateway's own principal: a list, wherever there can be one.

use serde_json::{Map, Value, json};

use super::{
    needs::{AgentLogin, GatewayLogin, Names, Needs, UserLogin},
    policies,
    step::{Kind, OURS, Step, accessor_of},
};
use crate::vault::PodLogin;
use crate::{BACKDATED_BY, GATEWAY_PRINCIPAL, extension as ext};

/// The only critical option that our roles allow: one that no server knows.
pub(super) const NO_OPTION: &str = "none@doorward";

/// Everything that Vault has to hold, in the order in which it can be made.
#[must_use]
pub fn steps(needs: &Needs) -> Vec<Step> {
    let mut all = engines(needs);
    all.extend(gateway_login(needs));
    if let Some(user) = &needs.user_login {
        all.extend(user_login(needs, user));
    }
    if let Some(agents) = &needs.agents {
        all.extend(agent_login(needs, agents));
    }
    // After the auth methods: the role of sessions may name the accessor of one.
    all.push(session_role(needs));
    all.push(link_role(needs));
    all.push(host_role(needs));
    // Two logins may share a mount; it is made once.
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|step| seen.insert(step.path.clone()));
    all
}

fn engines(needs: &Needs) -> Vec<Step> {
    let engine = |mount: &str, what: &'static str, description: &str| {
        let body = json!({ "type": "ssh", "description": format!("{OURS}{description}") });
        Step::new(Kind::Engine, format!("sys/mounts/{mount}"), what, body)
    };
    let key = |mount: &str, what| {
        let body = json!({ "generate_signing_key": true, "key_type": "ed25519" });
        Step::new(Kind::CaKey, format!("{mount}/config/ca"), what, body)
    };
    // Without this Vault's audit log holds keyed hashes of these, and nobody can join it with a session.
    let tuning = |mount: &str| {
        let body = json!({
            "audit_non_hmac_request_keys": ["cert_type", "key_id", "valid_principals"],
            "audit_non_hmac_response_keys": ["serial_number"],
        });
        let what = "what the audit log shows of a signing";
        Step::new(Kind::Tuning, format!("sys/mounts/{mount}/tune"), what, body)
    };
    let (user, host) = (&needs.user_mount, &needs.host_mount);
    vec![
        engine(user, "the engine with the user CA", "signs sessions and links"),
        key(user, "the user CA's key, made in Vault"),
        tuning(user),
        engine(host, "the engine with the host CA", "signs host certificates"),
        key(host, "the host CA's key, made in Vault"),
        tuning(host),
    ]
}

fn gateway_login(needs: &Needs) -> Vec<Step> {
    let mut all = vec![policy(
        needs.gateway_policy(),
        "what the gateway may do",
        &policies::gateway(needs),
    )];
    let token = |more: Value| token_of(needs.gateway_policy(), GATEWAY_TOKEN_LIFE, GATEWAY_TOKEN_LONGEST, more);
    match &needs.login {
        GatewayLogin::Kubernetes {
            mount,
            role,
            service_account,
            namespace,
            api_server,
        } => {
            all.push(auth(mount, "kubernetes", "where the gateway logs in"));
            all.push(Step::new(
                Kind::AuthCluster,
                format!("auth/{mount}/config"),
                "the cluster that reviews service accounts' tokens",
                json!({ "kubernetes_host": api_server }),
            ));
            let body = token(json!({
                "bound_service_account_names": [service_account],
                "bound_service_account_namespaces": [namespace],
            }));
            all.push(auth_role(mount, role, "who is the gateway", body));
        }
        GatewayLogin::AppRole { mount, role } => {
            all.push(auth(mount, "approle", "where the gateway logs in"));
            let body = token(json!({ "bind_secret_id": true }));
            all.push(auth_role(mount, role, "who is the gateway", body));
        }
        GatewayLogin::Jwt {
            mount,
            role,
            issuer,
            subject,
            audience,
        } => {
            all.push(auth(mount, "jwt", "where the gateway logs in"));
            all.push(believes(mount, issuer, ""));
            let body = token(json!({
                "role_type": "jwt",
                "user_claim": "sub",
                "bound_subject": subject,
                "bound_audiences": [audience],
            }));
            all.push(auth_role(mount, role, "who is the gateway", body));
        }
        GatewayLogin::TokenFile { .. } => {}
    }
    all
}

fn user_login(needs: &Needs, user: &UserLogin) -> Vec<Step> {
    let token = token_of(
        &user.role,
        USER_TOKEN_LIFE,
        USER_TOKEN_LIFE,
        // Batch: Vault stores nothing of such a token, and it ends by itself.
        json!({
            "role_type": "jwt",
            "token_type": "batch",
            "user_claim": user.user_claim,
            "user_claim_json_pointer": true,
            "bound_audiences": [user.audience],
        }),
    );
    vec![
        policy(&user.role, "what a person may do", &policies::user(needs)),
        auth(&user.mount, "jwt", "where people log in"),
        believes(&user.mount, &user.issuer, &user.issuer_ca),
        auth_role(&user.mount, &user.role, "what a person's token is taken for", token),
    ]
}

fn session_role(needs: &Needs) -> Step {
    let mount = needs.user_login.as_ref().map_or("", |user| user.mount.as_str());
    let template = format!("{{{{identity.entity.aliases.{}.name}}}}", accessor_of(mount));
    let (users, templated) = match (&needs.logins, &needs.user_login) {
        // Signed as the person: their own name, and the accounts that people share.
        (Names::These(logins), Some(_)) => {
            let mut all = vec![template];
            all.extend(logins.iter().cloned());
            (all.join(","), true)
        }
        (Names::Any, Some(_)) => (template, true),
        (Names::These(logins), None) => (logins.join(","), false),
        (Names::Any, None) => ("*".to_owned(), false),
    };
    let more = json!({
        "allow_user_certificates": true,
        "allowed_users": users,
        "allowed_users_template": templated,
        "allowed_extensions": ext::OF_SESSIONS.join(","),
    });
    let life = needs.session_life.as_secs();
    ssh_role(
        &needs.user_mount,
        &needs.session_role,
        "the role that signs sessions",
        life,
        more,
    )
}

fn link_role(needs: &Needs) -> Step {
    let more = json!({ "allow_user_certificates": true, "allowed_users": GATEWAY_PRINCIPAL });
    let life = needs.link_life.as_secs();
    ssh_role(
        &needs.user_mount,
        &needs.link_role,
        "the role that signs the gateway's own certificate",
        life,
        more,
    )
}

/// How agents log in: as their pods, for one signing.
fn agent_login(needs: &Needs, agents: &AgentLogin) -> Vec<Step> {
    let AgentLogin {
        mount, role, audience, ..
    } = agents;
    let namespaces = match &agents.namespaces {
        Names::These(namespaces) => Some(namespaces),
        Names::Any => None,
    };
    let (kind, config, more) = match agents.method {
        PodLogin::Jwt => {
            let mut claims = Map::new();
            if let Some(namespaces) = namespaces {
                claims.insert("/kubernetes.io/namespace".to_owned(), json!(namespaces));
            }
            let config = json!({
                "oidc_discovery_url": agents.cluster,
                "bound_issuer": agents.cluster,
                "oidc_discovery_ca_pem": agents.cluster_ca,
            });
            // Each pod is an entity of its own: what is known of an alias is what its last login said, so that two pods on one
            // alias could sign under each other's name.
            let more = json!({
                "role_type": "jwt",
                "token_type": "batch",
                "user_claim": "/kubernetes.io/pod/uid",
                "user_claim_json_pointer": true,
                "bound_audiences": [audience],
                "bound_claims": claims,
                "claim_mappings": { "/kubernetes.io/pod/name": POD_NAME, "/kubernetes.io/pod/uid": POD_UID },
            });
            ("jwt", config, more)
        }
        PodLogin::Kubernetes => {
            let config = json!({ "kubernetes_host": agents.cluster, "kubernetes_ca_cert": agents.cluster_ca });
            let more = json!({
                "token_type": "batch",
                "bound_service_account_names": ["*"],
                "bound_service_account_namespaces": namespaces,
                "audience": audience,
            });
            ("kubernetes", config, more)
        }
    };
    vec![
        policy(role, "what an agent may do", &policies::agent(needs)),
        auth(mount, kind, "where agents log in"),
        Step::new(
            Kind::AuthCluster,
            format!("auth/{mount}/config"),
            "the cluster whose pods are believed",
            config,
        ),
        auth_role(
            mount,
            role,
            "which pods are agents",
            token_of(role, AGENT_TOKEN_LIFE, AGENT_TOKEN_LIFE, more),
        ),
    ]
}

/// Signs for the pod that asks alone: its name, and the name of our wildcard block.
fn own_host_role(needs: &Needs, agents: &AgentLogin) -> Step {
    let of_alias = |key: &str| {
        format!(
            "{{{{identity.entity.aliases.{}.metadata.{key}}}}}",
            accessor_of(&agents.mount)
        )
    };
    let (name, uid) = match agents.method {
        PodLogin::Jwt => (
            of_alias(POD_NAME),
            json!({
                "default_extensions": { ext::WORKSPACE: of_alias(POD_UID) },
                "default_extensions_template": true,
            }),
        ),
        PodLogin::Kubernetes => (
            of_alias("service_account_name"),
            json!({ "allowed_extensions": ext::WORKSPACE }),
        ),
    };
    let more = json!({
        "allow_host_certificates": true,
        "allowed_domains": format!("{name},{name}.doorward"),
        "allowed_domains_template": true,
        "allow_bare_domains": true,
    });
    let life = needs.host_life.as_secs();
    ssh_role(
        &needs.host_mount,
        &needs.host_role,
        "the role that signs an agent's own host certificate",
        life,
        merged(uid, more),
    )
}

fn host_role(needs: &Needs) -> Step {
    if let Some(agents) = &needs.agents {
        return own_host_role(needs, agents);
    }
    let domains = match &needs.hosts {
        Names::These(hosts) => hosts.join(","),
        Names::Any => "*".to_owned(),
    };
    let more = json!({
        "allow_host_certificates": true,
        "allowed_domains": domains,
        "allow_bare_domains": true,
        "allowed_extensions": ext::WORKSPACE,
    });
    let life = needs.host_life.as_secs();
    ssh_role(
        &needs.host_mount,
        &needs.host_role,
        "the role that signs host certificates",
        life,
        more,
    )
}

/// A role that allows nothing beyond what `more` says.
fn ssh_role(mount: &str, name: &str, what: &'static str, life: u64, more: Value) -> Step {
    let nothing = json!({
        "key_type": "ca",
        "allow_user_certificates": false,
        "allow_host_certificates": false,
        "allow_user_key_ids": true,
        "allowed_users": "",
        "allowed_users_template": false,
        "default_user": "",
        "default_user_template": false,
        "allowed_domains": "",
        "allowed_domains_template": false,
        "allow_bare_domains": false,
        "allow_subdomains": false,
        "allow_empty_principals": false,
        "allowed_extensions": "",
        "default_extensions": {},
        "default_extensions_template": false,
        "allowed_critical_options": NO_OPTION,
        "default_critical_options": {},
        "allowed_user_key_lengths": { "ed25519": [0] },
        "not_before_duration": BACKDATED_BY.as_secs(),
        "ttl": life,
        "max_ttl": life,
    });
    Step::new(
        Kind::SshRole,
        format!("{mount}/roles/{name}"),
        what,
        merged(nothing, more),
    )
}

fn policy(name: &str, what: &'static str, text: &str) -> Step {
    Step::new(
        Kind::Policy,
        format!("sys/policies/acl/{name}"),
        what,
        json!({ "policy": text }),
    )
}

fn auth(mount: &str, kind: &str, what: &'static str) -> Step {
    let body = json!({ "type": kind, "description": format!("{OURS}{what}") });
    Step::new(Kind::Auth, format!("sys/auth/{mount}"), what, body)
}

fn believes(mount: &str, issuer: &str, ca: &str) -> Step {
    let body = json!({ "oidc_discovery_url": issuer, "bound_issuer": issuer, "oidc_discovery_ca_pem": ca });
    Step::new(
        Kind::AuthConfig,
        format!("auth/{mount}/config"),
        "whose tokens are believed",
        body,
    )
}

fn auth_role(mount: &str, role: &str, what: &'static str, body: Value) -> Step {
    Step::new(Kind::AuthRole, format!("auth/{mount}/role/{role}"), what, body)
}

/// The fields of a login's token: this policy and no other, not even `default`.
fn token_of(policy: &str, life: u64, longest: u64, more: Value) -> Value {
    let token = json!({
        "token_policies": [policy],
        "token_no_default_policy": true,
        "token_ttl": life,
        "token_max_ttl": longest,
    });
    merged(token, more)
}

fn merged(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}

/// How long the gateway's token is good for, and how long at most by renewing it, in seconds.
const GATEWAY_TOKEN_LIFE: u64 = 3600;
const GATEWAY_TOKEN_LONGEST: u64 = 24 * 3600;
/// What an agent's login tells Vault of its pod, for the role of host certificates.
const POD_NAME: &str = "pod_name";
const POD_UID: &str = "pod_uid";
/// How long an agent's token is good for: one signing.
const AGENT_TOKEN_LIFE: u64 = 60;
/// How long a person's token is good for: one signing.
const USER_TOKEN_LIFE: u64 = 60;
