//! The token endpoint (RFC 6749 section 3.2), and the ends of a login: the revocation endpoint (RFC 7009) and the logout
//! endpoint. We are a public client.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::claims::{Claims, Clocks, Expected, Glance};
use super::discovery::Issuer;
use super::dpop::{Key, Proof};
use crate::clock;
use crate::error::Error;
use crate::gateway::Dpop;
use crate::http::{Answer, Web, describe};
use crate::secret::Secret;

/// How long a token is taken to live when nothing says so.
const UNSAID_LIFE: u64 = 60;
/// How often a proof of possession is made anew because the server wants it otherwise: once for its nonce, once for
/// its clock.
const PROOFS: u32 = 3;
/// The longest nonce that is sent back.
const LONGEST_NONCE: usize = 1024;

/// Tokens for a person, and who that is.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    /// What the gateway is shown: the access token, or the id token.
    pub(crate) shown: Secret,
    pub(crate) refresh: Option<Secret>,
    /// How long that lives from now on, in seconds.
    pub(crate) life: u64,
    /// Whether it is bound to the key that was shown.
    pub(crate) bound: bool,
    pub(crate) lasts: Lasts,
    /// How far the issuer's clock is ahead of ours, in seconds; `None` where the answer does not show it.
    pub(crate) ahead: Option<i64>,
    /// Missing where the issuer gave no id token, which only the device grant allows.
    pub(crate) claims: Option<Claims>,
}

/// Until when a login can be refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasts {
    /// Nothing says so.
    Unsaid,
    /// Until it is revoked.
    Revoked,
    /// So many seconds from now on.
    Seconds(u64),
}

#[derive(Debug, Deserialize)]
struct Good {
    access_token: Secret,
    token_type: String,
    expires_in: Option<u64>,
    refresh_token: Option<Secret>,
    /// No standard, but what several issuers say; 0 is for ever.
    refresh_expires_in: Option<u64>,
    id_token: Option<Secret>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Bad {
    error: String,
    error_description: Option<String>,
}

/// Where tokens are asked for, and by which key.
#[derive(Clone, Copy, Debug)]
struct Endpoint<'a> {
    web: &'a Web,
    url: &'a Url,
    key: Option<&'a Key>,
    /// How far the issuer's clock is believed to be ahead.
    ahead: i64,
}

impl Endpoint<'_> {
    /// Asks; with a key also proves it, with the nonce and by the clock that the server wants (RFC 9449 section 8).
    async fn post(&self, form: &[(&str, &str)]) -> Result<Answer, Error> {
        let Some(key) = self.key else {
            return self.web.post(self.url, form, None).await;
        };
        let (mut nonce, mut ahead) = (None, self.ahead);
        let mut tries = 0;
        loop {
            let of = Proof {
                method: &Method::POST,
                url: self.url,
                token: None,
                nonce: nonce.as_deref(),
            };
            let proof = key.proof(&of, crate::pass::now().saturating_add_signed(ahead));
            let proof = proof.map_err(|what| Error::Configuration(what.to_owned()))?;
            let answer = self.web.post(self.url, form, Some(&proof)).await?;
            tries += 1;
            if answer.status == StatusCode::OK || tries == PROOFS {
                return Ok(answer);
            }
            match bad(&answer).error.as_str() {
                "use_dpop_nonce" => match wanted_nonce(&answer) {
                    Some(wanted) if nonce.as_ref() != Some(&wanted) => nonce = Some(wanted),
                    _ => return Ok(answer),
                },
                // A clock of ours that was set meanwhile, or was never right.
                "invalid_dpop_proof" => match clock::ahead(answer.date(), SystemTime::now()) {
                    theirs if theirs != ahead => ahead = theirs,
                    _ => return Ok(answer),
                },
                _ => return Ok(answer),
            }
        }
    }
}

fn wanted_nonce(answer: &Answer) -> Option<String> {
    let nonce = answer.headers.get("dpop-nonce")?.to_str().ok()?;
    (!nonce.is_empty() && nonce.len() <= LONGEST_NONCE).then(|| nonce.to_owned())
}

/// An answer of the token endpoint: tokens, or an error code of a closed set.
pub(super) async fn ask(
    web: &Web,
    issuer: &Issuer,
    key: Option<&Key>,
    form: &[(&str, &str)],
    nonce: Option<&str>,
) -> Result<Granted, Error> {
    let expected = Expected {
        issuer: &issuer.issuer,
        client_id: &issuer.client_id,
        nonce,
    };
    let endpoint = Endpoint {
        web,
        url: &issuer.token_endpoint,
        key,
        ahead: issuer.ahead,
    };
    let terms = Terms {
        proved: key.is_some(),
        must_be_bound: issuer.dpop == Dpop::Required,
        shows_id: issuer.shows_id,
    };
    read(&endpoint.post(form).await?, &expected, terms)
}

/// What an answer has to hold.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// A key was proved.
    proved: bool,
    /// The token must be bound to it.
    must_be_bound: bool,
    /// The gateway takes the id token.
    shows_id: bool,
}

