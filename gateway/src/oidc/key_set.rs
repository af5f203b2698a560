//! The issuer's published keys (RFC 7517), as far as they are of use here: public keys for signatures.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// The keys that signatures may be checked with.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<Key>);

/// One public key for signatures.
pub(super) struct Key {
    id: Option<String>,
    kind: Kind,
    only_for: Option<String>,
    key: DecodingKey,
}

impl Key {
    /// Whether signatures of this algorithm may be checked with it.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        let only = self.only_for.as_ref();
        self.kind.suits(algorithm) && only.is_none_or(|only| *only == format!("{algorithm:?}"))
    }

    /// The key itself.
    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.key
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Key")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Kind {
    fn suits(self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => self == Self::Rsa,
            Algorithm::ES256 => self == Self::P256,
            Algorithm::ES384 => self == Self::P384,
            Algorithm::EdDSA => self == Self::Ed25519,
            _ => false,
        }
    }
}

/// What was found for a token's header.
pub(super) enum Found<'a> {
    /// Keys that may have signed it, at most [`MOST_TRIED`].
    Keys(Vec<&'a DecodingKey>),
    /// No key of this id: the issuer may have a new one.
    Unknown,
    /// There is a key of this id, and it is for other algorithms.
    Unfit,
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a key set. Keys that are for encryption, symmetric, weak or unknown are left out, as RFC 7517 section 5 asks;
    /// a set in which none is left is refused.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let published: Published = serde_json::from_slice(bytes).map_err(|error| format!("no key set: {error}"))?;
        if published.keys.len() > MOST_KEYS {
            return Err(format!("the key set has more than {MOST_KEYS} keys"));
        }
        let keys: Vec<Key> = published.keys.into_iter().filter_map(usable).collect();
        match keys.is_empty() {
            true => Err("the key set has no key that signatures can be checked with".to_owned()),
            false => Ok(Self(keys)),
        }
    }

    /// The keys that may have signed a token with this key id and algorithm. A token without a key id is taken only if
    /// one key alone could have signed it.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        let of_the_id: Vec<&Key> = self
            .0
            .iter()
            .filter(|key| id.is_none() || key.id.as_deref() == id)
            .collect();
        if of_the_id.is_empty() {
            return Found::Unknown;
        }
        let fitting: Vec<&DecodingKey> = of_the_id
            .into_iter()
            .filter(|key| key.fits(algorithm))
            .take(MOST_TRIED + 1)
            .map(|key| &key.key)
            .collect();
        let most = if id.is_none() { 1 } else { MOST_TRIED };
        match fitting.len() {
            0 => Found::Unfit,
            count if count > most => Found::Unfit,
            _ => Found::Keys(fitting),
        }
    }
}

/// A key that signatures can be checked with, if it is one.
pub(super) fn usable(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if jwk
        .common
        .public_key_use
        .as_ref()
        .is_some_and(|used| *used != PublicKeyUse::Signature)
    {
        return None;
    }
    if jwk
        .common
        .key_operations
        .as_ref()
        .is_some_and(|operations| !operations.contains(&KeyOperations::Verify))
    {
        return None;
    }
    let kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = URL_SAFE_NO_PAD.decode(&rsa.n).ok()?;
            let bytes = modulus.iter().skip_while(|byte| **byte == 0).count();
            (256..=1024).contains(&bytes).then_some(Kind::Rsa)?
        }
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Kind::P256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P384 => Kind::P384,
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Kind::Ed25519,
        _ => return None,
    };
    Some(Key {
        id: jwk.common.key_id.clone(),
        kind,
        only_for: jwk.common.key_algorithm.map(|algorithm| algorithm.to_string()),
        key: DecodingKey::from_jwk(&jwk).ok()?,
    })
}

/// The most keys that a set may have.
const MOST_KEYS: usize = 64;
/// The most keys of one id that are tried.
const MOST_TRIED: usize = 4;
