//! Authorization code with PKCE, the answer coming to a loopback port (RFC 6749 section 4.1, RFC 8252 section 7.3).

use url::Url;

use super::browser;
use super::discovery::Issuer;
use super::dpop::Key;
use super::loopback::{Answered, Loopback};
use super::pkce::{METHOD, Pkce};
use super::token::{self, Granted};
use crate::error::Error;
use crate::http::Web;
use crate::say;
use crate::secret::Secret;

/// Logs in with a browser. With `open`, one is started; the address is printed in any case.
pub(crate) async fn by_browser(web: &Web, issuer: &Issuer, key: Option<&Key>, open: bool) -> Result<Granted, Error> {
    let loopback = Loopback::listen().await?;
    let request = Request::new(issuer, key, &loopback.redirect_uri())?;
    let opened = open && browser::open(request.url.as_str());
    say::note(if opened {
        "log in with the browser that opens now"
    } else {
        "log in with a browser on this computer"
    });
    say::line(&format!("  address: {}", request.url));
    let answered = loopback.wait(&request.state).await?;
    let code = judge(issuer, answered)?;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.expose()),
        ("redirect_uri", request.redirect_uri.as_str()),
        ("client_id", issuer.client_id.as_str()),
        ("code_verifier", request.pkce.verifier.expose()),
    ];
    token::ask(web, issuer, key, &form, Some(&request.nonce)).await
}

/// One login: what binds the answer and the tokens to it.
#[derive(Debug)]
struct Request {
    url: Url,
    redirect_uri: String,
    state: String,
    nonce: String,
    pkce: Pkce,
}

impl Request {
    fn new(issuer: &Issuer, key: Option<&Key>, redirect_uri: &str) -> Result<Self, Error> {
        let no_endpoint = || Error::Answer {
            whom: issuer.whom(),
            what: "it has no login page: try --device".to_owned(),
        };
        let mut url = issuer.authorization_endpoint.clone().ok_or_else(no_endpoint)?;
        let (state, nonce, pkce) = (super::random(), super::random(), Pkce::new());
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &issuer.client_id)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("scope", &issuer.scope)
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &pkce.challenge)
            .append_pair("code_challenge_method", METHOD);
        if let Some(key) = key {
            // RFC 9449 section 10: the code itself is good for this key alone.
            url.query_pairs_mut().append_pair("dpop_jkt", key.thumbprint());
        }
        Ok(Self {
            url,
            redirect_uri: redirect_uri.to_owned(),
            state,
            nonce,
            pkce,
        })
    }
}

/// The code, if the answer comes from the issuer that was asked (RFC 9207 section 2.4) and is no refusal.
fn judge(issuer: &Issuer, answered: Answered) -> Result<Secret, Error> {
    let wrong = |what: &str| Error::Answer {
        whom: issuer.whom(),
        what: what.to_owned(),
    };
    match &answered.iss {
        Some(iss) if *iss != issuer.issuer => return Err(wrong("the login was answered by another issuer")),
        None if issuer.names_itself => return Err(wrong("the login's answer does not name its issuer")),
        _ => {}
    }
    if let Some(code) = answered.error {
        let text = answered
            .error_description
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| code.clone());
        return Err(Error::Issuer { code, text });
    }
    answered
        .code
        .filter(|code| !code.expose().is_empty())
        .ok_or_else(|| wrong("the login's answer holds no code"))
}
