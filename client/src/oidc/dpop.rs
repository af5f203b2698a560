//! Proof of possession (RFC 9449): a key of this computer without which the tokens are useless, and its proofs.
//!
//! ES256, because every issuer that can do this at all can do that. A proof names one method and one address, carries
//! the hash of the token that it goes with, and is good for one use within about a minute.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use url::{Position, Url};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The name of the algorithm (RFC 7518 section 3.1).
pub(crate) const ALGORITHM: &str = "ES256";

/// A key of one login on this computer.
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    /// Base64url of the coordinates.
    x: String,
    y: String,
    thumbprint: String,
}

impl Key {
    /// A new key.
    pub(crate) fn generate() -> Result<Self, &'static str> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self::from_pair(pair.map_err(|_| "no key can be made")?)
    }

    /// A stored key, in PKCS #8.
    pub(crate) fn from_pkcs8(bytes: &[u8]) -> Result<Self, &'static str> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes);
        Self::from_pair(pair.map_err(|_| "it is no key of ours")?)
    }

    fn from_pair(pair: EcdsaKeyPair) -> Result<Self, &'static str> {
        // RFC 5480 section 2.2: 04, then both coordinates.
        let (x, y) = match pair.public_key().as_ref() {
            [4, point @ ..] if point.len() == 64 => (
                URL_SAFE_NO_PAD.encode(&point[..32]),
                URL_SAFE_NO_PAD.encode(&point[32..]),
            ),
            _ => return Err("its public half is no point of P-256"),
        };
        // RFC 7638 section 3: these members, in this order, without a space.
        let canonical = format!("{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"{x}\",\"y\":\"{y}\"}}");
        let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical));
        Ok(Self { pair, x, y, thumbprint })
    }

    /// The private key for its file (PKCS #8).
    pub(crate) fn pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, &'static str> {
        let document = self.pair.to_pkcs8v1().map_err(|_| "the key cannot be written")?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// Its thumbprint (RFC 7638), which the issuer puts into the tokens.
    pub(crate) fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// A proof for one request (RFC 9449 section 4.2): `token` is what goes with it, `nonce` what the server asked for,
    /// `now` in Unix seconds by the server's clock.
    pub(crate) fn proof(&self, of: &Proof<'_>, now: u64) -> Result<String, &'static str> {
        let head = json!({
            "typ": "dpop+jwt", "alg": ALGORITHM,
            "jwk": {"kty": "EC", "crv": "P-256", "x": self.x, "y": self.y},
        });
        let mut claims = json!({
            "jti": super::random(),
            "htm": of.method.as_str(),
            "htu": &of.url[..Position::AfterPath],
            "iat": now,
        });
        if let Some(token) = of.token {
            claims["ath"] = URL_SAFE_NO_PAD.encode(Sha256::digest(token.expose())).into();
        }
        if let Some(nonce) = of.nonce {
            claims["nonce"] = nonce.into();
        }
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(head), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|_| "the key does not sign")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.thumbprint)
    }
}

/// What a proof is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof<'a> {
    pub(crate) method: &'a Method,
    pub(crate) url: &'a Url,
    pub(crate) token: Option<&'a Secret>,
    pub(crate) nonce: Option<&'a str>,
}

/// Whether a text can be the thumbprint of a key, and so a part of a file's name.
pub(crate) fn is_thumbprint(text: &str) -> bool {
    text.len() == 43
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    fn decode(part: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(part).unwrap()
    }

    #[test]
    fn a_proof_is_for_one_request_and_one_token() {
        let key = Key::generate().unwrap();
        let key = Key::from_pkcs8(&key.pkcs8().unwrap()).unwrap();
        let token = Secret::from("token".to_owned());
        let url = Url::parse("https://gw.example:8443/v1/sessions?user=b#f").unwrap();
        let of = Proof {
            method: &Method::POST,
            url: &url,
            token: Some(&token),
            nonce: Some("n"),
        };
        let proof = key.proof(&of, 77).unwrap();
        let parts: Vec<&str> = proof.split('.').collect();
        let head: Value = serde_json::from_slice(&decode(parts[0])).unwrap();
        let claims: Value = serde_json::from_slice(&decode(parts[1])).unwrap();
        assert_eq!((&head["typ"], &head["alg"]), (&json!("dpop+jwt"), &json!("ES256")));
        assert!(head["jwk"]["d"].is_null(), "the private half stays here");
        assert_eq!(claims["htu"], "https://gw.example:8443/v1/sessions");
        assert_eq!(
            (&claims["htm"], &claims["iat"], &claims["nonce"]),
            (&json!("POST"), &json!(77), &json!("n"))
        );
        assert_eq!(claims["ath"], URL_SAFE_NO_PAD.encode(Sha256::digest("token")));
        let mut point = vec![4];
        for member in ["x", "y"] {
            point.extend(decode(head["jwk"][member].as_str().unwrap()));
        }
        let signed = format!("{}.{}", parts[0], parts[1]);
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        public.verify(signed.as_bytes(), &decode(parts[2])).unwrap();
        assert_ne!(proof, key.proof(&of, 77).unwrap(), "each has a number of its own");
        assert!(!format!("{key:?}").contains("pair"));
    }

    #[test]
    fn a_thumbprint_is_that_of_the_rfc_and_names_no_other_file() {
        // RFC 9449 section 6.1 confirms the key of its figure 1 so.
        let canonical = "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs\",\"y\":\"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA\"}";
        let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical));
        assert_eq!(thumbprint, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
        let key = Key::generate().unwrap();
        assert!(is_thumbprint(key.thumbprint()) && is_thumbprint(&thumbprint));
        for text in [
            "",
            "../../../../../../../../../../etc/passwd-xxxxxxxx",
            &"a".repeat(42),
            &"é".repeat(43),
        ] {
            assert!(!is_thumbprint(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bytes in [&b""[..], b"x", &[0x30; 100]] {
            assert!(Key::from_pkcs8(bytes).is_err());
        }
    }
}
