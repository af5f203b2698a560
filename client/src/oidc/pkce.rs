//! Proof Key for Code Exchange (RFC 7636), with S256 and never `plain`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::secret::Secret;

/// A verifier that stays here, and the challenge that the issuer is shown.
#[derive(Debug)]
pub(super) struct Pkce {
    pub(super) verifier: Secret,
    pub(super) challenge: String,
}

/// The only method that we use.
pub(super) const METHOD: &str = "S256";

impl Pkce {
    /// A new pair.
    pub(super) fn new() -> Self {
        Self::from_verifier(super::random())
    }

    fn from_verifier(verifier: String) -> Self {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        Self {
            verifier: verifier.into(),
            challenge,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        let pkce = Pkce::from_verifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned());
        assert_eq!(pkce.challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        let (one, two) = (Pkce::new(), Pkce::new());
        assert_ne!(one.verifier, two.verifier);
        assert!(one.verifier.expose().len() >= 43);
    }
}
