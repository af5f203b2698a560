//! From the gateway's configuration to what Vault has to hold.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use clap::Args;
use doorward_certs::{
    vault::{
        HostCertificates, Login as VaultLogin, PodLogin, Settings, SignAs, is_mount, is_role,
        setup::{AgentLogin, GatewayLogin, Names, Needs, UserLogin},
    },
    wildcard_name,
};

use crate::{
    config::{AuthorityKind, ClaimPath, Config, LoginRule, LoginTable, TokenKind},
    kube::discover::rule::Namespaces,
    link::{HOST_LIFE, LINK_LIFE, POD_LIFE},
    policy::Roles,
    workspace::Workspace,
};

/// What Vault has to know and the configuration does not say, because the gateway itself does not need it.
#[derive(Debug, Clone, Args)]
pub struct Details {
    /// Kubernetes login: the gateway's service account.
    #[arg(long, value_name = "NAME", default_value = "doorward-gateway")]
    pub service_account: String,
    /// Kubernetes login: the namespace of that account.
    #[arg(long, value_name = "NAME", default_value = "doorward")]
    pub service_account_namespace: String,
    /// Kubernetes login: the API server as Vault reaches it. Used only where the auth method has no configuration yet.
    #[arg(long, value_name = "URL", default_value = "https://kubernetes.default.svc")]
    pub api_server: String,
    /// AppRole login: the name of the role.
    #[arg(long, value_name = "NAME", default_value = "doorward-gateway")]
    pub approle: String,
    /// Token-file login: the policy that the token has.
    #[arg(long, value_name = "NAME", default_value = "doorward-gateway")]
    pub token_policy: String,
    /// JWT login: the issuer of the gateway's own token.
    #[arg(long, value_name = "URL")]
    pub login_issuer: Option<String>,
    /// JWT login: the `sub` of that token.
    #[arg(long, value_name = "TEXT")]
    pub login_subject: Option<String>,
    /// JWT login: the audience of that token.
    #[arg(long, value_name = "TEXT", default_value = "vault")]
    pub login_audience: String,
    /// Agents' own login: how Vault knows pods. `jwt` binds name and uid of the pod; `kubernetes` the service account alone, and is
    /// safe where each workspace has one of its own, called as the workspace.
    #[arg(long, value_name = "METHOD", default_value = "jwt", value_parser = ["jwt", "kubernetes"])]
    pub agent_method: String,
    /// Agents' own login: the mount of that auth method, which nothing else uses.
    #[arg(long, value_name = "MOUNT", default_value = "doorward-agents")]
    pub agent_mount: String,
    /// Agents' own login: the role there, and the name of its policy.
    #[arg(long, value_name = "NAME", default_value = "doorward-agent")]
    pub agent_role: String,
    /// Agents' own login: the audience of the pods' tokens, which must not be the gateway's.
    #[arg(long, value_name = "TEXT", default_value = "vault")]
    pub agent_audience: String,
    /// Agents' own login: a namespace of workspaces; may be repeated. Default: those of `[[kubernetes.workspaces]]`.
    #[arg(long, value_name = "NAME")]
    pub agent_namespace: Vec<String>,
    /// Agents' own login: the issuer of the cluster's tokens (jwt), or the API server (kubernetes), as Vault reaches it. Used only where
    /// the auth method has no configuration yet.
    #[arg(long, value_name = "URL", default_value = "https://kubernetes.default.svc")]
    pub agent_cluster: String,
    /// Agents' own login: a file with the CA of that server, PEM.
    #[arg(long, value_name = "FILE")]
    pub agent_cluster_ca: Option<PathBuf>,
}

/// The settings of the Vault that signs, if one does.
pub(crate) fn settings(config: &Config) -> Option<&Settings> {
    match &config.authority.kind {
        AuthorityKind::Vault(settings) => Some(settings),
        AuthorityKind::Local { .. } => None,
    }
}

