//! The request for a tunnel, from its checked header to the bytes behind the upgrade.
//!
//! A request is answered exactly once: accepted (101, then the tunnel), refused (a problem body, then the connection
//! closes), or dropped (500). Bytes that came in one piece with the request wait in the tunnel, in order, once.

use std::{net::SocketAddr, time::Duration};

use doorward_certs::WorkspaceName;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
use uuid::Uuid;

use super::{Reason, edge::EdgeIo};
use crate::{
    listen::Permit,
    oidc::Presented,
    problem::{self, Body},
    refusal::Refusal,
};

/// The TLS connection under a tunnel.
pub type EdgeStream = EdgeIo;

/// The bytes behind an accepted tunnel request: binary WebSocket messages as a stream.
pub type Tunnel = doorward_wire::tunnel::TunnelStream<EdgeStream>;

/// A request for a tunnel whose header was checked. Nothing is known of the person yet.
#[derive(Debug)]
pub struct TunnelRequest {
    /// The workspace that is asked for; it may not exist.
    pub workspace: WorkspaceName,
    /// The token that was shown; not checked yet.
    pub token: Presented,
    /// Where the connection comes from: the socket's own word, never a header's.
    pub peer: SocketAddr,
    /// What the client says it is: at most 200 printable ASCII characters, hostile until escaped.
    pub user_agent: String,
    /// Why they want in, if they say so.
    pub reason: Option<Reason>,
    /// The request's id, as the `instance` of a problem body shows it.
    pub id: Uuid,
    pub(super) answer: Answer,
}

/// How the request is answered, once.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) respond: oneshot::Sender<Response<Body>>,
    pub(super) upgrade: OnUpgrade,
    pub(super) accept_key: HeaderValue,
    pub(super) permit: Option<Permit>,
}

impl TunnelRequest {
    /// The person has proved who they are: the connection no longer counts as unauthenticated, and is no longer the
    /// one that gives way when too many are.
    pub fn authenticated(&mut self) {
        self.answer.permit = None;
    }

    /// Answers 101, with the session's name, and waits for the tunnel, at most [`UPGRADE`].
    ///
    /// # Errors
    /// The client went away, or did not take the answer in time.
    pub async fn accept(self, session: Uuid) -> Result<Tunnel, Gone> {
        let Answer {
            respond,
            upgrade,
            accept_key,
            permit,
        } = self.answer;
        let mut response = Response::new(problem::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept_key);
        if let Ok(session) = HeaderValue::try_from(session.to_string()) {
            headers.insert(SESSION, session);
        }
        respond.send(response).map_err(|_| Gone)?;
        let upgraded = tokio::time::timeout(UPGRADE, upgrade)
            .await
            .map_err(|_| Gone)?
            .map_err(|_| Gone)?;
        drop(permit);
        let parts = upgraded.downcast::<TokioIo<EdgeStream>>().map_err(|_| Gone)?;
        let (io, early) = (parts.io.into_inner().into_tunnel(), parts.read_buf.to_vec());
        let socket =
            WebSocketStream::from_partially_read(io, early, Role::Server, Some(doorward_wire::tunnel::config())).await;
        Ok(Tunnel::new(socket))
    }

    /// Answers with the refusal as a problem body; the connection closes after it.
    pub fn refuse(self, refusal: &Refusal) {
        // A client that is gone needs no answer.
        let _ = self.answer.respond.send(problem::response(refusal, self.id));
    }
}

/// The client went away before the tunnel stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client went away before the tunnel stood")]
pub struct Gone;

/// The name of the session that was opened.
const SESSION: HeaderName = HeaderName::from_static("doorward-session");
/// How long the client may take to take the 101.
pub const UPGRADE: Duration = Duration::from_secs(10);
