//! An HTTP server that takes JSON lines by POST: over TLS, or on loopback. It follows no redirect.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderValue, header};
use reqwest::{Certificate, Client, redirect};
use url::Url;
use zeroize::Zeroizing;

use super::Failure;
use crate::refusal::chain;

/// A server and how it is asked.
pub(in crate::export) struct Http {
    client: Client,
    url: Url,
    token_file: Option<PathBuf>,
}

impl Http {
    pub(super) fn new(url: Url, ca: Option<&Path>, token_file: Option<PathBuf>) -> Result<Self, String> {
        let mut builder = Client::builder()
            .tls_backend_rustls()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("doorward-gateway/", env!("CARGO_PKG_VERSION")));
        if url.scheme() == "http" {
            // Loopback: no proxy can reach it.
            builder = builder.no_proxy();
        }
        if let Some(file) = ca {
            let unusable = |text: String| format!("the CA file {} cannot be used: {text}", file.display());
            let pem = fs::read(file).map_err(|error| unusable(error.to_string()))?;
            let all = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))?;
            if all.is_empty() {
                return Err(unusable("it holds no certificate".to_owned()));
            }
            builder = builder.tls_certs_only(all);
        }
        let client = builder.build().map_err(|error| chain(&error))?;
        Ok(Self {
            client,
            url,
            token_file,
        })
    }

    /// Posts lines; they are taken if the answer says so (2xx). Its body is nobody's business.
    pub(super) async fn send(&self, body: String) -> Result<(), Failure> {
        let mut request = self
            .client
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/x-ndjson")
            .body(body);
        if let Some(file) = &self.token_file {
            request = request.header(header::AUTHORIZATION, bearer(file).await?);
        }
        let answer = request.send().await;
        // What stands behind the `?` of an address may be a secret.
        let place = self.url.origin().ascii_serialization();
        let answer = answer.map_err(|error| format!("{place} cannot be reached: {}", chain(&error.without_url())))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(Failure {
            why: format!("{place} answered {}", status.as_u16()),
            too_large: status == http::StatusCode::PAYLOAD_TOO_LARGE,
        })
    }
}

async fn bearer(file: &Path) -> Result<HeaderValue, String> {
    let token = tokio::fs::read_to_string(file).await.map(Zeroizing::new);
    let token = token.map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let text = Zeroizing::new(format!("Bearer {}", token.trim()));
    let mut value =
        HeaderValue::try_from(text.as_str()).map_err(|_| format!("the token in {} cannot be sent", file.display()))?;
    value.set_sensitive(true);
    Ok(value)
}

const CONNECT: Duration = Duration::from_secs(5);
/// How long one batch may take.
const ANSWER: Duration = Duration::from_secs(30);
