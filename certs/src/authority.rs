//! Who signs: asked with a request, answering with a certificate that was checked against it.

use std::time::{Instant, SystemTime};

use ssh_key::certificate::CertType;

#[cfg(feature = "vault")]
use crate::vault::{Vault, VaultError};
use crate::{
    CaKeys, Discrepancy, HostCert, HostRequest, LinkCert, LinkRequest, Local, RequestError, SessionCert,
    SessionRequest, UserToken, request::Wanted,
};

/// The SSH certificate authority. Every answer is checked field by field, whoever gives it.
#[derive(Debug)]
#[cfg_attr(
    feature = "vault",
    expect(clippy::large_enum_variant, reason = "a process has one of them")
)]
#[non_exhaustive]
pub enum Authority {
    /// Key files, or keys in memory, of this process: for development and small installs.
    Local(Local),
    /// The SSH engine of a Vault.
    #[cfg(feature = "vault")]
    Vault(Vault),
    /// Answers whatever a test makes it answer.
    #[cfg(test)]
    Lying(crate::answer::tests::Lying),
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The request cannot be signed as it stands.
    #[error("the certificate request is refused: {0}")]
    Request(#[from] RequestError),
    /// The answer is not what was asked.
    #[error("the authority's answer is not what was asked: {0}")]
    Answer(#[from] Discrepancy),
    /// The key could not sign.
    #[error("the authority could not sign")]
    Sign(#[source] ssh_key::Error),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for a certificate")]
    Random,
    /// Vault gave no certificate, or no keys.
    #[cfg(feature = "vault")]
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl AuthorityError {
    /// A stable code for metrics and audit fields.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Request(error) => error.code(),
            Self::Answer(error) => error.code(),
            Self::Sign(_) => "authority-sign",
            Self::Random => "authority-random",
            #[cfg(feature = "vault")]
            Self::Vault(error) => error.code(),
        }
    }
}

/// What is signed, and for whom.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose<'a> {
    /// The session of a person, with the person's own token.
    #[cfg_attr(not(feature = "vault"), expect(dead_code, reason = "only Vault tells people apart"))]
    Session { user: &'a str, token: &'a UserToken },
    /// A link of the gateway.
    Link,
    /// An agent's host key.
    Host,
}

/// What the authority answered, not believed yet, and whose signature would be.
pub(crate) struct Answered {
    pub(crate) blob: Vec<u8>,
    pub(crate) trusted: CaKeys,
}

impl Authority {
    /// Has a session certificate signed. The person's token is used where the authority signs in the person's name, and is gone
    /// in any case.
    ///
    /// # Errors
    /// [`AuthorityError`]: refused before it was asked, not signed, or answered differently.
    pub async fn sign_session(
        &self,
        request: &SessionRequest,
        token: UserToken,
        now: SystemTime,
    ) -> Result<SessionCert, AuthorityError> {
        let (wanted, asked) = (request.wanted()?, Instant::now());
        let purpose = Purpose::Session {
            user: &request.user,
            token: &token,
        };
        let Answered { blob, trusted } = self.answer(&wanted, purpose, now).await?;
        Ok(SessionCert::check(&wanted, blob, &trusted, now + asked.elapsed())?)
    }

    /// Has a host certificate signed.
    ///
    /// # Errors
    /// [`AuthorityError`]: refused before it was asked, not signed, or answered differently.
    pub async fn sign_host(&self, request: &HostRequest, now: SystemTime) -> Result<HostCert, AuthorityError> {
        let (wanted, asked) = (request.wanted()?, Instant::now());
        let Answered { blob, trusted } = self.answer(&wanted, Purpose::Host, now).await?;
        Ok(HostCert::check(&wanted, blob, &trusted, now + asked.elapsed())?)
    }

    /// Has a link certificate signed.
    ///
    /// # Errors
    /// [`AuthorityError`]: refused before it was asked, not signed, or answered differently.
    pub async fn sign_link(&self, request: &LinkRequest, now: SystemTime) -> Result<LinkCert, AuthorityError> {
        let (wanted, asked) = (request.wanted()?, Instant::now());
        let Answered { blob, trusted } = self.answer(&wanted, Purpose::Link, now).await?;
        Ok(LinkCert::check(&wanted, blob, &trusted, now + asked.elapsed())?)
    }

    /// The keys that sign session and link certificates.
    ///
    /// # Errors
    /// None from a local authority; from Vault, where no key was had yet and none can be had now.
    pub async fn user_ca(&self) -> Result<CaKeys, AuthorityError> {
        self.trusted(CertType::User).await
    }

    /// The keys that sign host certificates.
    ///
    /// # Errors
    /// None from a local authority; from Vault, where no key was had yet and none can be had now.
    pub async fn host_ca(&self) -> Result<CaKeys, AuthorityError> {
        self.trusted(CertType::Host).await
    }

    /// Whether certificates could be had when that was looked at last; see [`Authority::keep`].
    ///
    /// # Errors
    /// What is wrong with the authority.
    pub fn ready(&self) -> Result<(), AuthorityError> {
        match self {
            #[cfg(feature = "vault")]
            Self::Vault(vault) => Ok(vault.ready()?),
            _ => Ok(()),
        }
    }

    /// Whether host certificates are signed here at all. Where agents have theirs signed for themselves they are not, and
    /// [`Authority::sign_host`] asks nobody.
    #[must_use]
    pub fn signs_hosts(&self) -> bool {
        match self {
            #[cfg(feature = "vault")]
            Self::Vault(vault) => vault.settings().hosts == crate::vault::HostCertificates::Gateway,
            _ => true,
        }
    }

    /// Looks after the authority: its login, its keys, whether it is there. Never returns; the caller owns the task.
    pub async fn keep(&self) {
        match self {
            #[cfg(feature = "vault")]
            Self::Vault(vault) => vault.keep().await,
            _ => std::future::pending().await,
        }
    }

    async fn answer(
        &self,
        wanted: &Wanted,
        #[cfg_attr(
            not(feature = "vault"),
            expect(unused_variables, reason = "only Vault tells them apart")
        )]
        purpose: Purpose<'_>,
        now: SystemTime,
    ) -> Result<Answered, AuthorityError> {
        match self {
            Self::Local(local) => Ok(Answered {
                blob: local.sign(wanted, now)?,
                trusted: local.trusted(wanted.kind).clone(),
            }),
            #[cfg(feature = "vault")]
            Self::Vault(vault) => vault.sign(wanted, purpose).await,
            #[cfg(test)]
            Self::Lying(lying) => Ok(Answered {
                blob: lying.answer(wanted, now),
                trusted: lying.trusted(wanted.kind),
            }),
        }
    }

    async fn trusted(&self, kind: CertType) -> Result<CaKeys, AuthorityError> {
        match self {
            Self::Local(local) => Ok(local.trusted(kind).clone()),
            #[cfg(feature = "vault")]
            Self::Vault(vault) => Ok(vault.trusted(kind).await?),
            #[cfg(test)]
            Self::Lying(lying) => Ok(lying.trusted(kind)),
        }
    }
}
