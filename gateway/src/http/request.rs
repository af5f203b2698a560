//! What a request must be before anybody looks at what it wants.
//!
//! Only HTTP/1.1; a body only where a route takes one, with its length said once and exactly; each security-relevant field
//! once, origin form, no query but where a route has one (a token in a URL ends up in logs). The peer's address is the
//! socket's: forwarding headers are not read.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_certs::WorkspaceName;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version, header, uri::Authority};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use uuid::Uuid;

use super::reason::Reason;
use crate::{
    locks::LockKind,
    oidc::{BearerToken, Presented, ShownProof},
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
    /// `PUT /v1/workspaces/{name}/keep`
    Keep(WorkspaceName),
    /// `DELETE /v1/workspaces/{name}/keep`
    Unkeep(WorkspaceName),
    /// `POST /v1/workspaces/{name}/wake`
    Wake(WorkspaceName),
    /// `GET /v1/me`
    Me,
    /// `GET /v1/explain`
    Explain,
    /// `GET /v1/sessions`
    Sessions,
    /// `GET /v1/sessions/{id}`
    Session(Uuid),
    /// `GET /v1/sessions/{id}/files/{name}`
    File(Uuid, String),
    /// `GET /v1/sessions/{id}/log`
    SessionLog(Uuid),
    /// `GET /v1/log`
    Log,
    /// `GET /v1/log/anchor`
    LogAnchor,
    /// `GET /v1/log/consistency`
    LogConsistency,
    /// `GET /v1/log/inclusion`
    LogInclusion,
    /// `GET /v1/log/leaves`
    LogLeaves,
    /// `POST /v1/sessions/{id}/renew`
    Renew(Uuid),
    /// `POST /v1/sessions/{id}/kill`
    Kill(Uuid),
    /// `GET /v1/locks`
    Locks,
    /// `POST /v1/locks`
    Lock,
    /// `DELETE /v1/locks/{kind}/{name}`
    Unlock(LockKind, String),
    /// `GET /v1/holds`
    Holds,
    /// `POST /v1/holds`
    Hold,
    /// `DELETE /v1/holds/{id}`
    Release(Uuid),
    /// `POST /v1/backchannel-logout`
    Logout,
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
            Self::Wake(_) => "wake",
            Self::Keep(_) | Self::Unkeep(_) => "keep",
            Self::Sessions => "sessions",
            Self::Session(_) => "session",
            Self::File(..) => "file",
            Self::SessionLog(_)
            | Self::Log
            | Self::LogAnchor
            | Self::LogConsistency
            | Self::LogInclusion
            | Self::LogLeaves => "log",
            Self::Connect { .. } => "connect",
            Self::Me => "me",
            Self::Explain => "explain",
            Self::Renew(_) => "renew",
            Self::Kill(_) => "kill",
            Self::Locks => "locks",
            Self::Lock => "lock",
            Self::Unlock(..) => "unlock",
            Self::Holds => "holds",
            Self::Hold => "hold",
            Self::Release(_) => "release",
            Self::Logout => "logout",
        }
    }

    /// What body the route takes: its type and the most bytes. None but where it says so.
    pub(super) fn body(&self) -> Option<(&'static str, usize)> {
        match self {
            Self::Kill(_) | Self::Lock | Self::Hold | Self::Keep(_) => Some(("application/json", LARGEST_JSON)),
            Self::Logout => Some(("application/x-www-form-urlencoded", LARGEST_FORM)),
            // Its body is empty; a client may say so.
            Self::Renew(_) | Self::Wake(_) => Some(("application/json", 0)),
            _ => None,
        }
    }

    /// Whether the route has a query.
    fn query(&self) -> bool {
        matches!(
            self,
            Self::Sessions
                | Self::Explain
                | Self::SessionLog(_)
                | Self::LogConsistency
                | Self::LogInclusion
                | Self::LogLeaves
        )
    }
}

