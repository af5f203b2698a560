//! Who signs: asked with a request, answering with a certificate that was checked against it.

use std::time::SystemTime;

use ssh_key::certificate::CertType;

use crate::{
    CaKeys, Discrepancy, HostCert, HostRequest, LinkCert, LinkRequest, Local, RequestError, SessionCert,
    SessionRequest, request::Wanted,
};

/// The SSH certificate authority. Every answer is checked field by field, whoever gives it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Authority {
    /// Key files, or keys in memory, of this process: for development and small installs.
    Local(Local),
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
        }
    }
}

impl Authority {
    /// Has a session certificate signed.
    ///
    /// # Errors
    /// [`AuthorityError`]: refused before it was asked, not signed, or answered differently.
    pub async fn sign_session(&self, request: &SessionRequest, now: SystemTime) -> Result<SessionCert, AuthorityError> {
        let wanted = request.wanted()?;
        let (blob, trusted) = (self.answer(&wanted, now).await?, self.user_ca().await?);
        Ok(SessionCert::check(&wanted, blob, &trusted, now)?)
    }

    /// Has a host certificate signed.
    ///
    /// # Errors
    /// [`AuthorityError`]: refused before it was asked, not signed, or answered differently.
    pub async fn sign_host(&self, request: &HostRequest, now: SystemTime) -> Result<HostCert, AuthorityError> {
        let wanted = request.wanted()?;
        let (blob, trusted) = (self.answer(&wanted, now).await?, self.host_ca().await?);
        Ok(HostCert::check(&wanted, blob, &trusted, now)?)
    }

    /// Has a link certificate signed.
    ///
    /// # Errors
    /// [`AuthorityError`]: refused before it was asked, not signed, or answered differently.
    pub async fn sign_link(&self, request: &LinkRequest, now: SystemTime) -> Result<LinkCert, AuthorityError> {
        let wanted = request.wanted()?;
        let (blob, trusted) = (self.answer(&wanted, now).await?, self.user_ca().await?);
        Ok(LinkCert::check(&wanted, blob, &trusted, now)?)
    }

    /// The keys that sign session and link certificates.
    ///
    /// # Errors
    /// None from a local authority.
    pub async fn user_ca(&self) -> Result<CaKeys, AuthorityError> {
        self.trusted(CertType::User).await
    }

    /// The keys that sign host certificates.
    ///
    /// # Errors
    /// None from a local authority.
    pub async fn host_ca(&self) -> Result<CaKeys, AuthorityError> {
        self.trusted(CertType::Host).await
    }

    /// The blob that the authority answers with, not believed yet.
    async fn answer(&self, wanted: &Wanted, now: SystemTime) -> Result<Vec<u8>, AuthorityError> {
        match self {
            Self::Local(local) => local.sign(wanted, now),
            #[cfg(test)]
            Self::Lying(lying) => Ok(lying.answer(wanted, now)),
        }
    }

    async fn trusted(&self, kind: CertType) -> Result<CaKeys, AuthorityError> {
        match self {
            Self::Local(local) => Ok(local.trusted(kind).clone()),
            #[cfg(test)]
            Self::Lying(lying) => Ok(lying.trusted(kind)),
        }
    }
}
