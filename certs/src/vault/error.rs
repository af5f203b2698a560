//! Why Vault gave no certificate: each cause with a code, a sentence for the person, and one for the operator.
//!
//! What Vault itself said is shown to the operator alone: escaped, and cut. Tokens are in none of it.

use std::time::Duration;

use crate::CaKeysError;

/// Why Vault gave no certificate, or no answer at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// No connection: refused, no route, no such name.
    #[error("Vault at {address} cannot be reached: {why}")]
    Unreachable {
        /// Scheme, host and port.
        address: String,
        /// What the system said.
        why: String,
    },
    /// The connection stands, and is not secure: another CA, another name, expired.
    #[error("Vault at {address} cannot be trusted: {why}")]
    Tls {
        /// Scheme, host and port.
        address: String,
        /// What TLS said.
        why: String,
    },
    /// The connection broke off before the answer was whole.
    #[error("Vault at {address} broke the connection off: {why}")]
    Broken {
        /// Scheme, host and port.
        address: String,
        /// What HTTP said.
        why: String,
    },
    /// It took the request and did not answer.
    #[error("Vault at {address} does not answer: nothing within {within:?}")]
    Hanging {
        /// Scheme, host and port.
        address: String,
        /// How long was waited.
        within: Duration,
    },
    /// It answers others, and came to this signing too late.
    #[error("Vault at {address} answers too slowly: a signing was given up, others were answered meanwhile")]
    Slow {
        /// Scheme, host and port.
        address: String,
    },
    /// It is sealed.
    #[error("Vault at {address} is sealed; it has to be unsealed")]
    Sealed {
        /// Scheme, host and port.
        address: String,
    },
    /// It was never initialised.
    #[error("Vault at {address} is not initialised")]
    NotInitialised {
        /// Scheme, host and port.
        address: String,
    },
    /// It is a standby that has no active node to hand the request to.
    #[error("Vault at {address} is a standby, and could not hand the request to an active node")]
    Standby {
        /// Scheme, host and port.
        address: String,
    },
    /// It points elsewhere. Redirects are not followed: the token would go to a host that nobody configured.
    #[error(
        "Vault at {address} sends us to `{to}`; redirects are not followed, `address` must name the active node or a balancer"
    )]
    Redirect {
        /// Scheme, host and port.
        address: String,
        /// Where to, escaped and cut.
        to: String,
    },
    /// A quota of Vault's.
    #[error(
        "Vault at {address} answers no more requests for a while: a rate limit quota is used up (retry after {retry_after:?})"
    )]
    RateLimited {
        /// Scheme, host and port.
        address: String,
        /// When it may be asked again, as it said.
        retry_after: Option<Duration>,
    },
    /// It failed in some other way of its own.
    #[error("Vault failed at {path} (status {status}): {said}")]
    Failed {
        /// The path below `/v1/`.
        path: String,
        /// The HTTP status.
        status: u16,
        /// Vault's own words, escaped and cut.
        said: String,
    },
    /// The answer is no answer of Vault's API.
    #[error("{address} does not answer {path} as Vault does (status {status})")]
    NotVault {
        /// Scheme, host and port.
        address: String,
        /// The path below `/v1/`.
        path: String,
        /// The HTTP status.
        status: u16,
    },
    /// The answer is longer than any that we asked for.
    #[error("Vault at {address} answers {path} with more than {most} bytes")]
    TooLarge {
        /// Scheme, host and port.
        address: String,
        /// The path below `/v1/`.
        path: String,
        /// The bound.
        most: usize,
    },
    /// Nothing is mounted there.
    #[error("nothing is mounted at Vault's `{path}`; `doorward-gateway vault plan` shows what is missing")]
    MountMissing {
        /// The path below `/v1/`.
        path: String,
    },
    /// The mount has no such role.
    #[error("Vault has no role at `{path}`; `doorward-gateway vault plan` shows what is missing")]
    RoleMissing {
        /// The path below `/v1/`.
        path: String,
    },
    /// The policy of our token does not allow the path.
    #[error("Vault's policy for {who} does not allow `{path}`: {said}")]
    Denied {
        /// Whose token it was: `the gateway`, `the person` or `the agent`.
        who: &'static str,
        /// The path below `/v1/`.
        path: String,
        /// Vault's own words, escaped and cut.
        said: String,
    },
    /// The role does not allow what was asked.
    #[error("Vault's role at `{path}` does not allow this certificate: {said}")]
    RoleRefuses {
        /// The path below `/v1/`.
        path: String,
        /// Vault's own words, escaped and cut.
        said: String,
    },
    /// The gateway's or the agent's own login was refused.
    #[error("Vault refuses the login at `{path}`: {said}")]
    LoginRefused {
        /// The path below `/v1/`.
        path: String,
        /// Vault's own words, escaped and cut.
        said: String,
    },
    /// Vault's JWT auth method refused the person's token.
    #[error("Vault refuses the person's own token at `{path}`: {said}")]
    UserRefused {
        /// The path below `/v1/`.
        path: String,
        /// Vault's own words, escaped and cut.
        said: String,
    },
    /// A file that the login needs cannot be used.
    #[error("the file {path} for the login at Vault cannot be used: {why}")]
    LoginFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The mount has no CA, or not one that may sign.
    #[error("Vault's SSH mount has no usable CA at `{path}`: {why}")]
    NoCa {
        /// The path below `/v1/`.
        path: String,
        /// What is wrong; empty where Vault says nothing.
        why: String,
    },
    /// The CA file cannot be used, or no HTTP client can be made of the settings.
    #[error("the client for Vault cannot be made: {0}")]
    Client(String),
    /// So many signings are asked for that the turn of this one would come too late.
    #[error("more signings are asked for than `signings-per-second` allows")]
    Busy,
    /// Host certificates are the agents' own business here.
    #[error("this gateway has no right to have host certificates signed: agents get theirs from Vault")]
    HostsAreAgents,
    /// This person asks for too many.
    #[error("one person asks for more signings than `signings-per-user-per-minute` allows")]
    UserTooFast,
}