/// Checks the header and finds the route.
pub(crate) fn check<B>(request: &Request<B>) -> Result<Route, Refusal> {
    let headers = request.headers();
    if request.version() != Version::HTTP_11 {
        return Err(bad("the request is not HTTP/1.1"));
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(bad("the request has a body whose length is not said"));
    }
    if headers.contains_key(header::EXPECT) {
        return Err(bad("the request expects something before it is whole"));
    }
    for name in ONCE {
        if headers.get_all(&name).iter().nth(1).is_some() {
            return Err(bad(format!("the field {name} is there more than once")));
        }
    }
    match headers.get(header::HOST) {
        None => return Err(bad("the field host is missing")),
        Some(host) if !is_host(host) => return Err(bad("the field host is no host")),
        Some(_) => {}
    }
    if ![Method::GET, Method::POST, Method::PUT, Method::DELETE].contains(request.method()) {
        return Err(
            Refusal::new(RefusalCode::MethodNotAllowed, "no such method is served here")
                .with_allow("GET, POST, PUT, DELETE"),
        );
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
    let route = route(request.method(), uri.path(), headers)?;
    if uri.query().is_some() && !route.query() {
        return Err(bad("a query has no meaning here"));
    }
    length(headers, route.body())?;
    if !matches!(route, Route::Connect { .. }) && headers.contains_key(header::UPGRADE) {
        return Err(bad("there is nothing to upgrade to here"));
    }
    Ok(route)
}

/// A host, perhaps with a port (RFC 9112, section 3.2: anything else is to be refused).
fn is_host(value: &HeaderValue) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    let text = value.as_bytes();
    text.iter().all(plain) && Authority::try_from(text).is_ok()
}

