//! The issuer's published documents: discovery and keys, fetched within bounds.
//!
//! No redirect is followed, nothing large is read, nothing is waited for longer than [`FETCH`], and nothing is believed that
//! another issuer wrote.

use std::{fs, time::Duration};

use reqwest::{Certificate, Client, redirect};
use serde::Deserialize;
use url::Url;

use super::key_set::KeySet;
use crate::config::{Oidc, trustworthy};
use crate::refusal::chain;

/// Where the issuer's documents come from.
#[derive(Debug)]
pub(super) struct Issuer {
    client: Client,
    name: String,
}

/// Why the issuer's keys could not be had. The text is for operators.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0} cannot be asked: {1}")]
    Ask(Url, String),
    #[error("{0} answered {1}")]
    Status(Url, u16),
    #[error("{0} answered with more than {LARGEST} bytes")]
    Large(Url),
    #[error("{0} answered with something else than a discovery document: {1}")]
    Discovery(Url, serde_json::Error),
    #[error("the discovery document is of the issuer `{}`", .0.escape_debug())]
    Foreign(String),
    #[error("the discovery document names a place that is not to be trusted: `{}`", .0.escape_debug())]
    Place(String),
    #[error("{0}: {1}")]
    Keys(Url, String),
    #[error("no answer within {FETCH:?}")]
    Late,
}

/// What is used of a discovery document (OpenID Connect Discovery 1.0, section 3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    introspection_endpoint: Option<String>,
}

/// What an issuer publishes.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) keys: KeySet,
    /// Where it is asked about tokens (RFC 8414, section 2).
    pub(super) introspection: Option<Url>,
}

/// Why the client for the issuer cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The CA file cannot be read, or holds no certificate.
    #[error("the CA file {0} cannot be used: {1}")]
    Ca(std::path::PathBuf, String),
    /// The table of logins cannot be used.
    #[error("the table of logins cannot be used:\n{0}")]
    Logins(#[source] crate::config::Faults),
    /// The HTTP client cannot be made.
    #[error("the HTTP client for the identity provider cannot be made: {0}")]
    Client(#[source] reqwest::Error),
}

impl Issuer {
    pub(super) fn new(settings: &Oidc) -> Result<Self, ClientError> {
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(FETCH)
            .timeout(FETCH)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("doorward-gateway/", env!("CARGO_PKG_VERSION")));
        if settings.issuer.starts_with("http:") {
            // Loopback: no proxy can reach it.
            builder = builder.no_proxy();
        }
        if let Some(file) = &settings.ca {
            let unusable = |text: String| ClientError::Ca(file.clone(), text);
            let pem = fs::read(file).map_err(|error| unusable(error.to_string()))?;
            let all = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))?;
            if all.is_empty() {
                return Err(unusable("it holds no certificate".to_owned()));
            }
            builder = builder.tls_certs_only(all);
        }
        Ok(Self {
            client: builder.build().map_err(ClientError::Client)?,
            name: settings.issuer.clone(),
        })
    }

    /// The client that asks, which follows no redirect and believes no other CA than configured.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Fetches the discovery document, then the keys.
    pub(super) async fn keys(&self) -> Result<Published, FetchError> {
        tokio::time::timeout(FETCH, self.keys_unhurried())
            .await
            .map_err(|_| FetchError::Late)?
    }

    async fn keys_unhurried(&self) -> Result<Published, FetchError> {
        let place = format!("{}/.well-known/openid-configuration", self.name.trim_end_matches('/'));
        let place = Url::parse(&place).map_err(|_| FetchError::Place(place))?;
        let body = self.fetch(place.clone()).await?;
        let discovery: Discovery =
            serde_json::from_slice(&body).map_err(|error| FetchError::Discovery(place, error))?;
        if discovery.issuer != self.name {
            return Err(FetchError::Foreign(discovery.issuer));
        }
        let place = |text: String| {
            let url = Url::parse(&text).ok().filter(trustworthy);
            url.ok_or(FetchError::Place(text))
        };
        let introspection = discovery.introspection_endpoint.map(place).transpose()?;
        let place = place(discovery.jwks_uri)?;
        let body = self.fetch(place.clone()).await?;
        let keys = KeySet::parse(&body).map_err(|text| FetchError::Keys(place, text))?;
        Ok(Published { keys, introspection })
    }

    async fn fetch(&self, place: Url) -> Result<Vec<u8>, FetchError> {
        let failed = |error: &reqwest::Error| FetchError::Ask(place.clone(), chain(error));
        let request = self
            .client
            .get(place.clone())
            .header(http::header::ACCEPT, "application/json");
        let mut response = request.send().await.map_err(|error| failed(&error))?;
        if response.status() != http::StatusCode::OK {
            return Err(FetchError::Status(place, response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
            if body.len() + chunk.len() > LARGEST {
                return Err(FetchError::Large(place));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// How long both documents together may take, and how long an answer about a token: somebody waits at a prompt.
pub(super) const FETCH: Duration = Duration::from_millis(3500);
/// The largest document that is read, in bytes.
const LARGEST: usize = 256 * 1024;