/// What Vault has to hold for this configuration.
///
/// # Errors
/// A sentence that says what is missing or contradicts itself.
pub(crate) fn needs(config: &Config, settings: &Settings, details: &Details) -> Result<Needs, String> {
    let needs = Needs {
        user_mount: settings.user_mount.clone(),
        host_mount: settings.host_mount.clone(),
        session_role: settings.session_role.clone(),
        link_role: settings.link_role.clone(),
        host_role: settings.host_role.clone(),
        logins: logins(config)?,
        hosts: hosts(config),
        session_life: config.authority.certificate_life,
        link_life: LINK_LIFE,
        host_life: host_life(settings),
        login: gateway_login(&settings.login, details)?,
        agents: agents(config, settings, details)?,
        user_login: user_login(config, settings)?,
    };
    match needs.contradiction() {
        Some(sentence) => Err(sentence),
        None => Ok(needs),
    }
}

/// The accounts that sessions may be for: those of the workspaces, and those that roles name.
pub(crate) fn logins(config: &Config) -> Result<Names, String> {
    let roles = Roles::load(&config.policy.file).map_err(|faults| faults.to_string())?;
    let of_workspaces = config.workspaces.iter().map(|workspace| &workspace.login);
    let mut all: BTreeSet<String> = of_workspaces.chain(roles.logins()).map(ToString::to_string).collect();
    for rule in config.kubernetes.iter().flat_map(|cluster| &cluster.workspaces) {
        match rule.login.plain() {
            Some(login) => all.insert(login.to_owned()),
            None => return Ok(Names::Any),
        };
    }
    for rule in config.oidc.iter().filter_map(|issuer| issuer.login.as_ref()) {
        match rule {
            LoginRule::Table { file } => {
                let table = LoginTable::load(file).map_err(|faults| faults.to_string())?;
                all.extend(table.logins().map(ToString::to_string));
            }
            // Made of who somebody is: signed as themselves, Vault knows it; otherwise nobody does beforehand.
            LoginRule::Claim { .. } if signed_by_people(config) => {}
            LoginRule::Claim { .. } => return Ok(Names::Any),
        }
    }
    // Workspaces that are not known yet: their accounts are neither.
    Ok(match all.is_empty() {
        true => Names::Any,
        false => Names::These(all.into_iter().collect()),
    })
}

fn signed_by_people(config: &Config) -> bool {
    settings(config).is_some_and(|settings| settings.sign_as != SignAs::Gateway)
}

/// Whether a rule makes of somebody exactly the name that Vault knows them by.
fn is_own_name(rule: &LoginRule, user_claim: &ClaimPath) -> bool {
    match rule {
        LoginRule::Table { .. } => true,
        LoginRule::Claim {
            claim,
            domain: None,
            template: None,
        } => claim.as_ref().is_none_or(|claim| claim == user_claim),
        LoginRule::Claim { .. } => false,
    }
}

/// The names that host certificates are asked for.
pub(crate) fn hosts(config: &Config) -> Names {
    // Those that the cluster will have are not known.
    if config
        .kubernetes
        .as_ref()
        .is_some_and(|cluster| !cluster.workspaces.is_empty())
    {
        return Names::Any;
    }
    let names = |one: &Workspace| [one.name.to_string(), wildcard_name(&one.name)];
    let all: BTreeSet<String> = config.workspaces.iter().flat_map(names).collect();
    match all.is_empty() {
        true => Names::Any,
        false => Names::These(all.into_iter().collect()),
    }
}

fn gateway_login(login: &VaultLogin, details: &Details) -> Result<GatewayLogin, String> {
    let needed = |value: &Option<String>, option: &str| {
        value
            .clone()
            .ok_or_else(|| format!("the gateway logs in with a JWT: {option} has to say whose"))
    };
    Ok(match login {
        VaultLogin::Kubernetes { mount, role, .. } => GatewayLogin::Kubernetes {
            mount: mount.clone(),
            role: role.clone(),
            service_account: details.service_account.clone(),
            namespace: details.service_account_namespace.clone(),
            api_server: details.api_server.clone(),
        },
        VaultLogin::AppRole { mount, .. } => GatewayLogin::AppRole {
            mount: mount.clone(),
            role: details.approle.clone(),
        },
        VaultLogin::Jwt { mount, role, .. } => GatewayLogin::Jwt {
            mount: mount.clone(),
            role: role.clone(),
            issuer: needed(&details.login_issuer, "--login-issuer")?,
            subject: needed(&details.login_subject, "--login-subject")?,
            audience: details.login_audience.clone(),
        },
        VaultLogin::TokenFile { .. } => GatewayLogin::TokenFile {
            policy: details.token_policy.clone(),
        },
    })
}

