//! The one client with which the gateway calls servers that the configuration names: wake and use of workspaces, sinks of
//! events, and whatever `doctor` looks at. Over TLS or on loopback, without redirects, with deadlines, and with answers that are read to a bound.

use std::{fs, path::Path, time::Duration};

use http::HeaderValue;
use reqwest::{Certificate, Client, Response, redirect};
use url::Url;
use zeroize::Zeroizing;

use crate::refusal::chain;

/// A client for the server of this address. With `authorities` no others are believed.
///
/// # Errors
/// The file cannot be used.
pub(crate) fn client(address: &Url, authorities: Option<&Path>) -> Result<Client, String> {
    let mut builder = Client::builder()
        .tls_backend_rustls()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .pool_max_idle_per_host(1)
        .user_agent(concat!("doorward-gateway/", env!("CARGO_PKG_VERSION")));
    if address.scheme() == "http" {
        // Loopback: no proxy can reach it.
        builder = builder.no_proxy();
    }
    if let Some(file) = authorities {
        let unusable = |text: String| format!("the CA file {} cannot be used: {text}", file.display());
        let pem = fs::read(file).map_err(|error| unusable(error.to_string()))?;
        let all = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))?;
        if all.is_empty() {
            return Err(unusable("it holds no certificate".to_owned()));
        }
        builder = builder.tls_certs_only(all);
    }
    builder.build().map_err(|error| chain(&error))
}

/// What a file holds, as the value of a field, read anew each time because secrets are exchanged.
///
/// # Errors
/// It cannot be read, or not be sent; a sentence without what is in it.
pub(crate) async fn secret_of(file: &Path, prefix: &str) -> Result<HeaderValue, String> {
    let text = tokio::fs::read_to_string(file).await.map(Zeroizing::new);
    let text = text.map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let value = secret(&Zeroizing::new(format!("{prefix}{}", text.trim())));
    value.ok_or_else(|| format!("what is in {} cannot be sent", file.display()))
}

/// A value that nothing shows; nothing if it cannot stand in a field.
pub(crate) fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The beginning of an answer's body.
pub(crate) async fn body(mut answer: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < LARGEST {
        match answer.chunk().await {
            Ok(Some(part)) => body.extend_from_slice(&part),
            Ok(None) | Err(_) => break,
        }
    }
    body.truncate(LARGEST);
    body
}

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);
/// How much of an answer is read, in bytes.
const LARGEST: usize = 64 * 1024;
