//! Tokens in memory: wiped when they are dropped, never shown.

use std::fmt;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A person's own token, handed on for one signing: an authority that signs in the person's name uses it up.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "vault"),
    expect(dead_code, reason = "only Vault signs in a person's name")
)]
pub struct UserToken(Secret);

impl UserToken {
    /// Takes a token over, as its issuer wrote it.
    #[must_use]
    pub fn new(token: Secret) -> Self {
        Self(token)
    }

    /// The token, for the one place that sends it.
    #[cfg(feature = "vault")]
    pub(crate) fn secret(&self) -> &Secret {
        &self.0
    }
}

/// A token or another secret text. It is wiped when dropped, and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a secret over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret: Secret = serde_json::from_str("\"hvs.abc\"").unwrap();
        assert_eq!(secret.expose(), "hvs.abc");
        assert!(!format!("{secret:?} {secret:#?}").contains("abc"));
        assert!(!format!("{:?}", UserToken::new(secret)).contains("abc"));
    }
}
