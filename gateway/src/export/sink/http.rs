//! An HTTP server that takes JSON lines by POST: over TLS, or on loopback. It follows no redirect.

use std::path::{Path, PathBuf};

use http::header;
use reqwest::Client;
use url::Url;

use super::Failure;
use crate::{outbound, refusal::chain};

/// A server and how it is asked.
pub(in crate::export) struct Http {
    client: Client,
    url: Url,
    token_file: Option<PathBuf>,
}

impl Http {
    pub(super) fn new(url: Url, ca: Option<&Path>, token_file: Option<PathBuf>) -> Result<Self, String> {
        let client = outbound::client(&url, ca)?;
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
            request = request.header(header::AUTHORIZATION, outbound::secret_of(file, "Bearer ").await?);
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
