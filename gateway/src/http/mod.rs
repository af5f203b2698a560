//! HTTP/1.1 for people: one strict request per connection, then an answer, or a tunnel.
//!
//! A connection carries one request. What follows a request on its connection is the tunnel's, or nobody's: so a proxy
//! that takes a refused upgrade for an accepted one has nothing to smuggle into.

mod edge;
mod reason;
mod request;
mod tunnel;

pub use edge::EdgeIo;
pub use reason::Reason;
pub use tunnel::{EdgeStream, Gone, Tunnel, TunnelRequest, UPGRADE};

use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
};
use tokio_rustls::server::TlsStream;
use uuid::Uuid;

use crate::{
    Gateway, api,
    guarded::Guarded,
    listen::Permit,
    metrics,
    oidc::{BearerToken, Presented},
    problem::{self, Body},
    refusal::{Refusal, RefusalCode},
    session,
};
pub(crate) use request::{Route, not_found, token};
use tunnel::Answer;

/// Serves the one request of a connection, until its answer is out or the tunnel is somebody else's.
pub(crate) async fn serve(gateway: Arc<Gateway>, stream: TlsStream<TcpStream>, peer: SocketAddr, permit: Permit) {
    let limit = gateway.config.limits.request_header;
    let permit = Arc::new(Guarded::new(Some(permit)));
    let answering = Arc::clone(&gateway);
    let answer = move |request| {
        let (gateway, permit) = (Arc::clone(&answering), Arc::clone(&permit));
        async move { answer(gateway, request, peer, &permit).await }
    };
    let (served, returned) = serve_with(stream, limit, answer).await;
    if let Err(error) = served {
        match unreadable(&error) {
            Some(refusal) => gateway.turn_away(&refusal, "", peer),
            None => tracing::debug!(%peer, "the connection broke: {error}"),
        }
    }
    if let Some(stream) = returned {
        linger(stream).await;
    }
}

/// A request that the parser, or its deadline, refused.
fn unreadable(error: &hyper::Error) -> Option<Refusal> {
    let (code, text) = if error.is_parse_too_large() {
        (RefusalCode::HeaderTooLarge, "the header is too large")
    } else if error.is_parse() {
        (RefusalCode::BadRequest, "the request cannot be read")
    } else if error.is_timeout() {
        (RefusalCode::RequestTimeout, "the header did not come in time")
    } else if error.is_incomplete_message() {
        (RefusalCode::BadRequest, "the request broke off")
    } else {
        return None;
    };
    Some(Refusal::new(code, text).with_detail(format!("{text}: {error}")))
}

