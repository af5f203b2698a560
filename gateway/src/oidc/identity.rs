//! Who a person is, proved by a token that was checked.

use std::{collections::BTreeSet, fmt, time::SystemTime};

use zeroize::Zeroizing;

/// A person whose token was checked. Only the check in this module makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub(super) user: String,
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) groups: BTreeSet<String>,
    pub(super) expires: SystemTime,
}

impl Identity {
    /// The name by which people and records call the person: 1 to 256 bytes without control characters.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The issuer of the token, exactly as configured.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The issuer's own name for the person (`sub`).
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The groups, each exactly as the token has it.
    #[must_use]
    pub fn groups(&self) -> &BTreeSet<String> {
        &self.groups
    }

    /// When the token ends (without leeway).
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// A person for tests, with a token that ends in an hour.
    #[cfg(test)]
    pub(crate) fn for_test(user: &str, groups: &[&str]) -> Self {
        Self {
            user: user.to_owned(),
            issuer: "https://issuer.example".to_owned(),
            subject: format!("subject-of-{user}"),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            expires: SystemTime::now() + std::time::Duration::from_secs(3600),
        }
    }
}

/// A bearer token as it came in: wiped when dropped, never shown.
pub struct BearerToken(Zeroizing<String>);

impl BearerToken {
    /// Takes a token that is at most [`BearerToken::LONGEST`] bytes and of the characters that RFC 6750 allows.
    ///
    /// # Errors
    /// The token is empty, too long, or has another character.
    pub fn new(token: &str) -> Result<Self, MalformedToken> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if token.is_empty() || token.len() > Self::LONGEST || !token.bytes().all(allowed) {
            return Err(MalformedToken);
        }
        Ok(Self(Zeroizing::new(token.to_owned())))
    }

    /// The longest token that is looked at, in bytes.
    pub const LONGEST: usize = 16 * 1024;

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BearerToken(…)")
    }
}

/// What was given as a bearer token cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bearer token is empty, longer than 16 KiB, or has characters that no token has")]
pub struct MalformedToken;
