//! What the gateway says about its issuer, and what the issuer says about itself (OpenID Connect Discovery 1.0).

use std::time::SystemTime;

use http::StatusCode;
use serde::Deserialize;
use url::Url;

use super::dpop;
use crate::clock;
use crate::error::Error;
use crate::gateway::{Dpop, KnownIssuer, TokenKind};
use crate::http::{Web, describe, name, proxy};
use crate::say;

/// An issuer that answered for itself, and the client that we are there.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) scope: String,
    pub(crate) authorization_endpoint: Option<Url>,
    pub(crate) device_endpoint: Option<Url>,
    pub(crate) token_endpoint: Url,
    pub(crate) revocation_endpoint: Option<Url>,
    pub(crate) end_session_endpoint: Option<Url>,
    /// Whether tokens are to be bound to a key (RFC 9449); `Optional` only where the issuer can do it.
    pub(crate) dpop: Dpop,
    /// Whether the gateway is shown the id token, in place of the access token.
    pub(crate) shows_id: bool,
    /// How far its clock is ahead of ours, in seconds; 0 where nobody knows.
    pub(crate) ahead: i64,
    /// RFC 9207: the issuer names itself in its answers.
    pub(crate) names_itself: bool,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: Option<Url>,
    device_authorization_endpoint: Option<Url>,
    token_endpoint: Url,
    revocation_endpoint: Option<Url>,
    end_session_endpoint: Option<Url>,
    #[serde(default)]
    dpop_signing_alg_values_supported: Vec<String>,
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Issuer {
    /// Asks the issuer that the gateway names; `scope` is what to ask it for, `date` the gateway's clock.
    ///
    /// # Errors
    /// An issuer that calls itself otherwise, cannot do PKCE with S256, has an endpoint without TLS, or cannot bind tokens
    /// where the gateway wants it is refused.
    pub(crate) async fn discover(
        web: &Web,
        known: &KnownIssuer,
        scope: String,
        date: Option<SystemTime>,
    ) -> Result<Self, Error> {
        let base = known.issuer.trim_end_matches('/');
        let url = format!("{base}/.well-known/openid-configuration");
        let url = Url::parse(&url).map_err(|error| answer("the gateway", format!("{base} is no issuer: {error}")))?;
        let whom = name(&url);
        let found = say::impatiently(&format!("the issuer at {whom}"), web.get(&url, None)).await?;
        if found.status != StatusCode::OK {
            return Err(answer(
                &whom,
                format!("{} for its discovery document", describe(found.status)),
            ));
        }
        let ahead = clock::ahead(found.date().or(date), SystemTime::now());
        let found: Metadata = found.json()?;
        if found.issuer != known.issuer {
            let what = format!(
                "it calls itself {}, but the gateway trusts {}",
                found.issuer, known.issuer
            );
            return Err(answer(&whom, what));
        }
        let s256 = |methods: &Vec<String>| methods.iter().any(|method| method == "S256");
        if !found.code_challenge_methods_supported.as_ref().is_none_or(s256) {
            return Err(answer(&whom, "it cannot do PKCE with S256".to_owned()));
        }
        let endpoints = [
            found.authorization_endpoint.as_ref(),
            found.device_authorization_endpoint.as_ref(),
            Some(&found.token_endpoint),
            found.revocation_endpoint.as_ref(),
            found.end_session_endpoint.as_ref(),
        ];
        for endpoint in endpoints.into_iter().flatten() {
            if !is_safe(endpoint) {
                return Err(answer(&whom, format!("its endpoint {endpoint} is without TLS")));
            }
        }
        let able = found
            .dpop_signing_alg_values_supported
            .iter()
            .any(|name| name == dpop::ALGORITHM);
        let dpop = match known.dpop {
            Dpop::Required if !able => {
                let what = format!(
                    "the gateway wants tokens that are bound to a key, and it cannot do that with {}",
                    dpop::ALGORITHM
                );
                return Err(answer(&whom, what));
            }
            Dpop::Optional if !able => Dpop::Off,
            dpop => dpop,
        };
        Ok(Self {
            issuer: found.issuer,
            client_id: known.client_id.clone(),
            scope,
            authorization_endpoint: found.authorization_endpoint,
            device_endpoint: found.device_authorization_endpoint,
            token_endpoint: found.token_endpoint,
            revocation_endpoint: found.revocation_endpoint,
            end_session_endpoint: found.end_session_endpoint,
            dpop,
            shows_id: known.token == TokenKind::Id,
            ahead,
            names_itself: found.authorization_response_iss_parameter_supported,
        })
    }

    /// The issuer's host, for sentences.
    pub(crate) fn whom(&self) -> String {
        name(&self.token_endpoint)
    }
}

/// Tokens and codes travel by TLS, or not at all beyond this computer.
pub(crate) fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && proxy::is_loopback(url))
}

fn answer(whom: &str, what: String) -> Error {
    Error::Answer {
        whom: whom.to_owned(),
        what,
    }
}
