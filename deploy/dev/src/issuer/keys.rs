//! The issuer's signing keys: ES256, one that signs and those that are still published.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Error;

/// What happens to the keys before a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// They stay in the JWKS, as in a planned rotation.
    Keep,
    /// They leave the JWKS at once, as after a theft.
    Drop,
}

/// The signing key first, then older ones.
pub(super) struct Keys(Vec<SigningKey>);

struct SigningKey {
    kid: String,
    x: String,
    y: String,
    private: EncodingKey,
}

impl Keys {
    pub(super) fn generate() -> Result<Self, Error> {
        Ok(Self(vec![SigningKey::generate()?]))
    }

    /// Makes a new signing key and returns its `kid`.
    pub(super) fn rotate(&mut self, overlap: Overlap) -> Result<String, Error> {
        let fresh = SigningKey::generate()?;
        let kid = fresh.kid.clone();
        if overlap == Overlap::Drop {
            self.0.clear();
        }
        self.0.insert(0, fresh);
        self.0.truncate(PUBLISHED);
        Ok(kid)
    }

    /// Signs with the newest key. A header without `kid` gets that key's.
    pub(super) fn sign(&self, header: &Header, claims: &Value) -> Result<String, Error> {
        let key = self.0.first().ok_or(Error::Signing)?;
        let mut header = header.clone();
        header.kid.get_or_insert_with(|| key.kid.clone());
        jsonwebtoken::encode(&header, claims, &key.private).map_err(|_| Error::Signing)
    }

    /// RFC 7517.
    pub(super) fn jwks(&self) -> Value {
        let keys: Vec<Value> = self.0.iter().map(SigningKey::jwk).collect();
        json!({ "keys": keys })
    }
}

impl SigningKey {
    fn generate() -> Result<Self, Error> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| Error::Signing)?;
        // The uncompressed point of SEC 1: 0x04, x, y.
        let point = pair.public_key().as_ref();
        let (x, y) = point
            .get(1..)
            .and_then(|xy| xy.split_at_checked(32))
            .ok_or(Error::Signing)?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        // RFC 7638: the required members in this order, without white space.
        let thumbprint = Sha256::digest(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#));
        let der = pair.to_pkcs8v1().map_err(|_| Error::Signing)?;
        Ok(Self {
            kid: URL_SAFE_NO_PAD.encode(thumbprint),
            x,
            y,
            private: EncodingKey::from_ec_der(der.as_ref()),
        })
    }

    fn jwk(&self) -> Value {
        json!({
            "kty": "EC", "crv": "P-256", "x": self.x, "y": self.y,
            "kid": self.kid, "use": "sig", "alg": "ES256",
        })
    }
}

/// The header of an access token: RFC 9068 section 2.1.
pub(super) fn access_header() -> Header {
    Header {
        typ: Some("at+jwt".to_owned()),
        ..Header::new(Algorithm::ES256)
    }
}

/// The header of an id token.
pub(super) fn id_header() -> Header {
    Header::new(Algorithm::ES256)
}

const PUBLISHED: usize = 4;