impl VaultError {
    /// A stable code for metrics and audit fields.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "vault-unreachable",
            Self::Tls { .. } => "vault-tls",
            Self::Broken { .. } => "vault-broken",
            Self::Hanging { .. } => "vault-hanging",
            Self::Slow { .. } => "vault-slow",
            Self::Sealed { .. } => "vault-sealed",
            Self::NotInitialised { .. } => "vault-not-initialised",
            Self::Standby { .. } => "vault-standby",
            Self::Redirect { .. } => "vault-redirect",
            Self::RateLimited { .. } => "vault-rate-limited",
            Self::Failed { .. } => "vault-failed",
            Self::NotVault { .. } => "vault-not-vault",
            Self::TooLarge { .. } => "vault-too-large",
            Self::MountMissing { .. } => "vault-mount-missing",
            Self::RoleMissing { .. } => "vault-role-missing",
            Self::Denied { .. } => "vault-denied",
            Self::RoleRefuses { .. } => "vault-role-refuses",
            Self::LoginRefused { .. } => "vault-login-refused",
            Self::UserRefused { .. } => "vault-user-refused",
            Self::LoginFile { .. } => "vault-login-file",
            Self::NoCa { .. } => "vault-no-ca",
            Self::Client(_) => "vault-client",
            Self::Busy => "vault-busy",
            Self::HostsAreAgents => "vault-hosts-are-agents",
            Self::UserTooFast => "vault-user-too-fast",
        }
    }

    /// The sentence for the person: names what is broken, and nothing of how it is set up.
    #[must_use]
    pub fn public(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "Vault, which signs SSH certificates, cannot be reached",
            Self::Tls { .. } => "Vault, which signs SSH certificates, shows a TLS certificate that is not trusted",
            Self::Broken { .. } => "Vault, which signs SSH certificates, breaks connections off",
            Self::Hanging { .. } => "Vault, which signs SSH certificates, does not answer",
            Self::Slow { .. } => "Vault, which signs SSH certificates, has too much to do at the moment",
            Self::Sealed { .. } => "Vault, which signs SSH certificates, is sealed",
            Self::NotInitialised { .. } => "Vault, which signs SSH certificates, is not initialised",
            Self::Standby { .. } => "Vault, which signs SSH certificates, has no active node",
            Self::Redirect { .. } => "Vault, which signs SSH certificates, sends the gateway to another address",
            Self::RateLimited { .. } => "Vault, which signs SSH certificates, limits its requests",
            Self::Failed { .. } => "Vault, which signs SSH certificates, failed",
            Self::NotVault { .. } | Self::TooLarge { .. } => {
                "what answers in place of Vault, which signs SSH certificates, is not Vault"
            }
            Self::MountMissing { .. } => "Vault has no SSH certificate authority where the gateway looks for it",
            Self::RoleMissing { .. } => "Vault lacks the role that the gateway signs SSH certificates with",
            Self::Denied { who: PERSON, .. } => "Vault's policy does not let you sign an SSH certificate",
            Self::Denied { .. } => "Vault's policy does not let the gateway sign SSH certificates",
            Self::RoleRefuses { .. } => "Vault's role does not allow the SSH certificate that you need",
            Self::LoginRefused { .. } | Self::LoginFile { .. } => {
                "the gateway cannot log in to Vault, which signs SSH certificates"
            }
            Self::UserRefused { .. } => "Vault, which signs SSH certificates, does not accept your login",
            Self::NoCa { .. } => "Vault's SSH certificate authority has no key",
            Self::Client(_) | Self::HostsAreAgents => "the gateway cannot use Vault, which signs SSH certificates",
            Self::Busy => "too many SSH certificates are asked for at the moment",
            Self::UserTooFast => "you open sessions faster than is allowed",
        }
    }

    /// What the person can do, or whom to tell what.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Sealed { .. } => "nothing is wrong on your side; tell whoever runs Vault that it must be unsealed",
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Hanging { .. } | Self::Standby { .. } => {
                "nothing is wrong on your side; try again in a moment, and tell whoever runs Vault if it stays"
            }
            Self::NotInitialised { .. } | Self::NoCa { .. } | Self::Failed { .. } => {
                "nothing is wrong on your side; tell whoever runs Vault"
            }
            Self::RateLimited { .. } | Self::Slow { .. } | Self::Busy => {
                "nothing is wrong on your side; try again in a moment, and tell your platform team if it stays"
            }
            Self::UserTooFast => "wait a minute; if a program of yours connects in a loop, stop it",
            Self::UserRefused { .. } => {
                "log in again with `doorward login`; if that does not help, tell your platform team that Vault refuses your token"
            }
            Self::Denied { who: PERSON, .. } | Self::RoleRefuses { .. } => {
                "tell your platform team; the reason is in the gateway's journal"
            }
            _ => "nothing is wrong on your side; tell your platform team that the gateway's access to Vault is broken",
        }
    }

    /// Whether the same request may succeed a moment later, without anybody doing anything.
    pub(super) fn passes(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Broken { .. }
                | Self::Hanging { .. }
                | Self::Standby { .. }
                | Self::RateLimited { .. }
                | Self::Failed { status: 500.., .. }
        )
    }

    pub(super) fn no_ca(path: &str, error: &CaKeysError) -> Self {
        Self::NoCa {
            path: path.to_owned(),
            why: error.to_string(),
        }
    }
}

/// Whose token a request carried.
pub(super) const GATEWAY: &str = "the gateway";
pub(super) const PERSON: &str = "the person";
pub(super) const AGENT: &str = "the agent";

/// What somebody else said, fit to be shown: printable ASCII on one line, cut.
pub(super) fn printable(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().flat_map(char::escape_default).take(300).collect()
}
