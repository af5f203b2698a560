//! Vault's HTTP API, as far as setting up and looking after a server needs it.

use std::time::Duration;

use reqwest::{Certificate, Method};
use serde_json::Value;

use crate::parts::Error;

/// A client with one token, or none. Believes one CA, follows no redirect.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

impl Api {
    /// A client without a token for `https://HOST:PORT`, and the CA's certificate, PEM.
    ///
    /// # Errors
    /// The certificate is none.
    pub fn new(url: &str, ca: &str) -> Result<Self, Error> {
        let unusable = |source| Error::Unanswered {
            what: "the HTTP client".to_owned(),
            source,
        };
        let ca = Certificate::from_pem(ca.as_bytes()).map_err(unusable)?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only([ca])
            .timeout(PATIENCE)
            // Tests that share a server have runtimes of their own, which do not outlive a kept connection.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(unusable)?;
        Ok(Self {
            http,
            url: url.to_owned(),
            token: None,
        })
    }

    /// The same with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    /// The same at another server of the same CA.
    #[must_use]
    pub fn at(&self, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ..self.clone()
        }
    }

    /// The server's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The token, for a test that gives it to somebody.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Reads a path below `/v1/`; the whole answer.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn read(&self, path: &str) -> Result<Value, Error> {
        self.succeed(Method::GET, path, None).await
    }

    /// Writes to a path below `/v1/`; the whole answer, null if it is empty.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn write(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.succeed(Method::PUT, path, Some(body)).await
    }

    /// Deletes what is at a path below `/v1/`.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        self.succeed(Method::DELETE, path, None).await.map(drop)
    }

    /// The status of `sys/health`: 200 active, 429 standby, 501 not initialised, 503 sealed.
    ///
    /// # Errors
    /// No answer.
    pub async fn health(&self) -> Result<u16, Error> {
        Ok(self.send(Method::GET, "sys/health", None).await?.0)
    }

    /// Sends a request; status and answer, whatever they are.
    ///
    /// # Errors
    /// No answer.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value), Error> {
        let unanswered = |source: reqwest::Error| Error::Unanswered {
            what: path.to_owned(),
            source: source.without_url(),
        };
        let mut request = self.http.request(method, format!("{}/v1/{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("X-Vault-Token", token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(unanswered)?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(unanswered)?;
        Ok((status, serde_json::from_str(&text).unwrap_or_default()))
    }

    async fn succeed(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let what = format!("{method} {path}");
        match self.send(method, path, body).await? {
            (200..=299, answer) => Ok(answer),
            (status, answer) => Err(Error::Refused {
                what,
                status,
                said: answer["errors"].to_string(),
            }),
        }
    }
}

/// Without the token.
impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("url", &self.url).finish_non_exhaustive()
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
