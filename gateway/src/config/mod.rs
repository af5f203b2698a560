//! The configuration: one TOML file, checked as a whole before a port is bound.
//!
//! It refuses unknown keys, wrong types, values out of range and key files that others can read, and reports every
//! fault at once with its file and line. Secrets come from files alone. Relative paths are relative to the file.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use url::{Host, Url};

use crate::workspace::Workspace;

pub(crate) mod document;
mod read;
pub(crate) mod secret_file;

pub use document::{Fault, Faults};

/// A configuration that was checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the gateway keeps its own state (journal). Made if it is missing.
    pub state_directory: PathBuf,
    /// The listener for people.
    pub listen: Listen,
    /// The listener for probes and metrics.
    pub admin: Admin,
    /// The identity provider.
    pub oidc: Oidc,
    /// The SSH certificate authority.
    pub authority: Authority,
    /// The links to agents.
    pub link: Link,
    /// The recordings.
    pub records: Records,
    /// Where the policy is read from.
    pub policy: PolicyFile,
    /// What is bounded, and by how much.
    pub limits: Limits,
    /// The workspaces.
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
    /// How often the two files are looked at for a change.
    pub reload_interval: Duration,
}

/// `[admin]`: plain HTTP with `/healthz`, `/readyz`, `/metrics`.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The address and port; loopback unless configured otherwise.
    pub address: SocketAddr,
}

/// `[oidc]`: whose tokens are believed, and what they must say.
#[derive(Debug, Clone)]
pub struct Oidc {
    /// The issuer, exactly as its tokens and its discovery document spell it.
    pub issuer: String,
    /// The client id that the laptop's program logs in with.
    pub client_id: String,
    /// The audience that a token must name.
    pub audience: String,
    /// The scopes that the laptop's program asks for.
    pub scopes: Vec<String>,
    /// The signature algorithms that are accepted; never symmetric ones.
    pub algorithms: Vec<jsonwebtoken::Algorithm>,
    /// Where the person's name stands.
    pub user_claim: ClaimPath,
    /// Where the groups stand.
    pub groups_claim: ClaimPath,
    /// What form the groups have; never guessed.
    pub groups_form: GroupsForm,
    /// The clients for which a token may have been made (`azp`, or `client_id` of RFC 9068).
    pub authorized_parties: Vec<String>,
    /// Which kind of token is taken.
    pub token_kind: TokenKind,
    /// The only CA certificates believed when the issuer is asked, PEM; the system's if none is given.
    pub ca: Option<PathBuf>,
    /// After the keys were asked for, how long an unknown key id asks no more.
    pub keys_cool_down: Duration,
    /// How often the keys are fetched again.
    pub keys_refresh: Duration,
    /// How long keys go on being believed when the issuer cannot be asked.
    pub keys_max_age: Duration,
}

/// The way to a claim: names of nested objects, outermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// Reads `a.b.c`; a dot or backslash that belongs to a name is written `\.` or `\\`.
    ///
    /// # Errors
    /// A name is empty or the backslash stands before something else.
    pub fn parse(text: &str) -> Result<Self, ClaimPathError> {
        let mut names = vec![String::new()];
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let next = match character {
                '.' => {
                    names.push(String::new());
                    continue;
                }
                '\\' => match characters.next() {
                    Some(escaped @ ('.' | '\\')) => escaped,
                    _ => return Err(ClaimPathError),
                },
                other => other,
            };
            if let Some(name) = names.last_mut() {
                name.push(next);
            }
        }
        if names.iter().any(String::is_empty) {
            return Err(ClaimPathError);
        }
        Ok(Self(names))
    }

    /// The names, outermost first; at least one.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

/// A claim path with an empty name or a stray backslash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a claim path is names with dots between them; a dot inside a name is written \\.")]
pub struct ClaimPathError;

/// What form the groups claim has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupsForm {
    /// An array of strings.
    Array,
    /// One string that is one group.
    String,
}

/// Which kind of token is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// An access token made for this gateway.
    Access,
    /// An ID token, for providers whose access tokens are opaque.
    Id,
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
}

/// `[link]`: the links to agents.
#[derive(Debug, Clone)]
pub struct Link {
    /// The gateway's own ed25519 key, OpenSSH format; made if it is missing.
    pub key: PathBuf,
}

/// `[records]`: the recordings.
#[derive(Debug, Clone)]
pub struct Records {
    /// Where recordings are kept. Made if it is missing.
    pub directory: PathBuf,
    /// How long writes are collected before one fsync makes them durable.
    pub commit_interval: Duration,
}

/// `[policy]`: where the policy is read from.
#[derive(Debug, Clone)]
pub struct PolicyFile {
    /// The TOML file with the roles.
    pub file: PathBuf,
    /// How often it is looked at for a change.
    pub reload_interval: Duration,
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