/// The longest life of a host certificate: agents that enrol at Vault are in pods.
pub(crate) fn host_life(settings: &Settings) -> Duration {
    match settings.hosts {
        HostCertificates::Gateway => HOST_LIFE,
        HostCertificates::Agents => POD_LIFE,
    }
}

fn agents(config: &Config, settings: &Settings, details: &Details) -> Result<Option<AgentLogin>, String> {
    if settings.hosts == HostCertificates::Gateway {
        return Ok(None);
    }
    for (option, name, good) in [
        ("--agent-mount", &details.agent_mount, is_mount(&details.agent_mount)),
        ("--agent-role", &details.agent_role, is_role(&details.agent_role)),
    ] {
        if !good {
            return Err(format!("{option}: `{}` is no such name", name.escape_debug()));
        }
    }
    let cluster = config.kubernetes.as_ref();
    if cluster.is_some_and(|cluster| cluster.audience == details.agent_audience) {
        return Err(format!(
            "--agent-audience: `{}` is the gateway's own audience: it could show Vault a token that an agent had shown it",
            details.agent_audience.escape_debug()
        ));
    }
    let namespaces = match details.agent_namespace.as_slice() {
        [] => namespaces(config)?,
        named => Names::These(named.to_vec()),
    };
    let cluster_ca = match &details.agent_cluster_ca {
        None => String::new(),
        Some(file) => {
            fs::read_to_string(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?
        }
    };
    Ok(Some(AgentLogin {
        method: match details.agent_method.as_str() {
            "kubernetes" => PodLogin::Kubernetes,
            _ => PodLogin::Jwt,
        },
        mount: details.agent_mount.clone(),
        role: details.agent_role.clone(),
        namespaces,
        audience: details.agent_audience.clone(),
        cluster: details.agent_cluster.clone(),
        cluster_ca,
    }))
}

/// The namespaces that the rules of the configuration name.
fn namespaces(config: &Config) -> Result<Names, String> {
    let mut all = BTreeSet::new();
    for rule in config.kubernetes.iter().flat_map(|cluster| &cluster.workspaces) {
        match &rule.namespaces {
            Namespaces::These(named) => all.extend(named.iter().cloned()),
            Namespaces::Selected(_) => return Ok(Names::Any),
        }
    }
    match all.is_empty() {
        true => Err("no [[kubernetes.workspaces]] says where workspaces are: --agent-namespace has to".to_owned()),
        false => Ok(Names::These(all.into_iter().collect())),
    }
}

fn user_login(config: &Config, settings: &Settings) -> Result<Option<UserLogin>, String> {
    let SignAs::User { mount, role } = &settings.sign_as else {
        return Ok(None);
    };
    let [issuer] = config.oidc.as_slice() else {
        return Err(
            "with `sign-as = \"user\"` there can be one issuer: the mount of Vault's JWT method believes no second one"
                .to_owned(),
        );
    };
    if issuer.token_kind == TokenKind::Opaque {
        return Err("with `sign-as = \"user\"` tokens must be readable by Vault: opaque ones are not".to_owned());
    }
    if let Some(rule) = &issuer.login
        && !is_own_name(rule, &issuer.user_claim)
    {
        return Err(
            "with `sign-as = \"user\"` a login must be the person's own name or a shared account: \
             Vault cannot follow the rule in [oidc.login]"
                .to_owned(),
        );
    }
    let issuer_ca = match &issuer.ca {
        None => String::new(),
        Some(file) => {
            fs::read_to_string(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?
        }
    };
    Ok(Some(UserLogin {
        mount: mount.clone(),
        role: role.clone(),
        issuer: issuer.issuer.clone(),
        issuer_ca,
        audience: issuer.audience.clone(),
        user_claim: pointer(issuer.user_claim.names()),
    }))
}

/// A claim path as a JSON pointer (RFC 6901).
fn pointer(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_path_becomes_a_pointer() {
        let names = |all: &[&str]| pointer(&all.iter().map(|&one| one.to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&["preferred_username"]), "/preferred_username");
        assert_eq!(names(&["a/b", "c~d"]), "/a~1b/c~0d");
    }
}