/// The same with any way to answer. Gives the stream back, unless it has become a tunnel.
async fn serve_with<A, F>(
    stream: TlsStream<TcpStream>,
    limit: Duration,
    answer: A,
) -> (Result<(), hyper::Error>, Option<TlsStream<TcpStream>>)
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let (io, mut returned) = EdgeIo::new(stream);
    let service = service_fn(move |request| {
        let answering = answer(request);
        async move {
            let mut response = answering.await;
            // Said here and not by hyper, which would say it beside the upgrade too; clients refuse that.
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limit)
        .max_headers(MOST_HEADERS)
        .max_header_size(LARGEST_HEADER)
        .max_buf_size(LARGEST_HEADER + 16 * 1024)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let served = connection.await;
    (served, returned.try_recv().ok())
}

/// Closes a connection so that the answer arrives: what the peer still sends is read and dropped for a moment, because a
/// close with unread bytes would reset the connection and may destroy the answer on its way.
async fn linger(mut stream: TlsStream<TcpStream>) {
    let close = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut dropped = [0; 4096];
        let mut left = LINGER_BYTES;
        while let Ok(read @ 1..) = stream.read(&mut dropped).await {
            match left.checked_sub(read) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Whoever goes on sending past the deadline is reset, and may be.
    let _ = tokio::time::timeout(LINGER, close).await;
}

async fn answer(
    gateway: Arc<Gateway>,
    mut request: Request<Incoming>,
    peer: SocketAddr,
    permit: &Guarded<Option<Permit>>,
) -> Response<Body> {
    let id = Uuid::now_v7();
    let (route, mut response) = match request::check(&request) {
        Err(refusal) => {
            gateway.turn_away(&refusal, "", peer);
            ("refused", problem::response(&refusal, id))
        }
        Ok(route @ Route::Connect { .. }) => (
            "connect",
            connect(Arc::clone(&gateway), &mut request, route, peer, permit, id).await,
        ),
        Ok(route) => {
            let name = route.name();
            let answering = api::answer(&gateway, &mut request, route, peer, permit);
            let response = match tokio::time::timeout(ANSWER, answering).await {
                Ok(Ok(response)) => response,
                // Whoever is refused here is not known: put on record at a bounded rate.
                Ok(Err(refusal)) if refusal.code().status() == StatusCode::UNAUTHORIZED || name == "logout" => {
                    gateway.turn_away(&refusal, "", peer);
                    problem::response(&refusal, id)
                }
                Ok(Err(refusal)) => refuse(&refusal, peer, id),
                Err(_) => refuse(
                    &Refusal::new(RefusalCode::Overloaded, "the answer took too long"),
                    peer,
                    id,
                ),
            };
            (name, response)
        }
    };
    if response.status() == StatusCode::UNAUTHORIZED
        && let Some(code) = response.extensions().get::<RefusalCode>().copied()
    {
        let headers = response.headers_mut();
        headers.remove(header::WWW_AUTHENTICATE);
        for challenge in gateway.identities.challenges(code) {
            headers.append(header::WWW_AUTHENTICATE, challenge);
        }
    }
    metrics::answered(route, response.status().as_u16());
    response
}

/// The body of a request whose header was checked: as long as it said, and in time.
pub(crate) async fn body(request: &mut Request<Incoming>, route: &Route) -> Result<Bytes, Refusal> {
    let most = route.body().map_or(0, |(_, most)| most);
    let whole = Limited::new(request.body_mut(), most).collect();
    match tokio::time::timeout(BODY, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) => {
            Err(Refusal::new(RefusalCode::BadRequest, "the body broke off").with_detail(error.to_string()))
        }
        Err(_) => Err(Refusal::new(
            RefusalCode::RequestTimeout,
            "the body did not come in time",
        )),
    }
}

/// Hands the request to a session of its own and waits for what it answers.
async fn connect(
    gateway: Arc<Gateway>,
    request: &mut Request<Incoming>,
    route: Route,
    peer: SocketAddr,
    permit: &Guarded<Option<Permit>>,
    id: Uuid,
) -> Response<Body> {
    let asked = asked(request, route, peer, permit.with(Option::take), id);
    let asked = asked.and_then(|asked| addressed(&gateway, &asked.0.token).map(|()| asked));
    let (tunnel, answered) = match asked {
        Ok(asked) => asked,
        Err(refusal) => {
            gateway.turn_away(&refusal, "", peer);
            return problem::response(&refusal, id);
        }
    };
    let sessions = gateway.tasks.clone();
    sessions.spawn_session(async move {
        Box::pin(session::run(gateway, tunnel)).await;
    });
    match answered.await {
        Ok(response) => response,
        // The session ended without a word: a defect, contained in its task.
        Err(_) => refuse(
            &Refusal::new(RefusalCode::Internal, "the gateway failed to answer"),
            peer,
            id,
        ),
    }
}

/// A proof is for the place that its request names, and that must be this gateway: or what somebody sent to another one,
/// which was meant to rob it, could be shown here.
pub(crate) fn addressed(gateway: &Gateway, shown: &Presented) -> Result<(), Refusal> {
    let Some(host) = shown.host() else { return Ok(()) };
    let name = host.parse::<http::uri::Authority>().ok();
    let name = name.as_ref().map(|authority| authority.host());
    let ours = |name: &str| {
        let listed = gateway.config.listen.names.iter();
        gateway.certificate.is_for(name) || listed.clone().any(|one| one.eq_ignore_ascii_case(name))
    };
    match name.is_some_and(ours) {
        true => Ok(()),
        false => Err(Refusal::new(
            RefusalCode::ProofInvalid,
            "the proof that the token is yours is for a place that is not this gateway",
        )
        .with_hint("your platform team can name the gateway's addresses in its configuration: `[listen] names`")),
    }
}

/// A request for a tunnel, and where its answer will come from.
fn asked(
    request: &mut Request<Incoming>,
    route: Route,
    peer: SocketAddr,
    permit: Option<Permit>,
    id: Uuid,
) -> Result<(TunnelRequest, oneshot::Receiver<Response<Body>>), Refusal> {
    let Route::Connect { workspace, accept_key } = route else {
        return Err(Refusal::new(RefusalCode::Internal, "the request took a wrong way"));
    };
    let token = token(request)?.from(peer.ip());
    let user_agent = request::user_agent(request.headers());
    let reason = Reason::of(request.headers())?;
    let (respond, answered) = oneshot::channel();
    let answer = Answer {
        respond,
        upgrade: hyper::upgrade::on(request),
        accept_key,
        permit,
    };
    Ok((
        TunnelRequest {
            workspace,
            token,
            peer,
            user_agent,
            reason,
            id,
            answer,
        },
        answered,
    ))
}

/// A refusal that no session has counted and logged.
fn refuse(refusal: &Refusal, peer: SocketAddr, id: Uuid) -> Response<Body> {
    metrics::refused(refusal.code());
    tracing::info!(%peer, request = %id, "refused: {refusal}");
    problem::response(refusal, id)
}

/// The most header fields that are read.
const MOST_HEADERS: usize = 64;
/// The largest header, in bytes: the longest token, the longest proof and room for the rest.
const LARGEST_HEADER: usize = 2 * BearerToken::LONGEST + 24 * 1024;
/// How long a body may take.
const BODY: Duration = Duration::from_secs(5);
/// How long an answer other than a tunnel may take to begin.
const ANSWER: Duration = Duration::from_secs(30);
/// How long, and how much, is read after an answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests;
