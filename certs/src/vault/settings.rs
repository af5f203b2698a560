//! What has to be known of a Vault to have it sign: where it is, how to log in, which mounts and roles.
//!
//! Nothing else is read: no `VAULT_*` variable, no proxy from the environment, no file that is not named here.

use std::{path::PathBuf, time::Duration};

use url::{Host, Url};

use super::queue::WAITS;

/// Where Vault is and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The address, `https://host:port`; `http` only where it does not leave the machine.
    pub address: Url,
    /// The only CA certificates that are believed when Vault is asked, PEM; the system's if none is given.
    pub ca: Option<PathBuf>,
    /// The namespace (Vault Enterprise), sent as `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// The mount of the SSH engine that signs sessions and links.
    pub user_mount: String,
    /// The mount of the SSH engine that signs host certificates.
    pub host_mount: String,
    /// The role for session certificates.
    pub session_role: String,
    /// The role for link certificates.
    pub link_role: String,
    /// The role for host certificates.
    pub host_role: String,
    /// Who has host certificates signed.
    pub hosts: HostCertificates,
    /// In whose name sessions are signed.
    pub sign_as: SignAs,
    /// How the gateway itself logs in.
    pub login: Login,
    /// The one deadline of a signing, with everything that it needs: a login, retries, the authority's keys. It begins when its
    /// turn has come, for which is waited twice as long at most, and only while Vault answers others.
    pub timeout: Duration,
    /// How many signings may begin in a second, in all. Past that they wait for their turn.
    pub signings_per_second: u32,
    /// How many sessions of one person may be signed in a minute. Past that they are refused.
    pub signings_per_user_per_minute: u32,
}

impl Settings {
    /// How long it takes at most until a signing is answered or refused.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.timeout * (WAITS + 1)
    }
}

/// Who has host certificates signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostCertificates {
    /// The gateway, for the agents that enrol over their links.
    Gateway,
    /// Each agent for itself, with a login of its own. The gateway never asks, and Vault should not let it: then a stolen gateway
    /// cannot pass for a workspace.
    Agents,
}

/// How an agent has its own host certificate signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSettings {
    /// The address, as [`address`] reads it.
    pub address: Url,
    /// The only CA certificates that are believed when Vault is asked, PEM; the system's if none is given.
    pub ca: Option<PathBuf>,
    /// The namespace (Vault Enterprise), sent as `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// Which auth method knows pods.
    pub method: PodLogin,
    /// The mount of that method.
    pub mount: String,
    /// The role at that method.
    pub role: String,
    /// The file with the pod's token, which is for Vault alone; read at each login, because it is replaced while we run.
    pub token_file: PathBuf,
    /// The mount of the SSH engine that signs host certificates.
    pub host_mount: String,
    /// The role there.
    pub host_role: String,
    /// The one deadline of a signing, with the login and retries.
    pub timeout: Duration,
}

/// How Vault comes to know which pod logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodLogin {
    /// The JWT method reads the token's own claims: name and UID of the pod. Vault writes the UID into the certificate.
    Jwt,
    /// The Kubernetes method asks the API server, which tells Vault the service account. The agent says the UID.
    Kubernetes,
}

/// Where Vault is: https, or http where it does not leave the machine; host and port alone.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("`{}` is no URL: {error}", text.escape_debug()))?;
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
        return Err("must be https (http only on loopback)".to_owned());
    }
    let more = url.query().is_some() || url.fragment().is_some();
    if more || !url.username().is_empty() || url.password().is_some() || url.path() != "/" {
        return Err("must be scheme, host and port alone: https://vault.example:8200".to_owned());
    }
    Ok(url)
}

/// In whose name sessions are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignAs {
    /// With the gateway's own token: Vault's policy and audit log see the gateway.
    Gateway,
    /// With a token that Vault gives for the person's own: Vault's policy and audit log see the person.
    User {
        /// The mount of the JWT auth method.
        mount: String,
        /// The role at that method.
        role: String,
    },
}

/// How the gateway logs in to Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// With the token of the pod's ServiceAccount.
    Kubernetes {
        /// The mount of the auth method.
        mount: String,
        /// The role at that method.
        role: String,
        /// The file with the token; read at each login, because it is replaced while we run.
        jwt_file: PathBuf,
    },
    /// With a JWT from a file.
    Jwt {
        /// The mount of the auth method.
        mount: String,
        /// The role at that method.
        role: String,
        /// The file with the JWT; read at each login.
        jwt_file: PathBuf,
    },
    /// With a role id and a secret id.
    AppRole {
        /// The mount of the auth method.
        mount: String,
        /// The file with the role id; read at each login.
        role_id_file: PathBuf,
        /// The file with the secret id; read at each login.
        secret_id_file: PathBuf,
    },
    /// With a Vault token from a file, which something else keeps fresh (Vault Agent, for example).
    TokenFile {
        /// The file; read again when it changes.
        token_file: PathBuf,
    },
}

impl Login {
    /// The method's name, as the configuration writes it.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::Kubernetes { .. } => "kubernetes",
            Self::Jwt { .. } => "jwt",
            Self::AppRole { .. } => "approle",
            Self::TokenFile { .. } => "token-file",
        }
    }
}

/// Whether a text may stand for a mount in a path: names of letters, digits, `-`, `_`, `.` with `/` between them.
#[must_use]
pub fn is_mount(text: &str) -> bool {
    text.len() <= 256 && text.split('/').all(is_role)
}

/// Whether a text may stand for a role in a path: letters, digits, `-`, `_`, `.`; not `.` or `..` alone.
#[must_use]
pub fn is_role(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=128).contains(&text.len()) && text.bytes().all(good) && text != "." && text != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_elsewhere() {
        for good in ["ssh", "ssh-host", "team/ssh", "a.b_c/9"] {
            assert!(is_mount(good), "{good}");
        }
        for bad in [
            "", "/ssh", "ssh/", "a//b", "..", "a/../sys", "a/.", "a b", "a%2f", "a?x", "a#", "ä", "a\n",
        ] {
            assert!(!is_mount(bad), "{bad:?}");
        }
        assert!(!is_role("a/b") && !is_role("") && !is_role(&"a".repeat(129)));
    }
}
