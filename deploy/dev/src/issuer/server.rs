//! The issuer's listener: one task per connection, everything bounded, loopback peers and names only.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Outage;
use super::realm::{Asked, Realm};
use super::reply::{self, Reply};

pub(super) struct Server {
    pub realm: Realm,
    pub address: SocketAddr,
    pub outage: watch::Sender<Outage>,
    pub served: Mutex<HashMap<String, u64>>,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
}

impl Server {
    /// Accepts until stopped. Connections over the bound wait in the listener's backlog.
    pub(super) async fn run(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = async {
                    let place = places.clone().acquire_owned().await;
                    (place, listener.accept().await)
                } => accepted,
            };
            match accepted {
                (Ok(place), Ok((socket, _))) => {
                    let server = self.clone();
                    self.tasks.spawn(async move {
                        server.serve(socket).await;
                        drop(place);
                    });
                }
                (Err(_), _) => return,
                (_, Err(error)) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, socket: TcpStream) {
        let _ = socket.set_nodelay(true);
        let server = self.clone();
        let service = service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.respond(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(STAGE)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(socket), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                timeout(GRACE, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
    }

    async fn respond(&self, request: Request<Incoming>) -> Reply {
        let path = request.uri().path();
        let path = if path.len() > PATH_BYTES { "too-long" } else { path }.to_owned();
        self.count(&path);
        if !self.named_rightly(&request) {
            return reply::empty(StatusCode::MISDIRECTED_REQUEST);
        }
        if let Some(trouble) = self.sit_out().await {
            return trouble;
        }
        match self.read(request, path).await {
            Ok(asked) => {
                let reply = self.realm.answer(&asked);
                let status = reply.status().as_u16();
                tracing::debug!(method = %asked.method, path = %asked.path, status, "answered");
                reply
            }
            Err(status) => reply::empty(status),
        }
    }

    async fn read(&self, request: Request<Incoming>, path: String) -> Result<Asked, StatusCode> {
        let (head, body) = request.into_parts();
        let is_form = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| {
                value
                    .split(';')
                    .next()
                    .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM))
            });
        let body: Bytes = timeout(STAGE, Limited::new(body, BODY_BYTES).collect())
            .await
            .map_err(|_| StatusCode::REQUEST_TIMEOUT)?
            .map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?
            .to_bytes();
        Ok(Asked {
            method: head.method,
            path,
            query: head.uri.query().unwrap_or_default().to_owned(),
            form: is_form.then_some(body),
        })
    }

    /// A page of another site that rebinds its name to 127.0.0.1 still sends its own name.
    fn named_rightly(&self, request: &Request<Incoming>) -> bool {
        let port = self.address.port();
        let names = [self.address.to_string(), format!("localhost:{port}")];
        let mut hosts = request.headers().get_all(HOST).iter();
        let right = hosts
            .next()
            .is_some_and(|host| names.iter().any(|name| host == name.as_str()));
        right && hosts.next().is_none()
    }

    /// What a scripted outage makes of a request; waits for its end when it is a silent one.
    async fn sit_out(&self) -> Option<Reply> {
        let mut outage = self.outage.subscribe();
        let state = *outage.borrow_and_update();
        match state {
            Outage::None => None,
            Outage::Errors => Some(reply::empty(StatusCode::SERVICE_UNAVAILABLE)),
            Outage::Silence => {
                tokio::select! {
                    _ = outage.wait_for(|now| *now != Outage::Silence) => {}
                    () = self.stop.cancelled() => {}
                }
                Some(reply::empty(StatusCode::SERVICE_UNAVAILABLE))
            }
        }
    }

    fn count(&self, path: &str) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if served.len() < PATHS_COUNTED || served.contains_key(path) {
            *served.entry(path.to_owned()).or_default() += 1;
        }
    }
}

const CONNECTIONS: usize = 256;
const HEAD_BYTES: usize = 16 * 1024;
const BODY_BYTES: usize = 16 * 1024;
const PATH_BYTES: usize = 256;
const PATHS_COUNTED: usize = 64;
const STAGE: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(2);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const FORM: &str = "application/x-www-form-urlencoded";
