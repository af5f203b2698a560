//! What a gateway needs of Vault, as its configuration says: names of mounts and roles, and what each role is for.
//!
//! Plain data. Names come from a configuration that was checked; what Vault holds now plays no part here.

use std::time::Duration;

use crate::vault::PodLogin;

/// What a gateway needs of Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The mount of the SSH engine with the user CA, without slashes at its ends.
    pub user_mount: String,
    /// The mount of the SSH engine with the host CA.
    pub host_mount: String,
    /// The role that signs sessions.
    pub session_role: String,
    /// The role that signs links.
    pub link_role: String,
    /// The role that signs host certificates.
    pub host_role: String,
    /// The accounts that a session may be for.
    pub logins: Names,
    /// The names that a host certificate may be for.
    pub hosts: Names,
    /// The longest life of a session certificate.
    pub session_life: Duration,
    /// The longest life of a link certificate.
    pub link_life: Duration,
    /// The longest life of a host certificate.
    pub host_life: Duration,
    /// How the gateway logs in.
    pub login: GatewayLogin,
    /// How agents log in to have their own host certificates signed; then the gateway has no right to.
    pub agents: Option<AgentLogin>,
    /// How people log in; then sessions are signed as them and not as the gateway.
    pub user_login: Option<UserLogin>,
}

/// Which names a role may write into certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// These and no others.
    These(Vec<String>),
    /// Whichever the gateway asks for: only where they cannot be known beforehand.
    Any,
}

/// How the gateway logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayLogin {
    /// With the token of its Kubernetes service account.
    Kubernetes {
        /// The mount of the auth method.
        mount: String,
        /// Its role.
        role: String,
        /// The service account of the gateway.
        service_account: String,
        /// The namespace of that account.
        namespace: String,
        /// The API server as Vault reaches it, a URL. Used only where the method has no configuration yet.
        api_server: String,
    },
    /// With a role id and a secret id.
    AppRole {
        /// The mount of the auth method.
        mount: String,
        /// Its role.
        role: String,
    },
    /// With a JWT of some issuer.
    Jwt {
        /// The mount of the auth method.
        mount: String,
        /// Its role.
        role: String,
        /// The issuer of the gateway's own token.
        issuer: String,
        /// The `sub` of that token.
        subject: String,
        /// The audience of that token.
        audience: String,
    },
    /// With a token from a file, which somebody else puts there.
    TokenFile {
        /// The policy that such a token must have.
        policy: String,
    },
}

/// How agents log in with the tokens of their pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentLogin {
    /// Which auth method, and so what Vault knows of a pod.
    pub method: PodLogin,
    /// Its mount. Not one that others use: what may log in there is decided by its roles alone.
    pub mount: String,
    /// Its role, and the name of its policy.
    pub role: String,
    /// The namespaces that workspaces are in.
    pub namespaces: Names,
    /// The audience of the tokens: Vault's own, so that a token that a gateway has seen is of no use here.
    pub audience: String,
    /// The issuer of the tokens for the JWT method, the API server for the Kubernetes method: a URL as Vault reaches it. Used only
    /// where the method has no configuration yet.
    pub cluster: String,
    /// The certificates that its TLS is checked with, PEM; empty for those of Vault's system.
    pub cluster_ca: String,
}

/// How people log in with their own tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserLogin {
    /// The mount of the JWT auth method.
    pub mount: String,
    /// Its role.
    pub role: String,
    /// The issuer of their tokens.
    pub issuer: String,
    /// The certificates that the issuer's TLS is checked with, PEM; empty for those of Vault's system.
    pub issuer_ca: String,
    /// The audience that a token must name.
    pub audience: String,
    /// Where the person's name stands: a JSON pointer (RFC 6901).
    pub user_claim: String,
}

impl Needs {
    /// The policy of the gateway's own token, called as the role that gives it.
    #[must_use]
    pub fn gateway_policy(&self) -> &str {
        match &self.login {
            GatewayLogin::Kubernetes { role, .. }
            | GatewayLogin::AppRole { role, .. }
            | GatewayLogin::Jwt { role, .. } => role,
            GatewayLogin::TokenFile { policy } => policy,
        }
    }

    /// Why no Vault can be set up like that, if so.
    #[must_use]
    pub fn contradiction(&self) -> Option<String> {
        if self.user_mount == self.host_mount {
            return Some(format!(
                "the user CA and the host CA are both at the mount `{}`: they must be two, because one engine holds one key",
                self.user_mount
            ));
        }
        let roles = [&self.session_role, &self.link_role];
        if roles[0] == roles[1] {
            return Some(format!(
                "sessions and links share the role `{}`: then whoever may sign a session may pass for a gateway",
                roles[0]
            ));
        }
        if let Some(sentence) = self.agents.as_ref().and_then(|agents| self.agents_contradict(agents)) {
            return Some(sentence);
        }
        let Some(user) = &self.user_login else {
            return None;
        };
        if user.role == self.gateway_policy() {
            return Some(format!(
                "people and the gateway share the role `{}`: then people would get the gateway's rights",
                user.role
            ));
        }
        match &self.login {
            GatewayLogin::Jwt { mount, issuer, .. } if *mount == user.mount && *issuer != user.issuer => Some(format!(
                "the mount `{mount}` is asked to trust two issuers, {issuer} for the gateway and {} for people: \
                 give one of them another mount",
                user.issuer
            )),
            GatewayLogin::Kubernetes { mount, .. } | GatewayLogin::AppRole { mount, .. } if *mount == user.mount => {
                Some(format!(
                    "the mount `{mount}` is asked to be two kinds of login: give one another mount"
                ))
            }
            _ => None,
        }
    }
}

impl Needs {
    fn agents_contradict(&self, agents: &AgentLogin) -> Option<String> {
        let user = self.user_login.as_ref();
        if agents.role == self.gateway_policy() || user.is_some_and(|user| user.role == agents.role) {
            return Some(format!(
                "agents share the role `{}` with others: then those would get the right to sign host certificates",
                agents.role
            ));
        }
        if self.login.mount() == Some(&agents.mount) || user.is_some_and(|user| user.mount == agents.mount) {
            return Some(format!(
                "agents share the mount `{}` with others: give them one of their own",
                agents.mount
            ));
        }
        match (agents.method, &agents.namespaces) {
            (_, Names::These(all)) if all.is_empty() => Some("agents may log in from no namespace at all".to_owned()),
            (PodLogin::Kubernetes, Names::Any) => Some(
                "Vault's Kubernetes method takes no role for every account of every namespace: name the namespaces"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl GatewayLogin {
    /// The mount of the auth method, if there is one.
    #[must_use]
    pub fn mount(&self) -> Option<&str> {
        match self {
            Self::Kubernetes { mount, .. } | Self::AppRole { mount, .. } | Self::Jwt { mount, .. } => Some(mount),
            Self::TokenFile { .. } => None,
        }
    }
}
