//! The configuration: one TOML file, checked as a whole before a port is bound.
//!
//! It refuses unknown keys, wrong types, values out of range and key files that others can read, and reports every
//! fault at once with its file and line. Secrets come from files alone. Relative paths are relative to the file.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use url::{Host, Url};

use crate::workspace::Workspace;

mod anchor;
mod authorize;
pub(crate) mod document;
mod export;
mod issuer;
mod kubernetes;
mod login_rule;
mod read;
mod records;
pub(crate) mod secret_file;
mod token_review;
mod up_time;
mod usage;
mod vault;
mod wake;

pub use anchor::Anchor;
pub use authorize::{Authorize, Named, Rbac, Require};
pub use document::{Fault, Faults};
pub use export::{Export, SinkKind};
pub(crate) use issuer::domain;
pub use issuer::{ClaimPath, ClaimPathError, Dpop, GroupsForm, Introspection, Oidc, TokenKind};
pub use kubernetes::{Kubernetes, KubernetesAccess};
pub use login_rule::{LoginRule, LoginTable, Template};
pub use records::{Acknowledge, Records, S3, S3Credentials};
pub use token_review::TokenReview;

/// A configuration that was checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the gateway keeps its own state (journal). Made if it is missing.
    pub state_directory: PathBuf,
    /// Patterns of workspaces' names: what a laptop's ssh brings here whether or not the person may enter it.
    pub workspace_names: Vec<String>,
    /// The listener for people.
    pub listen: Listen,
    /// The listener for probes and metrics.
    pub admin: Admin,
    /// The identity providers. The first is the one that programs log in with unless told otherwise; there may be none where
    /// the cluster knows people.
    pub oidc: Vec<Oidc>,
    /// The people whom the cluster knows, if they may come in.
    pub token_review: Option<TokenReview>,
    /// The SSH certificate authority.
    pub authority: Authority,
    /// The links to agents.
    pub link: Link,
    /// The recordings.
    pub records: Records,
    /// What has checkpoints of the log attested, if anything.
    pub anchor: Option<Anchor>,
    /// Where events go besides the journal.
    pub exports: Vec<Export>,
    /// Where the policy is read from.
    pub policy: PolicyFile,
    /// Who besides the policy has a say.
    pub authorize: Authorize,
    /// How open sessions are looked at again.
    pub session: Session,
    /// What is bounded, and by how much.
    pub limits: Limits,
    /// The cluster whose pods are workspaces, if there is one.
    pub kubernetes: Option<Kubernetes>,
    /// The workspaces that are written down.
    pub workspaces: Vec<Workspace>,
}

/// `[listen]`: the TLS listener for people.
#[derive(Debug, Clone)]
pub struct Listen {
    /// The address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// The X.509 chain, PEM, the leaf first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The names by which people reach the gateway, besides those of the certificate.
    pub names: Vec<String>,
    /// How often the two files are looked at for a change.
    pub reload_interval: Duration,
}

/// `[admin]`: plain HTTP with `/healthz`, `/readyz`, `/metrics`.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The address and port; loopback unless configured otherwise.
    pub address: SocketAddr,
}

/// `[authority]`: who signs SSH certificates.
#[derive(Debug, Clone)]
pub struct Authority {
    /// How long a session certificate is good for.
    pub certificate_life: Duration,
    /// Which authority.
    pub kind: AuthorityKind,
}

/// The kinds of authority.
#[derive(Debug, Clone)]
pub enum AuthorityKind {
    /// `[authority.local]`: two OpenSSH private key files.
    Local {
        /// The user CA's key.
        user_ca: PathBuf,
        /// The host CA's key.
        host_ca: PathBuf,
    },
    /// `[authority.vault]`: the SSH engine of a Vault.
    Vault(Box<doorward_certs::vault::Settings>),
}

impl Authority {
    /// How long a session waits for its certificate at most: an authority that asks others has a deadline of its own, and
    /// this one is for the case that it does not keep it.
    #[must_use]
    pub fn sign_within(&self) -> Duration {
        match &self.kind {
            AuthorityKind::Local { .. } => Duration::from_secs(4),
            AuthorityKind::Vault(vault) => vault.longest() + Duration::from_millis(500),
        }
    }
}

/// `[link]`: the links to agents.
#[derive(Debug, Clone)]
pub struct Link {
    /// The gateway's own ed25519 key, OpenSSH format; made if it is missing.
    pub key: PathBuf,
}

/// `[policy]`: where the policy is read from.
#[derive(Debug, Clone)]
pub struct PolicyFile {
    /// The TOML file with the roles.
    pub file: PathBuf,
    /// How often it is looked at for a change.
    pub reload_interval: Duration,
}

/// `[session]`: how open sessions are looked at again.
#[derive(Debug, Clone)]
pub struct Session {
    /// How often each is decided again.
    pub recheck_interval: Duration,
    /// How long after the end of its newest token a session goes on without a newer one.
    pub renew_grace: Duration,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            recheck_interval: Duration::from_secs(60),
            renew_grace: Duration::from_secs(600),
        }
    }
}

/// `[limits]`: what is bounded, and by how much.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections that have not proved who they are. Past it the oldest of them is closed.
    pub unauthenticated: usize,
    /// The same for one address.
    pub unauthenticated_per_address: usize,
    /// Sessions at once.
    pub sessions: usize,
    /// Sessions of one person at once.
    pub sessions_per_user: usize,
    /// How long a stop waits for sessions to end by themselves.
    pub drain: Duration,
    /// How long the TLS handshake may take.
    pub tls_handshake: Duration,
    /// How long the request header may take.
    pub request_header: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unauthenticated: 1024,
            unauthenticated_per_address: 256,
            sessions: 2000,
            sessions_per_user: 256,
            drain: Duration::from_secs(30),
            tls_handshake: Duration::from_secs(10),
            request_header: Duration::from_secs(10),
        }
    }
}

/// Whether an answer from this URL can be believed: https, or http that does not leave the machine.
#[must_use]
pub fn trustworthy(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

#[cfg(test)]
mod tests;
