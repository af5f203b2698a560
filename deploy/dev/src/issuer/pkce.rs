//! Proof key for code exchange, S256 only (RFC 7636; `plain` is not offered).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::form::Params;

/// A well-formed S256 challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge(Vec<u8>);

impl Challenge {
    /// From a request's parameters; `Ok(None)` when it sends no challenge.
    pub(super) fn from_params(params: &Params) -> Result<Option<Self>, &'static str> {
        let (challenge, method) = (params.find("code_challenge"), params.find("code_challenge_method"));
        match (challenge, method) {
            (None, None) => Ok(None),
            (Some(challenge), Some("S256")) => match URL_SAFE_NO_PAD.decode(challenge) {
                Ok(hash) if hash.len() == 32 => Ok(Some(Self(hash))),
                _ => Err("code_challenge is not a base64url SHA-256"),
            },
            (Some(_), _) => Err("code_challenge_method must be S256"),
            (None, Some(_)) => Err("code_challenge is missing"),
        }
    }

    /// True when the verifier has the form of RFC 7636 section 4.1 and hashes to this challenge.
    pub(super) fn met_by(&self, verifier: &str) -> bool {
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        (43..=128).contains(&verifier.len())
            && verifier.bytes().all(unreserved)
            && verify_slices_are_equal(&Sha256::digest(verifier), &self.0).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7636_appendix_b_passes_and_its_neighbours_fail() {
        let query = b"code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";
        let challenge = Challenge::from_params(&Params::parse(query).unwrap()).unwrap().unwrap();
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert!(challenge.met_by(verifier));
        assert!(!challenge.met_by(&verifier.to_lowercase()));
        assert!(!challenge.met_by(&verifier[1..]));
        assert!(!challenge.met_by(""));
    }

    #[test]
    fn plain_half_and_short_challenges_are_refused() {
        for query in [
            "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=plain",
            "code_challenge=AAAA&code_challenge_method=S256",
            "code_challenge_method=S256",
        ] {
            assert!(
                Challenge::from_params(&Params::parse(query.as_bytes()).unwrap()).is_err(),
                "{query}"
            );
        }
    }
}
