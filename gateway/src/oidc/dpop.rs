//! Proof of possession (RFC 9449): whoever shows a bound token signs each request with the key that it is bound to.
//!
//! The key comes with the proof and is believed only because its thumbprint (RFC 7638) stands in the token. Only public
//! keys, only algorithms of the issuer's list and ES256, only this request, only now, only once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use url::Url;

use super::{
    BearerToken, Presented, ShownProof, json, key_set,
    replay::{NotNew, Seen, digest},
    token::wrong_kind,
};
use crate::{
    config::{Dpop, Oidc},
    refusal::{Refusal, RefusalCode},
};

/// Checks that a token is shown in the way that it must be: bound ones with their proof, others without.
pub(super) fn check(
    claims: &Map<String, Value>,
    settings: &Oidc,
    shown: &Presented,
    seen: &Seen,
) -> Result<(), Refusal> {
    let bound = match claims.get("cnf") {
        None => None,
        Some(_) if settings.dpop == Dpop::Off => return Err(wrong_kind("it is bound to a key")),
        // Members that say nothing about a key are no matter (RFC 7800, section 3.1); other keys would go unchecked.
        Some(Value::Object(cnf)) if !OTHER_KEYS.iter().any(|name| cnf.contains_key(*name)) => Some(
            cnf.get("jkt")
                .and_then(Value::as_str)
                .ok_or_else(|| wrong_kind("it is bound in a way that is not known here"))?,
        ),
        Some(_) => return Err(wrong_kind("it is bound in a way that is not known here")),
    };
    match (bound, &shown.proof) {
        (None, None) if settings.dpop == Dpop::Required => Err(missing(
            "the token is not bound to a key, as this gateway requires",
            "`doorward login` gets one that is",
        )),
        (None, None) => Ok(()),
        (None, Some(_)) => Err(wrong_kind("it was shown with a proof and is not bound to a key")),
        (Some(_), None) => Err(missing(
            "the token is bound to a key and came without the proof of it",
            "the token is of use on the device alone that it was made for",
        )),
        (Some(thumbprint), Some(proof)) => {
            let jti = verify(proof, &shown.token, thumbprint, &settings.algorithms, SystemTime::now())?;
            seen.take(thumbprint, &jti).map_err(|not_new| match not_new {
                NotNew::Again => invalid("it was shown before"),
                NotNew::Full => Refusal::new(RefusalCode::Overloaded, "too many requests with proofs at the moment")
                    .with_retry_after(WINDOW),
            })
        }
    }
}

/// Checks a proof (RFC 9449, section 4.3) and returns its `jti`, which must be new.
fn verify(
    proof: &ShownProof,
    token: &BearerToken,
    thumbprint: &str,
    algorithms: &[Algorithm],
    now: SystemTime,
) -> Result<String, Refusal> {
    let text = proof.jwt.expose();
    let mut parts = text.split('.');
    let (Some(header), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(invalid("not three parts"));
    };
    let signed = &text[..header.len() + 1 + claims.len()];
    let object = |part: &str| {
        URL_SAFE_NO_PAD
            .decode(part)
            .ok()
            .and_then(|bytes| json::object(&bytes).ok())
            .ok_or_else(|| invalid("a part is no object without repetition"))
    };
    let header = object(header)?;
    if header.get("typ").and_then(Value::as_str) != Some("dpop+jwt") {
        return Err(invalid("typ is not dpop+jwt"));
    }
    if ["jku", "x5u", "x5c", "crit", "b64", "zip"]
        .iter()
        .any(|name| header.contains_key(*name))
    {
        return Err(invalid("the header brings rules or other keys"));
    }
    let algorithm = header
        .get("alg")
        .and_then(Value::as_str)
        .and_then(|name| {
            let mut known = algorithms.iter().copied().chain([OURS]);
            known.find(|one| format!("{one:?}") == name)
        })
        .ok_or_else(|| invalid("alg is not one of the list"))?;
    let Some(Value::Object(jwk)) = header.get("jwk") else {
        return Err(invalid("jwk is no key"));
    };
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"]
        .iter()
        .any(|name| jwk.contains_key(*name))
    {
        return Err(invalid("jwk has private parts"));
    }
    // Compared before anything is computed with the key: a key of somebody else costs one hash.
    if self::thumbprint(jwk).as_deref() != Some(thumbprint) {
        return Err(invalid("the key is not the one that the token is bound to"));
    }
    let key = key_set::usable(Value::Object(jwk.clone()))
        .filter(|key| key.fits(algorithm))
        .ok_or_else(|| invalid("jwk is no key for its algorithm"))?;
    if jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key.decoding(), algorithm) != Ok(true) {
        return Err(invalid("the signature is wrong"));
    }
    let claims = object(claims)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("htm") != Some(proof.method.as_str()) {
        return Err(invalid("htm is another method"));
    }
    if !text("htu").is_some_and(|htu| names(htu, proof)) {
        return Err(invalid("htu is another place"));
    }
    let hash = URL_SAFE_NO_PAD.encode(digest(token.expose()));
    if text("ath") != Some(hash.as_str()) {
        return Err(invalid("ath is of another token"));
    }
    let made = claims.get("iat").and_then(Value::as_u64).unwrap_or_default();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if made.abs_diff(now) > WINDOW.as_secs() {
        return Err(invalid("iat is not now").with_hint("is the clock of your computer right?"));
    }
    match text("jti") {
        Some(jti) if (1..=LONGEST_ID).contains(&jti.len()) => Ok(jti.to_owned()),
        _ => Err(invalid("jti is no id")),
    }
}

