//! Who signs: asked with a request, answering with a certificate that was checked against it.

use std::time::SystemTime;

use crate::{
    CaKeys, Discrepancy, HostCert, HostRequest, LinkCert, LinkRequest, Local, RequestError,
    SessionCert, SessionRequest,
};

/// The SSH certificate authority. Every answer is checked field by field, whoever gives it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Authority {
    /// Key files, or keys in memory, of this process: for development and small installs.
    Local(Local),
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
}

impl AuthorityError {
    /// A stable code for metrics and audit fields.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Request(error) => error.code(),
            Self::Answer(error) => error.code(),
            Self::Sign(_) => "authority-sign",
        }
    }
}

impl Authority {
    /// Has a session certificate signed.
    ///
    /// # Errors
    /// [`AuthorityError`]: refused before it was asked, not signed, or answered differently.
    pub async fn sign_session(
        &self,
        request: &SessionRequest,
        now: SystemTime,
    ) -> Result<SessionCert, AuthorityError> {
        let wanted = request.wanted()?;
        match self {
            Self::Local(local) => {
                let blob = local.sign(&wanted, now)?;
                Ok(SessionCert::check(&wanted, blob, local.user_ca(), now)?)
            }
        }
    }

    /// Has a host certificate signed.
    ///
    /// # Errors
    /// [`AuthorityError`]: refused before it was asked, not signed, or answered differently.
    pub async fn sign_host(
        &self,
        request: &HostRequest,
        now: SystemTime,
    ) -> Result<HostCert, AuthorityError> {
        let wanted = request.wanted()?;
        match self {
            Self::Local(local) => {
                let blob = local.sign(&wanted, now)?;
                Ok(HostCert::check(&wanted, blob, local.host_ca(), now)?)
            }
        }
    }

    /// Has a link certificate signed.
    ///
    /// # Errors
    /// [`AuthorityError`]: refused before it was asked, not signed, or answered differently.
    pub async fn sign_link(
        &self,
        request: &LinkRequest,
        now: SystemTime,
    ) -> Result<LinkCert, AuthorityError> {
        let wanted = request.wanted()?;
        match self {
            Self::Local(local) => {
                let blob = local.sign(&wanted, now)?;
                Ok(LinkCert::check(&wanted, blob, local.user_ca(), now)?)
            }
        }
    }

    /// The keys that sign session and link certificates.
    ///
    /// # Errors
    /// None from a local authority.
    pub async fn user_ca(&self) -> Result<CaKeys, AuthorityError> {
        match self {
            Self::Local(local) => Ok(local.user_ca().clone()),
        }
    }

    /// The keys that sign host certificates.
    ///
    /// # Errors
    /// None from a local authority.
    pub async fn host_ca(&self) -> Result<CaKeys, AuthorityError> {
        match self {
            Self::Local(local) => Ok(local.host_ca().clone()),
        }
    }
}
