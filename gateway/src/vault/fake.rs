//! A Vault for tests, on loopback: it holds what it is given and shows it again, and can be sealed, forgetful or strange.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    guarded::Guarded,
    problem::{self, Body},
};

/// The token that may do everything.
pub(crate) const ROOT: &str = "root-token-of-the-fake";

pub(crate) struct FakeVault {
    pub(crate) url: String,
    pub(crate) state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) held: Guarded<BTreeMap<String, Map<String, Value>>>,
    pub(crate) writes: AtomicUsize,
    /// The status of `sys/health`; 0 for an answer that is not Vault's.
    pub(crate) health: Guarded<Option<u16>>,
    /// A path that it takes and does not keep.
    pub(crate) forgets: Guarded<Option<String>>,
}

impl FakeVault {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        let served = Arc::clone(&state);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let state = Arc::clone(&served);
                let service = service_fn(move |request| {
                    let state = Arc::clone(&state);
                    async move { Ok::<_, Infallible>(state.answer(request).await) }
                });
                connections.spawn(async move {
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
                });
            }
        });
        Self {
            url,
            state,
            _tasks: tasks,
        }
    }

    pub(crate) fn writes(&self) -> usize {
        self.state.writes.load(Ordering::SeqCst)
    }

    pub(crate) fn put(&self, path: &str, body: &Value) {
        let body = body.as_object().unwrap().clone();
        self.state.held.with(|held| held.insert(path.to_owned(), body));
    }

    pub(crate) fn change(&self, path: &str, field: &str, value: Value) {
        self.state
            .held
            .with(|held| held.get_mut(path).unwrap().insert(field.to_owned(), value));
    }
}

impl State {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().trim_start_matches("/v1/").to_owned();
        if path == "sys/health" {
            return match self.health.with(|health| *health).unwrap_or(200) {
                0 => Response::new(problem::full("<html>a proxy</html>")),
                status => say(status, &json!({ "initialized": true, "sealed": status == 503 })),
            };
        }
        let token = request
            .headers()
            .get("x-vault-token")
            .and_then(|token| token.to_str().ok());
        let public = path.ends_with("/public_key");
        if !public && token != Some(ROOT) {
            return say(403, &json!({ "errors": ["permission denied"] }));
        }
        if path == "auth/token/lookup-self" {
            let data = json!({ "ttl": 3600, "renewable": false, "num_uses": 0, "type": "service" });
            return say(200, &json!({ "data": data }));
        }
        if path.contains("/sign/") {
            return say(400, &json!({ "errors": ["the fake signs nothing"] }));
        }
        match *request.method() {
            Method::GET if public => match self.find(&path.replace("public_key", "config/ca")) {
                Some(found) => Response::new(problem::full(
                    found["public_key"].as_str().unwrap_or_default().to_owned(),
                )),
                None => say(404, &json!({ "errors": [] })),
            },
            Method::GET => match self.find(&path) {
                Some(found) => say(200, &json!({ "data": found })),
                None if path.ends_with("/config/ca") => {
                    say(400, &json!({ "errors": ["keys haven't been configured yet"] }))
                }
                None if path.ends_with("/tune") => say(400, &json!({ "errors": ["cannot fetch sysview for path"] })),
                None if path.starts_with("sys/mounts/") => {
                    say(400, &json!({ "errors": ["No secret engine mount at that/"] }))
                }
                None if path.starts_with("sys/auth/") => say(400, &json!({ "errors": ["No auth engine at that/"] })),
                None => say(404, &json!({ "errors": [] })),
            },
            _ => {
                self.writes.fetch_add(1, Ordering::SeqCst);
                let body = request.into_body().collect().await.unwrap().to_bytes();
                self.take(path, serde_json::from_slice(&body).unwrap());
                let mut response = Response::new(problem::full(""));
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
        }
    }

    fn find(&self, path: &str) -> Option<Map<String, Value>> {
        self.held.with(|held| held.get(path).cloned())
    }

    fn take(&self, path: String, mut body: Map<String, Value>) {
        if self.forgets.with(|forgets| forgets.as_ref() == Some(&path)) {
            return;
        }
        if path.ends_with("/config/ca") {
            let key = doorward_certs::HostKey::generate().unwrap();
            let key = key.public_key().to_openssh().unwrap();
            body = Map::from_iter([("public_key".to_owned(), key.into())]);
        }
        if path.starts_with("sys/auth/") {
            body.insert("accessor".to_owned(), "auth_of_the_fake".into());
        }
        self.held.with(|held| held.insert(path, body));
    }
}

fn say(status: u16, body: &Value) -> Response<Body> {
    let mut response = problem::json(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}
