//! What a request must be before anybody looks at what it wants.
//!
//! Only GET, only HTTP/1.1, no body in any spelling, each security-relevant field once, origin form, no query but where a
//! route has one (a token in a URL ends up in logs). The peer's address is the socket's: forwarding headers are not read.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_certs::WorkspaceName;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version, header};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use uuid::Uuid;

use crate::{
    oidc::BearerToken,
    refusal::{Refusal, RefusalCode},
};

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `GET /.well-known/doorward`
    WellKnown,
    /// `GET /v1/trust`
    Trust,
    /// `GET /v1/workspaces`
    Workspaces,
    /// `GET /v1/sessions`
    Sessions,
    /// `GET /v1/sessions/{id}`
    Session(Uuid),
    /// `GET /v1/sessions/{id}/files/{name}`
    File(Uuid, String),
    /// `GET /v1/connect/{workspace}`, an upgrade to a WebSocket.
    Connect {
        workspace: WorkspaceName,
        accept_key: HeaderValue,
    },
}

impl Route {
    /// The route's name as a metric label.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::WellKnown => "well-known",
            Self::Trust => "trust",
            Self::Workspaces => "workspaces",
            Self::Sessions => "sessions",
            Self::Session(_) => "session",
            Self::File(..) => "file",
            Self::Connect { .. } => "connect",
        }
    }
}

/// Checks the header and finds the route.
pub(crate) fn check<B>(request: &Request<B>) -> Result<Route, Refusal> {
    let headers = request.headers();
    if request.version() != Version::HTTP_11 {
        return Err(bad("the request is not HTTP/1.1"));
    }
    if headers.contains_key(header::TRANSFER_ENCODING) || headers.contains_key(header::CONTENT_LENGTH) {
        return Err(bad("the request has a body, or says how long it is"));
    }
    if headers.contains_key(header::EXPECT) {
        return Err(bad("the request expects something before it is whole"));
    }
    for name in ONCE {
        if headers.get_all(&name).iter().nth(1).is_some() {
            return Err(bad(format!("the field {name} is there more than once")));
        }
    }
    if !headers.contains_key(header::HOST) {
        return Err(bad("the field host is missing"));
    }
    if request.method() != Method::GET {
        return Err(Refusal::new(RefusalCode::MethodNotAllowed, "only GET is served here"));
    }
    if headers.contains_key(header::ORIGIN) {
        return Err(Refusal::new(
            RefusalCode::CrossOrigin,
            "this gateway serves programs, not pages",
        ));
    }
    let uri = request.uri();
    if uri.authority().is_some() || uri.scheme().is_some() || uri.path().len() > LONGEST_PATH {
        return Err(bad("the target of the request is not a short path"));
    }
    let route = route(uri.path(), headers)?;
    if uri.query().is_some() && route != Route::Sessions {
        return Err(bad("a query has no meaning here"));
    }
    if !matches!(route, Route::Connect { .. }) && headers.contains_key(header::UPGRADE) {
        return Err(bad("there is nothing to upgrade to here"));
    }
    Ok(route)
}

fn route(path: &str, headers: &HeaderMap) -> Result<Route, Refusal> {
    let mut parts = path.split('/').skip(1);
    let route = match (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) {
        (Some(".well-known"), Some("doorward"), None, ..) => Route::WellKnown,
        (Some("v1"), Some("trust"), None, ..) => Route::Trust,
        (Some("v1"), Some("workspaces"), None, ..) => Route::Workspaces,
        (Some("v1"), Some("sessions"), None, ..) => Route::Sessions,
        (Some("v1"), Some("sessions"), Some(id), None, ..) => Route::Session(session(id)?),
        (Some("v1"), Some("sessions"), Some(id), Some("files"), Some(name), None) => {
            Route::File(session(id)?, name.to_owned())
        }
        (Some("v1"), Some("connect"), Some(workspace), None, ..) => {
            let workspace = WorkspaceName::try_from(workspace).map_err(|_| bad("that is no workspace name"))?;
            Route::Connect {
                workspace,
                accept_key: upgrade(headers)?,
            }
        }
        _ => return Err(not_found()),
    };
    Ok(route)
}

/// The one answer for what is not there and for what may not be seen.
pub(crate) fn not_found() -> Refusal {
    Refusal::new(
        RefusalCode::NotFound,
        "there is nothing here, or nothing that you may see",
    )
}

fn session(text: &str) -> Result<Uuid, Refusal> {
    match Uuid::try_parse(text) {
        // One spelling alone: no braces, no urn, no upper case.
        Ok(id) if id.as_hyphenated().to_string() == text => Ok(id),
        _ => Err(not_found()),
    }
}

/// Checks the upgrade (RFC 6455, section 4.2.1) and computes its accept key.
fn upgrade(headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    let wants = |name: HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|one| one.trim().eq_ignore_ascii_case(token))
    };
    let to_websocket = headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !to_websocket || !wants(header::CONNECTION, "upgrade") {
        return Err(Refusal::new(
            RefusalCode::UpgradeRequired,
            "this address speaks WebSocket alone",
        ));
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(Refusal::new(
            RefusalCode::UpgradeRequired,
            "only version 13 of WebSocket is spoken here",
        ));
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    if STANDARD.decode(key).map(|nonce| nonce.len()) != Ok(16) {
        return Err(bad("the field sec-websocket-key is not 16 bytes of base64"));
    }
    HeaderValue::try_from(derive_accept_key(key)).map_err(|_| bad("the field sec-websocket-key cannot be answered"))
}

/// The bearer token (RFC 6750, section 2.1). Not checked yet.
pub(crate) fn token(headers: &HeaderMap) -> Result<BearerToken, Refusal> {
    let missing = || {
        Refusal::new(RefusalCode::TokenMissing, "the request carries no bearer token")
            .with_hint("`doorward login` gets one")
    };
    let value = headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    let text = value.to_str().map_err(|_| missing())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing());
    }
    BearerToken::new(token).map_err(|error| Refusal::new(RefusalCode::TokenMalformed, error.to_string()))
}

/// What the client says it is, cut to [`LONGEST_AGENT`] printable characters.
pub(crate) fn user_agent(headers: &HeaderMap) -> String {
    let said = headers
        .get(header::USER_AGENT)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    said.iter()
        .copied()
        .filter(|byte| matches!(byte, 0x20..=0x7e))
        .take(LONGEST_AGENT)
        .map(char::from)
        .collect()
}

fn bad(text: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(RefusalCode::BadRequest, text)
}

/// Fields that two parsers could read differently if they stood there twice.
const ONCE: [HeaderName; 6] = [
    header::HOST,
    header::AUTHORIZATION,
    header::UPGRADE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::ORIGIN,
];
/// The longest path, in bytes.
const LONGEST_PATH: usize = 1024;
/// The longest user agent that is kept, in bytes.
const LONGEST_AGENT: usize = 200;