fn read(answer: &Answer, expected: &Expected<'_>, terms: Terms) -> Result<Granted, Error> {
    if answer.status != StatusCode::OK {
        return Err(refusal(answer));
    }
    let wrong = |what: &str| Error::Answer {
        whom: answer.whom.clone(),
        what: what.to_owned(),
    };
    // The parser's own message could quote the answer, and so a token.
    let good: Good = serde_json::from_slice(&answer.body).map_err(|_| wrong("its token answer is malformed"))?;
    let bound = match good.token_type.to_ascii_lowercase().as_str() {
        "dpop" if terms.proved => true,
        "bearer" if terms.must_be_bound => return Err(wrong("its token is not bound to this computer's key")),
        "bearer" => false,
        _ => return Err(wrong("its token is of a kind that was not asked for")),
    };
    let clocks = Clocks {
        ours: SystemTime::now(),
        issuers: answer.date(),
    };
    let claims = match &good.id_token {
        Some(token) => Some(Claims::check(token.expose(), expected, clocks).map_err(|what| wrong(&what))?),
        None if expected.nonce.is_some() => return Err(wrong("it gave no id token")),
        None => None,
    };
    let shown = match (terms.shows_id, good.id_token) {
        (true, Some(token)) => token,
        (true, None) => return Err(wrong("it gave no id token, and the gateway takes no other")),
        (false, _) => good.access_token,
    };
    let glance = Glance::at(shown.expose());
    // A token that was just made says what time it is there.
    let made = glance
        .iat
        .and_then(|iat| UNIX_EPOCH.checked_add(Duration::from_secs(iat)));
    let theirs = clocks.issuers.or(made);
    // `expires_in` is said of the access token.
    let said = good.expires_in.filter(|_| !terms.shows_id);
    let life = said.or_else(|| life(&glance)).unwrap_or(UNSAID_LIFE);
    let lasts = match (&good.refresh_token, good.refresh_expires_in) {
        (None, _) => Lasts::Seconds(life),
        (Some(_), Some(0)) => Lasts::Revoked,
        (Some(_), Some(seconds)) => Lasts::Seconds(seconds),
        (Some(token), None) => self::life(&Glance::at(token.expose())).map_or(Lasts::Unsaid, Lasts::Seconds),
    };
    Ok(Granted {
        shown,
        refresh: good.refresh_token,
        life,
        // An id token is bound to no key.
        bound: bound && !terms.shows_id,
        lasts,
        ahead: theirs.map(|theirs| clock::ahead(Some(theirs), clocks.ours)),
        claims,
    })
}

/// How long a token lives by its own words; by the issuer's clock alone, so ours does not matter.
fn life(glance: &Glance) -> Option<u64> {
    Some(glance.exp?.saturating_sub(glance.iat?))
}

fn bad(answer: &Answer) -> Bad {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

pub(super) fn refusal(answer: &Answer) -> Error {
    let bad = bad(answer);
    if bad.error.is_empty() {
        return Error::Unreachable {
            whom: answer.whom.clone(),
            why: format!("it answered {}", describe(answer.status)),
            hint: None,
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
    /// The key to which the tokens are bound.
    pub(crate) key: Option<&'a Key>,
    pub(crate) shows_id: bool,
    pub(crate) ahead: i64,
}

/// Uses a refresh token. An id token that comes with the answer must be about the same person (OpenID Connect Core
/// 1.0 section 12.2), and what was bound to a key stays so.
pub(crate) async fn refresh(web: &Web, of: &Refreshed<'_>, token: &Secret) -> Result<Granted, Error> {
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token.expose()),
        ("client_id", of.client_id),
    ];
    let endpoint = Endpoint {
        web,
        url: of.endpoint,
        key: of.key,
        ahead: of.ahead,
    };
    let answer = endpoint.post(&form).await?;
    let expected = Expected {
        issuer: of.issuer,
        client_id: of.client_id,
        nonce: None,
    };
    let terms = Terms {
        proved: of.key.is_some(),
        must_be_bound: of.key.is_some(),
        shows_id: of.shows_id,
    };
    let granted = read(&answer, &expected, terms)?;
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
    done(&web.post(endpoint, &form, None).await?)
}

/// Ends the session at the issuer by its refresh token, as some issuers have it at their logout endpoint.
pub(crate) async fn end_session(web: &Web, endpoint: &Url, client_id: &str, token: &Secret) -> Result<(), Error> {
    let form = [("client_id", client_id), ("refresh_token", token.expose())];
    done(&web.post(endpoint, &form, None).await?)
}

fn done(answer: &Answer) -> Result<(), Error> {
    if answer.status.is_success() {
        Ok(())
    } else {
        Err(refusal(answer))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use http::HeaderMap;
    use serde_json::{Value, json};

    use super::*;

    fn answer(body: &Value) -> Answer {
        Answer {
            whom: "i".to_owned(),
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: body.to_string().into(),
        }
    }

    #[test]
    fn the_id_token_is_shown_where_the_gateway_takes_it_and_lives_as_it_says_itself() {
        let now = crate::pass::now();
        let claims = json!({"iss": "https://i", "sub": "1", "aud": "doorward", "iat": now, "exp": now + 600});
        let parts = ["{\"alg\":\"RS256\"}", &claims.to_string(), "signature"];
        let id = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let mut body = json!({"access_token": "opaque", "token_type": "Bearer", "expires_in": 3599, "id_token": id});
        let expected = Expected {
            issuer: "https://i",
            client_id: "doorward",
            nonce: None,
        };
        let terms = |shows_id| Terms {
            proved: false,
            must_be_bound: false,
            shows_id,
        };
        let shown = |body: &Value, shows_id| {
            let granted = read(&answer(body), &expected, terms(shows_id))?;
            Ok::<_, Error>((granted.shown.expose().to_owned(), granted.life))
        };
        assert_eq!(shown(&body, false).unwrap(), ("opaque".to_owned(), 3599));
        assert_eq!(shown(&body, true).unwrap(), (id, 600));
        body["id_token"] = Value::Null;
        assert_eq!(shown(&body, false).unwrap().0, "opaque");
        assert!(shown(&body, true).unwrap_err().to_string().contains("no id token"));
    }
}
