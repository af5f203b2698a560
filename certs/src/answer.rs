//! What an authority answered, held field by field against what it was asked.
//!
//! The proofs of this module ([`SessionCert`], [`HostCert`], [`LinkCert`]) are made here alone, and only of an answer
//! that says exactly what was asked: a lying or careless authority is noticed before its certificate is used.

use std::time::{Duration, SystemTime};

use ssh_key::Certificate;

use crate::{
    BACKDATED_AT_MOST, CaKeys, Refusal, blob,
    request::Wanted,
    verify::{believe, system_time, unix_seconds},
};

/// How an authority's answer differs from the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Discrepancy {
    /// The answer is no certificate that could be believed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another key was certified.
    #[error("the answer certifies another key")]
    Subject,
    /// The serial number is zero.
    #[error("the answer has no serial number")]
    Serial,
    /// Another key id.
    #[error("the answer has another key id")]
    KeyId,
    /// Other principals, more or fewer.
    #[error("the answer has other principals")]
    Principals,
    /// Other extensions, more or fewer, or another value.
    #[error("the answer has other extensions")]
    Extensions,
    /// Dated back too far, or valid only from a later time.
    #[error("the answer is not valid from about now (clock skew between us and the authority?)")]
    ValidAfter,
    /// Valid for longer than asked, or expired already.
    #[error("the answer is not valid for the time that was asked (clock skew between us and the authority?)")]
    ValidBefore,
}

impl Discrepancy {
    /// A stable code for metrics and audit fields.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Subject => "answer-subject",
            Self::Serial => "answer-serial",
            Self::KeyId => "answer-key-id",
            Self::Principals => "answer-principals",
            Self::Extensions => "answer-extensions",
            Self::ValidAfter => "answer-valid-after",
            Self::ValidBefore => "answer-valid-before",
        }
    }
}

macro_rules! answer {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name {
            certificate: Certificate,
            blob: Vec<u8>,
        }

        impl $name {
            /// Holds the answer's blob against the request.
            pub(crate) fn check(
                wanted: &Wanted,
                blob: Vec<u8>,
                trusted: &CaKeys,
                now: SystemTime,
            ) -> Result<Self, Discrepancy> {
                let certificate = check(wanted, &blob, trusted, now)?;
                Ok(Self { certificate, blob })
            }

            /// The certificate.
            #[must_use]
            pub fn certificate(&self) -> &Certificate {
                &self.certificate
            }

            /// The certificate as it goes over the wire.
            #[must_use]
            pub fn blob(&self) -> &[u8] {
                &self.blob
            }

            /// The certificate as one line in OpenSSH's form, without a newline.
            ///
            /// # Errors
            /// None that a checked certificate can cause; the encoder's type has one.
            pub fn openssh(&self) -> Result<String, ssh_key::Error> {
                self.certificate.to_openssh()
            }

            /// The serial number; never 0.
            #[must_use]
            pub fn serial(&self) -> u64 {
                self.certificate.serial()
            }

            /// The key id.
            #[must_use]
            pub fn key_id(&self) -> &str {
                self.certificate.key_id()
            }

            /// When the certificate expires.
            #[must_use]
            pub fn valid_before(&self) -> SystemTime {
                system_time(self.certificate.valid_before())
            }
        }
    };
}

answer! {
    /// A session certificate that says exactly what was asked.
    SessionCert
}
answer! {
    /// A host certificate that says exactly what was asked.
    HostCert
}
answer! {
    /// A link certificate that says exactly what was asked.
    LinkCert
}

/// How far the authority's clock may be from ours.
const CLOCK_SKEW: Duration = Duration::from_secs(30);

fn check(wanted: &Wanted, blob: &[u8], trusted: &CaKeys, now: SystemTime) -> Result<Certificate, Discrepancy> {
    let got = blob::read(blob)?;
    believe(&got, trusted, wanted.kind, wanted.longest)?;
    let now = unix_seconds(now);
    let skew = CLOCK_SKEW.as_secs();
    let life = wanted.valid_for.as_secs();
    let (after, before) = (got.valid_after(), got.valid_before());
    let differs = [
        (*got.public_key() != wanted.subject, Discrepancy::Subject),
        (got.serial() == 0, Discrepancy::Serial),
        (got.key_id() != wanted.key_id, Discrepancy::KeyId),
        (
            sorted(got.valid_principals()) != sorted(&wanted.principals),
            Discrepancy::Principals,
        ),
        (got.extensions().0 != wanted.extensions, Discrepancy::Extensions),
        (
            after > now || after + BACKDATED_AT_MOST.as_secs() + skew < now,
            Discrepancy::ValidAfter,
        ),
        (before <= now || before > now + life + skew, Discrepancy::ValidBefore),
        (
            before - after > life + BACKDATED_AT_MOST.as_secs(),
            Discrepancy::ValidBefore,
        ),
    ];
    match differs.into_iter().find(|(wrong, _)| *wrong) {
        Some((_, discrepancy)) => Err(discrepancy),
        None => Ok(got),
    }
}

/// In the order of their bytes: the order of principals means nothing, and Vault sorts them.
fn sorted(principals: &[String]) -> Vec<&String> {
    let mut sorted: Vec<_> = principals.iter().collect();
    sorted.sort();
    sorted
}

#[cfg(test)]
pub(crate) mod tests;
