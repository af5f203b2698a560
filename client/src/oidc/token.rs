//! The token endpoint (RFC 6749 section 3.2) and the revocation endpoint (RFC 7009). We are a public client.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use serde::Deserialize;
use url::Url;

use super::claims::{self, Claims, Expected};
use super::discovery::Issuer;
use crate::error::Error;
use crate::http::{Answer, Web, describe};
use crate::secret::Secret;

/// How long a token is taken to live when nothing says so.
const UNSAID_LIFE: Duration = Duration::from_secs(60);

/// Tokens for a person, and who that is.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) access: Secret,
    pub(crate) refresh: Option<Secret>,
    /// Unix seconds.
    pub(crate) expires: u64,
    /// Missing where the issuer gave no id token, which only the device grant allows.
    pub(crate) claims: Option<Claims>,
}

#[derive(Debug, Deserialize)]
struct Good {
    access_token: Secret,
    token_type: String,
    expires_in: Option<u64>,
    refresh_token: Option<Secret>,
    id_token: Option<Secret>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Bad {
    error: String,
    error_description: Option<String>,
}

/// An answer of the token endpoint: tokens, or an error code of a closed set.
pub(super) async fn ask(
    web: &Web,
    issuer: &Issuer,
    form: &[(&str, &str)],
    nonce: Option<&str>,
) -> Result<Granted, Error> {
    let expected = Expected {
        issuer: &issuer.issuer,
        client_id: &issuer.client_id,
        nonce,
    };
    read(&web.post(&issuer.token_endpoint, form).await?, &expected)
}

fn read(answer: &Answer, expected: &Expected<'_>) -> Result<Granted, Error> {
    if answer.status != StatusCode::OK {
        return Err(refusal(answer));
    }
    let wrong = |what: &str| Error::Answer {
        whom: answer.whom.clone(),
        what: what.to_owned(),
    };
    // The parser's own message could quote the answer, and so a token.
    let good: Good = serde_json::from_slice(&answer.body).map_err(|_| wrong("its token answer is malformed"))?;
    if !good.token_type.eq_ignore_ascii_case("bearer") {
        return Err(wrong("its token is no bearer token"));
    }
    let now = SystemTime::now();
    let claims = match &good.id_token {
        Some(token) => Some(Claims::check(token.expose(), expected, now).map_err(|what| wrong(&what))?),
        None if expected.nonce.is_some() => return Err(wrong("it gave no id token")),
        None => None,
    };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let life = good.expires_in.map(|seconds| now.as_secs().saturating_add(seconds));
    let expires = life.or_else(|| claims::expiry(good.access_token.expose()));
    Ok(Granted {
        access: good.access_token,
        refresh: good.refresh_token,
        expires: expires.unwrap_or((now + UNSAID_LIFE).as_secs()),
        claims,
    })
}

pub(super) fn refusal(answer: &Answer) -> Error {
    let bad: Bad = serde_json::from_slice(&answer.body).unwrap_or_default();
    if bad.error.is_empty() {
        return Error::Unreachable {
            whom: answer.whom.clone(),
            why: format!("it answered {}", describe(answer.status)),
        };
    }
    let text = bad
        .error_description
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| bad.error.clone());
    Error::Issuer { code: bad.error, text }
}

/// What a refresh needs; it is stored with the tokens, so that no discovery is needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refreshed<'a> {
    pub(crate) endpoint: &'a Url,
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) subject: Option<&'a str>,
}

/// Uses a refresh token. An id token that comes with the answer must be about the same person (OpenID Connect Core
/// 1.0 section 12.2).
pub(crate) async fn refresh(web: &Web, of: &Refreshed<'_>, token: &Secret) -> Result<Granted, Error> {
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token.expose()),
        ("client_id", of.client_id),
    ];
    let answer = web.post(of.endpoint, &form).await?;
    let granted = read(
        &answer,
        &Expected {
            issuer: of.issuer,
            client_id: of.client_id,
            nonce: None,
        },
    )?;
    let other = |claims: &Claims| of.subject.is_some_and(|subject| subject != claims.sub);
    if granted.claims.as_ref().is_some_and(other) {
        return Err(Error::Answer {
            whom: answer.whom,
            what: "it gave the tokens of another person".to_owned(),
        });
    }
    Ok(granted)
}

/// Revokes a token.
pub(crate) async fn revoke(
    web: &Web,
    endpoint: &Url,
    client_id: &str,
    token: &Secret,
    hint: &str,
) -> Result<(), Error> {
    let form = [
        ("token", token.expose()),
        ("token_type_hint", hint),
        ("client_id", client_id),
    ];
    let answer = web.post(endpoint, &form).await?;
    if answer.status == StatusCode::OK {
        Ok(())
    } else {
        Err(refusal(&answer))
    }
}
