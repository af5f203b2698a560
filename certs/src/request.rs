//! What an authority is asked to sign, and the checks that no request skips.
//!
//! A request that cannot be signed as it stands is refused before any authority sees it.

use std::{collections::BTreeMap, time::Duration};

use ssh_key::{PublicKey, certificate::CertType, public::KeyData};
use uuid::Uuid;

use crate::{
    GATEWAY_PRINCIPAL, LONGEST_HOST_LIFE, LONGEST_LINK_LIFE, LONGEST_SESSION_LIFE, Terms, TermsError, WorkspaceName,
    WorkspaceUid, extension as ext, key_id,
};

/// Asks for the certificate of one session: type user, over the gateway's link key.
#[derive(Debug, Clone)]
pub struct SessionRequest {
    /// The gateway's link key (ed25519).
    pub subject: PublicKey,
    /// The session.
    pub session: Uuid,
    /// The workspace, for the operator's eyes; the certificate is bound to the UID.
    pub workspace: WorkspaceName,
    /// The UID of the workspace that the certificate is bound to.
    pub workspace_uid: WorkspaceUid,
    /// Who the person is: 1 to 256 bytes, no control characters. Stands in the key id, escaped.
    pub user: String,
    /// What the person may do.
    pub terms: Terms,
    /// How long the certificate may be used to open the session: whole seconds, at most [`LONGEST_SESSION_LIFE`].
    pub valid_for: Duration,
}

/// Asks for the certificate of an agent: type host, over its host key.
#[derive(Debug, Clone)]
pub struct HostRequest {
    /// The agent's host key (ed25519).
    pub subject: PublicKey,
    /// The workspace: the first principal.
    pub workspace: WorkspaceName,
    /// The UID of the workspace.
    pub workspace_uid: WorkspaceUid,
    /// Other names that users reach the workspace by, at most 32: further principals.
    pub names: Vec<String>,
    /// The certificate's life: whole seconds, at most [`LONGEST_HOST_LIFE`].
    pub valid_for: Duration,
}

/// Asks for the certificate of a gateway: type user, principal [`GATEWAY_PRINCIPAL`], over its link key.
#[derive(Debug, Clone)]
pub struct LinkRequest {
    /// The gateway's link key (ed25519).
    pub subject: PublicKey,
    /// The certificate's life: whole seconds, at most [`LONGEST_LINK_LIFE`].
    pub valid_for: Duration,
}

/// Why a request was refused before any authority saw it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The subject is no ed25519 key.
    #[error("the key to be certified is not an ed25519 key")]
    Subject,
    /// The user's name is empty, above 256 bytes, or has control characters.
    #[error("the user's name must be 1 to 256 bytes without control characters")]
    User,
    /// A host name is malformed, or there are more than 32.
    #[error("the workspace's other names must be at most 32 host names or addresses")]
    HostNames,
    /// The life is shorter than a second, or too long for this kind of certificate.
    #[error("the certificate's life must be from 1 second to {} seconds", .longest.as_secs())]
    Life {
        /// The longest life of this kind.
        longest: Duration,
    },
    /// The terms cannot be written.
    #[error(transparent)]
    Terms(#[from] TermsError),
}

impl RequestError {
    /// A stable code for metrics and audit fields.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Subject => "request-subject",
            Self::User => "request-user",
            Self::HostNames => "request-host-names",
            Self::Life { .. } => "request-life",
            Self::Terms(error) => error.code(),
        }
    }
}

/// What the certificate has to say, whichever kind it is: the one thing that is signed and that answers are held to.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) kind: CertType,
    pub(crate) subject: KeyData,
    pub(crate) key_id: String,
    pub(crate) principals: Vec<String>,
    pub(crate) extensions: BTreeMap<String, String>,
    pub(crate) valid_for: Duration,
    pub(crate) longest: Duration,
}

impl SessionRequest {
    pub(crate) fn wanted(&self) -> Result<Wanted, RequestError> {
        if !key_id::is_user(&self.user) {
            return Err(RequestError::User);
        }
        let mut extensions = self.terms.extensions()?;
        extensions.insert(ext::SESSION.to_owned(), self.session.to_string());
        extensions.insert(ext::WORKSPACE.to_owned(), self.workspace_uid.to_string());
        Ok(Wanted {
            kind: CertType::User,
            subject: ed25519(&self.subject)?,
            key_id: key_id::write(&self.user, self.session),
            principals: vec![self.terms.login.to_string()],
            extensions,
            valid_for: life(self.valid_for, LONGEST_SESSION_LIFE)?,
            longest: LONGEST_SESSION_LIFE,
        })
    }
}

impl HostRequest {
    pub(crate) fn wanted(&self) -> Result<Wanted, RequestError> {
        if self.names.len() > 32 || !self.names.iter().all(|name| is_host_name(name)) {
            return Err(RequestError::HostNames);
        }
        let mut principals = vec![self.workspace.to_string()];
        for name in &self.names {
            if !principals.contains(name) {
                principals.push(name.clone());
            }
        }
        Ok(Wanted {
            kind: CertType::Host,
            subject: ed25519(&self.subject)?,
            key_id: format!("workspace={} uid={}", self.workspace, self.workspace_uid),
            principals,
            extensions: BTreeMap::from([(ext::WORKSPACE.to_owned(), self.workspace_uid.to_string())]),
            valid_for: life(self.valid_for, LONGEST_HOST_LIFE)?,
            longest: LONGEST_HOST_LIFE,
        })
    }
}

impl LinkRequest {
    pub(crate) fn wanted(&self) -> Result<Wanted, RequestError> {
        Ok(Wanted {
            kind: CertType::User,
            subject: ed25519(&self.subject)?,
            key_id: GATEWAY_PRINCIPAL.to_owned(),
            principals: vec![GATEWAY_PRINCIPAL.to_owned()],
            extensions: BTreeMap::new(),
            valid_for: life(self.valid_for, LONGEST_LINK_LIFE)?,
            longest: LONGEST_LINK_LIFE,
        })
    }
}

/// A DNS name in lower case, an IPv4 or IPv6 address, or one of these as `[…]:port`: no pattern character.
pub(crate) fn is_host_name(name: &str) -> bool {
    let host = match name.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        Some((host, port)) if is_port(port) => host,
        Some(_) => return false,
        None => name,
    };
    host.parse::<std::net::IpAddr>().is_ok() || WorkspaceName::try_from(host).is_ok()
}

/// 1 to 65535, without sign or leading zeros.
pub(crate) fn is_port(text: &str) -> bool {
    text.parse::<u16>()
        .is_ok_and(|port| port != 0 && port.to_string() == text)
}

fn ed25519(key: &PublicKey) -> Result<KeyData, RequestError> {
    match key.key_data() {
        data @ KeyData::Ed25519(_) => Ok(data.clone()),
        _ => Err(RequestError::Subject),
    }
}

fn life(asked: Duration, longest: Duration) -> Result<Duration, RequestError> {
    let whole = Duration::from_secs(asked.as_secs());
    if whole.is_zero() || asked > longest {
        return Err(RequestError::Life { longest });
    }
    Ok(whole)
}
