//! From a token to a tunnel: the WebSocket handshake (RFC 6455 section 4.1), or the gateway's refusal.

use bytes::Bytes;
use doorward_certs::WorkspaceName;
use doorward_wire::TUNNEL_PROTOCOL;
use doorward_wire::tunnel::{self, TunnelStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use uuid::Uuid;

use crate::error::Error;
use crate::gateway::Gateway;
use crate::http::dial::{self, Stream};
use crate::http::{ANSWER, exchange, refusal, request};
use crate::pass::Pass;

/// A tunnel, and the session that it carries, where the gateway names it.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) tunnel: TunnelStream<Stream>,
    pub(super) session: Option<Uuid>,
}

/// What is asked for.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) workspace: &'a WorkspaceName,
    /// Why, where the person says so.
    pub(super) reason: Option<&'a str>,
}

/// Asks for the tunnel of a workspace. Bytes that came with the answer are its first ones.
pub(super) async fn ask(gateway: &Gateway, wanted: &Wanted<'_>, pass: &Pass) -> Result<Entered, Error> {
    let url = gateway.tunnel(wanted.workspace.as_str());
    let whom = gateway.whom();
    let key = generate_key();
    let mut request = with_reason(request(Method::GET, &url, Some(pass), Bytes::new())?, wanted);
    add(request.headers_mut(), &key);
    let stream = dial::dial(&url, || gateway.web.tls()).await?;
    let work = async |response: Response<Incoming>| {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(&whom, response).await);
        }
        let wrong = |what: &str| Error::Answer {
            whom: whom.clone(),
            what: what.to_owned(),
        };
        check(response.headers(), &key).map_err(wrong)?;
        let session = session(response.headers());
        let upgraded = timeout(ANSWER, hyper::upgrade::on(response)).await;
        let upgraded = upgraded
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| wrong("it broke the upgrade off"))?;
        let parts = upgraded
            .downcast::<TokioIo<Stream>>()
            .map_err(|_| wrong("the upgrade led nowhere"))?;
        Ok((parts, session))
    };
    let (parts, session) = exchange(&whom, stream, request, work).await?;
    let socket = WebSocketStream::from_partially_read(
        parts.io.into_inner(),
        parts.read_buf.into(),
        Role::Client,
        Some(tunnel::config()),
    );
    Ok(Entered {
        tunnel: TunnelStream::new(socket.await),
        session,
    })
}

/// The request with the reason, where the person gives one.
pub(super) fn with_reason<B>(mut request: Request<B>, wanted: &Wanted<'_>) -> Request<B> {
    let reason = wanted.reason.map(encoded);
    if let Some(reason) = reason.and_then(|reason| HeaderValue::try_from(reason).ok()) {
        request.headers_mut().insert(REASON, reason);
    }
    request
}

fn add(headers: &mut HeaderMap, key: &str) {
    let fields: [(HeaderName, HeaderValue); 4] = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        (
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(TUNNEL_PROTOCOL),
        ),
    ];
    headers.extend(fields);
    if let Ok(key) = HeaderValue::from_str(key) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
}

/// Percent-encoded (RFC 3986), so that any text fits a field.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

/// The field in which a reason travels.
const REASON: HeaderName = HeaderName::from_static("doorward-reason");

fn session(headers: &HeaderMap) -> Option<Uuid> {
    Uuid::try_parse(headers.get("doorward-session")?.to_str().ok()?).ok()
}

/// RFC 6455 section 4.1, points 2 to 6 of what the server must have answered.
fn check(headers: &HeaderMap, key: &str) -> Result<(), &'static str> {
    let is = |name: HeaderName, value: &str| headers.get(name).is_some_and(|found| found == value);
    let names = |name: HeaderName, wanted: &str| {
        let values = headers
            .get_all(name)
            .into_iter()
            .filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(wanted))
    };
    if !names(header::UPGRADE, "websocket") || !names(header::CONNECTION, "upgrade") {
        return Err("it switched to something that is no WebSocket");
    }
    if !is(header::SEC_WEBSOCKET_ACCEPT, &derive_accept_key(key.as_bytes())) {
        return Err("its WebSocket answer is not for our request");
    }
    if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        return Err("it chose a WebSocket extension that was not offered");
    }
    if headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) && !is(header::SEC_WEBSOCKET_PROTOCOL, TUNNEL_PROTOCOL) {
        return Err("it speaks another version of the tunnel");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_encoded_byte_by_byte() {
        assert_eq!(encoded("db down – 7~"), "db%20down%20%E2%80%93%207~");
    }

    #[test]
    fn only_the_answer_to_our_request_is_taken() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let good = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ];
        let judge = |change: Option<(&'static str, &'static str)>| {
            let mut headers = HeaderMap::new();
            for (name, value) in good.into_iter().chain(change) {
                headers.insert(name, HeaderValue::from_static(value));
            }
            check(&headers, key)
        };
        assert_eq!(judge(None), Ok(()));
        assert_eq!(judge(Some(("sec-websocket-protocol", TUNNEL_PROTOCOL))), Ok(()));
        for bad in [
            ("upgrade", "h2c"),
            ("connection", "close"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOp="),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("sec-websocket-protocol", "doorward-session-9"),
        ] {
            assert!(judge(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
