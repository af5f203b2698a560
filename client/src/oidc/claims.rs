//! What an id token says.
//!
//! Only its payload is read. It came straight from the token endpoint over TLS (or loopback), where OpenID Connect
//! Core 1.0 section 3.1.3.7 point 6 lets TLS stand for the signature; everything else of that section is checked.
//! Nothing is decided by these claims but what this program shows and that the answer belongs to our request: the
//! gateway checks the access token by itself, signature and all.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// How far the issuer's clock may be off.
const LEEWAY: Duration = Duration::from_secs(60);

/// The claims that we read.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    pub(crate) sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: u64,
    nonce: Option<String>,
    preferred_username: Option<String>,
    email: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// What an id token must agree with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    /// The nonce that we sent; `None` in flows without one.
    pub(super) nonce: Option<&'a str>,
}

impl Claims {
    /// Reads and checks an id token.
    pub(super) fn check(token: &str, expected: &Expected<'_>, now: SystemTime) -> Result<Self, String> {
        let claims: Self = payload(token).ok_or_else(|| "its id token is malformed".to_owned())?;
        if claims.iss != expected.issuer {
            return Err("its id token is from another issuer".to_owned());
        }
        let audiences = match &claims.aud {
            Audience::One(one) => std::slice::from_ref(one),
            Audience::Many(many) => many.as_slice(),
        };
        if !audiences.iter().any(|audience| audience == expected.client_id) {
            return Err("its id token is for another client".to_owned());
        }
        let azp = claims.azp.as_deref();
        if azp.is_some_and(|azp| azp != expected.client_id) || (audiences.len() > 1 && azp.is_none()) {
            return Err("its id token was given to another client".to_owned());
        }
        let end = UNIX_EPOCH.checked_add(Duration::from_secs(claims.exp).saturating_add(LEEWAY));
        if end.is_none_or(|end| end <= now) {
            return Err("its id token has expired (is a clock wrong?)".to_owned());
        }
        if expected.nonce.is_some() && claims.nonce.as_deref() != expected.nonce {
            return Err("its id token does not belong to this login (nonce)".to_owned());
        }
        Ok(claims)
    }

    /// How the person is called.
    pub(crate) fn user(&self) -> &str {
        self.preferred_username
            .as_deref()
            .or(self.email.as_deref())
            .unwrap_or(&self.sub)
    }
}

/// When a JWT says that it expires, if it is a JWT and says so.
pub(super) fn expiry(token: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Expires {
        exp: u64,
    }
    payload::<Expires>(token).map(|claims| claims.exp)
}

fn payload<T: serde::de::DeserializeOwned>(token: &str) -> Option<T> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn token(claims: &Value) -> String {
        let encode = |value: &str| URL_SAFE_NO_PAD.encode(value);
        format!(
            "{}.{}.{}",
            encode("{\"alg\":\"RS256\"}"),
            encode(&claims.to_string()),
            encode("signature")
        )
    }

    fn good() -> Value {
        json!({"iss": "https://i", "sub": "1", "aud": "doorward", "exp": 2000, "nonce": "n", "email": "b@x"})
    }

    fn check(claims: &Value) -> Result<Claims, String> {
        let expected = Expected {
            issuer: "https://i",
            client_id: "doorward",
            nonce: Some("n"),
        };
        Claims::check(&token(claims), &expected, UNIX_EPOCH + Duration::from_secs(2000))
    }

    #[test]
    fn a_good_id_token_names_the_person() {
        assert_eq!(check(&good()).unwrap().user(), "b@x");
        let mut many = good();
        many["aud"] = json!(["doorward", "account"]);
        many["azp"] = json!("doorward");
        many["preferred_username"] = json!("bob");
        assert_eq!(check(&many).unwrap().user(), "bob");
    }

    #[test]
    fn each_wrong_claim_is_refused() {
        for (claim, value) in [
            ("iss", json!("https://i/")),
            ("aud", json!("other")),
            ("aud", json!(["doorward", "other"])),
            ("aud", json!([])),
            ("azp", json!("other")),
            ("exp", json!(1939)),
            ("exp", json!("2000")),
            ("exp", json!(-1)),
            ("exp", json!(1e300)),
            ("exp", Value::Null),
            ("nonce", json!("m")),
            ("nonce", Value::Null),
            ("sub", json!(7)),
        ] {
            let mut claims = good();
            claims[claim] = value.clone();
            assert!(check(&claims).is_err(), "{claim} = {value}");
        }
        let mut forever = good();
        forever["exp"] = json!(u64::MAX);
        assert!(check(&forever).is_err());
    }

    #[test]
    fn what_is_no_jwt_is_refused() {
        let expected = Expected {
            issuer: "https://i",
            client_id: "doorward",
            nonce: None,
        };
        for text in ["", "a.b", "a.b.c", "a.b.c.d", &format!("{}.x", token(&good()))] {
            assert!(Claims::check(text, &expected, UNIX_EPOCH).is_err(), "{text}");
        }
    }
}
