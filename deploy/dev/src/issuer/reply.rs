//! The shapes of the issuer's answers. None may be cached, framed or read as another type.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

pub(super) type Reply = Response<Full<Bytes>>;

pub(super) fn json(status: StatusCode, body: &Value) -> Reply {
    reply(status, "application/json", body.to_string())
}

/// An OAuth error (RFC 6749 section 5.2).
pub(super) fn error(code: &'static str, description: &str) -> Reply {
    json(
        StatusCode::BAD_REQUEST,
        &json!({ "error": code, "error_description": description }),
    )
}

pub(super) fn html(status: StatusCode, page: String) -> Reply {
    let mut reply = reply(status, "text/html; charset=utf-8", page);
    if status == StatusCode::TOO_MANY_REQUESTS {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
    }
    reply
}

pub(super) fn empty(status: StatusCode) -> Reply {
    reply(status, "text/plain", String::new())
}

/// Sends the browser on with a GET, so that it does not post the password again.
pub(super) fn see_other(location: &url::Url) -> Reply {
    let mut reply = empty(StatusCode::SEE_OTHER);
    if let Ok(value) = HeaderValue::from_str(location.as_str()) {
        reply.headers_mut().insert(LOCATION, value);
    }
    reply
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    let fixed = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in fixed {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    reply
}