/// Whether `htu` is the request's own URL: TLS, its host and port, its path. Query and fragment do not count.
fn names(htu: &str, proof: &ShownProof) -> bool {
    let (Ok(said), Ok(own)) = (Url::parse(htu), Url::parse(&format!("https://{}", proof.host))) else {
        return false;
    };
    // The client's library may call the address of a tunnel by its own scheme.
    let scheme = said.scheme() == "https" || (said.scheme() == "wss" && proof.path.starts_with("/v1/connect/"));
    scheme
        && said.username().is_empty()
        && said.password().is_none()
        && said.host_str() == own.host_str()
        && said.port_or_known_default() == own.port_or_known_default()
        && said.path() == proof.path
}

/// The thumbprint of a public key (RFC 7638): the hash of its required members in their order.
pub(super) fn thumbprint(jwk: &Map<String, Value>) -> Option<String> {
    let names: &[&str] = match jwk.get("kty")?.as_str()? {
        "RSA" => &["e", "kty", "n"],
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        _ => return None,
    };
    let members = names
        .iter()
        .map(|name| Some(format!("\"{name}\":{}", Value::from(jwk.get(*name)?.as_str()?))))
        .collect::<Option<Vec<_>>>()?;
    Some(URL_SAFE_NO_PAD.encode(digest(&format!("{{{}}}", members.join(",")))))
}

fn missing(text: &'static str, hint: &'static str) -> Refusal {
    Refusal::new(RefusalCode::ProofMissing, text).with_hint(hint)
}

fn invalid(detail: &'static str) -> Refusal {
    Refusal::new(
        RefusalCode::ProofInvalid,
        "the proof that the token is yours does not hold",
    )
    .with_hint("try again; `doorward login` gets a new token if that does not help")
    .with_detail(format!("the proof: {detail}"))
}

/// What our own client signs with. The list is about the issuer's keys; one with RSA alone must not shut its people out.
const OURS: Algorithm = Algorithm::ES256;
/// Confirmation by other keys than that of a proof (RFC 7800, RFC 8705).
const OTHER_KEYS: [&str; 5] = ["x5t#S256", "jwk", "jwe", "jku", "kid"];
/// How far from now a proof may have been made, and so how long its id is remembered, twice over.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// The longest `jti`, in bytes.
const LONGEST_ID: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7638, section 3.1.
    #[test]
    fn thumbprints_are_those_of_the_standard() {
        let jwk = serde_json::json!({
            "kty": "RSA", "alg": "RS256", "kid": "2011-04-29", "e": "AQAB",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        });
        assert_eq!(
            thumbprint(jwk.as_object().unwrap()).unwrap(),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }

    #[test]
    fn a_place_is_exact() {
        let proof = |host: &str, path: &str| ShownProof {
            jwt: BearerToken::new("x").unwrap(),
            method: "GET".to_owned(),
            host: host.to_owned(),
            path: path.to_owned(),
        };
        let own = proof("gw.example:8443", "/v1/connect/devenv-0");
        for good in [
            "https://gw.example:8443/v1/connect/devenv-0",
            "wss://gw.example:8443/v1/connect/devenv-0",
            "https://GW.example:8443/v1/connect/devenv-0?query#fragment",
        ] {
            assert!(names(good, &own), "{good}");
        }
        for bad in [
            "http://gw.example:8443/v1/connect/devenv-0",
            "https://gw.example/v1/connect/devenv-0",
            "https://evil.example:8443/v1/connect/devenv-0",
            "https://gw.example:8443/v1/connect/devenv-1",
            "https://gw.example:8443/v1/connect/devenv-0/",
            "https://u@gw.example:8443/v1/connect/devenv-0",
            "/v1/connect/devenv-0",
            "",
        ] {
            assert!(!names(bad, &own), "{bad}");
        }
        assert!(names("https://gw.example/v1/me", &proof("gw.example:443", "/v1/me")));
        assert!(!names("wss://gw.example/v1/me", &proof("gw.example", "/v1/me")));
    }
}
