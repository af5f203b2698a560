//! Probes and metrics, on a listener of their own: plain HTTP, loopback unless configured otherwise.
//!
//! `/healthz` says that the process lives, `/servez` whether connections are to be sent here, `/readyz` whether new sessions can be had
//! and what is missing if not, `/metrics` the numbers. Nothing here names a person, and nothing here changes anything.

use std::{
    convert::Infallible,
    fs::File,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};

use crate::{
    Gateway,
    config::Admin,
    link,
    listen::Lobby,
    metrics,
    problem::{self, Body},
};

/// The bound listener.
pub(crate) struct Listener {
    listener: TcpListener,
    /// A file descriptor kept back, so that probes are answered when there are none left.
    reserve: Option<File>,
    /// Whoever idles gives way: strangers that hold connections must not keep probes from their answer.
    lobby: Lobby,
    opening: Arc<Opening>,
}

/// Whether the gateway was ever ready since it began.
struct Opening {
    began: Instant,
    over: AtomicBool,
}

impl Opening {
    /// Whether connections are to be sent here. What a gateway lacks after its beginning it says itself, to those who come and to open
    /// sessions that show a fresh token; a balancer that sent them away could not.
    fn serves(&self, gateway: &Gateway) -> bool {
        let ready = || gateway.readiness().iter().all(|(_, state)| state.is_ok());
        let over = self.over.load(Ordering::Relaxed) || self.began.elapsed() >= LONGEST_OPENING || ready();
        self.over.store(over, Ordering::Relaxed);
        over && !gateway.tasks.stopping().is_cancelled()
    }
}

impl Listener {
    pub(crate) async fn bind(admin: &Admin) -> io::Result<Self> {
        let listener = TcpListener::bind(admin.address).await?;
        Ok(Self {
            listener,
            reserve: reserve(),
            lobby: Lobby::uncounted(MOST_CONNECTIONS, MOST_OF_ONE),
            opening: Arc::new(Opening {
                began: Instant::now(),
                over: AtomicBool::new(false),
            }),
        })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the last session is over: a stopping gateway still says that it is stopping.
    pub(crate) async fn serve(mut self, gateway: Arc<Gateway>) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = gateway.tasks.closing().cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    let (place, leave) = self.lobby.enter(peer.ip());
                    let (served, opening) = (Arc::clone(&gateway), Arc::clone(&self.opening));
                    gateway.tasks.spawn(async move {
                        let closing = served.tasks.closing().clone();
                        tokio::select! {
                            () = connection(tcp, served, opening) => {}
                            () = leave.cancelled() => {}
                            () = closing.cancelled() => {}
                        }
                        drop(place);
                    });
                    if self.reserve.is_none() {
                        self.reserve = reserve();
                    }
                }
                Err(error) => {
                    // The one kept back lets the next accept succeed.
                    if self.reserve.take().is_none() {
                        tracing::warn!("cannot take a connection for probes: {error}");
                        tokio::time::sleep(PAUSE).await;
                        self.reserve = reserve();
                    }
                }
            }
        }
    }
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

async fn connection(tcp: TcpStream, gateway: Arc<Gateway>, opening: Arc<Opening>) {
    let service = service_fn(move |request| {
        let response = answer(&gateway, &opening, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let serve = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_headers(64)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(tcp), service);
    // A scraper comes back on the same connection, but not for ever.
    if let Ok(Err(error)) = tokio::time::timeout(LONGEST, serve).await {
        tracing::debug!("a connection for probes broke: {error}");
    }
}

fn answer<B>(gateway: &Gateway, opening: &Opening, request: &Request<B>) -> Response<Body> {
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
    }
    match request.uri().path() {
        "/healthz" => plain(StatusCode::OK, "alive\n"),
        "/servez" if opening.serves(gateway) => plain(StatusCode::OK, "serves\n"),
        "/servez" => plain(StatusCode::SERVICE_UNAVAILABLE, "begins, or is stopping\n"),
        "/readyz" => ready(gateway),
        "/metrics" => numbers(gateway),
        _ => plain(
            StatusCode::NOT_FOUND,
            "there are /healthz, /servez, /readyz and /metrics here\n",
        ),
    }
}

fn ready(gateway: &Gateway) -> Response<Body> {
    let checks = gateway.readiness();
    let all = checks.iter().all(|(_, state)| state.is_ok());
    let checks: Map<String, Value> = checks
        .into_iter()
        .map(|(name, state)| (name.to_owned(), state.map_or_else(Value::String, |()| json!("ok"))))
        .collect();
    // What refuses nobody, or not everybody, and somebody should see to.
    let anchoring = gateway.anchoring.state().map_or_else(Value::String, |()| json!("ok"));
    let exports: Map<String, Value> = gateway
        .exports
        .states()
        .into_iter()
        .map(|(name, state)| (name.to_owned(), state.map_or_else(Value::String, |()| json!("ok"))))
        .collect();
    let mut details = json!({ "anchoring": anchoring, "export": exports });
    if let Some(discovery) = &gateway.discovery {
        details["kubernetes"] = discovery.current().map_or_else(Value::String, |()| json!("ok"));
    }
    if let Some(access) = &gateway.access {
        details["workspace-access"] = access.current().map_or_else(Value::String, |()| json!("ok"));
    }
    if let Some(rbac) = &gateway.rbac {
        details["authorization"] = rbac.ready().map_or_else(Value::String, |()| json!("ok"));
    }
    if let Some(state) = gateway.identities.cluster_ready() {
        details["token-review"] = state.map_or_else(Value::String, |()| json!("ok"));
    }
    let mut response = problem::json(&json!({ "ready": all, "checks": checks, "details": details }));
    if !all {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn numbers(gateway: &Gateway) -> Response<Body> {
    // Gauges that are read rather than kept.
    let stands = |name| matches!(gateway.links.state(name), link::State::Up { .. });
    metrics::links(
        gateway
            .workspaces
            .list()
            .iter()
            .filter(|workspace| stands(&workspace.name))
            .count(),
    );
    let _ = gateway.identities.ready();
    if let Some(backlog) = gateway.store.backlog() {
        metrics::backlog(backlog);
    }
    metrics::doubt(gateway.store.doubt());
    gateway.exports.count();
    let Some(numbers) = metrics::install() else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "no numbers are kept\n");
    };
    numbers.run_upkeep();
    let mut response = Response::new(problem::full(numbers.render()));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(problem::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// How many connections there may be at once, and how many of one address.
const MOST_CONNECTIONS: usize = 64;
const MOST_OF_ONE: usize = 16;
/// After so long it serves whatever it lacks, and says what.
const LONGEST_OPENING: Duration = Duration::from_secs(60);
/// How long a connection may be idle, and how long it may last.
const IDLE: Duration = Duration::from_secs(90);
const LONGEST: Duration = Duration::from_secs(3600);
const PAUSE: Duration = Duration::from_millis(200);
