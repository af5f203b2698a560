//! Proofs of possession as a server checks them (RFC 9449 section 4.3).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A proof whose signature is right.
pub(crate) struct Proved {
    pub(crate) claims: Value,
    pub(crate) thumbprint: String,
}

/// Checks what needs no knowledge of the request.
pub(crate) fn check(proof: &str) -> Proved {
    let parts: Vec<&str> = proof.split('.').collect();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let head: Value = serde_json::from_slice(&decode(parts[0])).unwrap();
    assert_eq!((&head["typ"], &head["alg"]), (&json!("dpop+jwt"), &json!("ES256")));
    let (x, y) = (head["jwk"]["x"].as_str().unwrap(), head["jwk"]["y"].as_str().unwrap());
    let point = [vec![4], decode(x), decode(y)].concat();
    let signed = format!("{}.{}", parts[0], parts[1]);
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(signed.as_bytes(), &decode(parts[2])).unwrap();
    let canonical = format!("{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"{x}\",\"y\":\"{y}\"}}");
    Proved {
        claims: serde_json::from_slice(&decode(parts[1])).unwrap(),
        thumbprint: hash(&canonical),
    }
}

/// What `ath` of a token is.
pub(crate) fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}
