//! Problem bodies (RFC 9457) and the few other bodies that an answer may have.

use std::io;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use serde::Serialize;
use uuid::Uuid;

use crate::refusal::{Refusal, RefusalCode};

/// The body of every answer.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A problem body: the members of RFC 9457 plus `code` (closed set) and `hint`.
#[derive(Debug, Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    instance: String,
}

impl<'a> Problem<'a> {
    fn new(refusal: &'a Refusal, request: Uuid) -> Self {
        let code = refusal.code();
        Self {
            kind: format!("urn:doorward:problem:{code}"),
            title: code.title(),
            status: code.status().as_u16(),
            detail: refusal.text(),
            code: code.as_str(),
            hint: refusal.hint(),
            instance: format!("urn:uuid:{request}"),
        }
    }
}

/// No body.
#[must_use]
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is whole.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The members of a problem body, for where it is a line of an answer that has begun.
#[must_use]
pub fn members(refusal: &Refusal, request: Uuid) -> serde_json::Value {
    serde_json::to_value(Problem::new(refusal, request)).unwrap_or_default()
}

/// The answer for a refusal. Two refusals with one code and text differ in `instance` alone.
#[must_use]
pub fn response(refusal: &Refusal, request: Uuid) -> Response<Body> {
    let code = refusal.code();
    let problem = Problem::new(refusal, request);
    let mut response = Response::new(full(serde_json::to_vec(&problem).unwrap_or_default()));
    *response.status_mut() = code.status();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if code.status() == http::StatusCode::UNAUTHORIZED {
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"doorward\""),
        );
    }
    if code == RefusalCode::UpgradeRequired {
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    if let Some(methods) = refusal.allow() {
        headers.insert(header::ALLOW, HeaderValue::from_static(methods));
    }
    if let Some(after) = refusal.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    // For whoever knows more about how to log in than the refusal does.
    response.extensions_mut().insert(code);
    response
}

/// The answer that all is done: 204.
#[must_use]
pub fn done() -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = http::StatusCode::NO_CONTENT;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A JSON answer.
#[must_use]
pub fn json(value: &impl Serialize) -> Response<Body> {
    let mut response = Response::new(full(serde_json::to_vec(value).unwrap_or_default()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
