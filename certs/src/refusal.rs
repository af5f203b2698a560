//! Why a certificate was not believed: one variant for each reason, each with a code and a public text.
//!
//! The texts show nothing of the certificate but option names, and those escaped and cut, because what stands in a
//! certificate that is refused was written by nobody whom we trust.

use crate::terms::TermsError;

/// Why a certificate was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The blob is longer than [`crate::LONGEST_BLOB`].
    #[error("the certificate is longer than 16 KiB")]
    TooLong,
    /// The text is not one line of a certificate in OpenSSH's form.
    #[error("the certificate is not a line in OpenSSH's form")]
    NotText,
    /// The blob breaks off, goes on behind its end, or a field is not what the format says.
    #[error("the certificate is malformed: {0}")]
    Malformed(&'static str),
    /// The blob can be read but is not the one encoding of what it says.
    #[error("the certificate is not encoded canonically")]
    NotCanonical,
    /// The subject is no ed25519 key.
    #[error("the certificate's subject is not an ed25519 key")]
    SubjectAlgorithm,
    /// The key that signed is no plain ed25519, ECDSA (P-256, P-384, P-521) or RSA key.
    #[error("the certificate is signed by a kind of key that is not accepted")]
    AuthorityAlgorithm,
    /// The RSA key that signed is not of 2048 to 8192 bits.
    #[error("the certificate is signed by an RSA key that is not of 2048 to 8192 bits")]
    AuthorityKeySize,
    /// The signature's algorithm does not fit the key, or is RSA with SHA-1.
    #[error("the certificate's signature algorithm does not fit its authority's key, or is obsolete")]
    SignatureAlgorithm,
    /// The key that signed is none of the trusted ones.
    #[error("the certificate is not signed by a trusted authority")]
    UntrustedAuthority,
    /// The signature is wrong.
    #[error("the certificate's signature is wrong")]
    BadSignature,
    /// A host certificate where a user certificate is needed.
    #[error("the certificate is a host certificate; a user certificate is needed")]
    NotUser,
    /// A user certificate where a host certificate is needed.
    #[error("the certificate is a user certificate; a host certificate is needed")]
    NotHost,
    /// `valid before` is not after `valid after`.
    #[error("the certificate's validity ends before it begins")]
    ValidityReversed,
    /// The certificate has no end (or none that a clock can reach).
    #[error("the certificate never expires")]
    Everlasting,
    /// The certificate lives longer than its kind may.
    #[error("the certificate is valid for longer than is allowed for its kind")]
    LifeTooLong,
    /// The certificate is not valid yet.
    #[error("the certificate is not valid yet (clock skew?)")]
    NotYetValid,
    /// The certificate has expired.
    #[error("the certificate has expired (clock skew?)")]
    Expired,
    /// There is a critical option; none is enforced, so none is accepted.
    #[error("the certificate has the critical option '{0}', which is not enforced here")]
    CriticalOption(String),
    /// There is no principal.
    #[error("the certificate names no principal")]
    NoPrincipal,
    /// There is more than one principal.
    #[error("the certificate names more than one principal")]
    ManyPrincipals,
    /// The principal is no login.
    #[error("the certificate's principal is not a login")]
    PrincipalMalformed,
    /// The principals are not the expected ones.
    #[error("the certificate is not for the expected principal")]
    WrongPrincipal,
    /// The subject is not the key that the peer proved.
    #[error("the certificate's subject is not the key that the peer proved")]
    WrongSubject,
    /// An extension in our namespace is not known.
    #[error("the certificate has the extension '{0}', which is not known here")]
    UnknownExtension(String),
    /// A flag has a value, which sshd refuses too.
    #[error("the certificate's extension '{0}' has a value, and should have none")]
    FlagWithValue(String),
    /// An extension stands in a kind of certificate that it does not belong to.
    #[error("the certificate's extension '{0}' does not belong into this kind of certificate")]
    MisplacedExtension(String),
    /// The terms cannot be read.
    #[error("the certificate's terms are refused: {0}")]
    Terms(#[from] TermsError),
    /// The key id is not of the form `user=… session=…`.
    #[error("the certificate's key id does not name a user and a session")]
    KeyId,
    /// The certificate is not for this session.
    #[error("the certificate is not for this session")]
    WrongSession,
    /// The certificate is not for this workspace (another UID, or none).
    #[error("the certificate is not for this workspace")]
    WrongWorkspace,
    /// The serial number is zero, which means "not numbered".
    #[error("the certificate has no serial number")]
    NoSerial,
    /// The serial number was seen before.
    #[error("the certificate was used before")]
    Replayed,
    /// Too many unexpired certificates are remembered to take one more.
    #[error("too many sessions were opened in a short time")]
    TooManySerials,
}

impl Refusal {
    /// A stable code for metrics and audit fields.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "certificate-too-long",
            Self::NotText => "certificate-not-text",
            Self::Malformed(_) => "certificate-malformed",
            Self::NotCanonical => "certificate-not-canonical",
            Self::SubjectAlgorithm => "certificate-subject-algorithm",
            Self::AuthorityAlgorithm => "certificate-authority-algorithm",
            Self::AuthorityKeySize => "certificate-authority-key-size",
            Self::SignatureAlgorithm => "certificate-signature-algorithm",
            Self::UntrustedAuthority => "certificate-untrusted-authority",
            Self::BadSignature => "certificate-bad-signature",
            Self::NotUser => "certificate-not-user",
            Self::NotHost => "certificate-not-host",
            Self::ValidityReversed => "certificate-validity-reversed",
            Self::Everlasting => "certificate-everlasting",
            Self::LifeTooLong => "certificate-life-too-long",
            Self::NotYetValid => "certificate-not-yet-valid",
            Self::Expired => "certificate-expired",
            Self::CriticalOption(_) => "certificate-critical-option",
            Self::NoPrincipal => "certificate-no-principal",
            Self::ManyPrincipals => "certificate-many-principals",
            Self::PrincipalMalformed => "certificate-principal-malformed",
            Self::WrongPrincipal => "certificate-wrong-principal",
            Self::WrongSubject => "certificate-wrong-subject",
            Self::UnknownExtension(_) => "certificate-unknown-extension",
            Self::FlagWithValue(_) => "certificate-flag-with-value",
            Self::MisplacedExtension(_) => "certificate-misplaced-extension",
            Self::Terms(_) => "certificate-terms",
            Self::KeyId => "certificate-key-id",
            Self::WrongSession => "certificate-wrong-session",
            Self::WrongWorkspace => "certificate-wrong-workspace",
            Self::NoSerial => "certificate-no-serial",
            Self::Replayed => "certificate-replayed",
            Self::TooManySerials => "certificate-too-many-serials",
        }
    }

    /// What the operator might do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotYetValid | Self::Expired => {
                Some("clock skew? compare the clocks of the gateway, the authority and the workspace")
            }
            Self::UntrustedAuthority => Some("was the authority's key rotated? compare the trusted keys of both sides"),
            Self::WrongWorkspace => Some("was the workspace made anew under the same name?"),
            _ => None,
        }
    }
}

/// A name from a certificate, fit to be shown: printable ASCII, at most 64 characters.
pub(crate) fn shown(name: &str) -> String {
    name.chars().flat_map(char::escape_default).take(64).collect()
}
