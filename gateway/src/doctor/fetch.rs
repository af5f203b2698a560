//! One GET to somebody else, within bounds, and what the answer's clock says.

use std::time::{Duration, SystemTime};

use http::header;

use crate::refusal::chain;

/// An answer.
pub(super) struct Fetched {
    pub(super) status: u16,
    /// What the answer says the time is.
    pub(super) date: Option<SystemTime>,
    /// When it came, by our clock.
    pub(super) came: SystemTime,
    pub(super) body: Vec<u8>,
}

/// Sends the request and reads the answer.
pub(super) async fn send(request: reqwest::RequestBuilder) -> Result<Fetched, String> {
    let mut response = request.timeout(WITHIN).send().await.map_err(|error| chain(&error))?;
    let came = SystemTime::now();
    let date = response
        .headers()
        .get(header::DATE)
        .and_then(|value| value.to_str().ok());
    let date = date.and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
    let date = date.map(|date| SystemTime::from(date.timestamp()));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error))? {
        if body.len() + chunk.len() > LARGEST {
            return Err(format!("the answer is longer than {LARGEST} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Fetched {
        status: response.status().as_u16(),
        date,
        came,
        body,
    })
}

/// How long one request may take.
const WITHIN: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const LARGEST: usize = 512 * 1024;