/// The length of a body must be said where there may be one, once and in plain digits, and not at all elsewhere.
fn length(headers: &HeaderMap, body: Option<(&'static str, usize)>) -> Result<(), Refusal> {
    let mut said = headers.get_all(header::CONTENT_LENGTH).iter();
    let (first, second) = (said.next(), said.next());
    let Some((kind, most)) = body else {
        return match first {
            None => Ok(()),
            Some(_) => Err(bad("the request has a body, or says how long it is")),
        };
    };
    let Some(first) = first else {
        // Without a length there is no body (RFC 9112, section 6.3).
        return Ok(());
    };
    let digits = first.to_str().unwrap_or_default();
    let plain = !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if second.is_some() || !plain || (digits.len() > 1 && digits.starts_with('0')) {
        return Err(bad("the length of the body is not said once, in plain digits"));
    }
    let length: usize = digits.parse().map_err(|_| bad("the length of the body is none"))?;
    if length > most {
        return Err(Refusal::new(
            RefusalCode::BodyTooLarge,
            "the body is larger than it may be here",
        ));
    }
    let said = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let essence = said.and_then(|said| said.split(|byte| *byte == b';').next());
    if length > 0 && !essence.is_some_and(|essence| essence.trim_ascii().eq_ignore_ascii_case(kind.as_bytes())) {
        return Err(bad(format!("the body must be {kind}")));
    }
    Ok(())
}

/// The route of a path for this method.
fn route(method: &Method, path: &str, headers: &HeaderMap) -> Result<Route, Refusal> {
    let parts: Vec<&str> = path.split('/').skip(1).take(7).collect();
    let allow = match parts.as_slice() {
        ["v1", "sessions", _, "renew" | "kill"] | ["v1", "workspaces", _, "wake"] | ["v1", "backchannel-logout"] => {
            "POST"
        }
        ["v1", "locks" | "holds"] => "GET, POST",
        ["v1", "locks", _, _] | ["v1", "holds", _] => "DELETE",
        ["v1", "workspaces", _, "keep"] => "PUT, DELETE",
        _ => "GET",
    };
    if !allow.split(", ").any(|one| one == method.as_str()) {
        return Err(
            Refusal::new(RefusalCode::MethodNotAllowed, format!("only {allow} is served here")).with_allow(allow),
        );
    }
    let route = match parts.as_slice() {
        ["v1", "me"] => Route::Me,
        ["v1", "explain"] => Route::Explain,
        ["v1", "sessions", id, "renew"] => Route::Renew(session(id)?),
        ["v1", "sessions", id, "kill"] => Route::Kill(session(id)?),
        ["v1", "locks"] if *method == Method::POST => Route::Lock,
        ["v1", "locks"] => Route::Locks,
        ["v1", "locks", kind, name] => {
            let kind = LockKind::parse(kind).ok_or_else(not_found)?;
            // Names of people may hold what a path may not.
            let name = percent_decoded(name).ok_or_else(|| bad("that is no name"))?;
            Route::Unlock(kind, name)
        }
        ["v1", "holds"] if *method == Method::POST => Route::Hold,
        ["v1", "holds"] => Route::Holds,
        ["v1", "holds", id] => Route::Release(session(id)?),
        ["v1", "backchannel-logout"] => Route::Logout,
        ["v1", "workspaces", name, "wake"] => Route::Wake(workspace(name)?),
        ["v1", "workspaces", name, "keep"] if *method == Method::PUT => Route::Keep(workspace(name)?),
        ["v1", "workspaces", name, "keep"] => Route::Unkeep(workspace(name)?),
        ["v1", "sessions", id, "log"] => Route::SessionLog(session(id)?),
        ["v1", "log"] => Route::Log,
        ["v1", "log", "anchor"] => Route::LogAnchor,
        ["v1", "log", "consistency"] => Route::LogConsistency,
        ["v1", "log", "inclusion"] => Route::LogInclusion,
        ["v1", "log", "leaves"] => Route::LogLeaves,
        _ => return read(path, headers),
    };
    Ok(route)
}

/// Takes `%XX` back; nothing if an escape is none, or what comes out is no UTF-8.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

/// The routes that only read.
fn read(path: &str, headers: &HeaderMap) -> Result<Route, Refusal> {
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
        (Some("v1"), Some("connect"), Some(workspace), None, ..) => Route::Connect {
            workspace: self::workspace(workspace)?,
            accept_key: upgrade(headers)?,
        },
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

fn workspace(text: &str) -> Result<WorkspaceName, Refusal> {
    WorkspaceName::try_from(text).map_err(|_| bad("that is no workspace name"))
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

/// The token and how it is shown (RFC 6750, section 2.1; RFC 9449, section 7.1). Not checked yet.
pub(crate) fn token<B>(request: &Request<B>) -> Result<Presented, Refusal> {
    let missing = || {
        Refusal::new(RefusalCode::TokenMissing, "the request carries no token").with_hint("`doorward login` gets one")
    };
    let malformed = |error: crate::oidc::MalformedToken| Refusal::new(RefusalCode::TokenMalformed, error.to_string());
    let headers = request.headers();
    let value = headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    let text = value.to_str().map_err(|_| missing())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(missing)?;
    let proof = headers.get(PROOF);
    if scheme.eq_ignore_ascii_case("bearer") {
        return BearerToken::new(token).map(Presented::bearer).map_err(malformed);
    }
    if !scheme.eq_ignore_ascii_case("dpop") {
        return Err(missing());
    }
    let token = BearerToken::new(token).map_err(malformed)?;
    let proof = proof
        .and_then(|proof| proof.to_str().ok())
        .and_then(|proof| BearerToken::new(proof).ok())
        .ok_or_else(|| {
            Refusal::new(
                RefusalCode::ProofMissing,
                "the token is said to be bound to a key and came without the proof of it",
            )
        })?;
    Ok(Presented::with_proof(
        token,
        ShownProof {
            jwt: proof,
            method: request.method().to_string(),
            host: headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            path: request.uri().path().to_owned(),
        },
    ))
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

pub(super) fn bad(text: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(RefusalCode::BadRequest, text)
}

/// Fields that two parsers could read differently if they stood there twice.
const ONCE: [HeaderName; 9] = [
    header::HOST,
    header::AUTHORIZATION,
    PROOF,
    Reason::FIELD,
    header::CONTENT_TYPE,
    header::UPGRADE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::ORIGIN,
];
/// The proof of a token's key (RFC 9449, section 4.1).
const PROOF: HeaderName = HeaderName::from_static("dpop");
/// The largest bodies, in bytes.
const LARGEST_JSON: usize = 4096;
const LARGEST_FORM: usize = BearerToken::LONGEST + 4096;
/// The longest path, in bytes.
const LONGEST_PATH: usize = 1024;
/// The longest user agent that is kept, in bytes.
const LONGEST_AGENT: usize = 200;
