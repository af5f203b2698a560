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

/// How far clocks may be apart.
const LEEWAY: Duration = Duration::from_secs(60);

/// The claims that we read.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    pub(crate) sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: u64,
    iat: Option<u64>,
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

/// When it is, by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub(super) ours: SystemTime,
    /// As the issuer said it with its answer.
    pub(super) issuers: Option<SystemTime>,
}

impl Claims {
    /// Reads and checks an id token. Whether it has expired is judged by the issuer's clock as far as that is known:
    /// what comes straight from the issuer is no older than its `iat`, whatever this computer believes.
    pub(super) fn check(token: &str, expected: &Expected<'_>, clocks: Clocks) -> Result<Self, String> {
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
        if claims.iat.is_some_and(|iat| claims.exp <= iat) {
            return Err("its id token was never valid: it expires before it was issued".to_owned());
        }
        let issued = claims
            .iat
            .and_then(|iat| UNIX_EPOCH.checked_add(Duration::from_secs(iat)));
        let now = clocks.issuers.or(issued).unwrap_or(clocks.ours);
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

/// What a token says about itself, if it is a JWT. Nobody has checked it: good for showing, and for nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Glance {
    /// Unix seconds by the issuer's clock.
    pub(crate) exp: Option<u64>,
    pub(crate) iat: Option<u64>,
    pub(crate) groups: Option<Vec<String>>,
    pub(crate) email: Option<String>,
}

impl Glance {
    /// What can be seen; nothing in an opaque token.
    pub(crate) fn at(token: &str) -> Self {
        payload(token).unwrap_or_default()
    }
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

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn check(claims: &Value) -> Result<Claims, String> {
        check_at(
            claims,
            Clocks {
                ours: at(2000),
                issuers: None,
            },
        )
    }

    fn check_at(claims: &Value, clocks: Clocks) -> Result<Claims, String> {
        let expected = Expected {
            issuer: "https://i",
            client_id: "doorward",
            nonce: Some("n"),
        };
        Claims::check(&token(claims), &expected, clocks)
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
            ("iat", json!(2000)),
            ("iat", json!("1")),
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
    fn a_wrong_clock_of_ours_decides_nothing() {
        let mut claims = good();
        claims["iat"] = json!(1900);
        for ours in [at(1000), at(1950), at(9000)] {
            check_at(&claims, Clocks { ours, issuers: None }).unwrap();
            check_at(
                &claims,
                Clocks {
                    ours,
                    issuers: Some(at(2059)),
                },
            )
            .unwrap();
            check_at(
                &claims,
                Clocks {
                    ours,
                    issuers: Some(at(2060)),
                },
            )
            .unwrap_err();
        }
    }

    #[test]
    fn a_token_is_glanced_at_only() {
        let glance = Glance::at(&token(&json!({"exp": 7, "iat": 5, "groups": ["a"], "other": {}})));
        assert_eq!(
            (glance.exp, glance.iat, glance.groups),
            (Some(7), Some(5), Some(vec!["a".to_owned()]))
        );
    }

    #[test]
    fn what_is_no_jwt_is_refused() {
        let expected = Expected {
            issuer: "https://i",
            client_id: "doorward",
            nonce: None,
        };
        for text in ["", "a.b", "a.b.c", "a.b.c.d", &format!("{}.x", token(&good()))] {
            let clocks = Clocks {
                ours: UNIX_EPOCH,
                issuers: None,
            };
            assert!(Claims::check(text, &expected, clocks).is_err(), "{text}");
            assert_eq!(Glance::at(text), Glance::default(), "{text}");
        }
    }
}
